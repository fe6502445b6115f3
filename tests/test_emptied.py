"""A table that lost all its rows is missed in a copy of another time, though no total looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_checks import Make, a_log, expectations, making, opening, quiet
from fix_copies import closed_plan
from fix_postgres import Database
from fix_record import PLAN, closed
from pydantic import ValidationError
from test_fold import entries_of, named, refold, without

from checks.measure import Scope, Wish, measure
from checks.suite import Subject, run_checks
from drills import events
from drills.clusters import Cluster
from drills.measures import LARGE_OBJECTS, Measures
from drills.plan import Checks, Plan
from drills.planned import EMPTIED, planned_checks
from drills.records import Basis, Verdict, utc_now
from drills.results import CheckResult

BOOKS = """
CREATE SCHEMA billing;
CREATE TABLE billing.invoice (id int PRIMARY KEY, posted date, amount numeric);
CREATE TABLE billing.ledger (id int PRIMARY KEY, amount numeric);
CREATE TABLE billing.draft (id int);
CREATE TABLE "Order" (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE order_old PARTITION OF "Order" FOR VALUES FROM ('2020-01-01') TO ('2025-01-01');
CREATE TABLE order_new PARTITION OF "Order" DEFAULT;
INSERT INTO billing.invoice SELECT n, '2026-01-01', 5 FROM generate_series(1, 100) n;
INSERT INTO billing.ledger SELECT n, 5 FROM generate_series(1, 100) n;
INSERT INTO "Order" VALUES (1, '2021-01-01'), (2, '2026-01-01');
"""
TOTAL = {"name": "closed", "table": "billing.invoice", "amount": "amount",
         "closed": {"column": "posted", "until": "2026-02-01T00:00:00+00:00"}}  # fmt: skip
CLOSED = {"row_counts": False, "content": {"compare": False}, "sequences": False, "amcheck": False, "totals": [TOTAL]}
SHOWN = "rows at the source now, none in the copy: "


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as make:
        yield make


def held_now(database: Database, statement: timedelta = timedelta(seconds=60)) -> Measures:
    """What a drill measures for a copy of another time."""
    wish = Wish.of(Checks.model_validate(CLOSED), utc_now(), held=True)
    return measure(opening(database.reader, statement), wish, Scope(2), a_log(), quiet)


def asked(database: Database, expected: Measures, folder: Path, *, name: str = EMPTIED, **wish: Any) -> CheckResult:
    """The answer of the check, put to the database as it is now, with what each lists beside it in the CSV."""
    subject = Subject(opening(database.reader), opening(database.owner), a_log(), utc_now(), jobs=2)
    what = expectations(expected).model_copy(update={"basis": Basis.CLOSED_PERIOD})
    checks = Checks.model_validate(CLOSED | wish)
    results = {one.name: one for one in run_checks(checks, what, subject, folder / "reconcile" / "round", quiet)}
    return results[name]


def test_tables_that_hold_rows_on_both_sides_pass_and_those_no_total_reads_are_named(
    make: Make, tmp_path: Path
) -> None:
    database = make(BOOKS)
    expected = held_now(database)
    database.run("DELETE FROM billing.ledger WHERE id > 1; INSERT INTO billing.draft VALUES (1)")
    result = asked(database, expected, tmp_path)
    assert (result.verdict, result.basis, result.compared) == (Verdict.PASS, Basis.CLOSED_PERIOD, 5)
    assert result.reason == (
        "of 5 tables, 4 have rows at the source, and all of them in the copy too; that they have rows is all that is"
        " known of 3, which no total reads: billing.ledger, public.order_new, public.order_old"
    )
    assert "SELECT FROM ONLY" in result.sql


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        ("TRUNCATE billing.ledger", "billing.ledger"),
        ("DELETE FROM order_new", "public.order_new"),
        ("TRUNCATE billing.ledger, order_old", "billing.ledger, public.order_old"),
        ("DROP TABLE billing.ledger", "billing.ledger"),
        ('DROP TABLE "Order"; CREATE TABLE "Order" (id int, at date)', "public.order_new, public.order_old"),
    ],
)
def test_a_table_whose_rows_are_all_gone_is_unknown_and_named(
    make: Make, tmp_path: Path, damage: str, lost: str
) -> None:
    database = make(BOOKS)
    expected = held_now(database)
    database.run(damage)
    result = asked(database, expected, tmp_path)
    assert result.verdict is Verdict.UNKNOWN
    assert f"{SHOWN}{lost}; whether " in result.reason
    assert "any when the backup was made nobody knows" in result.reason
    assert "checks.may_be_empty" in result.reason
    assert result.differing == lost.count(",") + 1


def test_what_may_be_empty_by_the_plan_passes_with_its_reason_and_nothing_else_does(make: Make, tmp_path: Path) -> None:
    database = make(BOOKS)
    expected = held_now(database)
    excuse = [{"table": "billing.ledger", "reason": "filled since March"}]
    database.run("TRUNCATE billing.ledger")
    result = asked(database, expected, tmp_path, may_be_empty=excuse)
    assert result.verdict is Verdict.PASS
    assert "as the plan allows: billing.ledger (filled since March)" in result.reason
    database.run("TRUNCATE order_old")
    result = asked(database, expected, tmp_path, may_be_empty=excuse)
    assert result.verdict is Verdict.UNKNOWN
    assert f"{SHOWN}public.order_old; whether" in result.reason
    nowhere = asked(database, held_now(database), tmp_path, may_be_empty=[{"table": "ledger", "reason": "a slip"}])
    assert nowhere.verdict is Verdict.UNKNOWN
    assert "may be empty by the plan, but not there: ledger" in nowhere.reason


def test_large_objects_that_are_all_gone_are_unknown(make: Make, tmp_path: Path) -> None:
    database = make(BOOKS + "SELECT lo_from_bytea(4711, 'a deed')")
    expected = held_now(database)
    assert asked(database, expected, tmp_path).verdict is Verdict.PASS
    database.run("SELECT lo_unlink(4711)")
    result = asked(database, expected, tmp_path)
    assert (result.verdict, f"{SHOWN}{LARGE_OBJECTS};" in result.reason) == (Verdict.UNKNOWN, True)


def test_no_table_is_read_through_whose_rows_nothing_is_held_against(make: Make, tmp_path: Path) -> None:
    database, log = make(BOOKS), a_log()
    expected = held_now(database)
    subject = Subject(opening(database.reader), opening(database.owner), log, utc_now(), jobs=2)
    list(run_checks(Checks.model_validate(CLOSED), expectations(expected), subject, tmp_path / "round", quiet))
    for queries in (expected.queries, log.queries):
        counted = [query.name for query in queries if query.name.startswith(("rows of ", "content of "))]
        assert counted == ["rows of billing.invoice"], "which the total adds up"
        reading = [query.sql for query in queries if "FROM ONLY" in query.sql and "EXISTS" not in query.sql]
        assert reading
        assert all("invoice" in sql for sql in reading)
    assert [count.table for count in expected.counts] == ["billing.invoice"]
    of_now = measure(opening(database.reader), Wish.of(Checks(), utc_now()), Scope(2), a_log(), quiet)
    assert len(of_now.counts) == 5


@pytest.mark.parametrize(("damage", "verdict"), [("", Verdict.PASS), ("TRUNCATE billing.ledger", Verdict.UNKNOWN)])
def test_an_invariant_over_a_table_whose_rows_are_gone_shows_nothing(
    make: Make, tmp_path: Path, damage: str, verdict: Verdict
) -> None:
    database = make(BOOKS)
    expected = held_now(database)
    database.run(damage or "SELECT 1")
    rule = {"name": "positive", "expect": "no rows", "sql": "SELECT FROM billing.ledger l JOIN billing.invoice i "
            "USING (id) WHERE l.amount < 0"}  # fmt: skip
    result = asked(database, expected, tmp_path, name="positive", invariants=[rule])
    assert result.verdict is verdict
    told = "nothing to look at: some rows of billing.ledger in the snapshot, none in the copy"
    assert (told in result.reason) is bool(damage)


def test_an_empty_database_shows_nothing(make: Make, tmp_path: Path) -> None:
    for database in (make("CREATE TABLE a (n int)"), make("")):
        result = asked(database, held_now(database), tmp_path, totals=[], tables=True)
        assert result.verdict is Verdict.UNKNOWN
        assert result.reason.endswith("nothing was compared")


def test_a_table_that_may_not_be_read_is_unknown_on_either_side_and_the_others_are_asked(
    make: Make, tmp_path: Path
) -> None:
    database = make(BOOKS)
    role = database.reader.parts["user"]
    database.run(
        f"REVOKE pg_read_all_data FROM {role}; GRANT USAGE ON SCHEMA billing TO {role};"
        f'GRANT SELECT ON billing.invoice, billing.draft, "Order", order_old, order_new TO {role}'
    )
    unread = held_now(database)
    database.run(f"GRANT SELECT ON billing.ledger TO {role}")
    read = held_now(database)
    assert asked(database, read, tmp_path).verdict is Verdict.PASS
    result = asked(database, unread, tmp_path)
    assert result.verdict is Verdict.UNKNOWN
    assert "billing.ledger: not known at the source: " in result.reason
    assert "permission denied for table ledger" in result.reason
    database.run(f"REVOKE SELECT ON billing.ledger FROM {role}")
    result = asked(database, read, tmp_path)
    assert (result.verdict, result.differing) == (Verdict.UNKNOWN, 1)
    assert "not known in the copy: " in result.reason


def test_a_policy_that_hides_rows_does_not_make_a_table_empty(make: Make, tmp_path: Path) -> None:
    database = make(BOOKS + "ALTER TABLE billing.ledger ENABLE ROW LEVEL SECURITY")
    result = asked(database, held_now(database), tmp_path)
    assert result.verdict is Verdict.UNKNOWN
    assert "row-level security" in result.reason


def test_a_table_that_was_truncated_since_the_snapshot_is_not_taken_for_empty(make: Make, tmp_path: Path) -> None:
    database = make(BOOKS)
    plain = opening(database.reader)

    @contextmanager
    def in_a_snapshot() -> Iterator[psycopg.Connection]:
        with plain() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT 1")
            database.run("TRUNCATE billing.ledger")
            yield connection

    session: Callable[[], AbstractContextManager[psycopg.Connection]] = in_a_snapshot
    wish = Wish(structure=False, sequences=False, held=True)
    expected = measure(session, wish, Scope(1), a_log(), quiet)
    result = asked(database, expected, tmp_path)
    assert result.verdict is Verdict.UNKNOWN
    assert "billing.ledger: not known at the source: truncated or rewritten" in result.reason


@pytest.mark.parametrize("unlogged", [True, False])
def test_what_an_unlogged_table_held_is_missed_unless_the_plan_gives_it_up(
    make: Make, tmp_path: Path, *, unlogged: bool
) -> None:
    database = make(BOOKS + "CREATE UNLOGGED TABLE cache (n int); INSERT INTO cache VALUES (1)")
    expected = held_now(database)
    database.run("TRUNCATE cache")
    result = asked(database, expected, tmp_path, unlogged=unlogged)
    assert result.verdict is (Verdict.UNKNOWN if unlogged else Verdict.PASS)
    told = "unlogged, so that no physical copy has" if unlogged else "unlogged, and given up by the plan: public.cache"
    assert told in result.reason


def test_foreign_tables_are_named_and_not_asked(make: Make, tmp_path: Path) -> None:
    database = make(
        BOOKS + "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE far (n int) SERVER files OPTIONS (filename '/nowhere')"
    )
    result = asked(database, held_now(database), tmp_path)
    assert result.verdict is Verdict.PASS
    assert "foreign tables were not asked, since no backup holds their rows: public.far" in result.reason


def test_more_tables_than_one_statement_holds_are_all_asked(make: Make, tmp_path: Path) -> None:
    numbers = range(230)
    database = make(BOOKS + "".join(f"CREATE TABLE t{n} (n int); INSERT INTO t{n} VALUES (1);" for n in numbers))
    expected = held_now(database)
    assert expected.held is not None
    assert len(expected.held) == len(numbers) + 5
    database.run("TRUNCATE t0, t99, t100, t229")
    result = asked(database, expected, tmp_path)
    assert (result.verdict, result.differing) == (Verdict.UNKNOWN, 4)
    assert f"{SHOWN}public.t0, public.t100, public.t229 and 1 more;" in result.reason


def test_whoever_has_a_copy_of_another_time_has_to_answer_it_and_nobody_else() -> None:
    told = Plan.model_validate(closed_plan(PLAN)).model_dump(mode="json")
    assert EMPTIED in planned_checks(told)
    old = {**told, "checks": {key: value for key, value in told["checks"].items() if key != "may_be_empty"}}
    assert EMPTIED not in planned_checks(old)
    of_now = Plan.model_validate(PLAN).model_dump(mode="json")
    assert EMPTIED not in planned_checks(of_now)
    for recovery, wanted in (({"method": "basebackup", "to": None}, False), ({"method": "walg", "to": {}}, True),
                             ({"method": "aurora"}, True)):  # fmt: skip
        assert (EMPTIED in planned_checks({**told, "recovery": recovery})) is wanted


def test_a_drill_that_did_not_ask_it_is_unknown(tmp_path: Path) -> None:
    assert closed().record.verdict is Verdict.PASS
    unasked = without(events.Checked, lambda body: named(body, EMPTIED))
    record = refold(entries_of(closed(), tmp_path), unasked)
    assert record.verdict is Verdict.UNKNOWN
    assert f"the check {EMPTIED}, after restore" in record.reasons[0]


def test_a_copy_of_now_has_no_use_for_tables_that_may_be_empty() -> None:
    checks = PLAN["checks"] | {"may_be_empty": [{"table": "a.b", "reason": "why not"}]}
    with pytest.raises(ValidationError, match="for a copy of another time"):
        Plan.model_validate(PLAN | {"checks": checks})
    assert Plan.model_validate(closed_plan(PLAN | {"checks": checks})).checks.may_be_empty
