"""Foreign tables: no backup holds their rows, so nothing that reads one may pass, on either side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_checks import checked, measured, total_check, total_of
from fix_postgres import Database, drop_database, new_database

from drills.clusters import Cluster
from drills.measures import Measures
from drills.records import Verdict
from drills.results import CheckResult

BOOKS = """
CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE far (id int, amount numeric) SERVER files OPTIONS (filename '{file}', format 'csv');
CREATE VIEW seen AS SELECT * FROM far UNION ALL SELECT 0, 0;
CREATE TABLE near (id int, amount numeric); INSERT INTO near VALUES (1, 10), (2, 5);
CREATE TABLE sale (id int, amount numeric) PARTITION BY RANGE (id);
CREATE TABLE sale_near PARTITION OF sale FOR VALUES FROM (100) TO (200);
CREATE FOREIGN TABLE sale_far PARTITION OF sale FOR VALUES FROM (0) TO (100)
    SERVER files OPTIONS (filename '{file}', format 'csv');
INSERT INTO sale_near VALUES (100, 1);
CREATE TABLE later (id int, amount numeric) PARTITION BY RANGE (id);
CREATE TABLE later_near PARTITION OF later FOR VALUES FROM (100) TO (200);
CREATE FOREIGN TABLE later_far PARTITION OF later FOR VALUES FROM (0) TO (100)
    SERVER files OPTIONS (filename '{file}', format 'csv');
CREATE TABLE parent (id int, amount numeric); INSERT INTO parent VALUES (1, 1);
CREATE FOREIGN TABLE child () INHERITS (parent) SERVER files OPTIONS (filename '{file}', format 'csv');
CREATE FUNCTION remote(int) RETURNS numeric LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT sum(amount) FROM far WHERE id = $1); END';
"""


@pytest.fixture(scope="module")
def books(production: Cluster) -> Iterator[Database]:
    """Local and foreign tables; the foreign ones read a file that the server's account may read."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-foreign-"))
    place.chmod(0o755)
    file = place / "far.csv"
    file.write_text("1,10\n2,5\n")
    file.chmod(0o644)
    database = new_database(production, BOOKS.format(file=file))
    yield database
    drop_database(database)
    shutil.rmtree(place)


FOREIGN = [
    ("far", "amount", "public.far"),
    ("seen", "amount", "public.far"),
    ("sale", "amount", "public.sale_far"),
    ("parent", "amount", "public.child"),
    ("(SELECT n.amount FROM near n JOIN far f USING (id)) AS both_sides", "amount", "public.far"),
    ("near", "amount + (SELECT max(far.amount) FROM far)", "public.far"),
    ("near", "remote(id)", "public.far"),
]
LOCAL = [("near", "amount"), ("sale_near", "amount"), ("ONLY parent", "amount")]


def asked_total(database: Database, expected: Measures, folder: Path, table: str, amount: str) -> CheckResult:
    wish = [{"name": "ledger", "table": table, "amount": amount}]
    return checked(database, expected, folder, row_counts=False, tables=False, totals=wish)["ledger"]


@pytest.mark.parametrize(("table", "amount", "foreign"), FOREIGN)
def test_a_total_that_reads_a_foreign_table_is_unknown_on_either_side(
    books: Database, tmp_path: Path, table: str, amount: str, foreign: str
) -> None:
    expected = measured(books, total_check(table=table, amount=amount))
    told = f"reads the foreign table {foreign}, which no backup holds"
    assert (total_of(expected).rows, told in total_of(expected).error) == ((), True)
    result = asked_total(books, expected, tmp_path, table, amount)
    assert (result.verdict, told in result.reason) == (Verdict.UNKNOWN, True)
    # Nor does it where only the copy's table is a foreign one.
    sound = measured(books, total_check(table="near"))
    result = asked_total(books, sound, tmp_path, table, amount)
    assert (result.verdict, told in result.reason) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize(("table", "amount"), LOCAL)
def test_a_total_over_local_tables_beside_them_passes(books: Database, tmp_path: Path, table: str, amount: str) -> None:
    expected = measured(books, total_check(table=table, amount=amount))
    assert asked_total(books, expected, tmp_path, table, amount).verdict is Verdict.PASS


def test_a_partition_that_a_condition_rules_out_is_not_read(books: Database, tmp_path: Path) -> None:
    wish = [{"name": "ledger", "table": "sale", "amount": "amount", "where": "id >= 100"}]
    expected = measured(books, total_check(table="sale", where="id >= 100"))
    assert checked(books, expected, tmp_path, totals=wish)["ledger"].verdict is Verdict.PASS


def test_a_refused_total_leaves_the_others_as_they_are(books: Database) -> None:
    checks = [total_check(name=f"{n} {table}", table=table) for n in range(5) for table in ("far", "near")]
    found = measured(books, *checks)
    assert [bool(total.error) for total in found.totals] == [True, False] * 5


def asked(database: Database, folder: Path, sql: str, expect: str = "no rows") -> CheckResult:
    wish = [{"name": "books", "sql": sql, "expect": expect}]
    results = checked(database, measured(database), folder, row_counts=False, tables=False, invariants=wish)
    return results["books"]


@pytest.mark.parametrize(("table", "amount", "foreign"), FOREIGN)
def test_an_invariant_that_reads_a_foreign_table_is_unknown(
    books: Database, tmp_path: Path, table: str, amount: str, foreign: str
) -> None:
    result = asked(books, tmp_path, f"SELECT 1 FROM {table} WHERE {amount} < 0")
    told = f"reads the foreign table {foreign}, which no backup holds"
    assert (result.verdict, told in result.reason) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize(
    "sql",
    [
        *(f"SELECT 1 FROM {table} WHERE {amount} < 0" for table, amount in LOCAL),
        "SELECT 1 FROM sale WHERE id >= 100 AND amount < 0",
        "SELECT 1 FROM sale WHERE id IS NULL",
    ],
)
def test_an_invariant_over_local_tables_beside_them_passes(books: Database, tmp_path: Path, sql: str) -> None:
    result = asked(books, tmp_path, sql)
    assert (result.verdict, result.reason) == (Verdict.PASS, "no row violates it")


@pytest.mark.parametrize("sql", ["SELECT 1 FROM later WHERE id >= 100", "SELECT 1 FROM later WHERE id IS NULL"])
def test_the_rows_of_a_foreign_partition_are_nothing_to_look_at(books: Database, tmp_path: Path, sql: str) -> None:
    result = asked(books, tmp_path, sql)
    assert (result.verdict, "nothing to look at" in result.reason) == (Verdict.UNKNOWN, True)
