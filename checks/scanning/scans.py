"""One scan of a table gives everything: rows, the digest of every column of every row by buckets, and totals.

Owns the statement and the way its parts are put together again. Guarantees that the database does the adding up, that
source and copy are asked in the same words, and that nothing is rounded on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from checks.names import identifier
from checks.scanning.digests import key_columns, quoted, row_digest, row_sha256
from checks.scanning.relations import Column, Table
from checks.totals_sql import amount_expression, as_text, condition, group_expressions, total_columns
from drills.measures import Scan
from drills.plans.totals import TotalCheck

ROWS_IN_BUCKET = 4096
"""A bucket that differs names about as many rows."""
_MOST_BUCKETS = 4096
"""Of one table."""
_MOST_OF_ALL = 32768
"""Of all tables together: each is held in memory, for source and copy."""
_WHOLE_NUMBERS = {"int2", "int4", "int8"}
_EQUAL_AS_TEXT = {
    *_WHOLE_NUMBERS, "bool", "bpchar", "date", "numeric", "oid", "text", "timestamp", "timestamptz", "uuid", "varchar",
}  # fmt: skip
_ROW_GUESSED = 100
"""Bytes of a row where the planner has no idea of their number."""
_CHUNK = 1 << 20
"""Bytes of a large object that are looked at together: none has to fit into memory."""


def bucketed_rows(table: Table) -> int:
    """How many rows there are about."""
    return table.rows if table.rows > 0 else table.size // _ROW_GUESSED


def ordered_key(table: Table) -> str | None:
    """The one whole-numbered column of the key of a table that is large enough for buckets; SQL."""
    columns = key_columns(table)
    if len(columns) == 1 and columns[0].base in _WHOLE_NUMBERS and bucketed_rows(table) >= 2 * ROWS_IN_BUCKET:
        return quoted(columns[0])
    return None


def rows_in_bucket(tables: Sequence[Table]) -> int:
    """How many rows a bucket takes in a database of these tables."""
    return max(ROWS_IN_BUCKET, sum(map(bucketed_rows, tables)) // _MOST_OF_ALL)


def plan_scan(table: Table, digest: str, ends: tuple[int, int] | None, in_bucket: int = ROWS_IN_BUCKET) -> Scan:
    """How this table is digested.

    Args:
        table: which.
        digest: `fast` or `sha256`, as the plan says.
        ends: smallest and largest value of its ordered key, where it has one and any row.
        in_bucket: rows of a bucket (see `rows_in_bucket`).
    """
    sha = digest == "sha256"
    return Scan(
        namespace=table.schema,
        name=table.name,
        columns=tuple(column.name for column in table.columns),
        key=table.key,
        digest="sha256" if sha else "hash",
        row=row_sha256(table.columns) if sha else row_digest(table.columns),
        bucket=_bucket(table, ends, in_bucket),
    )


def _bucket(table: Table, ends: tuple[int, int] | None, in_bucket: int) -> str:
    """By ranges of an ordered key, so that a bucket names neighbours; by the key's hash where it is of another kind."""
    wanted = min(_MOST_BUCKETS, bucketed_rows(table) // in_bucket)
    columns = key_columns(table)
    if wanted < 2 or not columns:  # noqa: PLR2004 - one bucket is none
        return ""
    if ends is not None:
        width = (ends[1] - ends[0]) // wanted
        return f"{quoted(columns[0])}::bigint >> {max(width.bit_length(), 1)}"
    return f"{row_digest(columns, 'key')} & {(1 << wanted.bit_length()) - 1}"


def large_objects(digest: str) -> Scan:
    """Large objects as if they were a table: one row each."""
    sha = digest == "sha256"
    seeded = "hashtextextended(encode(content, 'base64') COLLATE \"C\", 5521474103281 # ({0}))"
    # Of each chunk: where it begins, its digest, and whether there may be more behind it.
    chunk = f"{{0}}, {'sha256(content)' if sha else seeded}, length(content) = {_CHUNK}"
    read = f"SELECT {chunk} FROM lo_get(oid, {{0}}, {_CHUNK}) AS content"  # noqa: S608 - our own
    parts = (
        f"WITH RECURSIVE part(place, digest, more) AS ({read.format('0::bigint')} UNION ALL"  # noqa: S608 - our own
        f" SELECT next.* FROM part, LATERAL ({read.format(f'part.place + {_CHUNK}')}) AS next WHERE part.more)"
    )
    whole = "sha256(string_agg(digest, ''::bytea ORDER BY place))" if sha else "sum(digest)"
    told = f"concat(oid, ' ', ({parts} SELECT {whole} FROM part))"  # noqa: S608 - our own
    return Scan(
        namespace="pg_catalog",
        name="pg_largeobject_metadata",
        columns=("oid", "content"),
        key=("oid",),
        digest="sha256" if sha else "hash",
        row=f"sha256(convert_to({told}, 'UTF8'))" if sha else f'hashtextextended({told} COLLATE "C", 8205130496271)',
        bucket="",
    )


@dataclass(frozen=True)
class Piece:
    """A part of a table: pages from, up to and without; all of it where both are None."""

    first: int | None = None
    end: int | None = None


def scan_statement(
    scan: Scan,
    sums: Sequence[TotalCheck] = (),
    piece: Piece | None = None,
    as_stored: Mapping[str, str] = MappingProxyType({}),
    *,
    workers: bool = False,
) -> str:
    """Bucket, the totals' groups, rows, digest, its mean; then for each total its rows, amounts, sum and type.

    The mean tells how many rows had a digest at all, and costs nothing: the server adds up for both at once.

    Args:
        scan: of which table, and how.
        sums: the totals that it answers too.
        piece: which pages; all of them unless given.
        as_stored: groups that may be told apart as they are stored, which is cheaper, and written as texts afterwards.
        workers: whether the server's workers are to add up, each for itself.
    """
    keys = group_keys(sums)
    if scan.digest == "sha256":
        return _sha256_statement(scan)
    if workers:
        return _shared_statement(scan, sums, as_stored)
    digest = [f"sum({scan.row})", f"avg({scan.row})"] if scan.row else ["NULL::numeric", "NULL::numeric"]
    columns = [scan.bucket or "NULL::bigint", *(as_stored.get(key, key) for key in keys), "count(*)", *digest]
    for total in sums:
        columns += total_columns(total)
    grouped = range(1 if scan.bucket else 2, len(keys) + 2)
    by = f" GROUP BY {', '.join(map(str, grouped))}" if grouped else ""
    source = f"FROM ONLY {_named(scan)}{_within(piece)}{by}"
    if not {*keys} & {*as_stored}:
        return f"SELECT {', '.join(columns)} {source}"
    named = [f"{column} AS c{place}" for place, column in enumerate(columns)]
    told = [f"c{place}" for place in range(len(columns))]
    for place, key in enumerate(keys, 1):
        told[place] = as_text(f"c{place}") if key in as_stored else told[place]
    return f"SELECT {', '.join(told)} FROM (SELECT {', '.join(named)} {source}) AS found"  # noqa: S608 - as above


def _shared_statement(scan: Scan, sums: Sequence[TotalCheck], as_stored: Mapping[str, str]) -> str:
    """The same, with the rows joined to none.

    The planner takes every value of a column for a bucket of its own, and so lets workers fetch rows that their leader
    alone hashes and adds up. Of a union it knows nothing, and believes in a few groups; the part that can give no row
    is gone before the statement runs.
    """
    keys = group_keys(sums)
    values = [scan.bucket or "NULL::bigint", *(as_stored.get(key, key) for key in keys), scan.row or "NULL::bigint"]
    told = ["c0", *(as_text(f"c{place}") if key in as_stored else f"c{place}" for place, key in enumerate(keys, 1))]
    digest = f"c{len(values) - 1}"
    found = ["count(*)", f"sum({digest})", f"avg({digest})"]
    for total in sums:
        where, amount = condition(total), amount_expression(total)
        counts = f"count(*) FILTER (WHERE c{len(values)})" if where else "count(*)"
        values += [f"({where})"] if where else []
        value = f"c{len(values)}"
        values += [f"CASE WHEN {where} THEN {amount} END" if where else amount]
        found += [counts, f"count({value})", f"sum({value})::numeric"]
        found += [f"pg_typeof(sum({value}))::text"]
    named = ", ".join(f"{value} AS c{place}" for place, value in enumerate(values))
    none = ", ".join(["NULL"] * len(values))
    table = f"FROM ONLY {_named(scan)}"
    rows = f"SELECT {named} {table} UNION ALL SELECT {none} {table} WHERE false"
    grouped = [f"c{place}" for place in range(0 if scan.bucket else 1, len(keys) + 1)]
    by = f" GROUP BY {', '.join(grouped)}" if grouped else ""
    told[0] = "c0" if scan.bucket else "NULL::bigint"
    return f"SELECT {', '.join([*told, *found])} FROM ({rows}) AS rows{by}"  # noqa: S608 - as above


def stored_groups(columns: Sequence[Column]) -> dict[str, str]:
    """The groups that are a column whose values are the same text where they are equal: as texts, and as stored."""
    found: dict[str, str] = {}
    for column in columns:
        scaled = column.base != "numeric" or column.typmod != -1
        if column.base in _EQUAL_AS_TEXT and scaled and not column.loose and not column.recast:
            # Unquoted, "user" would be a function and not the column.
            names = {quoted(column), *([column.name] if column.bare else [])}
            found |= {as_text(name): quoted(column) for name in names}
    return found


def _sha256_statement(scan: Scan) -> str:
    """Over the rows' digests in their order: by their first bytes, then over those parts.

    What is put together at once must stay below 1 GB, which is 30 million rows.
    """
    rows = f"SELECT {scan.bucket or 'NULL::bigint'} AS bucket, {scan.row} AS digest FROM ONLY {_named(scan)}"  # noqa: S608
    part = "sha256(string_agg(digest, ''::bytea ORDER BY digest)) AS part"
    first = f"substring(digest FROM 1 FOR {1 if scan.bucket else 2}) AS first"
    parts = f"SELECT bucket, {first}, count(*) AS number, {part} FROM ({rows}) AS rows GROUP BY 1, 2"  # noqa: S608 - quoted
    whole = "encode(sha256(string_agg(part, ''::bytea ORDER BY first)), 'hex')"
    return f"SELECT bucket, sum(number)::bigint, {whole}, NULL FROM ({parts}) AS parts GROUP BY 1"  # noqa: S608 - quoted


def count_statement(scan: Scan, piece: Piece | None = None) -> str:
    """Rows of one table, its children not counted: each partition counts for itself."""
    return f"SELECT count(*) FROM ONLY {_named(scan)}{_within(piece)}"  # noqa: S608 - quoted


def keys_statement(scan: Scan, sums: Sequence[TotalCheck]) -> str | None:
    """What the planner is asked: how many groups these totals make. None where they have none."""
    keys = group_keys(sums)
    return f"EXPLAIN (FORMAT JSON) SELECT FROM ONLY {_named(scan)} GROUP BY {', '.join(keys)}" if keys else None


def group_keys(sums: Sequence[TotalCheck]) -> list[str]:
    """The groups of all these totals, each expression once."""
    return list(dict.fromkeys(expression for total in sums for expression in group_expressions(total)))


def _named(scan: Scan) -> str:
    return identifier(scan.namespace, scan.name)


def _within(piece: Piece | None) -> str:
    """The last piece has no end: a page that is new since is in it."""
    if piece is None or piece.first is None:
        return ""
    end = "" if piece.end is None else f" AND ctid < '({piece.end},0)'"
    return f" WHERE ctid >= '({piece.first},0)'{end}"
