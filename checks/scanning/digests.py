"""Digests of rows: SQL that makes one number of all that a row holds.

Owns the expression for each type. Guarantees that two values which read differently are hashed differently, up to an
accident of one in 2^64, and never by the way in which the server compares them: where PostgreSQL's own hash of a type
leaves something out (the sign of a numeric, its scale, half the bits of a bigint, what an enum is called), the missing
part is added, or the value is hashed as the text that a dump would write.

How the parts are put together, and why (docs/adr/0006 has the reasons):

- `hashint4extended(number, x)` is the mixer: it takes all 64 bits of x as its seed. `hashint8extended` folds a bigint
  to 32 bits before it hashes, so that 1 and 4294967296 are the same to it; it is not used.
- Columns that may be NULL are hashed one by one, a NULL being a constant of its own, joined by XOR, and mixed once
  more. Columns that may not are chained behind that: each takes what came before as its seed.
- `hash_numeric_extended` XORs the weight of the number to the digits' hash, and gives its seed for NaN and its seed
  less one for 0: what it gives is always mixed before anything else is done with it.
- Every operand has the very type of its operator or function: another one that somebody made in the search path would
  have to be a better match, and there is none.
- Rows are summed as exact numerics, never XORed: two rows that both went missing do not cancel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from psycopg import sql

from checks.scanning.relations import Column, Table

_CHAIN = 40
"""Columns in one chain: each is a function call inside a call, and parsers have a depth."""
_FAN = 32
"""Operands of XOR in one pair of brackets, for the same reason."""
_SIMPLE = {
    "int2": "hashint2extended({}, {})",
    "int4": "hashint4extended({}, {})",
    "oid": "hashoidextended({}, {})",
    "char": "hashcharextended({}, {})",
    "name": "hashnameextended({}, {})",
    "uuid": "uuid_hash_extended({}, {})",
    "inet": "hashinetextended({}, {})",
    "cidr": "hashinetextended({}, {})",
    "macaddr": "hashmacaddrextended({}, {})",
    "macaddr8": "hashmacaddr8extended({}, {})",
}
"""Types whose own hash sees all of a value."""
_BINS_SINCE, _ZONED_HASH_SINCE = 140000, 180000
"""Versions of the server that have `date_bin`, and a hash of `timestamptz`."""
_FIRST_BIN = "4714-11-24 00:53:22.37568Z BC"
"""The first multiple of 2^32 microseconds, counted from 2000, that an instant can have."""
_ENCODING = "CASE getdatabaseencoding() WHEN 'SQL_ASCII'::name THEN 'SQL_ASCII'::name ELSE 'UTF8'::name END"
"""SQL_ASCII is no encoding: what stands there may be no UTF-8, and is taken as it stands."""


def row_digest(columns: Sequence[Column], salt: str = "row") -> str:
    """A bigint of these columns of a row: SQL.

    It is NULL where a column that may not be NULL is NULL all the same.

    Args:
        columns: in any order; the order is part of the digest.
        salt: other salts give other digests of the same row.
    """
    chained = [column for column in columns if column.required][:_CHAIN]
    apart = [column for column in columns if column not in chained]
    digest = _xor([_apart(column, salt) for column in apart]) or str(_constant(salt, "nothing"))
    digest = f"hashint4extended({_small(salt, 'mixer')}, {digest})"
    for column in chained:
        digest = _link(column, digest)
    return digest


def row_sha256(columns: Sequence[Column]) -> str:
    """SHA-256 of a row as PostgreSQL writes it, as bytea: SQL.

    A row's text tells every value from every other, NULL from an empty text, and one column from the next (Composite
    Type Input and Output Syntax).
    """
    row = f"ROW({', '.join(quoted(column) for column in columns)})::text"
    return f"sha256(convert_to({row}, {_ENCODING}))"


def text_of(column: Column) -> str:
    """A value as a dump would write it, NULL where it is NULL: SQL. The session's settings are pinned."""
    name = value(column)
    if column.recast or column.base == "xml" or (column.base == "bpchar" and column.typmod == -1):
        # `::text` would be somebody's cast, tell of an encoding that no dump keeps, or cut the blanks off; concat goes
        # by the type's own output.
        return f"CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE concat({name}) END"
    return f"{name}::text"


def quoted(column: Column) -> str:
    """Its name for SQL."""
    return sql.Identifier(column.name).as_string()


def value(column: Column) -> str:
    """Its value, of a type that the server itself has functions for: SQL."""
    return f"{quoted(column)}::{column.cast}" if column.cast else quoted(column)


def key_columns(table: Table) -> tuple[Column, ...]:
    """The columns of its key."""
    by_name = {column.name: column for column in table.columns}
    return tuple(by_name[name] for name in table.key)


def _constant(*said: str) -> int:
    """A constant between 2^62 and 2^63 that nothing else has: independent seeds are what makes XOR sound."""
    return int.from_bytes(hashlib.sha256("\0".join(said).encode()).digest()[:8], "big") >> 2 | 1 << 62


def _small(*said: str) -> int:
    """The same of 31 bits."""
    return _constant(*said) & 0x7FFFFFFF


def _apart(column: Column, salt: str) -> str:
    """The hash of a column by itself, and a constant for NULL."""
    hashed = _link(column, str(_constant(salt, column.name, "value")))
    return hashed if column.required else f"coalesce({hashed}, {_constant(salt, column.name, 'null')})"


def _link(column: Column, before: str) -> str:
    """A mixture of a column and what came before, which it names once; NULL for NULL."""
    if column.base in _SIMPLE:
        return _SIMPLE[column.base].format(value(column), before)
    return _OTHERS.get(column.base, _by_text)(column, before)


def _by_text(column: Column, before: str) -> str:
    return f'hashtextextended(({text_of(column)}) COLLATE "C", {before})'


def _text(column: Column, before: str) -> str:
    if column.loose:
        return _by_text(column, before)
    return f"hashtextextended({value(column)}{'' if column.base == 'text' else '::text'}, {before})"


def _blank_padded(column: Column, before: str) -> str:
    """Without a length of its own, its blanks are part of it."""
    if column.typmod == -1 or column.loose:
        return _by_text(column, before)
    return f"hashbpcharextended({value(column)}, {before})"


def _numeric(column: Column, before: str) -> str:
    """Digits and weight by the type's own hash, sign and scale apart: 1.5 and 1.50 are two values.

    Where the column has a scale, that is the scale. NaN and the infinities have none.
    """
    name = value(column)
    if column.typmod == -1:
        signed = f"CASE WHEN {name} < 0::numeric THEN -1 - scale({name}) ELSE scale({name}) END"
        endless = f"CASE WHEN {name} < 0::numeric THEN -99999 WHEN {name} = 'NaN'::numeric THEN 99998 ELSE 99999 END"
        signed = f"coalesce({signed}, {endless})"
    else:
        signed = f"CASE WHEN {name} < 0::numeric THEN 1 ELSE 0 END"
    return f"hashint4extended({signed}, hash_numeric_extended({name}, {before}))"


def _bigint(column: Column, before: str) -> str:
    return f"hashint4extended({_small(column.name, 'bigint')}, {value(column)} # {before})"


def _float(column: Column, before: str) -> str:
    """PostgreSQL holds -0 and 0 for the same; as texts they are two."""
    name, size = value(column), column.base.removeprefix("float")
    below = f"CASE WHEN {name} <> 0::float{size} THEN 0 WHEN ({text_of(column)}) = '-0'::text THEN 1 ELSE 0 END"
    return f"hashint4extended({below}, hashfloat{size}extended({name}, {before}))"


def _boolean(column: Column, before: str) -> str:
    name = value(column)
    return f"hashint4extended(CASE WHEN {name} THEN 1 WHEN NOT {name} THEN 0 END, {before})"


def _date(column: Column, before: str) -> str:
    """Its days; the infinities lie further out than any day does."""
    name, zero = value(column), "'2000-01-01'::date"
    far = f"WHEN {name} > {zero} THEN 2147483647 WHEN {name} < {zero} THEN -2147483647"
    return f"hashint4extended(CASE WHEN isfinite({name}) THEN {name} - {zero} {far} END, {before})"


def _timestamp(column: Column, before: str) -> str:
    """Its own hash folds two halves into one, and so confuses some that are hours apart.

    Seconds in binary confuse none but those that lie within 2 ms of each other (in the year 294276).
    """
    if column.server >= _BINS_SINCE:
        return _halves(column, before, "timestamp")
    name = value(column)
    return f"hashfloat8extended(date_part('epoch'::text, {name}), timestamp_hash_extended({name}, {before}))"


def _timestamptz(column: Column, before: str) -> str:
    """It has no hash of its own before PostgreSQL 18; where seconds in binary are not enough, so much of the minute.

    Microseconds stay apart below 2^32 seconds, from 1834 to 2106.
    """
    if column.server >= _ZONED_HASH_SINCE:
        return _halves(column, before, "timestamptz")
    name = value(column)
    near = f"{name} >= '1834-01-01 00:00Z'::timestamptz AND {name} < '2106-01-01 00:00Z'::timestamptz"
    rest = f"coalesce(date_part('microseconds'::text, {name})::int4, -2)"
    rest = f"CASE WHEN {near} THEN -1 ELSE {rest} END"
    return f"hashint4extended({rest}, hashfloat8extended(date_part('epoch'::text, {name}), {before}))"


def _halves(column: Column, before: str, kind: str) -> str:
    """An instant by its own hash, and again cut down to a multiple of 2^32 microseconds: no two have both in common.

    The hash folds the halves of a negative number otherwise than those of a positive one: the side of 2000 is told
    apart. So are the first minutes of time, which nothing can be cut down to, and the infinities.
    """
    name, zero = value(column), f"'2000-01-01 00:00Z'::{kind}"
    first = f"'{_FIRST_BIN}'::{kind}"
    early = f"WHEN {name} >= {first} THEN 1 WHEN isfinite({name}) THEN 2 ELSE 3"
    cut = f"date_bin('4294.967296 s'::interval, greatest({name}, {first}), {zero})"
    hashed = f"{kind}_hash_extended({cut}, {kind}_hash_extended({name}, {before}))"
    return f"hashint4extended(CASE WHEN {name} >= {zero} THEN 0 {early} END, {hashed})"


_OTHERS: dict[str, Callable[[Column, str], str]] = {
    "bool": _boolean,
    "bpchar": _blank_padded,
    "date": _date,
    "float4": _float,
    "float8": _float,
    "int8": _bigint,
    "numeric": _numeric,
    "text": _text,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "varchar": _text,
}
"""Types whose own hash leaves something out. What is neither here nor among the simple ones is hashed as text."""


def _xor(operands: Sequence[str]) -> str:
    """All of them joined, in brackets within brackets."""
    while len(operands) > _FAN:
        operands = [_xor(operands[at : at + _FAN]) for at in range(0, len(operands), _FAN)]
    joined = " # ".join(operands)
    return f"({joined})" if len(operands) > 1 else joined
