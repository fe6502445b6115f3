"""The statements that find which rows of a table differ, all of them put to the copy.

Owns their text. The backup's rows lie in a table of the session's own (`EXPECTED_ROWS`), made like the copy's. Two
rows are the same when their digests are, by the expression that the content was compared with; what one side has more
often than the other is odd. Odd rows of the same key are one row that was changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from psycopg import sql

from checks.names import identifier
from checks.scanning.digests import key_columns, quoted, text_of
from checks.scanning.relations import Column, Table
from drills.measures import Scan

EXPECTED_ROWS = ("pg_temp", "drillbook expected")
_ODD, _PAIRS = (identifier("pg_temp", f"drillbook {name}") for name in ("odd", "pairs"))
_SHIFTED = re.compile(r"(?P<key>.+)::bigint >> (?P<bits>\d+)")
NO_KEY = "None"
"""What the bucket of rows whose key is NULL is called."""
MONEY = {"numeric", "money"}
_NULL_DIGEST = {"hash": "0", "sha256": "''::bytea"}
"""Of a row that has a NULL where none may be."""
_TEXT = 4000
"""Characters of a value that are compared here; of a longer one the beginning and its digest."""
_BEGINNING = 300


def shift_of(scan: Scan) -> int | None:
    """By how many bits an integer key is shifted to give its bucket; None where buckets are made otherwise."""
    found = _SHIFTED.fullmatch(scan.bucket)
    if found is None or len(scan.key) != 1 or found["key"] != sql.Identifier(scan.key[0]).as_string():
        return None
    return int(found["bits"])


def ranges(buckets: Iterable[str], bits: int) -> list[tuple[int, int]]:
    """The keys of these buckets, first and last, neighbours together."""
    found: list[tuple[int, int]] = []
    for number in sorted(int(bucket) for bucket in buckets if bucket != NO_KEY):
        first, last = number << bits, ((number + 1) << bits) - 1
        if found and found[-1][1] + 1 == first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def in_buckets(scan: Scan, buckets: Sequence[str]) -> str:
    """The condition that a row is in one of these; empty where the table is one bucket.

    Ranges of the key itself, so that its index serves.
    """
    if not scan.bucket or not buckets:
        return ""
    bits = shift_of(scan)
    if bits is None:
        numbers = ", ".join(str(int(bucket)) for bucket in buckets if bucket != NO_KEY)
        parts = [f"({scan.bucket}) IN ({numbers})"] if numbers else []
    else:
        key = sql.Identifier(scan.key[0]).as_string()
        parts = [f"{key} BETWEEN {first} AND {last}" for first, last in ranges(buckets, bits)]
    if NO_KEY in buckets:
        parts.append(f"({scan.bucket}) IS NULL")
    return " OR ".join(parts)


def rows_statement(scan: Scan, columns: Sequence[str], buckets: Sequence[str]) -> str:
    """The rows of these buckets, in the text format of COPY."""
    told = ", ".join(sql.Identifier(name).as_string() for name in columns)
    return f"COPY (SELECT {told} FROM ONLY {_table(scan)}{_where(scan, buckets)}) TO STDOUT"  # noqa: S608 - quoted


def make_statement(scan: Scan) -> str:
    """The table that the backup's rows go to, like the copy's: generated columns are generated, nothing is checked."""
    return f"CREATE TEMP TABLE {identifier(*EXPECTED_ROWS)} (LIKE {_table(scan)} INCLUDING GENERATED) ON COMMIT DROP"


def loosen_statement(table: Table) -> str | None:
    """A row that has a NULL where the copy forbids it is a finding, and no reason to stop."""
    parts = [f"ALTER {quoted(column)} DROP NOT NULL" for column in table.columns if column.required]
    return f"ALTER TABLE {identifier(*EXPECTED_ROWS)} {', '.join(parts)}" if parts else None


def load_statement(scan: Scan, columns: Sequence[str], encoding: str, buckets: Sequence[str]) -> str:
    """Rows of other buckets are read and not kept."""
    told = f" ({', '.join(sql.Identifier(name).as_string() for name in columns)})" if columns else ""
    # A key that is generated is not there yet when COPY asks.
    where = _where(scan, buckets) if set(scan.key) <= set(columns) else ""
    written = sql.Literal(encoding).as_string()
    return f"COPY {identifier(*EXPECTED_ROWS)}{told} FROM STDIN (ENCODING {written}){where}"


def odd_statement(scan: Scan, table: Table, buckets: Sequence[str]) -> str:
    """The odd rows of both sides, with their keys and amounts.

    Of rows that are the same, as many as one side has too many: which of them does not matter.
    """
    where = _where(scan, buckets)
    told = {"place": "ctid", "digest": f"coalesce({scan.row}, {_NULL_DIGEST[scan.digest]})"}
    told |= {f"k{place}": quoted(column) for place, column in enumerate(key_columns(table))}
    told |= {f"m{place}": f"{quoted(column)}::numeric" for place, column in enumerate(money_columns(scan, table))}
    rows = " UNION ALL ".join(
        f"SELECT {there} AS there, {_named(told)} FROM ONLY {name}{where}"  # noqa: S608 - quoted
        for there, name in (("false", identifier(*EXPECTED_ROWS)), ("true", _table(scan)))
    )
    return (
        f"CREATE TEMP TABLE {_ODD} ON COMMIT DROP AS WITH rows AS MATERIALIZED ({rows}), odd AS MATERIALIZED ("  # noqa: S608
        f"SELECT digest, sum(CASE WHEN there THEN 1 ELSE -1 END) AS surplus FROM rows GROUP BY digest "
        f"HAVING count(*) <> 2 * count(*) FILTER (WHERE there)) "
        f"SELECT there, {', '.join(told)} FROM ("
        f"SELECT rows.*, surplus, row_number() OVER (PARTITION BY digest ORDER BY place) AS number "
        f"FROM rows JOIN odd USING (digest) WHERE there = (surplus > 0)) AS numbered "
        f"WHERE number <= abs(surplus)"
    )


def pairs_statement(table: Table) -> str:
    """Odd rows of the same key stand side by side; those without a key by their digests, each with how often."""
    keys = [f"k{place}" for place in range(len(table.key))]
    if not keys:
        return (
            f"CREATE TEMP TABLE {_PAIRS} ON COMMIT DROP AS SELECT min(place) FILTER (WHERE NOT there) AS expected, "  # noqa: S608
            f"min(place) FILTER (WHERE there) AS actual, count(*) AS times FROM {_ODD} GROUP BY digest, there"
        )
    told = ", ".join(keys)
    side = f"(SELECT *, row_number() OVER (PARTITION BY {told} ORDER BY place) AS number FROM {_ODD} WHERE {{}}there)"  # noqa: S608
    same = " AND ".join(f"e.{key} = a.{key}" for key in [*keys, "number"])
    first = ", ".join(f"coalesce(e.{key}, a.{key}) AS {key}" for key in keys)
    return (
        f"CREATE TEMP TABLE {_PAIRS} ON COMMIT DROP AS SELECT e.place AS expected, a.place AS actual, 1 AS times, "  # noqa: S608
        f"{first} FROM {side.format('NOT ')} AS e FULL JOIN {side.format('')} AS a ON {same}"
    )


def counts_statement() -> str:
    """Rows that were changed, are missing, are unexpected: exactly."""
    return (
        "SELECT coalesce(sum(times) FILTER (WHERE expected IS NOT NULL AND actual IS NOT NULL), 0)::bigint, "  # noqa: S608
        "coalesce(sum(times) FILTER (WHERE actual IS NULL), 0)::bigint, "
        f"coalesce(sum(times) FILTER (WHERE expected IS NULL), 0)::bigint FROM {_PAIRS}"
    )


def sums_statement(columns: Sequence[Column]) -> str:
    """For each of these columns what the odd rows add up to, in the backup and in the copy."""
    parts = [
        f"coalesce(sum(m{place}) FILTER (WHERE {side}there), 0)"
        for place in range(len(columns))
        for side in ("NOT ", "")
    ]
    return f"SELECT {', '.join(parts)} FROM {_ODD}"  # noqa: S608 - numbers


def shown_statement(kind: str, table: Table, most: int) -> str:
    """Where the first rows of a kind are, in the order of their keys: in the backup's rows, in the copy, how often."""
    of = {
        "changed": "expected IS NOT NULL AND actual IS NOT NULL",
        "missing": "actual IS NULL",
        "unexpected": "expected IS NULL",
    }[kind]
    order = ", ".join([*(f"k{place}" for place in range(len(table.key))), "expected", "actual"])
    return (
        f"SELECT expected::text, actual::text, times FROM {_PAIRS} WHERE {of} "  # noqa: S608 - from a literal
        f"ORDER BY {order} LIMIT {most}"
    )


def values_statement(name: tuple[str, str], columns: Sequence[Column], places: Sequence[str]) -> str:
    """All values of the rows at these places, as texts."""
    texts = ", ".join(_shortened(text_of(column)) for column in columns)
    listed = ", ".join(f"'{place}'" for place in places)
    return (
        f"SELECT ctid::text, ARRAY[{texts}]::text[] FROM ONLY {identifier(*name)} "  # noqa: S608 - quoted
        f"WHERE ctid = ANY (ARRAY[{listed}]::tid[])"
    )


def _shortened(text: str) -> str:
    sha = f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"
    told = f"left({text}, {_BEGINNING}) || '... (' || length({text}) || ' characters, SHA-256 ' || {sha} || ')'"
    return f"CASE WHEN length({text}) > {_TEXT} THEN {told} ELSE {text} END"


def money_columns(scan: Scan, table: Table) -> list[Column]:
    """The columns whose differences are added up: exact, and made for money."""
    return [column for column in table.columns if column.base in MONEY and column.name in scan.columns]


def _named(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())


def _table(scan: Scan) -> str:
    return identifier(scan.namespace, scan.name)


def _where(scan: Scan, buckets: Sequence[str]) -> str:
    condition = in_buckets(scan, buckets)
    return f" WHERE {condition}" if condition else ""
