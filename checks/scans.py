"""One scan of a table gives everything: rows, the digest of every column of every row by buckets, and totals.

Owns the statement and the way its parts are put together again. Guarantees that the database does the adding up, that
source and copy are asked in the same words, and that nothing is rounded on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from checks.digests import key_columns, quoted, row_digest, row_sha256
from checks.names import identifier
from checks.relations import Table
from checks.totals_sql import group_expressions, total_columns
from drills.measures import Scan
from drills.plan_totals import TotalCheck

ROWS_IN_BUCKET = 4096
"""A bucket that differs names about as many rows."""
_MOST_BUCKETS = 4096
_WHOLE_NUMBERS = {"int2", "int4", "int8"}
_ROW_GUESSED = 100
"""Bytes of a row where the planner has no idea of their number."""
LARGE_OBJECTS = Scan(
    namespace="pg_catalog",
    name="pg_largeobject_metadata",
    columns=("oid", "content"),
    key=("oid",),
    digest="hash",
    row="hashtextextended(encode(lo_get(oid), 'base64') COLLATE \"C\", hashoidextended(oid, 5521474103281))",
    bucket="",
)
"""Large objects as if they were a table: one row each."""


def bucketed_rows(table: Table) -> int:
    """How many rows there are about."""
    return table.rows if table.rows > 0 else table.size // _ROW_GUESSED


def ordered_key(table: Table) -> str | None:
    """The one whole-numbered column of the key of a table that is large enough for buckets; SQL."""
    columns = key_columns(table)
    if len(columns) == 1 and columns[0].base in _WHOLE_NUMBERS and bucketed_rows(table) >= 2 * ROWS_IN_BUCKET:
        return quoted(columns[0])
    return None


def plan_scan(table: Table, digest: str, ends: tuple[int, int] | None) -> Scan:
    """How this table is digested.

    Args:
        table: which.
        digest: `fast` or `sha256`, as the plan says.
        ends: smallest and largest value of its ordered key, where it has one and any row.
    """
    sha = digest == "sha256"
    return Scan(
        namespace=table.schema,
        name=table.name,
        columns=tuple(column.name for column in table.columns),
        key=table.key,
        digest="sha256" if sha else "hash",
        row=row_sha256(table.columns) if sha else row_digest(table.columns),
        bucket=_bucket(table, ends),
    )


def _bucket(table: Table, ends: tuple[int, int] | None) -> str:
    """By ranges of an ordered key, so that a bucket names neighbours; by the key's hash where it is of another kind."""
    wanted = min(_MOST_BUCKETS, bucketed_rows(table) // ROWS_IN_BUCKET)
    columns = key_columns(table)
    if wanted < 2 or not columns:  # noqa: PLR2004 - one bucket is none
        return ""
    if ends is not None:
        width = (ends[1] - ends[0]) // wanted
        return f"{quoted(columns[0])}::bigint >> {max(width.bit_length(), 1)}"
    return f"{row_digest(columns, 'key')} & {(1 << wanted.bit_length()) - 1}"


@dataclass(frozen=True)
class Piece:
    """A part of a table: pages from, up to and without; all of it where both are None."""

    first: int | None = None
    end: int | None = None


def scan_statement(scan: Scan, sums: Sequence[TotalCheck] = (), piece: Piece | None = None) -> str:
    """Bucket, the totals' groups, rows, digest; then for each total its rows, amounts, sum and type."""
    keys = group_keys(sums)
    table = identifier(scan.namespace, scan.name)
    if scan.digest == "sha256":
        ordered = "encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY digest), ''::bytea)), 'hex')"
        rows = f"SELECT {scan.bucket or 'NULL::bigint'} AS bucket, {scan.row} AS digest FROM ONLY {table}"  # noqa: S608
        return f"SELECT bucket, count(*), {ordered} FROM ({rows}) AS rows GROUP BY 1"  # noqa: S608 - quoted
    columns = [scan.bucket or "NULL::bigint", *keys, "count(*)", f"sum({scan.row})"]
    for total in sums:
        columns += total_columns(total)
    where = f" WHERE {_pages(piece)}" if piece and piece.first is not None else ""
    grouped = range(1 if scan.bucket else 2, len(keys) + 2)
    by = f" GROUP BY {', '.join(map(str, grouped))}" if grouped else ""
    return f"SELECT {', '.join(columns)} FROM ONLY {table}{where}{by}"  # noqa: S608 - quoted, and a plan's SQL


def count_statement(scan: Scan, piece: Piece | None = None) -> str:
    """Rows of one table, its children not counted: each partition counts for itself."""
    where = f" WHERE {_pages(piece)}" if piece and piece.first is not None else ""
    return f"SELECT count(*) FROM ONLY {identifier(scan.namespace, scan.name)}{where}"  # noqa: S608 - quoted


def keys_statement(scan: Scan, sums: Sequence[TotalCheck]) -> str | None:
    """What the planner is asked: how many groups these totals make. None where they have none."""
    keys = group_keys(sums)
    table = identifier(scan.namespace, scan.name)
    return f"EXPLAIN (FORMAT JSON) SELECT FROM ONLY {table} GROUP BY {', '.join(keys)}" if keys else None


def group_keys(sums: Sequence[TotalCheck]) -> list[str]:
    """The groups of all these totals, each expression once."""
    return list(dict.fromkeys(expression for total in sums for expression in group_expressions(total)))


def _pages(piece: Piece) -> str:
    """The last piece has no end: a page that is new since is in it."""
    ctid = f"ctid >= '({piece.first},0)'"
    return ctid if piece.end is None else f"{ctid} AND ctid < '({piece.end},0)'"
