"""Many small tables in one statement: ten thousand of them are not worth ten thousand round trips.

Guarantees that one which cannot be read leaves their answers to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import psycopg

from checks.asking import Log
from checks.scanning.portions import Portion
from checks.scanning.rewriting import rewritten
from checks.scanning.scans import Piece
from checks.scanning.tablework import TableWork
from drills.errors import CheckError

_MOST_TABLES = 100
_MOST_COLUMNS = 2000
_MOST_BYTES = 16 * 2**20
_SMALL = 2**20
"""Bytes up to which a table shares a statement with others."""


def share_out(works: Iterable[TableWork]) -> tuple[list[list[TableWork]], list[TableWork]]:
    """Lots of small tables, and the tables that are read by themselves."""
    lots: list[list[TableWork]] = []
    alone: list[TableWork] = []
    columns = size = 0
    for work in works:
        if work.size > _SMALL or work.scan.bucket or work.sums or not work.oid:
            alone.append(work)
            continue
        columns, size = columns + len(work.scan.columns) + 1, size + work.size
        if not lots or len(lots[-1]) >= _MOST_TABLES or columns > _MOST_COLUMNS or size > _MOST_BYTES:
            lots.append([])
            columns, size = len(work.scan.columns) + 1, work.size
        lots[-1].append(work)
    return lots, alone


def lot(log: Log, works: Sequence[TableWork]) -> Callable[[psycopg.Connection], None]:
    """The work on all of these."""

    def scan(connection: psycopg.Connection) -> None:
        _read(connection, log, works)

    return scan


def _read(connection: psycopg.Connection, log: Log, works: Sequence[TableWork]) -> None:
    """Where the server refuses, half of them at a time: the one that is to blame ends up by itself."""
    if len(works) == 1:
        works[0].piece(log, Piece())(connection)
        return
    try:
        found, gone = _together(connection, log, works)
    except CheckError:
        for half in (works[: len(works) // 2], works[len(works) // 2 :]):
            _read(connection, log, half)
        return
    for work, portion in zip(works, found, strict=True):
        work.take(portion, rewritten=work.oid in gone)


def _together(connection: psycopg.Connection, log: Log, works: Sequence[TableWork]) -> tuple[list[Portion], set[int]]:
    found = [Portion(work.scan, ()) for work in works]
    told = f"{'rows' if works[0].error else 'content'} of {len(works)} tables, {works[0].shown} and others"
    with connection.transaction(force_rollback=True):
        for number, *row in log.ask(connection, told, " UNION ALL ".join(_numbered(works))):
            found[number].take(row)
        gone = rewritten(connection, log, [(work.oid, work.name) for work in works])
    return found, gone


def _numbered(works: Sequence[TableWork]) -> Iterator[str]:
    for number, work in enumerate(works):
        yield f"SELECT {number}, * FROM ({work.statement()}) AS found"  # noqa: S608 - our own
