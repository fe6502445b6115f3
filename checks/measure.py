"""Measuring a database: the same statements on source and copy.

Owns the SQL that counts and sums. Guarantees that every statement is recorded with its text, role, start and end; that
the database does the scanning and only results travel; that a sum of money is exact: an amount of a binary float type
is an error, since its sum depends on the order of the rows. A statement that fails is kept as an error in its place and
does not stop the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from drills.errors import CheckError
from drills.plan import TotalCheck
from drills.records import Measures, Query, Relation, TableCount, Total, TotalRow, utc_now
from drills.secrets import VAULT

OpenSession = Callable[[], AbstractContextManager[psycopg.Connection]]
"""Gives a session that is ready to measure in: on the source, inside the snapshot."""
Advance = Callable[[int, int, str], None]
"""Progress: done, of how many, unit."""

T = TypeVar("T")
_EXACT = {"bigint", "numeric", "money"}
_KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}
_RELATIONS = """
SELECT c.relkind::text, n.nspname::text, c.relname::text, pg_table_size(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2, 3
"""


@dataclass
class Log:
    """The statements put to one server, in order of their ends."""

    role: str
    server: str
    queries: list[Query] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, connection: psycopg.Connection, name: str, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, noted with start and end.

        Raises:
            CheckError: the server refused it.
        """
        started, clock = utc_now(), time.monotonic()
        rows: list[tuple[Any, ...]] = []
        try:
            # Plans are written by people: the text goes as it is, and a % in it is a %.
            rows = connection.execute(statement.encode()).fetchall()
        except psycopg.Error as error:
            raise CheckError(f"{name}: {VAULT.redact(str(error)).strip()}", hint=statement) from error
        finally:
            self.note(
                Query(
                    name=name,
                    sql=statement,
                    role=self.role,
                    server=self.server,
                    started=started,
                    ended=utc_now(),
                    seconds=round(time.monotonic() - clock, 6),
                    rows=len(rows),
                )
            )
        return rows

    def note(self, query: Query) -> None:
        """One more statement."""
        with self._lock:
            self.queries.append(query)


def count_statement(schema: str, table: str) -> str:
    """Rows of one table, its children not counted: each partition counts for itself."""
    return sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table)).as_string()


def total_statement(check: TotalCheck) -> str:
    """Groups, rows, rows with an amount, their sum, and the sum's type."""
    groups = [f"({expression})::text" for expression in check.by.values()]
    columns = [
        *groups,
        "count(*)",
        f"count({check.amount})",
        f"sum({check.amount})::numeric",
        f"pg_typeof(sum({check.amount}))::text",
    ]
    where = f" WHERE {check.where}" if check.where else ""
    grouped = f" GROUP BY {', '.join(str(place) for place in range(1, len(groups) + 1))}" if groups else ""
    return f"SELECT {', '.join(columns)} FROM {check.table}{where}{grouped}"  # noqa: S608 - a plan's SQL, on a role that reads


def measure(open_session: OpenSession, totals: Sequence[TotalCheck], jobs: int, log: Log, advance: Advance) -> Measures:
    """Everything that the expectations hold, over `jobs` sessions, the largest tables first.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: no session.
    """
    with open_session() as connection:
        found = log.ask(connection, "relations", _RELATIONS)
    tables = sorted((row for row in found if row[0] == "r"), key=lambda row: row[3], reverse=True)
    work: list[Callable[[psycopg.Connection], TableCount | Total]] = [
        *(_totalling(log, check) for check in totals),
        *(_counting(log, schema, table) for _, schema, table, _ in tables),
    ]
    results = _share(open_session, work, jobs, advance)
    counts = sorted((result for result in results if isinstance(result, TableCount)), key=lambda count: count.table)
    order = [check.name for check in totals]
    sums = sorted(
        (result for result in results if isinstance(result, Total)), key=lambda total: order.index(total.name)
    )
    return Measures(
        relations=tuple(Relation(kind=_KINDS[kind], name=_qualified(schema, name)) for kind, schema, name, _ in found),
        counts=tuple(counts),
        totals=tuple(sums),
        queries=tuple(log.queries),
    )


def _share(
    open_session: OpenSession, work: Sequence[Callable[[psycopg.Connection], T]], jobs: int, advance: Advance
) -> list[T]:
    """Do the work in order, each piece by whoever is free."""
    waiting = iter(enumerate(work))
    lock = threading.Lock()
    results: dict[int, T] = {}

    def labour() -> None:
        with open_session() as connection:
            while True:
                with lock:
                    piece = next(waiting, None)
                if piece is None:
                    return
                done = piece[1](connection)
                with lock:
                    results[piece[0]] = done
                    advance(len(results), len(work), "tables and totals")

    with ThreadPoolExecutor(max(1, min(jobs, len(work))), thread_name_prefix="measure") as pool:
        for labourer in [pool.submit(labour) for _ in range(max(1, min(jobs, len(work))))]:
            labourer.result()
    return [results[index] for index in range(len(work))]


def _counting(log: Log, schema: str, table: str) -> Callable[[psycopg.Connection], TableCount]:
    name = _qualified(schema, table)

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
        by = tuple(check.by)
        try:
            with savepoint(connection):
                rows = log.ask(connection, check.name, total_statement(check))
            return Total(name=check.name, by=by, rows=tuple(_total_row(check, row) for row in rows))
        except CheckError as error:
            return Total(name=check.name, by=by, rows=(), error=error.message)

    return total


def _total_row(check: TotalCheck, row: tuple[Any, ...]) -> TotalRow:
    *group, count, amounts, total, kind = row
    if kind not in _EXACT:
        raise CheckError(
            f"{check.name}: the sum of {check.amount} is of type {kind}; expected one of {', '.join(sorted(_EXACT))}",
            hint="a binary float cannot hold money exactly; cast it in the plan, such as (amount)::numeric",
        )
    exact = total if total is None or isinstance(total, Decimal) else Decimal(total)
    return TotalRow(group=tuple(group), rows=count, amounts=amounts, total=exact)


def savepoint(connection: psycopg.Connection) -> AbstractContextManager[object]:
    """So that one statement's error leaves the snapshot to the others."""
    return connection.transaction()


def _qualified(schema: str, name: str) -> str:
    return (
        sql.Identifier(schema, name).as_string().replace('"', "")
        if _plain(schema) and _plain(name)
        else sql.Identifier(schema, name).as_string()
    )


def _plain(name: str) -> bool:
    """Whether PostgreSQL reads this name without quotes as itself."""
    return name.isascii() and name.replace("_", "a").isalnum() and name.islower() and not name[0].isdigit()
