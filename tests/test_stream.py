"""Drills whose dump is loaded while it is taken: sound, damaged, and broken off at either end of the pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from fix_postgres import Database, open_sessions, run_sql, write_plan
from test_drill import OUTAGE, nothing_is_left, run_drill

from drills.clusters import Cluster
from drills.errors import PlanError
from drills.planfile import read_plan
from drills.records import Outcome, Verdict
from flows.runtime import Drill, Silent

WIDE = """
CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 40) AS body FROM generate_series(1, 60000) n;
ALTER TABLE wide ADD PRIMARY KEY (n);
"""
"""More than the pipes between the two programs hold."""


def plan(database: Database, **changes: object) -> Any:  # noqa: ANN401 - as Database.plan
    return database.plan(recovery={"method": "stream"}, **changes)


def test_a_sound_copy_passes_no_file_is_made_and_no_recovery_is_claimed(home: Path, shop: Database) -> None:
    seen: list[list[str]] = []

    def look(drill: Drill) -> None:
        seen.append(sorted(path.name for path in drill.folder.iterdir()))

    record = run_drill(home, plan(shop, outages=[OUTAGE]), {"restore": look})
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert "dump" not in seen[0]
    assert record.backup is not None
    assert (record.backup.files, record.backup.size > 0, len(record.backup.digest)) == (0, True, 64)
    assert record.clocks == ()
    assert [objective.name for objective in record.objectives] == ["RTO of server killed", "RPO of server killed"]
    assert record.copy_of_it is not None
    assert "no backup was kept" in record.copy_of_it.deviations[0]
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []


def test_a_copy_on_a_staging_server_that_is_there_passes_and_is_dropped(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    where = {"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"}
    record = run_drill(home, plan(shop, staging=where))
    assert record.reasons == ()
    nothing_is_left(home, record)
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []


class Killer(Silent):
    """Kills this program of the drill when it is in the midst of its work."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.killed = False

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """Some of the dump has come."""
        super().advance(done, total, unit, about)
        if unit == "bytes" and done > 0 and not self.killed:
            (process,) = (one for one in psutil.Process().children(recursive=True) if one.name() == self.program)
            process.kill()
            self.killed = True


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_stream_that_breaks_off_at_either_end_never_passes_and_leaves_nothing(
    home: Path, shop: Database, program: str
) -> None:
    shop.run(WIDE)
    killer = Killer(program)
    record = run_drill(home, plan(shop), {"back_up": lambda drill: setattr(drill, "progress", killer)})
    assert killer.killed
    assert record.outcome is Outcome.BROKEN_OFF
    assert record.verdict is Verdict.UNKNOWN
    assert program in record.reasons[0]
    assert "killed by signal 9" in record.reasons[0]
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []


def test_a_table_that_stays_locked_ends_it_in_time(home: Path, shop: Database) -> None:
    told = plan(shop)
    told["source"]["lock_timeout"] = "1s"
    with psycopg.connect(**shop.owner.parts, password=shop.owner.password) as holder:  # type: ignore[arg-type]
        holder.execute("LOCK TABLE invoice")
        record = run_drill(home, told)
    assert record.verdict is Verdict.UNKNOWN
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []


@pytest.mark.parametrize("key", ["rto", "rpo"])
def test_it_measures_no_objective_of_recovery(home: Path, shop: Database, key: str) -> None:
    with pytest.raises(PlanError, match="nothing is recovered from a backup"):
        read_plan(write_plan(home, plan(shop, objectives={key: "1h"})))
