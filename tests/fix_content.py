"""Measuring the content of a database, and holding another state of it against that."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import psycopg
from fix_checks import a_log, opening, quiet
from fix_postgres import Database

from checks.content import compare_content
from checks.measure import Scope, Wish, measure
from drills.addresses import Address
from drills.measures import Measures
from drills.plans.checks import Content
from drills.plans.totals import TotalCheck
from drills.records import Verdict

Digest = Literal["fast", "sha256"]
MODES: list[Digest] = ["fast", "sha256"]


def content(
    database: Database,
    digest: Digest = "fast",
    *totals: TotalCheck,
    address: Address | None = None,
    **scope: Any,
) -> Measures:
    """What a drill measures of the tables."""
    wish = Wish(totals, digest=digest, structure=False, sequences=False)
    return measure(opening(address or database.reader), wish, Scope(**({"jobs": 2} | scope)), a_log(), quiet)


def against(
    expected: Measures,
    database: Database,
    digest: Digest = "fast",
    **given: Any,
) -> dict[str, Verdict]:
    """Every table's verdict, with the database as the copy."""
    found = compare_content(expected, content(database, digest, like=expected, **given), Content())
    assert found.frame is not None
    return dict(zip(found.frame["table"], found.frame["verdict"], strict=True))


def failing(verdicts: dict[str, Verdict], verdict: Verdict = Verdict.FAIL) -> set[str]:
    return {name for name, found in verdicts.items() if found is verdict}


def why(expected: Measures, actual: Measures) -> str:
    """Of the first table."""
    found = compare_content(expected, actual, Content()).frame
    assert found is not None
    return str(found["difference"][0])


def measured_in(connection: psycopg.Connection) -> Measures:
    """All of it in one session, by itself."""
    return measure(lambda: nullcontext(connection), Wish(structure=False, sequences=False), Scope(1), a_log(), quiet)
