"""What unlogged tables held is missed where it is lost, and the answer says why; a plan may give it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_checks import Make, checked, making, measured
from fix_postgres import Database
from test_drill import OUTAGE, run_drill

from drills.clusters import Cluster
from drills.record import Record
from drills.records import Verdict
from drills.results import CheckResult

CACHE = """
CREATE UNLOGGED TABLE cache (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, said text);
INSERT INTO cache (said) SELECT 'cached' FROM generate_series(1, 50);
"""
AS_AFTER_A_CRASH = "TRUNCATE cache RESTART IDENTITY;"
HELD = {"row counts": "public.cache", "content": "public.cache", "sequences": "public.cache_id_seq"}


def of(record: Record, round_: str) -> dict[str, CheckResult]:
    return {result.name: result for result in record.checks[round_]}


def is_missed(results: dict[str, CheckResult]) -> None:
    for name, lost in HELD.items():
        assert results[name].verdict is Verdict.FAIL
        assert f"no physical copy has what was in there, and a crash takes it: {lost} (" in results[name].reason
    failed = {name for name, result in results.items() if result.verdict is not Verdict.PASS}
    assert failed == {*HELD, "rows of public.cache"}


def is_given_up(results: dict[str, CheckResult]) -> None:
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    for name, lost in HELD.items():
        assert results[name].reason.endswith(f"; unlogged, and given up by the plan: {lost}")


def test_a_crash_takes_what_unlogged_tables_held(home: Path, shop: Database) -> None:
    shop.run(CACHE)
    record = run_drill(home, shop.plan(outages=[OUTAGE], negative_control={"enabled": False}))
    assert {result.verdict for result in record.checks["after restore"]} == {Verdict.PASS}
    is_missed(of(record, "after server killed"))
    assert record.verdict is Verdict.FAIL


def test_a_plan_may_give_up_what_a_crash_takes(home: Path, shop: Database) -> None:
    """The negative control damages nothing but what is compared."""
    shop.run(CACHE + "INSERT INTO cache (said) SELECT repeat('x', 100) FROM generate_series(1, 5000)")
    checks = {**shop.plan()["checks"], "unlogged": False}
    record = run_drill(home, shop.plan(outages=[OUTAGE], checks=checks))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    for round_ in ("after restore", "after server killed"):
        is_given_up(of(record, round_))


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as make:
        yield make


@pytest.mark.parametrize("unlogged", [True, False])
def test_what_is_logged_is_missed_whatever_the_plan_gives_up(make: Make, tmp_path: Path, *, unlogged: bool) -> None:
    database = make(CACHE + "CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY); INSERT INTO kept DEFAULT VALUES")
    expected = measured(database)
    database.run(AS_AFTER_A_CRASH + "INSERT INTO kept DEFAULT VALUES")
    results = checked(database, expected, tmp_path, unlogged=unlogged)
    assert {results[name].verdict for name in HELD} == {Verdict.FAIL}
    for name, table in (("row counts", "public.kept"), ("content", "public.kept"), ("sequences", "public.kept_id_seq")):
        assert table in results[name].reason.partition("; unlogged")[0]
        assert ("public.cache" in results[name].reason.partition("; unlogged")[0]) is unlogged


def test_a_table_that_became_unlogged_on_the_way_is_compared(make: Make, tmp_path: Path) -> None:
    database = make("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
    expected = measured(database)
    database.run("ALTER TABLE kept SET UNLOGGED; TRUNCATE kept")
    results = checked(database, expected, tmp_path, unlogged=False)
    assert {results[name].verdict for name in ("row counts", "content", "tables")} == {Verdict.FAIL}
    assert "unlogged" not in results["row counts"].reason


def test_a_database_of_nothing_but_what_was_given_up_has_nothing_to_compare(make: Make, tmp_path: Path) -> None:
    database = make(CACHE)
    results = checked(database, measured(database), tmp_path, unlogged=False)
    assert {results[name].verdict for name in ("row counts", "content")} == {Verdict.UNKNOWN}
