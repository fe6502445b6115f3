"""Smoke checks: whether people could work with the copy.

A value, an answer in time; by programs see `checks.smoke_programs`. Guarantees that over its limit is a FAIL, and that
what could not be tried (a program that is not there, a statement that the server refused) is UNKNOWN. Commands and
applications may write to the copy, so they are asked apart, in a round after which nothing is compared any more.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

import psycopg

from checks.asking import Log, OpenSession
from checks.base import Answer, Question, shown
from checks.invariants import refuse_emptied
from checks.lines import judged, told
from checks.names import qualified
from checks.plans import reading_no_foreign_table, tables_read
from checks.smoke_programs import ask_application, run_command
from checks.values import compare_value, one_value, outside
from drills.errors import CheckError
from drills.plans.smoke import Smoke, SmokeCommand, SmokeHttp, SmokeSql, SmokeWithin
from drills.probes import Probe
from drills.records import Basis
from drills.results import LINES_KEPT
from drills.secrets import VAULT
from drills.units import show_duration


class _OverdueError(CheckError):
    """A query was cancelled at its limit."""


def smoke_questions(
    wish: Sequence[Smoke], open_session: OpenSession, log: Log, emptied: Mapping[str, int | None]
) -> Iterator[Question]:
    """What is to be asked by statements, in the plan's order.

    Args:
        wish: what the plan says.
        open_session: gives sessions on the copy that may not write.
        log: of the statements.
        emptied: the tables that have no rows in the copy, with the rows that they had in the snapshot.
    """
    for check in wish:
        match check:
            case SmokeSql():
                ask = partial(_in_session, open_session, partial(ask_value, check, log, emptied))
            case SmokeWithin():
                ask = partial(_in_session, open_session, partial(ask_within, check, log, emptied))
            case _:
                continue
        yield Question(check.name, "smoke", Basis.CONTROL, [check.sql], ask)


def program_questions(wish: Sequence[Smoke], probe: Probe) -> Iterator[Question]:
    """What is to be asked by programs, in the plan's order. Nothing may be compared with the snapshot afterwards."""
    for check in wish:
        match check:
            case SmokeCommand():
                asked, ask = f"-- {shlex.join(check.run)}", partial(run_command, check, probe)
            case SmokeHttp():
                asked = f"-- {shlex.join(check.start)}\n-- GET {check.url}"
                ask = partial(ask_application, check, probe)
            case _:
                continue
        yield Question(check.name, "smoke", Basis.CONTROL, [VAULT.redact(asked)], ask)


def _in_session(open_session: OpenSession, ask: Callable[[psycopg.Connection], Answer]) -> Answer:
    with open_session() as connection:
        return ask(connection)


def ask_value(check: SmokeSql, log: Log, emptied: Mapping[str, int | None], connection: psycopg.Connection) -> Answer:
    """Put the statement to the copy.

    Raises:
        CheckError: it failed, reads a foreign table, gave no value that can be judged, or passed over a table that lost
            all its rows.
    """
    with (
        connection.transaction(force_rollback=True),
        reading_no_foreign_table(connection, log, check.name, check.sql) as planned,
    ):
        found = log.sample(connection, check.name, check.sql, LINES_KEPT + 1)
        tables = [qualified(*table) for table in tables_read(connection, log, check.name, planned)]
    value, kind = one_value(found)
    if check.expect is not None:
        wanted, actual, fault = compare_value(check.expect, value, kind)
        reason = f"{actual}, as expected" if fault is None else f"expected {wanted}, got {actual}"
    else:
        bounds = (("at least", check.min), ("at most", check.max))
        wanted = " and ".join(f"{word} {bound.strip()}" for word, bound in bounds if bound is not None)
        actual, fault = shown(value), outside(check.min, check.max, value, kind)
        reason = f"{actual}, {wanted} was expected"
    if fault is None:
        refuse_emptied(tables, emptied)
    return judged(reason, [told("value", wanted, actual, fault)])


def ask_within(
    check: SmokeWithin, log: Log, emptied: Mapping[str, int | None], connection: psycopg.Connection
) -> Answer:
    """Put the query to the copy and fetch all of its answer, for as long as its limit allows.

    Raises:
        CheckError: it failed, reads a foreign table, or passed over a table that lost all its rows.
    """
    limit = show_duration(check.limit)
    try:
        with (
            connection.transaction(force_rollback=True),
            reading_no_foreign_table(connection, log, check.name, check.sql) as planned,
        ):
            rows, seconds = _time(check, connection, log)
            tables = [qualified(*table) for table in tables_read(connection, log, check.name, planned)]
    except _OverdueError:
        line = told("time", f"within {limit}", f"cancelled after {limit}", "too slow")
        return judged(f"had not ended after {limit} and was cancelled", [line])
    late = "too slow" if seconds > check.limit.total_seconds() else None
    lines = [told("time", f"within {limit}", f"{seconds:.3f} s", late)]
    if check.rows == "some":
        lines.append(told("rows", "at least 1", str(rows), None if rows else "no row"))
    if not late and (rows or check.rows == "any"):
        refuse_emptied(tables, emptied)
    return judged(f"{rows} rows in {seconds:.3f} s; the limit is {limit}", lines)


def _time(check: SmokeWithin, connection: psycopg.Connection, log: Log) -> tuple[int, float]:
    """Rows and seconds. What is asked around it keeps the session's own time limit."""
    before = log.ask(connection, f"{check.name}: time limit", "SELECT current_setting('statement_timeout')")[0][0]
    milliseconds = max(check.limit // timedelta(milliseconds=1), 1)
    log.tell(connection, f"{check.name}: time limit", f"SET LOCAL statement_timeout = {milliseconds}")
    started = time.monotonic()
    try:
        rows = log.count(connection, check.name, check.sql)
    except CheckError as error:
        cancelled = isinstance(error.__cause__, psycopg.errors.QueryCanceled)
        # Whoever stops the drill cancels its statements as well.
        if cancelled and time.monotonic() - started >= milliseconds / 1000:
            raise _OverdueError(error.message) from error
        raise
    seconds = time.monotonic() - started
    log.tell(connection, f"{check.name}: time limit", f"SET LOCAL statement_timeout = '{before}'")
    return rows, seconds
