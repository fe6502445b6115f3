"""Reading every table of a copy once: only then is everything that it needs really there.

A copy that AWS calls available loads its blocks from S3 when they are first read, so the clock of a recovery stops no
earlier (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RestoreFromSnapshot.html). Guarantees that the heap
is read and not an index in its stead, that what was stored out of line is read too, and that a table which could not be
read is named. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from drills.secrets import VAULT

Advance = Callable[[int, int | None, str, str], None]
"""Bytes done, of how many, the unit, and the table."""

_BY_SCAN = {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off"}
# Leaves of partitioned tables are tables like others; catalogs are small, and were read to get this far.
_TABLES = """
SELECT c.oid::regclass::text, n.nspname::text, c.relname::text, pg_table_size(c.oid), t.relname::text,
       coalesce(has_schema_privilege(t.relnamespace, 'USAGE') AND has_table_privilege(t.oid, 'SELECT'), false)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND (c.relkind = 'r' OR c.relispopulated)
   AND n.nspname !~ '^pg_(toast|temp|catalog)' AND n.nspname <> 'information_schema'
 ORDER BY pg_table_size(c.oid) DESC, 1
"""
# Large objects are data, though their table is a catalog; who may not read it may still read each object of his own.
_LARGE_OBJECTS = """
SELECT 'large objects', pg_table_size('pg_largeobject'), has_table_privilege('pg_largeobject', 'SELECT')
 WHERE EXISTS (SELECT FROM pg_largeobject_metadata)
"""


@dataclass(frozen=True)
class TableRead:
    """One table, read from its first block to its last."""

    table: str
    rows: int
    bytes: int
    """Of the table and of what it has stored out of line, without indexes."""
    seconds: float
    error: str = ""
    """Why it could not be read."""


@dataclass(frozen=True)
class FullRead:
    """Every table of a database."""

    tables: tuple[TableRead, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        """Of those that were read."""
        return sum(table.bytes for table in self.tables if not table.error)

    @property
    def unread(self) -> tuple[TableRead, ...]:
        """Those that could not be read. With one of them the copy is not fully read, and that clock has no time."""
        return tuple(table for table in self.tables if table.error)


@dataclass(frozen=True)
class _Table:
    shown: str
    size: int
    statements: tuple[sql.SQL | sql.Composed, ...]

    @classmethod
    def of(cls, shown: str, schema: str, name: str, size: int, toast: str | None, *, readable: bool) -> _Table:
        return cls(shown, size, tuple(_statements(sql.Identifier(schema, name), toast, readable=readable)))


def read_every_table(
    connection: psycopg.Connection, advance: Advance = lambda _done, _total, _unit, _about: None
) -> FullRead:
    """Read all of them, the largest first.

    Args:
        connection: a session of its own on the copy, in autocommit.
        advance: progress.

    Raises:
        psycopg.OperationalError: the connection is gone.
    """
    begun = time.monotonic()
    for setting, value in _BY_SCAN.items():
        connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
    tables = [_Table.of(*row, readable=may) for *row, may in connection.execute(_TABLES).fetchall()]
    for shown, size, readable in connection.execute(_LARGE_OBJECTS).fetchall():
        whole, each = (
            "SELECT count(*) FROM pg_largeobject",
            "SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata",
        )
        tables.append(_Table(shown, size, (sql.SQL(whole if readable else each),)))
    total = sum(table.size for table in tables)
    return FullRead(tuple(_read_all(connection, tables, total, advance)), round(time.monotonic() - begun, 6))


def _read_all(
    connection: psycopg.Connection, tables: list[_Table], total: int, advance: Advance
) -> Iterator[TableRead]:
    done = 0
    for table in tables:
        advance(done, total, "bytes", table.shown)
        begun = time.monotonic()
        rows, error = 0, ""
        try:
            for statement in table.statements:
                row = connection.execute(statement).fetchone()
                rows = rows or int((row and row[0]) or 0)
        except psycopg.Error as broken:
            if connection.closed:
                raise
            error = VAULT.redact(str(broken).strip().splitlines()[0])
        done += table.size
        yield TableRead(table.shown, rows, table.size, round(time.monotonic() - begun, 6), error)
    advance(done, total, "bytes", "")


def _statements(name: sql.Identifier, toast: str | None, *, readable: bool) -> Iterator[sql.Composed]:
    """The table, then what it has out of line: as a table where this role may, or through the values where not."""
    if toast is None or readable:
        yield sql.SQL("SELECT count(*) FROM ONLY {}").format(name)
    if toast is not None and readable:
        yield sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("pg_toast", toast))
    elif toast is not None:
        # To be written as text a row has to be whole.
        yield sql.SQL("SELECT count(*), sum(octet_length(t::text)) FROM ONLY {} t").format(name)
