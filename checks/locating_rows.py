"""The expected rows on their way to the copy: where else they come from, and how most of them are left behind.

Guarantees that no row of a bucket that differs is left behind, and that no more is held in memory than what was read
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from checks.asking import Log, OpenSession
from checks.locating_sql import NO_KEY, ranges, rows_statement, shift_of
from drills.backup_rows import GiveRows, TableRows
from drills.measures import Scan

_GENERATED = """
SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {schema} AND c.relname = {name} AND a.attgenerated <> ''
"""
_KEYS_LISTED = 1 << 20
"""Keys up to which they are looked up as they are written; more are computed with, which takes three times as long."""


def near(rows: TableRows, scan: Scan, buckets: Sequence[str]) -> Iterator[bytes]:
    """The lines whose integer key is in one of these buckets; where buckets are made otherwise, all lines."""
    bits = shift_of(scan)
    if bits is None or scan.key[0] not in rows.columns or not buckets or NO_KEY in buckets:
        return rows.chunks
    place = rows.columns.index(scan.key[0])
    wanted = ranges(buckets, bits)
    if sum(last - first + 1 for first, last in wanted) <= _KEYS_LISTED:
        return _listed(rows.chunks, place, frozenset(b"%d" % key for a, b in wanted for key in range(a, b + 1)))
    return _computed(rows.chunks, place, bits, frozenset(int(bucket) for bucket in buckets))


def _listed(chunks: Iterator[bytes], place: int, wanted: frozenset[bytes]) -> Iterator[bytes]:
    cuts = place + 1
    for chunk in chunks:
        lines = chunk.split(b"\n")
        del lines[-1]
        # All that is done for every row of a table is in this line. A field holds no bare tab and no bare line break.
        found = [line for line in lines if line.split(b"\t", cuts)[place] in wanted]
        if found:
            yield b"\n".join([*found, b""])


def _computed(chunks: Iterator[bytes], place: int, bits: int, wanted: frozenset[int]) -> Iterator[bytes]:
    cuts = place + 1
    for chunk in chunks:
        lines = chunk.split(b"\n")
        del lines[-1]
        found = [line for line in lines if int(line.split(b"\t", cuts)[place]) >> bits in wanted]
        if found:
            yield b"\n".join([*found, b""])


def rows_of_snapshot(open_session: OpenSession, log: Log) -> GiveRows:
    """Expected rows from a session that is inside the source's snapshot, for as long as that lasts.

    Where both sides are there at once, no backup has to be read. It only reads.
    """

    @contextmanager
    def give(scan: Scan, buckets: Sequence[str]) -> Iterator[TableRows]:
        with open_session() as connection:
            name = f"{scan.namespace}.{scan.name}: expected rows"
            generated = {row[0] for row in log.ask(connection, f"{name}: generated columns", _generated(scan))}
            columns = tuple(column for column in scan.columns if column not in generated)
            chunks = log.unload(connection, name, rows_statement(scan, columns, buckets))
            yield TableRows(columns, "UTF8", pinned=True, chunks=chunks)

    return give


def _generated(scan: Scan) -> str:
    return _GENERATED.format(
        schema=sql.Literal(scan.namespace).as_string(), name=sql.Literal(scan.name).as_string()
    )
