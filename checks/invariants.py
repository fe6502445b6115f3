"""Invariants: statements whose answer is known before they are asked.

A statement over tables without rows finds no violation in them; that proves nothing. So the plan of the statement is
read first, and where none of the tables in it has a row, or it reads no table at all, the verdict is UNKNOWN.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import psycopg
from psycopg import sql

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame
from checks.measure import Log
from drills.errors import CheckError
from drills.plan import InvariantCheck
from drills.records import LINES_KEPT, Verdict

NO_ROWS = "no rows"


def ask_invariant(check: InvariantCheck, connection: psycopg.Connection, log: Log) -> Answer:
    """Put the statement to the copy.

    Raises:
        CheckError: it failed, or looked at nothing.
    """
    with connection.transaction():
        _refuse_looking_at_nothing(check, connection, log)
        # One row more than is kept tells that there are more; the rest never travels.
        limited = f"SELECT * FROM (\n{check.sql.rstrip().rstrip(';')}\n) AS invariant LIMIT {LINES_KEPT + 1}"  # noqa: S608 - a plan's SQL
        rows = log.ask(connection, check.name, limited)
    return _no_rows(rows) if check.expect == NO_ROWS else _value(check, rows)


def _no_rows(rows: list[tuple[Any, ...]]) -> Answer:
    if not rows:
        return Answer(Verdict.PASS, "no row violates it", NO_ROWS, NO_ROWS, "none")
    count = f"more than {LINES_KEPT}" if len(rows) > LINES_KEPT else str(len(rows))
    shown = frame(
        [
            (f"row {number}", NO_ROWS, ", ".join(map(str, row)), "violation", Verdict.FAIL)
            for number, row in enumerate(rows[:LINES_KEPT], 1)
        ],
        ["violation", EXPECTED, ACTUAL, DIFFERENCE, VERDICT],
    )
    return Answer(
        Verdict.FAIL, f"{count} rows violate it", NO_ROWS, f"{count} rows", f"{count} rows", shown, ("violation",)
    )


def _value(check: InvariantCheck, rows: list[tuple[Any, ...]]) -> Answer:
    if len(rows) != 1 or len(rows[0]) != 1:
        shape = f"{len(rows)} rows" if len(rows) != 1 else f"{len(rows[0])} columns"
        raise CheckError(f"expected one row with one column, got {shape}")
    actual = "NULL" if rows[0][0] is None else str(rows[0][0])
    wanted_number, number = _decimal(check.expect), _decimal(actual)
    if wanted_number is not None and number is not None:
        equal, difference = wanted_number == number, format(number - wanted_number, "f")
    else:
        equal = check.expect == actual
        difference = "none" if equal else "other value"
    verdict = Verdict.PASS if equal else Verdict.FAIL
    reason = f"{actual}, as expected" if equal else f"expected {check.expect}, got {actual}"
    shown = frame(
        [("value", check.expect, actual, difference, verdict)], ["invariant", EXPECTED, ACTUAL, DIFFERENCE, VERDICT]
    )
    return Answer(verdict, reason, check.expect, actual, difference, shown, ("invariant",))


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _refuse_looking_at_nothing(check: InvariantCheck, connection: psycopg.Connection, log: Log) -> None:
    rows = log.ask(connection, f"{check.name}: its plan", f"EXPLAIN (VERBOSE, FORMAT JSON) {check.sql}")
    tables = sorted(set(_tables(rows[0][0])))
    if not tables:
        raise CheckError(
            "it reads no table that can be seen in its plan", hint="write the tables into the statement itself"
        )
    for schema, table in tables:
        statement = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table)).as_string()
        if log.ask(connection, f"{check.name}: rows to look at", statement)[0][0]:
            return
    raise CheckError(f"nothing to look at: {', '.join(f'{schema}.{table}' for schema, table in tables)} have no rows")


def _tables(node: object) -> list[tuple[str, str]]:
    """Every table that a plan (EXPLAIN's JSON) reads."""
    if isinstance(node, list):
        return [table for part in node for table in _tables(part)]
    if not isinstance(node, dict):
        return []
    here = [(str(node["Schema"]), str(node["Relation Name"]))] if "Relation Name" in node and "Schema" in node else []
    return here + [table for part in node.values() for table in _tables(part)]
