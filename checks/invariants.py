"""Invariants: statements whose answer is known before they are asked.

A statement over tables without rows finds no violation in them; that proves nothing. So the tables of the statement are
looked up first, and where none of them has a row, or it reads no table at all, the verdict is UNKNOWN. So it is where
the statement found nothing wrong, but one of its tables, or of those that its functions read, had rows in the snapshot
and has none in the copy. Foreign
tables count for nothing here: no backup holds their rows, and a statement that reads one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import psycopg

from checks.asking import Log, Sample
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, named, shown
from checks.names import identifier, qualified
from checks.plans import reading_no_foreign_table, tables_read
from checks.values import compare_value, one_value
from drills.errors import CheckError
from drills.plan import InvariantCheck
from drills.records import Verdict
from drills.results import LINES_KEPT

NO_ROWS = "no rows"
_LOOKED_AT_NOTHING, _EMPTIED = "nothing to look at: ", " in the snapshot, none in the copy"
_PARTITIONS = """
WITH RECURSIVE part(oid) AS (
    SELECT l.relation FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind = 'p'
     WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation'
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN part ON part.oid = i.inhparent)
SELECT n.nspname::text, c.relname::text
  FROM part JOIN pg_class c ON c.oid = part.oid AND c.relkind = 'r' JOIN pg_namespace n ON n.oid = c.relnamespace
"""
"""Those that hold rows themselves: to ask the partitioned table would be to read its foreign partitions as well."""


def ask_invariant(
    check: InvariantCheck, connection: psycopg.Connection, log: Log, emptied: Mapping[str, int | None]
) -> Answer:
    """Put the statement to the copy.

    Args:
        check: what the plan says.
        connection: a session on the copy that may not write.
        log: of the statements.
        emptied: the tables that have no rows in the copy, with the rows that they had in the snapshot.

    Raises:
        CheckError: it failed, looked at nothing, or reads a foreign table.
    """
    with (
        connection.transaction(force_rollback=True),
        reading_no_foreign_table(connection, log, check.name, check.sql) as planned,
    ):
        tables = tables_read(connection, log, check.name, planned)
        if not tables:
            raise CheckError(
                "it reads no table that can be seen in its plan", hint="write the tables into the statement itself"
            )
        if not any(qualified(*table) in emptied for table in tables):
            # What is locked to look at the partitions is let go of again: the statement need not read all of them.
            with connection.transaction(force_rollback=True):
                _refuse_looking_at_nothing(check, tables, connection, log)
        found = log.sample(connection, check.name, check.sql, LINES_KEPT + 1)
        # Again, since what its functions read is known only now.
        read = [qualified(*table) for table in tables_read(connection, log, check.name, {*tables})]
    answer = _no_rows(found) if check.expect == NO_ROWS else _value(check, found)
    if answer.verdict is Verdict.PASS:
        refuse_emptied(read, emptied)
    return answer


def refuse_emptied(tables: Sequence[str], emptied: Mapping[str, int | None]) -> None:
    """A statement that found nothing wrong in a table which lost all its rows has proven nothing.

    Raises:
        CheckError: one of the tables, by schema and name as people read them, is among those emptied.
    """
    told = ", ".join(f"{emptied[name] or 'some'} rows of {name}" for name in tables if name in emptied)
    if told:
        raise CheckError(f"{_LOOKED_AT_NOTHING}{told}{_EMPTIED}")


def refused_emptied(reason: str) -> bool:
    """Whether this is what `refuse_emptied` said, and not the reason of a statement that failed."""
    return reason.startswith(_LOOKED_AT_NOTHING) and reason.endswith(_EMPTIED)


def _no_rows(found: Sample) -> Answer:
    if not found.rows:
        fine = [("violations", NO_ROWS, NO_ROWS, "none", Verdict.PASS)]
        return Answer(Verdict.PASS, "no row violates it", NO_ROWS, NO_ROWS, "none", _lines(fine), ("invariant",))
    count = f"more than {LINES_KEPT} rows" if len(found.rows) > LINES_KEPT else f"{len(found.rows)} rows"
    lines = [
        (f"row {number}", NO_ROWS, _told(found.columns, row), "violation", Verdict.FAIL)
        for number, row in enumerate(found.rows[:LINES_KEPT], 1)
    ]
    reason = "1 row violates it" if len(lines) == 1 else f"{count} violate it"
    return Answer(Verdict.FAIL, reason, NO_ROWS, count, count, _lines(lines), ("invariant",))


def _value(check: InvariantCheck, found: Sample) -> Answer:
    wanted, actual, difference = compare_value(check.expect, *one_value(found))
    verdict = Verdict.PASS if difference is None else Verdict.FAIL
    reason = f"{actual}, as expected" if difference is None else f"expected {wanted}, got {actual}"
    told = difference or "none"
    line = ("value", wanted, actual, told, verdict)
    return Answer(verdict, reason, wanted, actual, told, _lines([line]), ("invariant",))


def _told(columns: tuple[str, ...], row: tuple[str | None, ...]) -> str:
    return ", ".join(f"{name} = {shown(value)}" for name, value in zip(columns, row, strict=True)) or "no column"


def _lines(lines: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    return frame(lines, ["invariant", EXPECTED, ACTUAL, DIFFERENCE, VERDICT])


def _refuse_looking_at_nothing(
    check: InvariantCheck, tables: list[tuple[str, str]], connection: psycopg.Connection, log: Log
) -> None:
    partitions = log.ask(connection, f"{check.name}: its partitions", _PARTITIONS)
    for table in dict.fromkeys([*tables, *partitions]):
        # Children and partitions are asked one by one.
        statement = f"SELECT EXISTS (SELECT FROM ONLY {identifier(*table)})"  # noqa: S608 - quoted
        if log.ask(connection, f"{check.name}: rows to look at", statement)[0][0]:
            return
    have = "has" if len(tables) == 1 else "have"
    raise CheckError(f"{_LOOKED_AT_NOTHING}{named([qualified(*table) for table in tables])} {have} no rows")
