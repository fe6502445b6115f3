"""Measuring a database: the same statements on source and copy.

Owns the SQL that counts and sums. Guarantees that the database does the scanning and only results travel; that a sum of
money is exact: an amount of a binary float type is an error, since its sum depends on the order of the rows; that a
table which was truncated or rewritten after the snapshot is an error too, since MVCC does not reach behind that; and so
is a total over a foreign table, whose rows no backup holds. A statement that fails is kept as an error in its place and
does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import psycopg

from checks.asking import Log, OpenSession
from checks.names import identifier, qualified
from checks.plans import reading_no_foreign_table
from checks.sharing import Advance, Crew
from drills.errors import CheckError
from drills.measures import Measures, Relation, TableCount, Total, TotalRow
from drills.plan import TotalCheck

__all__ = ["Advance", "Log", "OpenSession", "count_statement", "measure", "qualified", "total_statement"]

_EXACT = {"bigint", "numeric", "money"}
_KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}
UNLOGGED = "unlogged table"
_RELATIONS = """
SELECT c.relkind::text, n.nspname::text, c.relname::text, coalesce(pg_table_size(c.oid), 0), c.relpersistence = 'u'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2, 3
"""
_REWRITTEN = """
SELECT n.nspname::text, c.relname::text
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'm')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
"""
"""Of the tables that this transaction has read: pg_class is read as of the snapshot, the function sees the present."""


def count_statement(schema: str, table: str) -> str:
    """Rows of one table, its children not counted: each partition counts for itself."""
    return f"SELECT count(*) FROM ONLY {identifier(schema, table)}"  # noqa: S608 - quoted


def total_statement(check: TotalCheck) -> str:
    """Groups, rows, rows with an amount, their sum, and the sum's type."""
    amount = _own(check.amount)
    # By the bytes: a collation that holds 'a' and 'A' for equal would leave open which of them names the group.
    groups = [f'({_own(expression)})::text COLLATE "C"' for expression in check.by.values()]
    columns = [
        *groups,
        "count(*)",
        f"count({amount})",
        f"sum({amount})::numeric",
        f"pg_typeof(sum({amount}))::text",
    ]
    where = f" WHERE ({_own(check.where)})" if check.where else ""
    grouped = f" GROUP BY {', '.join(str(place) for place in range(1, len(groups) + 1))}" if groups else ""
    return f"SELECT {', '.join(columns)} FROM {_own(check.table)}{where}{grouped}"  # noqa: S608 - a plan's SQL, on a role that reads


def _own(expression: str) -> str:
    """Text of a plan inside a statement: a comment at its end must not swallow what follows."""
    return f"{expression.strip()}\n" if "--" in expression else expression.strip()


def measure(open_session: OpenSession, totals: Sequence[TotalCheck], jobs: int, log: Log, advance: Advance) -> Measures:
    """Everything that the expectations hold, over `jobs` sessions, the largest tables first.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: no session, or one was lost.
    """
    with open_session() as connection:
        found = log.ask(connection, "relations", _RELATIONS)
    tables = sorted((row for row in found if row[0] == "r"), key=lambda row: row[3], reverse=True)
    work: list[Callable[[psycopg.Connection], TableCount | Total]] = [
        *(_totalling(log, check) for check in totals),
        *(_counting(log, schema, table) for _, schema, table, *_ in tables),
    ]
    rewritten: set[str] = set()
    crew = Crew(open_session, work)
    results = crew.run(jobs, advance, lambda connection: rewritten.update(_rewritten(log, connection)))
    counts = [_trusted(result, rewritten) for result in results if isinstance(result, TableCount)]
    return Measures(
        relations=tuple(
            Relation(kind=UNLOGGED if kind == "r" and unlogged else _KINDS[kind], name=qualified(schema, name))
            for kind, schema, name, _, unlogged in found
        ),
        counts=tuple(sorted(counts, key=lambda count: count.table)),
        totals=tuple(result for result in results if isinstance(result, Total)),
        queries=tuple(log.queries),
    )


def _counting(log: Log, schema: str, table: str) -> Callable[[psycopg.Connection], TableCount]:
    name = qualified(schema, table)

    def count(connection: psycopg.Connection) -> TableCount:
        try:
            with savepoint(connection):
                rows = log.ask(connection, f"rows of {name}", count_statement(schema, table))
        except CheckError as error:
            return TableCount(table=name, rows=None, error=error.message)
        return TableCount(table=name, rows=rows[0][0])

    return count


def _totalling(log: Log, check: TotalCheck) -> Callable[[psycopg.Connection], Total]:
    def total(connection: psycopg.Connection) -> Total:
        by, statement = tuple(check.by), total_statement(check)
        try:
            with savepoint(connection):
                with reading_no_foreign_table(connection, log, check.name, statement):
                    rows = log.ask(connection, check.name, statement)
                rewritten = _rewritten(log, connection)
            if rewritten:
                told = f"{check.name}: {', '.join(rewritten)}: {_NOT_AS_OF_THE_SNAPSHOT}"
                return Total(name=check.name, by=by, rows=(), error=told)
            return Total(name=check.name, by=by, rows=tuple(_total_row(check, row) for row in rows))
        except CheckError as error:
            return Total(name=check.name, by=by, rows=(), error=_with_hint(error))

    return total


def _total_row(check: TotalCheck, row: tuple[Any, ...]) -> TotalRow:
    *group, count, amounts, total, kind = row
    if kind not in _EXACT:
        raise CheckError(
            f"{check.name}: the sum of {check.amount} is of type {kind}; expected one of {', '.join(sorted(_EXACT))}",
            hint=f"a binary float cannot hold money exactly; cast it in the plan: ({check.amount})::numeric",
        )
    exact = total if total is None or isinstance(total, Decimal) else Decimal(total)
    return TotalRow(group=tuple(group), rows=count, amounts=amounts, total=exact)


def _with_hint(error: CheckError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


_NOT_AS_OF_THE_SNAPSHOT = "truncated or rewritten after the snapshot was taken, which cannot be looked behind"


def _rewritten(log: Log, connection: psycopg.Connection) -> list[str]:
    """The tables read in this transaction whose storage is no longer that of the snapshot."""
    rows = log.ask(connection, "tables rewritten since the snapshot", _REWRITTEN)
    return sorted(qualified(schema, table) for schema, table in rows)


def _trusted(count: TableCount, rewritten: set[str]) -> TableCount:
    if count.table not in rewritten:
        return count
    return TableCount(table=count.table, rows=None, error=_NOT_AS_OF_THE_SNAPSHOT)


def savepoint(connection: psycopg.Connection) -> AbstractContextManager[object]:
    """So that one statement's error leaves the snapshot to the others."""
    return connection.transaction()
