"""Invariants on a real database: sound, damaged, empty, and asked wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_checks import a_log, checked, measured, opening
from fix_postgres import Database, drop_database, new_database

from checks.asking import Log
from checks.base import Answer, Question, answer
from checks.invariants import ask_invariant
from drills.clusters import Cluster
from drills.plan import InvariantCheck
from drills.records import Basis, Verdict
from drills.results import LINES_KEPT, CheckResult

BOOKS = """
CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL, balance numeric(12,2) NOT NULL);
CREATE TABLE movement (id int PRIMARY KEY, account int NOT NULL, amount numeric(12,2), at timestamptz);
CREATE TABLE nothing (id int);
CREATE VIEW owed AS SELECT * FROM account WHERE balance < 0;
CREATE VIEW hollow AS SELECT * FROM nothing;
CREATE TABLE part (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE part_old PARTITION OF part FOR VALUES FROM ('2000-01-01') TO ('2026-01-01');
CREATE FUNCTION opaque() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM account); END';
INSERT INTO account VALUES (1, 'cash', 7), (2, 'nan', 0), (3, '001', 0);
INSERT INTO movement VALUES (1, 1, 10, '2026-01-01'), (2, 1, -3, 'infinity'), (3, 2, NULL, '0044-03-15 BC');
INSERT INTO part SELECT n, '2026-05-05' FROM generate_series(1, 250) n;
"""
ORPHANS = "SELECT m.id FROM movement m LEFT JOIN account a ON a.id = m.account WHERE a.id IS NULL"


@pytest.fixture(scope="module")
def books(production: Cluster) -> Iterator[Database]:
    """One for all: no session of these tests may write."""
    database = new_database(production, BOOKS)
    yield database
    drop_database(database)


@pytest.fixture
def spoilt(production: Cluster) -> Iterator[Database]:
    """One that a test may damage."""
    database = new_database(production, BOOKS)
    yield database
    drop_database(database)


def asked(database: Database, sql: str, expect: str = "no rows", log: Log | None = None) -> CheckResult:
    check = InvariantCheck(name="books", sql=sql, expect=expect)

    def ask() -> Answer:
        with opening(database.reader)() as connection:
            return ask_invariant(check, connection, log or a_log(), {})

    return answer(Question("books", "invariant", Basis.CONTROL, [sql], ask), Path("/nowhere/reconcile/round"))


@pytest.fixture(autouse=True)
def keep_no_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is tested with `test_checks`."""
    monkeypatch.setattr("checks.base._keep", lambda _name, found, _folder: (found, None))


@pytest.mark.parametrize(
    "sql",
    [
        ORPHANS,
        f"{ORPHANS};",
        f"{ORPHANS} ;  ; \n",
        f"{ORPHANS} -- nobody",
        f"{ORPHANS}; -- nobody\n/* at all */",
        f"-- nobody\n{ORPHANS}",
        "SELECT name FROM account WHERE name LIKE '%;%' OR name LIKE '%--%s'",
        "WITH m AS (SELECT account FROM movement) SELECT * FROM m WHERE account NOT IN (SELECT id FROM account)",
        "SELECT * FROM owed",
        "(SELECT id FROM account WHERE id < 0) UNION ALL SELECT id FROM movement WHERE id < 0",
        "SELECT a.id, m.id FROM account a JOIN movement m ON m.account = -a.id",
        "SELECT id FROM account WHERE name IS NULL",
        "SELECT id FROM part WHERE id > 9999",
        "SELECT FROM account WHERE id < 0",
        "TABLE owed",
        "SELECT conname FROM pg_constraint WHERE NOT convalidated",
        "SELECT id FROM account WHERE EXISTS (SELECT FROM nothing)",
    ],
)
def test_a_statement_without_violations_passes(books: Database, sql: str) -> None:
    result = asked(books, sql)
    assert (result.reason, result.verdict) == ("no row violates it", Verdict.PASS)
    assert (result.compared, result.differing) == (1, 0)


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT id, name FROM account WHERE id = 2;", "id = 2, name = nan"),
        (
            "SELECT a.id, m.id, m.amount FROM account a JOIN movement m ON a.id = 2 AND m.id = 3",
            "id = 2, id = 3, amount = NULL",
        ),
        ("SELECT at FROM movement WHERE id = 2", "at = infinity"),
        ("SELECT at FROM movement WHERE id = 3", "at = 0044-03-15 00:00:00+00 BC"),
        (
            "SELECT 'NULL' AS x, ARRAY[id], id = 1 AS b, '{\"a\": 1.0}'::jsonb AS j FROM account WHERE id = 1",
            "x = 'NULL', array = {1}, b = t, j = {\"a\": 1.0}",
        ),
        ("SELECT FROM account WHERE id = 1", "no column"),
    ],
)
def test_a_violation_fails_and_is_shown_as_postgresql_writes_it(books: Database, sql: str, shown: str) -> None:
    result = asked(books, sql)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "1 row violates it")
    assert (result.lines[0].key, result.lines[0].actual) == ("row 1", shown)


def test_more_violations_than_a_record_holds_are_cut_and_the_statement_is_cancelled(books: Database) -> None:
    log = a_log()
    endless = "SELECT a.id FROM part a, part b, part c, part d"
    result = asked(books, endless, log=log)
    assert result.verdict is Verdict.FAIL
    assert result.reason == f"more than {LINES_KEPT} rows violate it"
    assert (len(result.lines), log.queries[-1].rows, log.queries[-1].sql) == (LINES_KEPT, LINES_KEPT + 1, endless)
    exactly = asked(books, f"SELECT id FROM part LIMIT {LINES_KEPT}")
    assert exactly.reason == f"{LINES_KEPT} rows violate it"


@pytest.mark.parametrize(
    ("sql", "expect"),
    [
        ("SELECT sum(balance) FROM account", "7"),
        ("SELECT sum(balance) FROM account", "7.000"),
        ("SELECT sum(balance) FROM account; -- seven", "+7e0"),
        ("SELECT count(*) FROM account", "3"),
        ("SELECT sum(balance) - 7 FROM account", "-0.00"),
        ("SELECT 0.1::float8 FROM account LIMIT 1", "0.1"),
        ("SELECT sum(balance) * 1e40 + 0.01 FROM account", f"7{'0' * 40}.01"),
        ("SELECT 'NaN'::numeric FROM account LIMIT 1", "NaN"),
        ("SELECT bool_and(balance >= 0) FROM account", "true"),
        ("SELECT bool_and(balance >= 0) FROM account", "t"),
        ("SELECT bool_or(balance < 0) FROM account", "False"),
        ("SELECT name FROM account WHERE id = 3", "001"),
        ("SELECT name FROM account WHERE id = 2", "nan"),
        ("SELECT amount FROM movement WHERE id = 3", "NULL"),
        ("SELECT 'NULL' FROM movement WHERE id = 3", "'NULL'"),
        ("SELECT max(at) FROM movement", "infinity"),
        ("SELECT min(at)::date FROM part", "2026-05-05"),
        ("SELECT string_agg(name, ',' ORDER BY id) FROM account", "cash,nan,001"),
    ],
)
def test_the_expected_value_passes(books: Database, sql: str, expect: str) -> None:
    result = asked(books, sql, expect)
    assert (result.verdict, result.difference) == (Verdict.PASS, "none"), result.reason


@pytest.mark.parametrize(
    ("sql", "expect", "difference"),
    [
        ("SELECT sum(balance) FROM account", "7.01", "-0.01"),
        ("SELECT sum(balance) * 1e40 + 0.01 FROM account", f"7{'0' * 40}.02", "-0.01"),
        ("SELECT count(*) FROM account", "NULL", "other value"),
        ("SELECT count(*) FROM account", "NaN", "other value"),
        ("SELECT amount FROM movement WHERE id = 3", "0", "other value"),
        ("SELECT 'NULL' FROM movement WHERE id = 3", "NULL", "other value"),
        ("SELECT name FROM account WHERE id = 3", "1", "other value"),
        ("SELECT name FROM account WHERE id = 1", "Cash", "other value"),
        ("SELECT bool_and(balance > 0) FROM account", "true", "other value"),
    ],
)
def test_another_value_fails(books: Database, sql: str, expect: str, difference: str) -> None:
    result = asked(books, sql, expect)
    assert (result.verdict, result.difference, result.expected) == (Verdict.FAIL, difference, expect)
    assert result.reason.startswith(f"expected {expect}, got ")


@pytest.mark.parametrize(
    ("sql", "expect", "reason"),
    [
        ("SELECT id FROM account", "7", "expected one row with one column, got 3 rows"),
        ("SELECT id FROM part", "7", "got more than 200 rows"),
        ("SELECT id FROM account WHERE id < 0", "7", "got 0 rows"),
        ("SELECT id, name FROM account WHERE id = 1", "7", "got 2 columns"),
        ("SELECT FROM account WHERE id = 1", "7", "got 0 columns"),
        ("SELECT count(*) FROM account", "three", "`expect: three` is none"),
        ("SELECT count(*) FROM account", "1_000", "`expect: 1_000` is none"),
        ("SELECT count(*) FROM account", "3e99999999", "is none"),
        ("SELECT bool_and(balance > 0) FROM account", "1", "`expect: 1` is neither"),
        ("SELECT count(*) / 0 FROM account", "1", "division by zero"),
        ("SELECT 1 / (2 - id) FROM account ORDER BY id", "no rows", "division by zero"),
        ("SELECT id FROM nowhere", "no rows", "nowhere"),
        ("SELECT 1", "1", "it reads no table that can be seen in its plan (write the tables"),
        ("SELECT opaque()", "3", "it reads no table that can be seen in its plan"),
        ("", "no rows", "syntax error"),
    ],
)
def test_a_statement_that_cannot_be_judged_is_unknown(books: Database, sql: str, expect: str, reason: str) -> None:
    check = InvariantCheck.model_construct(name="books", sql=sql, expect=expect)

    def ask() -> Answer:
        with opening(books.reader)() as connection:
            return ask_invariant(check, connection, a_log(), {})

    result = answer(Question("books", "invariant", Basis.CONTROL, [sql], ask), Path())
    assert (result.verdict, result.compared) == (Verdict.UNKNOWN, 0)
    assert reason in result.reason


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM account WHERE false; DROP TABLE account",
        "SELECT 1 FROM account; COMMIT; SET default_transaction_read_only TO off; DELETE FROM account",
        "SELECT id FROM account WHERE false) AS x; DELETE FROM account; SELECT * FROM (SELECT 1",
        "WITH gone AS (DELETE FROM account RETURNING id) SELECT id FROM gone WHERE id < 0",
        "DELETE FROM account WHERE id < 0 RETURNING id",
        "SELECT id INTO stolen FROM account WHERE id < 0",
        "SELECT id FROM account WHERE id < 0 FOR UPDATE",
        "DECLARE c CURSOR FOR SELECT id FROM account WHERE id < 0",
        "COPY account TO STDOUT",
        "COMMIT",
    ],
)
def test_what_is_more_or_other_than_one_select_is_refused_even_from_the_owner(spoilt: Database, sql: str) -> None:
    as_owner = Database(spoilt.owner, spoilt.owner)
    assert asked(as_owner, sql).verdict is Verdict.UNKNOWN
    assert spoilt.run("SELECT count(*) FROM account, pg_class WHERE relname = 'account'") == [(3,)]
    assert spoilt.run("SELECT to_regclass('stolen')") == [(None,)]


@pytest.mark.parametrize(
    "sql",
    ["SELECT id FROM nothing", "SELECT id FROM hollow", "SELECT id FROM nothing WHERE id IS NULL", "TABLE part_old"],
)
def test_a_statement_over_empty_tables_is_unknown(books: Database, sql: str) -> None:
    result = asked(books, sql)
    assert (result.verdict, "nothing to look at" in result.reason) == (Verdict.UNKNOWN, True)
    assert "has no rows" in result.reason


def test_a_damaged_copy_fails_its_invariant_and_a_sound_one_passes(spoilt: Database, tmp_path: Path) -> None:
    wish = [{"name": "no orphans", "sql": ORPHANS}]
    expected = measured(spoilt)
    assert checked(spoilt, expected, tmp_path, invariants=wish)["no orphans"].verdict is Verdict.PASS
    spoilt.run("DELETE FROM account WHERE id = 2")
    result = checked(spoilt, expected, tmp_path, invariants=wish)["no orphans"]
    assert (result.verdict, result.lines[0].actual) == (Verdict.FAIL, "id = 3")


def test_a_table_that_lost_all_its_rows_lets_no_invariant_on_it_pass(spoilt: Database, tmp_path: Path) -> None:
    wish = [
        {"name": "no orphans", "sql": ORPHANS},
        {"name": "movements", "sql": "SELECT count(*) FROM movement", "expect": 3},
        {"name": "accounts", "sql": "SELECT count(*) FROM account", "expect": 3},
    ]
    expected = measured(spoilt)
    spoilt.run("TRUNCATE movement")
    results = checked(spoilt, expected, tmp_path, row_counts=False, tables=False, invariants=wish)
    assert results["no orphans"].verdict is Verdict.UNKNOWN
    told = "nothing to look at: 3 rows of public.movement in the snapshot, none in the copy"
    assert results["no orphans"].reason == told
    assert (results["movements"].verdict, results["accounts"].verdict) == (Verdict.FAIL, Verdict.PASS)


def test_a_table_that_lost_its_rows_is_seen_inside_a_function(spoilt: Database, tmp_path: Path) -> None:
    wish = [{"name": "hidden", "sql": "SELECT id FROM movement WHERE opaque() < 0"}]
    expected = measured(spoilt)
    off: dict[str, Any] = {"row_counts": False, "tables": False, "invariants": wish}
    assert checked(spoilt, expected, tmp_path, **off)["hidden"].verdict is Verdict.PASS
    spoilt.run("DELETE FROM account")
    result = checked(spoilt, expected, tmp_path, **off)["hidden"]
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == "nothing to look at: 3 rows of public.account in the snapshot, none in the copy"


def test_a_partition_that_lost_its_rows_and_need_not_be_read_is_no_obstacle(spoilt: Database, tmp_path: Path) -> None:
    # The partition that is read is empty, so that the others are looked at one by one, the emptied one among them.
    spoilt.run("CREATE TABLE part_zed PARTITION OF part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')")
    spoilt.run("DELETE FROM part; INSERT INTO part VALUES (9, '2001-01-01'), (8, '2027-05-05')")
    wish = [{"name": "new", "sql": "SELECT id FROM part WHERE at BETWEEN '2026-02-02' AND '2026-03-03'"}]
    expected = measured(spoilt)
    spoilt.run("DELETE FROM part_old")
    result = checked(spoilt, expected, tmp_path, row_counts=False, tables=False, invariants=wish)["new"]
    assert result.verdict is Verdict.PASS, result.reason


def test_a_table_that_was_empty_in_the_snapshot_as_well_is_no_obstacle(spoilt: Database, tmp_path: Path) -> None:
    wish = [{"name": "nothing held back", "sql": "SELECT a.id FROM account a JOIN nothing n USING (id)"}]
    result = checked(spoilt, measured(spoilt), tmp_path, invariants=wish)["nothing held back"]
    assert result.verdict is Verdict.PASS


def test_a_server_that_goes_away_leaves_the_invariant_unknown_and_the_next_is_asked(
    books: Database, tmp_path: Path
) -> None:
    wish = [
        {"name": "suicide", "sql": "SELECT id FROM account WHERE pg_terminate_backend(pg_backend_pid())"},
        {"name": "no orphans", "sql": ORPHANS},
    ]
    results = checked(books, measured(books), tmp_path, invariants=wish)
    assert (results["suicide"].verdict, results["no orphans"].verdict) == (Verdict.UNKNOWN, Verdict.PASS)
    assert "the server went away" in results["suicide"].reason
