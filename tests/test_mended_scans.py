"""What scans have been caught at: sets in groups, functions over domains, new columns, slow tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_checks import (
    Make,
    a_log,
    checked,
    count_of,
    groups_of,
    making,
    measured,
    opening,
    quiet,
    total_check,
    total_of,
)

from checks.measure import Scope, Wish, measure
from drills.clusters import Cluster
from drills.records import Verdict
from drills.results import CheckResult

TAGGED = """
CREATE TABLE t (id int PRIMARY KEY, amount numeric(18,2) NOT NULL, tags text[] NOT NULL);
INSERT INTO t SELECT n, n, CASE WHEN n % 2 = 0 THEN '{}'::text[] ELSE '{a,b}' END FROM generate_series(1, 100) n;
"""


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    """Databases with a script in them."""
    with making(production) as make:
        yield make


def test_a_group_that_makes_several_rows_of_one_changes_neither_count_nor_digest(make: Make, tmp_path: Path) -> None:
    database = make(TAGGED)
    by_tag = {"name": "by tag", "table": "t", "amount": "amount", "by": {"tag": "unnest(tags)"}}
    expected = measured(database, total_check(**by_tag))
    assert count_of(expected, "public.t").rows == 100
    assert groups_of(expected, "by tag") == {("a",): "2500.00", ("b",): "2500.00"}
    database.run("DELETE FROM t WHERE id = 2; UPDATE t SET amount = amount + 1000 WHERE id = 4")
    results = checked(database, expected, tmp_path, totals=[by_tag])
    failed = {name for name, result in results.items() if result.verdict is Verdict.FAIL}
    assert {"row counts", "content"} <= failed


@pytest.mark.parametrize(
    ("base", "value", "other", "function"),
    [
        ("int", "7", "77", "hashint4extended(d, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"),
        ("text", "'a'", "'b'", "hashtextextended(d, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"),
        ("numeric", "1", "-1", "hash_numeric_extended(d, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("null", ["", "NOT NULL"])
def test_nobody_can_answer_for_the_server_by_a_function_over_a_domain(
    make: Make, tmp_path: Path, base: str, value: str, other: str, function: str, null: str
) -> None:
    database = make(f"CREATE DOMAIN d AS {base}; CREATE FUNCTION {function}; CREATE TABLE t (x d {null});"
                    f"INSERT INTO t VALUES ({value})")  # fmt: skip
    expected = measured(database)
    assert checked(database, expected, tmp_path)["content"].verdict is Verdict.PASS
    database.run(f"UPDATE t SET x = {other}")
    assert checked(database, expected, tmp_path)["content"].verdict is Verdict.FAIL


def test_a_group_named_like_a_keyword_means_the_same_with_the_scan_and_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make("""CREATE TABLE t (id int PRIMARY KEY, amount numeric, "user" text);
        INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')""")
    both = [{"name": name, "table": "t", "amount": "amount", "by": {"u": name}} for name in ("user", '"user"')]
    checks = [total_check(**one) for one in both]
    along = measured(database, *checks)
    monkeypatch.setattr("checks.measure.fold", lambda totals, *_: list(totals))
    assert along.totals == measured(database, *checks).totals
    assert groups_of(along, '"user"') == {("x",): "1", ("y",): "2"}


def content_of(make: Make, tmp_path: Path, script: str, damage: str, **wish: Any) -> CheckResult:
    """The answer to the content check after a change."""
    database = make(script)
    expected = measured(database)
    database.run(damage)
    return checked(database, expected, tmp_path, **wish)["content"]


def test_a_column_that_the_snapshot_has_not_is_no_pass(make: Make, tmp_path: Path) -> None:
    found = content_of(make, tmp_path, TAGGED, "ALTER TABLE t ADD extra int", structure=False)
    assert found.verdict is Verdict.UNKNOWN
    assert "columns that the snapshot has not: extra" in (found.lines[0].difference or "")


def test_a_table_to_be_left_out_must_be_there(make: Make, tmp_path: Path) -> None:
    out = {"leave_out": [{"table": "public.nope", "reason": "a slip"}]}
    found = content_of(make, tmp_path, TAGGED, "SELECT", content=out)
    assert found.verdict is Verdict.UNKNOWN
    assert "not there: public.nope" in found.reason


def test_nothing_but_tables_that_are_left_out_is_nothing_to_compare(make: Make, tmp_path: Path) -> None:
    out = {"leave_out": [{"table": "public.t", "reason": "all of it"}]}
    found = content_of(make, tmp_path, TAGGED, "SELECT", content=out)
    assert (found.verdict, found.reason.split(":")[0]) == (Verdict.UNKNOWN, "every table is left out by the plan")


def test_materialized_views_are_told_of_since_their_rows_are_not_compared(make: Make, tmp_path: Path) -> None:
    found = content_of(make, tmp_path, TAGGED + "CREATE MATERIALIZED VIEW m AS SELECT * FROM t;", "SELECT")
    assert found.verdict is Verdict.PASS
    assert "1 materialized views were computed anew by the restore, and not compared" in found.reason


def test_a_table_that_takes_too_long_is_not_asked_again_and_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make(TAGGED)
    monkeypatch.setattr("checks.scanning.tablework.scan_statement", lambda *_, **__: "SELECT pg_sleep(60)")
    log, hasty = a_log(), opening(database.reader, timedelta(seconds=1))
    wish = Wish((total_check(table="t"),), structure=False, sequences=False)
    found = measure(hasty, wish, Scope(), log, quiet)
    table = count_of(found, "public.t")
    assert (table.rows, table.digest) == (None, None)
    assert "statement timeout" in table.error
    assert "statement timeout" in total_of(found).error
    asked = [query.name for query in log.queries if query.name.endswith("of public.t") or query.name == "ledger"]
    assert asked == ["content of public.t", "content of public.t"]
