"""Measuring and checking one database, as a drill does it with two: what is damaged in between is the copy's damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from fix_postgres import Database, drop_database, new_database

from checks.asking import Log, OpenSession
from checks.expectations import expect
from checks.measure import Scope, Wish, measure
from checks.suite import Subject, run_checks
from drills.addresses import Address
from drills.clusters import Cluster
from drills.measures import Expectations, Measures, TableCount, Total
from drills.plan import Checks, TotalCheck
from drills.records import Snapshot, utc_now
from drills.results import CheckResult
from drills.sessions import Access, Limits, session

LEDGER = """
CREATE TABLE ledger (id int PRIMARY KEY, currency text, amount numeric);
INSERT INTO ledger VALUES (1, 'EUR', 10.50), (2, 'EUR', -0.50), (3, 'USD', 7), (4, NULL, 1), (5, 'NULL', NULL);
"""
Make = Callable[[str], Database]


@contextmanager
def making(server: Cluster) -> Iterator[Make]:
    """Makes databases with a script in them, and drops them at the end."""
    made: list[Database] = []

    def make(script: str) -> Database:
        made.append(new_database(server, script))
        return made[-1]

    yield make
    for database in made:
        drop_database(database)


def opening(address: Address, statement: timedelta = timedelta(seconds=60)) -> OpenSession:
    """Sessions that may not write."""
    limits = Limits(statement, timedelta(seconds=5))
    return lambda: session(address, name="test", access=Access.READ_ONLY, limits=limits)


def a_log() -> Log:
    """A log of nobody in particular."""
    return Log("reader", "7/shop")


def quiet(done: int, total: int, unit: str, about: str = "") -> None:
    """Nobody looks."""


def total_check(**given: Any) -> TotalCheck:
    """A total over `ledger.amount`, unless told otherwise."""
    return TotalCheck.model_validate({"name": "ledger", "table": "ledger", "amount": "amount"} | given)


def measured(database: Database, *totals: TotalCheck, open_session: OpenSession | None = None) -> Measures:
    """What a drill would measure."""
    return measure(open_session or opening(database.reader), Wish(totals), Scope(2), a_log(), quiet)


def kinds_of(measures: Measures) -> dict[str, str]:
    """Every relation and what it is."""
    return {relation.name: relation.kind for relation in measures.relations}


def count_of(measures: Measures, table: str) -> TableCount:
    """One table's count."""
    return next(count for count in measures.counts if count.table == table)


def total_of(measures: Measures, name: str = "ledger") -> Total:
    """One total."""
    return next(total for total in measures.totals if total.name == name)


def groups_of(measures: Measures, name: str = "ledger") -> dict[tuple[str | None, ...], str]:
    """Its groups and their sums."""
    return {row.group: str(row.total) for row in total_of(measures, name).rows}


def checked(
    database: Database,
    expected: Measures,
    folder: Path,
    *,
    address: Address | None = None,
    **wish: Any,
) -> dict[str, CheckResult]:
    """All checks of a plan, put to the database as it is now."""
    checks = Checks.model_validate({"amcheck": False} | wish)
    copy = address or database.reader
    subject = Subject(opening(copy), opening(database.owner), a_log(), utc_now(), jobs=2)
    results = run_checks(checks, expectations(expected), subject, folder / "reconcile" / "round", quiet)
    return {result.name: result for result in results}


def expectations(measures: Measures) -> Expectations:
    """What was measured, as what must come back."""
    snapshot = Snapshot(name="1", taken=utc_now(), wal_lsn="0/0", xmin_xmax="1:1:")
    return expect(snapshot, {}, measures)
