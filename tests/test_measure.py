"""Measuring real databases: what is counted, and what is summed; `test_unmeasured` has what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fix_checks import (
    LEDGER,
    Make,
    a_log,
    checked,
    groups_of,
    kinds_of,
    making,
    measured,
    opening,
    quiet,
    total_check,
    total_of,
)
from fix_postgres import run_sql

from checks.measure import Scope, Wish, measure
from checks.names import qualified
from checks.totals_sql import total_statement
from drills.clusters import Cluster
from drills.measures import Measures
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect

ODD = ["Order", "order", "two words", 'say "hi"', "a.b", "Größe", "100%", "%s", "semi;colon", "$1", "x" * 63, "0day"]
BY = {"currency": "currency"}


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    """Databases with a script in them."""
    with making(production) as make:
        yield make


def test_tables_and_columns_of_any_name_are_counted_summed_and_compared(make: Make, tmp_path: Path) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in ODD]
    schema = '"Odd ""schema"".1%"'
    script = f"CREATE SCHEMA {schema};" + "".join(
        f"CREATE TABLE {schema}.{name} ({name} int); INSERT INTO {schema}.{name} SELECT generate_series(1, {n});"
        for n, name in enumerate(quoted, 1)
    )
    database = make(script)
    totals = [
        {"name": f"t{n}", "table": f"{schema}.{name}", "amount": f"{name} + 7 % 4", "by": {"even %": f"{name} % 2"}}
        for n, name in enumerate(quoted)
    ]
    expected = measured(database, *(total_check(**total) for total in totals))
    assert [count.error for count in expected.counts] == [""] * len(ODD)
    assert sorted(count.rows or 0 for count in expected.counts) == list(range(1, len(ODD) + 1))
    assert [total.error for total in expected.totals] == [""] * len(ODD)
    results = checked(database, expected, tmp_path, totals=totals)
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    database.run(f"DELETE FROM {schema}.{quoted[6]} WHERE {quoted[6]} = 7")
    damaged = checked(database, expected, tmp_path, totals=totals)
    assert {name for name, result in damaged.items() if result.verdict is Verdict.FAIL} == {
        "row counts",
        "content",
        "t6",
    }


def test_names_are_shown_without_ambiguity() -> None:
    names = [(schema, name) for schema in ("public", "a.b", "Public") for name in (*ODD, "plain_1", "b.c", '"')]
    assert len({qualified(*name) for name in names}) == len(names)
    assert qualified("public", "order") == "public.order"
    assert qualified("public", "Order") == '"public"."Order"'
    assert qualified("a", "b.c") != qualified("a.b", "c")


def test_partitions_count_for_themselves_and_inherited_rows_once(make: Make) -> None:
    database = make("""
        CREATE TABLE sale (id int, amount numeric) PARTITION BY RANGE (id);
        CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (0) TO (10);
        CREATE TABLE sale_2 PARTITION OF sale DEFAULT PARTITION BY HASH (id);
        CREATE TABLE sale_2a PARTITION OF sale_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        INSERT INTO sale SELECT n, 1 FROM generate_series(1, 30) n;
        CREATE TABLE animal (name text); CREATE TABLE cat (lives int) INHERITS (animal);
        INSERT INTO animal VALUES ('a'); INSERT INTO cat VALUES ('b', 9), ('c', 9);""")
    found = measured(database, total_check(name="sales", table="sale"))
    assert {count.table: count.rows for count in found.counts} == {
        "public.animal": 1,
        "public.cat": 2,
        "public.sale_1": 9,
        "public.sale_2a": 21,
    }
    assert kinds_of(found)["public.sale"] == kinds_of(found)["public.sale_2"] == "partitioned table"
    assert total_of(found, "sales").rows[0].total == Decimal(30)


def test_views_and_foreign_tables_must_exist_temporary_ones_are_nobodys_and_unlogged_ones_count(
    make: Make, tmp_path: Path
) -> None:
    database = make("""
        CREATE TABLE plain (n int); INSERT INTO plain VALUES (1); CREATE VIEW seen AS SELECT * FROM plain;
        CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain; CREATE UNLOGGED TABLE cache AS SELECT 1 AS n;
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE far (n int) SERVER files OPTIONS (filename '/nowhere'); CREATE SEQUENCE steps;""")
    with connect(database.owner, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute("CREATE TEMP TABLE mine (n int)")
        expected = measured(database)
    assert kinds_of(expected) == {
        "public.cache": "unlogged table",
        "public.far": "foreign table",
        "public.kept": "materialized view",
        "public.plain": "table",
        "public.seen": "view",
    }
    assert [count.table for count in expected.counts] == ["public.cache", "public.plain"]
    assert checked(database, expected, tmp_path)["tables"].verdict is Verdict.PASS
    database.run("DROP VIEW seen; ALTER TABLE plain SET UNLOGGED")
    damaged = checked(database, expected, tmp_path)["tables"]
    told = "missing: public.plain, public.seen (view); unexpected: public.plain (unlogged table)"
    assert (damaged.verdict, damaged.reason) == (Verdict.FAIL, told)


def test_a_database_without_tables_is_measured_and_proves_nothing(make: Make, tmp_path: Path) -> None:
    database = make("")
    expected = measured(database)
    assert (expected.relations, expected.counts) == ((), ())
    results = checked(database, expected, tmp_path)
    verdicts = {name: results[name].verdict for name in ("tables", "row counts", "content")}
    assert verdicts == dict.fromkeys(verdicts, Verdict.UNKNOWN)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_read_by_its_names_and_values(production: Cluster, encoding: str) -> None:
    name = f"shop_{encoding.lower()}"
    run_sql(
        production.address(),
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        address = production.address(name)
        with connect(address, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            connection.execute("SET client_encoding TO 'UTF8'")
            connection.execute(b'CREATE TABLE "Gr\xc3\xb6\xc3\x9fe" (amount int, "Stra\xc3\x9fe" text)')
            connection.execute("INSERT INTO \"Größe\" VALUES (1, 'Süd')".encode())
        check = total_check(table='"Größe"', by={"Straße": '"Straße"'}, where="\"Straße\" <> 'Öst'")
        found = measure(opening(address), Wish((check,)), Scope(), a_log(), quiet)
        assert (found.counts[0].table, found.counts[0].rows) == ('"public"."Größe"', 1)
        assert groups_of(found) == {("Süd",): "1"}
    finally:
        run_sql(production.address(), f"DROP DATABASE {name} WITH (FORCE)")


# --- totals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "total"),
    [
        ("int", "(2147483647), (2147483647)", "4294967294"),
        ("smallint", "(-3), (1)", "-2"),
        ("bigint", "(9223372036854775807), (9223372036854775807)", "18446744073709551614"),
        ("numeric", "(1.5), (1.25)", "2.75"),
        ("numeric", "(1e100), (0.01)", f"1{'0' * 100}.01"),
        ("numeric", "(123456789012345678901234567890.01), (0.01)", "123456789012345678901234567890.02"),
        ("numeric", "(-0.00), (0.00)", "0.00"),
        ("numeric", "('NaN'), (1)", "NaN"),
        ("numeric", "('Infinity'), (1)", "Infinity"),
        ("money", "(1234.56), (-0.06)", "1234.50"),
        ("numeric(18,2)", "(NULL), (NULL)", "None"),
    ],
)
def test_sums_of_exact_types_are_exact_from_measure_to_comparison(
    make: Make, tmp_path: Path, kind: str, values: str, total: str
) -> None:
    database = make(f"CREATE TABLE ledger (amount {kind}); INSERT INTO ledger VALUES {values}, (NULL)")
    expected = Measures.model_validate_json(measured(database, total_check()).canonical())
    assert (groups_of(expected), total_of(expected).rows[0].rows) == ({(): total}, 3)
    wish: dict[str, Any] = {"totals": [{"name": "ledger", "table": "ledger", "amount": "amount"}]}
    sound = Verdict.UNKNOWN if total == "None" else Verdict.PASS
    assert checked(database, expected, tmp_path, **wish)["ledger"].verdict is sound
    database.run("INSERT INTO ledger VALUES (0)")
    assert checked(database, expected, tmp_path, **wish)["ledger"].verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("kind", "hint"), [("real", "(amount)::numeric"), ("float8", "float"), ("interval", "interval")]
)
def test_a_sum_that_is_not_exact_is_refused_with_a_hint(make: Make, tmp_path: Path, kind: str, hint: str) -> None:
    value = "'1 day'" if kind == "interval" else "0.1"
    database = make(f"CREATE TABLE ledger (amount {kind}); INSERT INTO ledger VALUES ({value})")
    expected = measured(database, total_check())
    assert total_of(expected).rows == ()
    wish = [{"name": "ledger", "table": "ledger", "amount": "amount"}]
    result = checked(database, expected, tmp_path, totals=wish)["ledger"]
    assert result.verdict is Verdict.UNKNOWN
    assert hint in result.reason
    if kind != "interval":
        cast = measured(database, total_check(amount="amount::numeric"))
        assert groups_of(cast) == {(): "0.1"}


def test_null_groups_expressions_conditions_and_comments_make_the_groups_that_they_say(
    make: Make,
) -> None:
    database = make(LEDGER)
    found = measured(
        database,
        total_check(by=BY),
        total_check(name="where", by=BY, where="amount > 5 OR amount < 0 -- or so"),
        total_check(name="expressions", by={"odd": "id % 2 = 1 -- %s", "all": "'x'"}, amount="amount -- net"),
        total_check(name="a comment at the table", table="ledger -- the main one", by={"sign": "sign(amount)"}),
    )
    assert [total.error for total in found.totals] == [""] * 4
    assert groups_of(found) == {("EUR",): "10.00", ("USD",): "7", (None,): "1", ("NULL",): "None"}
    assert groups_of(found, "where") == {("EUR",): "10.00", ("USD",): "7"}
    assert groups_of(found, "expressions") == {("true", "x"): "17.50", ("false", "x"): "0.50"}
    assert groups_of(found, "a comment at the table") == {("1",): "18.50", ("-1",): "-0.50", (None,): "None"}


def test_groups_are_told_apart_by_their_bytes_whatever_a_collation_holds_for_equal() -> None:
    """The embedded server has no ICU, and so no collation that would show it."""
    assert '(owner)::text COLLATE "C"' in total_statement(total_check(by={"owner": "owner"}))


def test_damage_that_leaves_the_sum_alone_is_found(make: Make, tmp_path: Path) -> None:
    database = make(LEDGER)
    wish: dict[str, Any] = {"totals": [{"name": "ledger", "table": "ledger", "amount": "amount", "by": BY}]}
    expected = measured(database, total_check(by=BY))
    assert checked(database, expected, tmp_path, **wish)["ledger"].verdict is Verdict.PASS
    for damage, differing in [
        ("UPDATE ledger SET currency = CASE id WHEN 1 THEN 'USD' ELSE 'EUR' END WHERE id IN (1, 3)", 2),
        ("UPDATE ledger SET currency = 'NULL' WHERE currency IS NULL", 2),
        ("UPDATE ledger SET amount = 0 WHERE id = 5", 1),
        ("INSERT INTO ledger VALUES (6, 'EUR', 0)", 1),
        ("UPDATE ledger SET amount = amount + CASE id WHEN 1 THEN 1 ELSE -1 END, id = -id WHERE id IN (1, 3)", 2),
    ]:
        database.run(f"BEGIN; {damage}; COMMIT")
        result = checked(database, expected, tmp_path, **wish)["ledger"]
        assert (result.verdict, result.differing) == (Verdict.FAIL, differing)
        database.run("DROP TABLE ledger;" + LEDGER)
