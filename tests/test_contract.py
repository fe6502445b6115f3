"""What every recovery method promises, whatever it brings back: one suite for all of them, on the real tools.

WAL-G is not among them: its tests are in test_walg, and run where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import Database, open_sessions, run_sql
from test_basebackup import pages, server
from test_drill import nothing_is_left, on_copy, run_drill
from test_given_drill import dump, sold
from test_given_drill import plan as plan_given
from test_managed_drill import scene
from test_repository_drill import at_hand, barman_home, stanza, under_load

from drills.addresses import Address
from drills.fold import fold
from drills.journal import read_journal
from drills.plans.checks import ROWS_OF
from drills.record import Record
from drills.records import Outcome, Verdict
from flows.runtime import JOURNAL, Drill
from reports.bundle import bundle_path

# Fixtures, which pytest finds by their names in this module.
__all__ = ["barman_home", "pages", "scene", "server", "sold", "stanza"]

REPOSITORIES = {"pgbackrest": "stanza", "barman": "barman_home"}
QUICK = ["dump", "stream", "dump_file", "basebackup", "rds"]
"""Whose tests take seconds."""
METHODS = ["dump", "stream", "dump_file", "basebackup", "pgbackrest", "barman", "rds", "aurora"]
WAITING = {"rds", "aurora"}
"""Whose restore waits for AWS, which may be done at the first look; their waits are ended in tests of their own."""
STANDING = """
SELECT 'relation', oid::text, relname::text FROM pg_class
 UNION ALL SELECT 'role', rolname::text, coalesce(rolconfig::text, '') FROM pg_roles
 UNION ALL SELECT 'database', datname::text, '' FROM pg_database
 UNION ALL SELECT 'slot', slot_name::text, '' FROM pg_replication_slots
 UNION ALL SELECT 'setting', name, setting FROM pg_file_settings
 UNION ALL SELECT 'prepared', gid, '' FROM pg_prepared_xacts
 ORDER BY 1, 2, 3
"""
"""What a drill could leave at the source."""


@dataclass(frozen=True)
class Method:
    """One of them, with a source that it can be tried on."""

    source: Database
    plan: Callable[..., dict[str, Any]]
    secrets: tuple[str, ...]
    """Passwords that its plan refers to."""
    gone: Callable[[], object] = lambda: None
    """Raises where something is left elsewhere."""

    @property
    def owner(self) -> Address:
        """Of the source."""
        return self.source.owner


@pytest.fixture(params=[pytest.param(one, marks=() if one in QUICK else pytest.mark.thorough) for one in METHODS])
def method(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Method]:
    """Each of them. Who archives WAL writes some all the time: what is idle archives nothing."""
    if request.param in {"pgbackrest", "barman"}:
        kept = at_hand(request.getfixturevalue(REPOSITORIES[request.param]), monkeypatch)
        with under_load(kept, tmp_path):
            yield Method(kept.database, kept.plan, (kept.database.reader.password,))
    else:
        yield _method(request.param, request.getfixturevalue, tmp_path)


def _method(name: str, get: Callable[[str], Any], tmp_path: Path) -> Method:
    quick = {"negative_control": {"enabled": False}}
    if name in {"dump", "stream"}:
        shop = get("shop")
        told = {"dump": {"method": "dump", "compression": "none"}, "stream": {"method": "stream"}}[name]
        return Method(shop, lambda: shop.plan(recovery=told, **quick), (shop.reader.password,))
    if name == "dump_file":
        given = get("sold")
        path = dump(given, tmp_path)
        return Method(given, lambda: plan_given(given, path), (given.reader.password,))
    if name == "basebackup":
        kept = get("pages")
        passwords = (kept.database.reader.password, "backup-password")
        return Method(kept.database, kept.plan, passwords)
    there = get("scene")
    secrets = (there.shop.reader.password, there.copy.password)

    def gone() -> None:
        assert there.cloud.left() == set()

    return Method(there.shop, lambda: there.plan(name), secrets, gone)


def is_gone(home: Path, method: Method, record: Record) -> None:
    """Nothing is left of the drill, anywhere."""
    nothing_is_left(home, record)
    method.gone()
    assert open_sessions(method.owner) == []


def test_a_sound_copy_passes_and_the_source_is_as_it_was(home: Path, method: Method) -> None:
    before = run_sql(method.owner, STANDING)
    record = run_drill(home, method.plan())
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert sum(result.compared for result in record.checks["after restore"]) > 0
    assert run_sql(method.owner, STANDING) == before
    for path in bundle_path(record).rglob("*"):
        text = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in method.secrets if secret.encode() in text], path
    is_gone(home, method, record)


def test_a_cent_in_the_copy_fails(home: Path, method: Method) -> None:
    damage = on_copy("UPDATE invoice SET amount = amount + 0.01 WHERE id = 7")
    record = run_drill(home, method.plan(), {"check": damage})
    assert record.verdict is Verdict.FAIL
    failed = {result.name for result in record.checks["after restore"] if result.verdict is Verdict.FAIL}
    wrong = {name for name in failed if not name.startswith(ROWS_OF)}
    assert wrong
    assert wrong <= {"content", "invoices by currency", "closed invoices"}
    assert [clock.seconds for clock in record.clocks if clock.name == "checks passed"] in ([None], [])
    is_gone(home, method, record)


def test_stopped_with_a_copy_that_runs_it_leaves_nothing_and_does_not_pass(home: Path, method: Method) -> None:
    def stop(_drill: Drill) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_drill(home, method.plan(), {"check": stop})
    (journal,) = (home / "drills").glob(f"*/{JOURNAL}")
    record = fold(read_journal(journal))
    assert (record.verdict, record.outcome) == (Verdict.UNKNOWN, Outcome.INTERRUPTED)
    assert record.copy_of_it is not None
    is_gone(home, method, record)


@pytest.mark.parametrize(
    "method",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.thorough) for one in METHODS if one not in WAITING],
    indirect=True,
)
def test_a_restore_that_is_not_done_in_time_is_ended_says_what_to_do_and_leaves_nothing(
    home: Path, method: Method
) -> None:
    plan = method.plan()
    plan["recovery"]["restore_timeout"] = "1ms"
    record = run_drill(home, plan)
    assert record.verdict in {Verdict.FAIL, Verdict.UNKNOWN}
    assert record.outcome is Outcome.BROKEN_OFF
    assert record.copy_of_it is None
    assert "timeout" in record.problems[0].hint
    is_gone(home, method, record)
