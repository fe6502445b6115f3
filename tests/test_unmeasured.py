"""What cannot be measured, and what is said then; what the snapshot holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from fix_checks import (
    LEDGER,
    Make,
    a_log,
    checked,
    count_of,
    groups_of,
    kinds_of,
    making,
    measured,
    opening,
    quiet,
    total_check,
    total_of,
)
from fix_postgres import Database

from checks.measure import Scope, Wish, measure
from checks.sharing import Crew, Work
from drills.clusters import Cluster
from drills.errors import ConnectError
from drills.measures import Measures
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.snapshots import Sessions, exported_snapshot

BY = {"currency": "currency"}


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    """Databases with a script in them."""
    with making(production) as make:
        yield make


def test_what_fails_is_unknown_and_the_others_go_on(make: Make, tmp_path: Path) -> None:
    database = make(LEDGER + "CREATE TABLE payroll (amount int); INSERT INTO payroll VALUES (1);")
    role = database.reader.parts["user"]
    database.run(f"REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON ledger TO {role}")
    wish = [
        {"name": "no table", "table": "nowhere", "amount": "amount"},
        {"name": "no column", "table": "ledger", "amount": "nothing"},
        {"name": "no right", "table": "payroll", "amount": "amount"},
        {"name": "two statements", "table": "ledger; DELETE FROM ledger", "amount": "amount"},
        {
            "name": "no condition",
            "table": "ledger",
            "amount": "amount",
            "where": "true UNION SELECT 9, 9, 9, 'numeric'",
        },
        {"name": "ledger", "table": "ledger", "amount": "amount"},
    ]
    expected = measured(database, *(total_check(**total) for total in wish))
    assert count_of(expected, "public.payroll").rows is None
    assert "permission denied" in count_of(expected, "public.payroll").error
    assert count_of(expected, "public.ledger").rows == 5
    results = checked(database, expected, tmp_path, totals=wish)
    assert [name for name, result in results.items() if result.verdict is Verdict.PASS] == [
        "tables", "structure", "sequences", "ledger",
    ]  # fmt: skip
    assert {result.verdict for result in results.values()} == {Verdict.PASS, Verdict.UNKNOWN}
    assert "public.payroll" in results["row counts"].reason
    assert "permission denied" in results["no right"].reason
    assert "multiple commands" in results["two statements"].reason
    assert "syntax error" in results["no condition"].reason


def test_a_policy_that_hides_rows_makes_the_table_unknown_and_no_short_count(make: Make) -> None:
    database = make(LEDGER + "ALTER TABLE ledger ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON ledger USING (id > 3);")
    found = measured(database, total_check())
    assert count_of(found, "public.ledger").rows is None
    assert "row-level security" in count_of(found, "public.ledger").error
    assert "row-level security" in total_of(found).error


def test_a_statement_that_takes_too_long_is_unknown_and_the_others_go_on(make: Make) -> None:
    database = make(LEDGER)
    slow = total_check(name="slow", where="pg_sleep(30) IS NOT NULL")
    hasty = opening(database.reader, timedelta(milliseconds=200))
    found = measured(database, slow, total_check(), open_session=hasty)
    assert "statement timeout" in total_of(found, "slow").error
    assert (total_of(found).error, count_of(found, "public.ledger").rows) == ("", 5)


def test_a_server_that_goes_away_is_an_error_that_says_so(make: Make) -> None:
    database = make(LEDGER)
    suicide = total_check(name="bad", where="pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(ConnectError, match="the server went away"):
        measured(database, suicide, total_check())


@pytest.mark.timeout(25)
@pytest.mark.parametrize("stop", [ConnectError("cancelled"), KeyboardInterrupt()])
def test_nobody_waits_for_the_statements_of_the_others_when_one_is_stopped(make: Make, stop: BaseException) -> None:
    database = make(LEDGER)
    running = threading.Event()

    def stop_when_it_runs(done: int, total: int, unit: str, about: str = "") -> None:
        if done:
            running.set()
            raise stop

    apart = "ledger, generate_series(1, 1)"  # no plain table: it is asked in a statement of its own
    slow = [total_check(name=f"slow {n}", table=apart, where="pg_sleep(60) IS NOT NULL") for n in range(2)]
    totals, log = [slow[0], total_check(table=apart), slow[1]], a_log()
    with pytest.raises(type(stop)):
        measure(opening(database.reader), Wish(tuple(totals)), Scope(2), log, stop_when_it_runs)
    assert running.is_set()
    assert "slow 1" not in {query.name for query in log.queries}


def test_a_session_that_is_lost_between_two_statements_is_an_error_that_says_so(make: Make) -> None:
    database = make(LEDGER)
    work: list[Work[object]] = [
        Work(1, lambda connection: connection.close()),
        Work(1, lambda connection: connection.execute("SELECT")),
    ]
    with pytest.raises(ConnectError, match="a session was lost while measuring"):
        Crew(opening(database.reader), work).run(1, quiet, lambda _connection: None)


# --- the snapshot ---------------------------------------------------------------------------------------------------


@contextmanager
def a_snapshot(database: Database) -> Iterator[Callable[..., Measures]]:
    """Measures inside a snapshot that is held meanwhile."""
    with (
        connect(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as leader,
        exported_snapshot(leader) as snapshot,
    ):

        def opened() -> psycopg.Connection:
            return connect(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS)

        inside = Sessions(opened).inside(snapshot.name)
        yield lambda *totals: measured(database, *totals, open_session=inside)


def test_what_is_written_after_the_snapshot_is_not_measured(make: Make) -> None:
    database = make(LEDGER)
    with a_snapshot(database) as inside:
        database.run(
            "INSERT INTO ledger VALUES (6, 'EUR', 5); DELETE FROM ledger WHERE id = 3;"
            "UPDATE ledger SET amount = 0 WHERE id = 1; CREATE TABLE later (n int)"
        )
        found = inside(total_check(by=BY))
    assert kinds_of(found) == {"public.ledger": "table"}
    assert count_of(found, "public.ledger").rows == 5
    assert groups_of(found) == {("EUR",): "10.00", ("USD",): "7", (None,): "1", ("NULL",): "None"}
    now = measured(database, total_check(by=BY))
    assert (count_of(now, "public.ledger").rows, groups_of(now)[("EUR",)]) == (5, "4.50")


@pytest.mark.parametrize(
    "change", ["TRUNCATE ledger", "ALTER TABLE ledger ALTER amount TYPE text", "DROP TABLE ledger"]
)
def test_a_table_that_was_emptied_behind_the_snapshot_is_unknown(make: Make, change: str) -> None:
    database = make(LEDGER + "CREATE TABLE calm AS SELECT 1 AS amount;")
    with a_snapshot(database) as inside:
        database.run(change)
        found = inside(total_check(table="calm"), total_check(name="hit", amount="id"))
    assert count_of(found, "public.ledger").rows is None
    assert total_of(found, "hit").error
    if not change.startswith("DROP"):
        assert "rewritten after the snapshot" in count_of(found, "public.ledger").error
        assert "public.ledger: truncated or rewritten" in total_of(found, "hit").error
    assert (count_of(found, "public.calm").rows, groups_of(found)) == (1, {(): "1"})
