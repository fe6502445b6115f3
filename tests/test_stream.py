"""Drills whose dump is loaded while it is taken: sound, damaged, and broken off at either end of the pipe."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from fix_postgres import Database, open_sessions, run_sql, write_plan
from test_basebackup import Shop, under_load
from test_drill import OUTAGE, nothing_is_left, result_of, run_drill
from test_killed import no_session_is_left, swept

from drills.clusters import Cluster
from drills.errors import PlanError
from drills.planfile import read_plan
from drills.records import Outcome, Verdict
from flows.progress import Silent
from flows.rehearsal import rehearse
from flows.runtime import Drill, open_drill
from reports.bundle import bundle_path

WIDE = """
CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 40) AS body FROM generate_series(1, 60000) n;
ALTER TABLE wide ADD PRIMARY KEY (n);
"""
"""More than the pipes between the two programs hold."""
WARNING = """
CREATE FUNCTION warn() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN
    IF current_setting('application_name') LIKE 'drillbook%%' THEN RAISE WARNING 'mind %s'; END IF;
END $f$;
CREATE EVENT TRIGGER warn ON login EXECUTE FUNCTION warn();
"""
"""Whoever logs in is told, pg_dump among them."""
SLOW = r"""
CREATE FUNCTION slow(value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN value; END';
CREATE INDEX slow_one ON customer (slow(id));
CREATE OR REPLACE FUNCTION slow(value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN
    WHILE current_database() LIKE 'dr\_%%' AND (pg_catalog.pg_stat_file('%s', true)).size IS NULL LOOP
        PERFORM pg_catalog.pg_sleep(0.02);
    END LOOP;
    RETURN value;
END $f$;
"""
"""An index that is not made in the copy before its server's data directory has this file."""
LOST_ITS_FUNCTION = """
CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION two(value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN value; END';
CREATE INDEX two_of_customer ON customer (two(id));
CREATE OR REPLACE FUNCTION two(value int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN value + one(); END';
"""
"""An index that no pg_restore can make: its function finds the other one by the search path alone."""
QUICK = {"negative_control": {"enabled": False}}


def plan(database: Database, **changes: object) -> Any:
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


@pytest.mark.parametrize(("program", "verdict"), [("pg_dump", Verdict.UNKNOWN), ("pg_restore", Verdict.FAIL)])
def test_a_stream_that_breaks_off_at_either_end_never_passes_leaves_nothing_and_says_no_secret(
    home: Path, shop: Database, program: str, verdict: Verdict
) -> None:
    shop.run(WIDE + WARNING % shop.reader.password)
    killer = Killer(program)
    record = run_drill(home, plan(shop), {"back_up": lambda drill: setattr(drill, "progress", killer)})
    assert killer.killed
    assert record.outcome is Outcome.BROKEN_OFF
    assert record.verdict is verdict
    assert program in record.reasons[0]
    assert "killed by signal 9" in record.reasons[0]
    assert record.copy_of_it is None
    if program == "pg_restore":  # which has the verdict that it has where a dump is loaded from files
        assert result_of(record, "what pg_restore said").verdict is Verdict.FAIL
    said = (bundle_path(record) / "raw" / "pg_dump.log").read_text()
    assert "mind [secret]" in said
    assert shop.reader.password not in said
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []


@pytest.mark.thorough
def test_a_warning_of_pg_dump_is_unknown_unless_the_plan_accepts_it(home: Path, shop: Database) -> None:
    shop.run(WARNING % "the gap")
    record = run_drill(home, plan(shop, **QUICK))
    assert record.verdict is Verdict.UNKNOWN
    assert result_of(record, "what pg_dump said").reason == "pg_dump warned: WARNING:  mind the gap"
    accepting = {"method": "stream", "accept_warnings": ["mind the gap"]}
    assert run_drill(home, shop.plan(recovery=accepting, **QUICK)).verdict is Verdict.PASS


def test_what_pg_restore_could_not_make_of_all_that_it_was_given_fails(home: Path, shop: Database) -> None:
    shop.run(LOST_ITS_FUNCTION)
    record = run_drill(home, plan(shop, **QUICK))
    assert (record.outcome, record.verdict) == (Outcome.FINISHED, Verdict.FAIL)
    found = result_of(record, "what pg_restore said")
    assert found.verdict is Verdict.FAIL
    assert "pg_restore ended with 1: " in found.reason
    assert result_of(record, "what pg_dump said").verdict is Verdict.PASS
    nothing_is_left(home, record)


@contextmanager
def let_go(shop: Database, copies: Cluster, go_on: Path) -> Iterator[list[str]]:
    """Says when a copy's index is being made and the drill is in no transaction at the source, and lets it be made."""
    seen: list[str] = []
    ended = threading.Event()

    def look() -> None:
        until = time.monotonic() + 60
        while not ended.is_set() and time.monotonic() < until:
            making = run_sql(
                copies.address(),
                "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE INDEX slow_one%'",
            )
            if making:
                until = min(until, time.monotonic() + 15)
                inside = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'drillbook%' AND {} IS NOT NULL"
                if not run_sql(shop.owner, f"{inside.format('xact_start')} UNION {inside.format('backend_xmin')}"):
                    seen.append("let go")
                    break
            time.sleep(0.02)
        go_on.touch()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_production_is_let_go_before_the_indexes_are_made(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    shop.run(SLOW % f"go-on-{shop.name}")
    where = {"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"}
    with let_go(shop, staging, staging.data / f"go-on-{shop.name}") as seen:
        record = run_drill(home, plan(shop, staging=where, **QUICK))
    assert seen == ["let go"]
    assert record.reasons == ()


def test_a_dump_that_is_not_done_in_time_is_stopped(home: Path, shop: Database) -> None:
    told = plan(shop)
    told["recovery"]["backup_timeout"] = "2s"
    told["source"]["lock_timeout"] = "1min"
    with psycopg.connect(**shop.owner.parts, password=shop.owner.password) as holder:  # type: ignore[arg-type]
        holder.execute("LOCK TABLE invoice")
        record = run_drill(home, told)
    assert (record.outcome, record.verdict) == (Outcome.BROKEN_OFF, Verdict.UNKNOWN)
    assert "the dump broke off: pg_dump had not ended after 2 s and was stopped" in record.reasons[0]
    assert "backup_timeout" in record.problems[0].hint
    nothing_is_left(home, record)
    no_session_is_left(shop)


@pytest.mark.thorough
def test_under_load_every_row_is_as_the_snapshot_saw_it(
    home: Path, production: Cluster, shop: Database, tmp_path: Path
) -> None:
    shop.run(WIDE)
    with under_load(Shop(production, shop), tmp_path):
        while shop.run("SELECT count(*) FROM invoice") == [(500,)]:
            time.sleep(0.01)
        record = run_drill(home, plan(shop, **QUICK))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert result_of(record, "content").verdict is Verdict.PASS


class Fatal(Silent):
    """Ends this process as no handler can, in the midst of the dump."""

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """Some of the dump has come."""
        super().advance(done, total, unit, about)
        if unit == "bytes" and done > 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.thorough
def test_killed_in_the_midst_of_the_dump_it_leaves_nothing_once_it_is_swept(home: Path, shop: Database) -> None:
    shop.run(WIDE)
    path = write_plan(home, plan(shop))
    child = os.fork()
    if child == 0:
        try:
            rehearse(open_drill(read_plan(path), requester=None, home=home, progress=Fatal()))
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    record = swept(home)
    assert (record.outcome, record.verdict) == (Outcome.INTERRUPTED, Verdict.UNKNOWN)
    no_session_is_left(shop)


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
