"""Whether a server takes the statements of a plan, asked before anything is made: a slip is not worth hours.

The statements are those that the checks put, to the letter; they are planned (EXPLAIN) and not run. Guarantees that
what says nothing of the plan, such as a lock that somebody holds, is told apart from what is wrong with it. Totals and
ledger rules are asked of the source itself, and their sums have to be of an exact type. Invariants and smoke statements
are asked of the copy alone: what the source's role may not read, the copy's may, and a copy of another time may have
another structure; there a refusal is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg

from checks.asking import Log
from checks.ledger import parts
from checks.plans import reading_no_foreign_table
from checks.scanning.adding import refuse_inexact
from checks.totals_sql import total_statement, type_statement
from drills.errors import CheckError
from drills.plans.checks import Checks
from drills.plans.smoke import SmokeSql, SmokeWithin
from drills.plans.totals import TotalCheck
from drills.secrets import VAULT

_PASSING = ("55", "57", "40", "53")
"""SQLSTATE classes: locks, cancelled statements, conflicts, want of resources. They pass."""
_WRITTEN_WRONG = "42"
"""The class of what is wrong with a statement: syntax, names, types, rights."""
_NO_RIGHT = "42501"


@dataclass(frozen=True)
class Statement:
    """One that a check puts."""

    where: str
    """Its place in the plan, as in `checks.totals[1]`."""
    name: str
    sql: str
    on_source: bool
    """Whether it is put to the source too, and not to the copy alone."""
    total: TotalCheck | None = None
    """What it adds up."""


@dataclass(frozen=True)
class Unprepared:
    """A statement that the server does not take."""

    statement: Statement
    said: str
    certain: bool
    """Whether it cannot be asked in the drill either."""

    def __str__(self) -> str:
        return f"{self.statement.where} ({self.statement.name}): {self.said}"


def statements_of(checks: Checks, opened: datetime) -> Iterator[Statement]:
    """Those of totals, ledger rules, invariants and smoke checks, with every period ended."""
    totals = [(f"checks.totals[{place}]", total) for place, total in enumerate(checks.totals)]
    totals += [(f"checks.ledger[{place}]", part) for place, rule in enumerate(checks.ledger) for part in parts(rule)]
    for where, total in totals:
        settled = total.settled(opened)
        yield Statement(where, total.name, total_statement(settled), on_source=True, total=settled)
    for place, check in enumerate(checks.invariants):
        yield Statement(f"checks.invariants[{place}]", check.name, check.sql, on_source=False)
    for place, smoke in enumerate(checks.smoke):
        if isinstance(smoke, SmokeSql | SmokeWithin):
            yield Statement(f"checks.smoke[{place}]", smoke.name, smoke.sql, on_source=False)


def unprepared(
    statements: Iterable[Statement], connection: psycopg.Connection, log: Log, *, copy_of_now: bool
) -> list[Unprepared]:
    """Those which the server does not take, in their order.

    Args:
        statements: of the plan.
        connection: a session on the source that may not write.
        log: of the statements.
        copy_of_now: whether the copy will have the structure that the source has now.

    Raises:
        ConnectError: the server went away.
    """
    found = []
    for statement in statements:
        try:
            with (
                connection.transaction(force_rollback=True),
                reading_no_foreign_table(connection, log, statement.name, statement.sql),
            ):
                if statement.total is not None:  # nothing else of it is run
                    name, asked = f"{statement.name}: its type", type_statement(statement.total)
                    refuse_inexact(statement.total, log.ask(connection, name, asked)[0][0])
        except CheckError as error:
            certain = _certain(error, statement, copy_of_now=copy_of_now)
            found.append(Unprepared(statement, _said(error).removeprefix(f"{statement.name}: "), certain))
    return found


def _certain(error: CheckError, statement: Statement, *, copy_of_now: bool) -> bool:
    state = error.__cause__.sqlstate or "" if isinstance(error.__cause__, psycopg.Error) else None
    if statement.on_source:
        return state is None or not state.startswith(_PASSING)
    if not copy_of_now:
        return False
    return state is None or (state.startswith(_WRITTEN_WRONG) and state != _NO_RIGHT)


def _said(error: CheckError) -> str:
    """The server's own words, with its advice."""
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error) or not cause.diag.message_primary:
        return f"{error.message} ({error.hint})" if error.hint else error.message
    advice = f" ({cause.diag.message_hint})" if cause.diag.message_hint else ""
    return VAULT.redact(f"{cause.diag.message_primary}{advice}")
