"""Digests of rows: SQL that makes one number of all that a row holds.

Owns the expression for each type. Guarantees that two values which read differently are hashed differently, up to an
accident of one in 2^64, and never by the way in which the server compares them: where PostgreSQL's own hash of a type
leaves something out (the sign of a numeric, its scale, half the bits of a bigint, what an enum is called), the missing
part is added, or the value is hashed as the text that a dump would write.

How the parts are put together, and why (docs/adr/0006-digests.md has what was measured):

- `hashint4extended(constant, x)` is the mixer: it takes all 64 bits of x as its seed. `hashint8extended` folds a bigint
  to 32 bits before it hashes, so that 1 and 4294967296 are the same to it; it is not used.
- Columns that may be NULL are hashed one by one, a NULL being a constant of its own, and joined by XOR. Columns that
  may not are chained: each takes what came before as its seed. What comes out is mixed once more.
- `hash_numeric_extended` only XORs the weight of the number to the digits' hash: it never stands last.
- Rows are summed as exact numerics, never XORed: two rows that both went missing do not cancel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from psycopg import sql

from checks.relations import Column, Table

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
"""Types whose own hash sees all of a value, which is needed once in the expression."""
_INSTANTS = {"timestamp", "timestamptz"}
# As seconds in binary, microseconds stay apart below 2^32 of them: from 1834 to 2106.
_NEAR = "{0} >= '1834-01-01' AND {0} < '2106-01-01'"


def row_digest(columns: Sequence[Column], salt: str = "row") -> str:
    """A bigint of these columns of a row: SQL.

    Args:
        columns: in any order; the order is part of the digest.
        salt: other salts give other digests of the same row.
    """
    chained = [column for column in columns if column.required and _chains(column)][:_CHAIN]
    apart = [column for column in columns if column not in chained]
    digest = _xor([_apart(column, salt) for column in apart]) or str(_constant(salt, "nothing", "seed"))
    digest = f"hashint4extended({_small(salt, 'mixer')}, {digest})"
    # Numerics first: they may not be the last to speak.
    for column in sorted(chained, key=lambda column: column.base != "numeric"):
        digest = _link(column, digest, salt)
    last_numeric = bool(chained) and all(column.base == "numeric" for column in chained)
    return f"hashint4extended({_small(salt, 'last')}, {digest})" if last_numeric else digest


def row_sha256(columns: Sequence[Column]) -> str:
    """SHA-256 of a row's texts, each with its length before it, as bytea: SQL."""
    if not columns:
        return "sha256(''::bytea)"
    # concat takes a hundred arguments at most.
    parts = [_told_with_length(column) for column in columns]
    groups = [f"concat({', '.join(parts[at : at + _FAN])})" for at in range(0, len(parts), _FAN)]
    return f"sha256(convert_to({' || '.join(groups)}, 'UTF8'))"


def text_of(column: Column) -> str:
    """A value as a dump would write it, NULL where it is NULL: SQL. The session's settings are pinned."""
    name = quoted(column)
    if column.recast or (column.base == "bpchar" and column.typmod == -1):
        # `::text` would be somebody's cast, or cut the blanks off; concat goes by the type's own output.
        return f"CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE concat({name}) END"
    return f"{name}::text"


def quoted(column: Column) -> str:
    """Its name for SQL."""
    return sql.Identifier(column.name).as_string()


def key_columns(table: Table) -> tuple[Column, ...]:
    """The columns of its key."""
    by_name = {column.name: column for column in table.columns}
    return tuple(by_name[name] for name in table.key)


def _told_with_length(column: Column) -> str:
    told = text_of(column)
    return f"coalesce(octet_length({told}) || ':' || {told}, '-')"


def _constant(salt: str, name: str, purpose: str) -> int:
    """A positive constant of 63 bits that nothing else has: independent seeds are what makes XOR sound."""
    said = f"{salt}\0{name}\0{purpose}".encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8], "big") >> 1


def _small(salt: str, purpose: str) -> int:
    """The same of 31 bits."""
    return _constant(salt, "", purpose) & 0x7FFFFFFF


def _chains(column: Column) -> bool:
    """Whether its hash names the seed only once; otherwise a chain would double at every link."""
    if column.base in {"text", "varchar"}:
        return not column.recast
    if column.base in {"bpchar", "numeric"}:
        return column.typmod != -1 and not column.loose
    return column.base in {*_SIMPLE, "int8"}


def _link(column: Column, before: str, salt: str) -> str:
    """The hash of a column that is never NULL, seeded with what came before."""
    if column.base == "int8":
        return f"hashint4extended({_constant(salt, column.name, 'int8') & 0x7FFFFFFF}, {quoted(column)} # ({before}))"
    if column.base == "numeric":
        return _numeric(column, f"({before}) #", salt)
    return _hash(column, before)


def _hash(column: Column, seed: str) -> str:
    name = quoted(column)
    if column.base in _SIMPLE:
        return _SIMPLE[column.base].format(name, seed)
    if column.base == "bpchar" and column.typmod != -1 and not column.loose:
        return f"hashbpcharextended({name}, {seed})"
    if column.base in {"text", "varchar"} and not column.recast:
        text = name if column.base == "text" else f"{name}::text"
        return f"hashtextextended({text}{_by_bytes(column)}, {seed})"
    return f'hashtextextended(({text_of(column)}) COLLATE "C", {seed})'


def _by_bytes(column: Column) -> str:
    return ' COLLATE "C"' if column.loose else ""


def _apart(column: Column, salt: str) -> str:
    """The hash of a column by itself, and a constant for NULL."""
    special = _SPECIAL.get(column.base)
    if column.base == "numeric" and column.typmod != -1:
        hashed = f"hashint4extended({_small(salt, 'numeric')}, {_numeric(column, '', salt)})"
    elif special is not None:
        hashed = special(column, salt)
    else:
        hashed = _hash(column, str(_constant(salt, column.name, "value")))
    return hashed if column.required else f"coalesce({hashed}, {_constant(salt, column.name, 'null')})"


def _numeric(column: Column, joined: str, salt: str) -> str:
    """Digits and weight by the type's own hash, the sign by the seed. The scale is that of the column."""
    negative, positive = (_constant(salt, column.name, sign) for sign in ("negative", "positive"))
    seed = f"{joined} CASE WHEN {quoted(column)} < 0 THEN {negative} ELSE {positive} END".strip()
    return f"hash_numeric_extended({quoted(column)}, {seed})"


def _by_text(column: Column, salt: str) -> str:
    return f'hashtextextended(({text_of(column)}) COLLATE "C", {_constant(salt, column.name, "text")})'


def _free_numeric(column: Column, salt: str) -> str:
    """A numeric without a scale of its own: 1.5 and 1.50 are two values. NaN and the infinities have no scale."""
    name = quoted(column)
    by_scale = f"hashint4extended(scale({name}), {_numeric(column, '', salt)})"
    return f"CASE WHEN scale({name}) IS NULL THEN {_by_text(column, salt)} ELSE {by_scale} END"


def _bigint(column: Column, salt: str) -> str:
    own = _constant(salt, column.name, "value")
    return f"hashint4extended({own & 0x7FFFFFFF}, {quoted(column)} # {own})"


def _float(column: Column, salt: str) -> str:
    """PostgreSQL holds -0 and 0 for the same; as texts they are two."""
    name, size = quoted(column), column.base.removeprefix("float")
    hashed = f"hashfloat{size}extended({name}, {_constant(salt, column.name, 'value')})"
    return f"CASE WHEN {name} <> 0 THEN {hashed} ELSE {_by_text(column, salt)} END"


def _boolean(column: Column, salt: str) -> str:
    name = quoted(column)
    true, false = (_constant(salt, column.name, word) for word in ("true", "false"))
    return f"CASE WHEN {name} THEN {true} WHEN NOT {name} THEN {false} END"


def _date(column: Column, salt: str) -> str:
    name = quoted(column)
    days = f"hashint4extended({name} - DATE '2000-01-01', {_constant(salt, column.name, 'value')})"
    return f"CASE WHEN isfinite({name}) THEN {days} ELSE {_by_text(column, salt)} END"


def _instant(column: Column, salt: str) -> str:
    name = quoted(column)
    seconds = f"hashfloat8extended(date_part('epoch', {name}), {_constant(salt, column.name, 'value')})"
    return f"CASE WHEN {_NEAR.format(name)} THEN {seconds} ELSE {_by_text(column, salt)} END"


_SPECIAL: dict[str, Callable[[Column, str], str]] = {
    "bool": _boolean,
    "date": _date,
    "float4": _float,
    "float8": _float,
    "int8": _bigint,
    "numeric": _free_numeric,
    **dict.fromkeys(_INSTANTS, _instant),
}


def _xor(operands: Sequence[str]) -> str:
    """All of them joined, in brackets within brackets."""
    while len(operands) > _FAN:
        operands = [_xor(operands[at : at + _FAN]) for at in range(0, len(operands), _FAN)]
    joined = " # ".join(operands)
    return f"({joined})" if len(operands) > 1 else joined
