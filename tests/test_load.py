"""The load on production: real sessions of others on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_postgres import Database, open_sessions, write_plan

from drills.addresses import Address
from drills.errors import LoadError
from drills.load import LoadWatch
from drills.planfile import read_plan
from drills.plans.servers import Load
from drills.processes import run_tool
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect, session
from flows.progress import Silent
from flows.rehearsal import rehearse
from flows.runtime import open_drill


@contextmanager
def watching(address: Address) -> Iterator[psycopg.Connection]:
    """A session that looks."""
    with session(address, name="drillbook/test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        yield connection


@contextmanager
def busy(database: Database, count: int) -> Iterator[list[psycopg.Connection]]:
    """Sessions of somebody else, each at work."""
    others = [
        connect(database.owner, name="billing", access=Access.READ_ONLY, limits=STAGING_LIMITS) for _ in range(count)
    ]
    threads = []
    for other in others:
        thread = threading.Thread(target=_sleep, args=(other,))
        thread.start()
        threads.append(thread)
    wait_for(database, count)
    try:
        yield others
    finally:
        for other in others:
            other.cancel_safe(timeout=5)
        for thread, other in zip(threads, others, strict=True):
            thread.join(30)
            other.close()


def _sleep(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(120)")


def wait_for(database: Database, count: int) -> None:
    """Until the server shows them at work."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billing' AND state = 'active'"
    while database.run(asked)[0][0] != count:
        pass


def test_a_calm_source_is_measured_at_once(shop: Database) -> None:
    database = shop
    database.run(f"GRANT pg_read_all_stats TO {database.reader.parts['user']}")
    with watching(database.reader) as connection, busy(database, 1):
        watch = LoadWatch(Load(max_active=20, max_lag=timedelta(seconds=5)), connection)
        watch.wait_until_calm(pytest.fail)
        assert watch.waited < 1


def test_measuring_waits_until_the_others_are_done(shop: Database) -> None:
    database = shop
    database.run(f"GRANT pg_read_all_stats TO {database.reader.parts['user']}")
    said: list[str] = []
    with watching(database.reader) as connection, busy(database, 3) as others:

        def end_them(busy: str) -> None:
            said.append(busy)
            for other in others:
                other.cancel_safe(timeout=5)

        watch = LoadWatch(Load(max_active=2, patience=timedelta(minutes=1)), connection)
        watch.wait_until_calm(end_them)
        assert watch.waited > 0
    assert said[0] == "3 active sessions, at most 2 wanted"


def test_a_source_that_stays_too_busy_ends_the_drill(shop: Database) -> None:
    database = shop
    database.run(f"GRANT pg_read_all_stats TO {database.reader.parts['user']}")
    with watching(database.reader) as connection, busy(database, 2):
        watch = LoadWatch(Load(max_active=1, patience=timedelta(milliseconds=10)), connection)
        with pytest.raises(LoadError, match="too busy: 2 active sessions, at most 1 wanted"):
            watch.wait_until_calm(lambda _busy: None)


def test_a_role_that_cannot_see_the_load_is_an_error_and_never_a_calm_source(shop: Database) -> None:
    with watching(shop.reader) as connection, busy(shop, 1):
        watch = LoadWatch(Load(max_active=50), connection)
        with pytest.raises(LoadError, match="does not see") as found:
            watch.wait_until_calm(pytest.fail)
    assert "pg_read_all_stats" in found.value.hint


def test_a_drill_on_a_source_that_stays_too_busy_ends_without_a_dump(home: Path, shop: Database) -> None:
    shop.run(f"GRANT pg_read_all_stats TO {shop.reader.parts['user']}")
    plan = shop.plan()
    plan["source"] |= {"load": {"max_active": 1, "patience": "10ms"}}
    with busy(shop, 3):
        drill = open_drill(read_plan(write_plan(home, plan)), requester=None, home=home, progress=Silent())
        record = rehearse(drill)
    assert record.verdict is Verdict.UNKNOWN
    assert any("the source is too busy: 3 active sessions" in reason for reason in record.reasons)
    assert record.backup is None
    assert not open_sessions(shop.owner)


def test_a_dump_is_not_waited_for_when_measuring_has_failed(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> None:
        raise LoadError("the source is too busy")

    shop.run("CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 30) AS said FROM generate_series(1, 60000) n")
    monkeypatch.setattr("flows.stages.expecting.measure", fail)
    told: list[str] = []
    real = run_tool

    def run(arguments: Sequence[str], **given: Any) -> Any:
        done = real(arguments, **given)
        told.append(arguments[0])
        return done

    monkeypatch.setattr("drills.recovery.dumps.dump.run_tool", run)
    plan = write_plan(home, shop.plan(recovery={"method": "dump", "jobs": 1, "compression": "gzip"}))
    record = rehearse(open_drill(read_plan(plan), requester=None, home=home, progress=Silent()))
    assert record.verdict is Verdict.UNKNOWN
    assert any("too busy" in reason for reason in record.reasons)
    assert told == []
    assert not open_sessions(shop.owner)
