"""Measuring a database: the same statements on source and copy.

Guarantees that the database does the scanning and only results travel; that a table is read once for its rows, its
digest and the totals over it; that a table which was truncated or rewritten after the snapshot is an error, since MVCC
does not reach behind that; and so is a total over a foreign table, whose rows no backup holds. A statement that fails
is kept as an error in its place and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from checks.asking import Log, OpenSession
from checks.emptied import read_held
from checks.ledger import parts
from checks.scanning.folding import fold, total_alone
from checks.scanning.lotwork import lot, share_out
from checks.scanning.relations import Table, read_tables
from checks.scanning.scans import Piece, large_objects, ordered_key, plan_scan, rows_in_bucket, stored_groups
from checks.scanning.tablework import PAGE, TableWork, cut_in_pieces
from checks.sequences import read_sequences
from checks.sharing import Advance, Crew, Work
from checks.structure.compare import read_structure
from drills.errors import CheckError
from drills.measures import LARGE_OBJECTS, Item, Measures, Relation, TableCount, Total
from drills.plans.checks import Checks
from drills.plans.totals import TotalCheck

_OBJECTS = "SELECT count(*) FROM pg_largeobject_metadata"
_SERVER = """
SELECT current_setting('server_version_num')::int,
       least(current_setting('max_worker_processes')::int, current_setting('max_parallel_workers')::int)
"""
_PIECES_SINCE = 140000
"""The version that scans a range of pages without reading the others."""


@dataclass(frozen=True)
class Wish:
    """What is to be measured."""

    totals: tuple[TotalCheck, ...] = ()
    digest: Literal["fast", "sha256"] | None = "fast"
    structure: bool = True
    sequences: bool = True
    held: bool = False
    """Which tables hold any row."""
    counts: bool = True
    """How many rows each table holds. Without, only those tables are read that a total looks at."""

    @classmethod
    def of(cls, checks: Checks, opened: datetime, *, held: bool = False) -> Wish:
        """What the checks of a plan need; every period ends as seen from the opening of the drill."""
        totals = (*checks.totals, *(part for check in checks.ledger for part in parts(check)))
        digest = checks.content.digest if checks.content.compare else None
        settled = tuple(total.settled(opened) for total in totals)
        counts = checks.row_counts or checks.content.compare or not held
        return cls(settled, digest, checks.structure, checks.sequences, held, counts)


@dataclass(frozen=True)
class Scope:
    """How a database is measured, and how much of it."""

    jobs: int = 1
    """Sessions at the same time."""
    pieces: bool = False
    """Whether large tables are read in ranges of pages: shared between sessions, and with progress inside a table. It
    goes through the server's cache, which is for copies; a whole scan has a small ring of its own (docs/adr/0007)."""
    like: Measures | None = None
    """Measures of the source, whose tables are scanned here in the same words."""
    only: frozenset[str] | None = None
    """The tables to scan, by their names for people; None for all."""


def measure(open_session: OpenSession, wish: Wish, scope: Scope, log: Log, advance: Advance) -> Measures:
    """Everything that the expectations hold, the largest tables first.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: no session, or one was lost.
    """
    with open_session() as connection:
        sequences = read_sequences(connection, log) if wish.sequences else ()
        tables = read_tables(connection, log)
        held = read_held(connection, _within(scope, tables), log) if wish.held else None
        structure, unread = _structure(connection, log) if wish.structure else ((), "")
        works = _works(tables, wish, scope, connection, log)
        plain = {(table.schema, table.name) for table in tables if not table.parent}
        alone = fold(wish.totals, {name: work for name, work in works.items() if name in plain}, connection, log)
        if not wish.counts:
            works = {name: work for name, work in works.items() if work.sums}
        work = _pieces(tables, works, scope, connection, log)
    found = Crew(open_session, [*_alone(alone, log), *work]).run(scope.jobs, advance, _nothing_more)
    # A total that spoilt the scan of its table is asked by itself: its error is its own.
    again = [check for one in works.values() if one.unsummed and not one.overdue for check in one.sums]
    found += Crew(open_session, _alone(again, log)).run(scope.jobs, advance, _nothing_more) if again else []
    found += [total for one in works.values() for total in one.totals()]
    summed = {total.name: total for total in found if total is not None}
    return Measures(
        relations=tuple(Relation(kind=table.told_kind, name=table.shown) for table in tables),
        counts=tuple(sorted((one.count() for one in works.values()), key=_by_name)),
        totals=tuple(summed[check.name] for check in wish.totals),
        queries=tuple(log.queries),
        structure=structure,
        structure_error=unread,
        sequences=sequences,
        held=held,
    )


def _alone(totals: Sequence[TotalCheck], log: Log) -> list[Work[Total | None]]:
    return [Work(PAGE, total_alone(log, check)) for check in totals]


def _nothing_more(_connection: psycopg.Connection) -> None:
    """Every piece of work has looked back by itself."""


def _structure(connection: psycopg.Connection, log: Log) -> tuple[tuple[Item, ...], str]:
    """The structure, or why it cannot be read.

    PostgreSQL's functions that write definitions look at the present: what was dropped after the snapshot is an error.
    """
    try:
        with connection.transaction():
            return read_structure(connection, log), ""
    except CheckError as error:
        return (), error.message


def _by_name(count: TableCount) -> str:
    return count.table


def _within(scope: Scope, tables: Sequence[Table]) -> list[Table]:
    """Those that hold rows themselves and are to be scanned."""
    return [table for table in tables if table.kind == "r" and (scope.only is None or table.shown in scope.only)]


def _works(
    tables: Sequence[Table], wish: Wish, scope: Scope, connection: psycopg.Connection, log: Log
) -> dict[tuple[str, str], TableWork]:
    known = {count.table: count.scan for count in scope.like.counts if count.scan} if scope.like else {}
    works, in_bucket = {}, rows_in_bucket([table for table in tables if table.kind == "r"])
    for table in _within(scope, tables):
        scan = known.get(table.shown)
        if scan is None:
            ends = _ends(table, connection, log) if wish.digest else None
            scan = plan_scan(table, wish.digest or "fast", ends, in_bucket)
        more = [column.name for column in table.columns if column.name not in scan.columns]
        works[table.schema, table.name] = work = TableWork(
            scan,
            shown=table.shown,
            size=table.size,
            digest=wish.digest is not None,
            oid=table.oid,
            as_stored=stored_groups(table.columns),
        )
        if more and not work.error:
            work.error = f"it has columns that the snapshot has not: {', '.join(more)}"
    wanted = wish.counts and (scope.only is None or LARGE_OBJECTS in scope.only)
    if wanted and (objects := log.ask(connection, LARGE_OBJECTS, _OBJECTS)[0][0]):
        scan = large_objects(wish.digest or "fast")
        works[scan.namespace, scan.name] = TableWork(
            scan, shown=LARGE_OBJECTS, size=PAGE * objects, digest=wish.digest is not None
        )
    return works


def _ends(table: Table, connection: psycopg.Connection, log: Log) -> tuple[int, int] | None:
    """Smallest and largest value of its ordered key: two looks into its index."""
    key = ordered_key(table)
    if key is None:
        return None
    try:
        with connection.transaction():
            statement = f"SELECT min({key})::bigint, max({key})::bigint FROM ONLY {table.quoted}"  # noqa: S608 - quoted
            low, high = log.ask(connection, f"ends of {table.shown}", statement)[0]
    except CheckError:
        return None  # its scan says what is wrong with it
    return None if low is None else (low, high)


def _pieces(
    tables: Sequence[Table],
    works: Mapping[tuple[str, str], TableWork],
    scope: Scope,
    connection: psycopg.Connection,
    log: Log,
) -> list[Work[Total | None]]:
    """The scans, the largest first."""
    version, workers = log.ask(connection, "what the server can do", _SERVER)[0]
    heaps = {(table.schema, table.name) for table in tables if table.heap}
    cut = version >= _PIECES_SINCE and (scope.pieces or (scope.jobs > 1 and not workers))
    # All sessions and their workers together are about as many as the plan says.
    share = max(scope.jobs // max(sum(one.large for one in works.values()), 1) - 1, 0)
    lots, alone = share_out(works.values())
    pieces: list[Work[Total | None]] = [
        Work(sum(one.size + 1 for one in small), lot(log, small), small[-1].told) for small in lots
    ]
    for one in alone:
        one.workers = 0 if cut else min(workers, share)
        whole = not cut or (one.scan.namespace, one.scan.name) not in heaps or one.scan.digest == "sha256"
        ranges = [Piece()] if whole else cut_in_pieces(one.size)
        pieces += [Work(one.size // len(ranges) + 1, one.piece(log, piece), one.told) for piece in ranges]
    return sorted(pieces, key=lambda piece: piece.weight, reverse=True)
