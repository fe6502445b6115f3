"""Which totals are answered by the scan of their table, and which by a statement of their own.

A total rides along where its table is one plain table and its groups are few: by group and bucket together the server
keeps one sum each, and a total by the minute would make more of them than it is worth to save a scan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import psycopg

from checks.asking import Log
from checks.plans import reading_no_foreign_table
from checks.scanning.adding import Adding, refuse_inexact, unmeasured
from checks.scanning.rewriting import WHY, all_rewritten
from checks.scanning.scans import keys_statement
from checks.scanning.tablework import TableWork
from checks.totals_sql import total_statement
from drills.errors import CheckError
from drills.measures import Total
from drills.plans.totals import TotalCheck

_MOST_GROUPS = 50_000
_SETS = "ProjectSet"
"""The node of a plan that makes several rows of one, or none."""
_NAME = r'"(?:[^"]|"")+"|[A-Za-z_][A-Za-z0-9_$]*'
_TABLE = re.compile(rf"(?:({_NAME})\s*\.\s*)?({_NAME})", re.ASCII)
_SEARCHED = "public"
"""The search path of every session that measures."""


def fold(totals: Sequence[TotalCheck], works: Mapping[tuple[str, str], TableWork], connection: psycopg.Connection,
         log: Log) -> list[TotalCheck]:  # fmt: skip
    """Give each total to the scan of its table where that is worth it; the others are returned.

    Args:
        totals: of the plan.
        works: what is scanned, by schema and name; tables that others inherit from are not among them.
        connection: to ask the planner how many groups there will be.
        log: of the statements.
    """
    alone = []
    for check in totals:
        work = works.get(_named(check.table) or ("", ""))
        if work is None or not work.oid or work.scan.digest == "sha256" or not _worth_it(check, work, connection, log):
            alone.append(check)
        else:
            work.fold(check)
    return alone


def _named(table: str) -> tuple[str, str] | None:
    """Schema and name, where the plan's text is just that."""
    found = _TABLE.fullmatch(table.strip())
    if found is None:
        return None
    schema, name = (None if part is None else _unquoted(part) for part in found.groups())
    if schema is None and (name or "").startswith("pg_"):
        return None  # the server's own come first
    return schema or _SEARCHED, name or ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _worth_it(check: TotalCheck, work: TableWork, connection: psycopg.Connection, log: Log) -> bool:
    statement = keys_statement(work.scan, [*work.sums, check])
    if statement is None:
        return True
    try:
        with connection.transaction():
            plan = log.ask(connection, f"{check.name}: its groups", statement)[0][0]
    except CheckError:
        return False  # alone it says what is wrong with it
    if _SETS in str(plan):
        return False  # such as unnest(): the rows of the table would be as many as it gives
    groups = int(plan[0]["Plan"]["Plan Rows"])
    return groups * max(work.expected_buckets, 1) <= _MOST_GROUPS


def total_alone(log: Log, check: TotalCheck) -> Callable[[psycopg.Connection], Total]:
    """The work on a total that no scan answers."""

    def ask(connection: psycopg.Connection) -> Total:
        statement = total_statement(check)
        try:
            with connection.transaction(force_rollback=True):
                with reading_no_foreign_table(connection, log, check.name, statement):
                    rows = log.ask(connection, check.name, statement)
                spoilt = all_rewritten(connection, log)
            adding = Adding(check)
            for *group, count, amounts, total, kind in rows:
                refuse_inexact(check, kind)
                adding.add(tuple(group), count, amounts, total)
        except CheckError as error:
            return unmeasured(check, f"{error.message}; {error.hint}" if error.hint else error.message)
        return unmeasured(check, f"{check.name}: {', '.join(spoilt)}: {WHY}") if spoilt else adding.total()

    return ask
