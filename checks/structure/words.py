"""Definitions in words, and where two of them part.

Owns what a reader sees of a structure's items. Refuses to show all of a long text: it is cut, and where two differ,
what is shown is the place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from psycopg import sql

ABSENT = "absent"
_MOST = 120
"""Characters of a value that are shown."""
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def dotted(path: Sequence[str]) -> str:
    """A name for people, quoted where any part of it needs that."""
    if all(_PLAIN.fullmatch(part) for part in path):
        return ".".join(path)
    return sql.Identifier(*path).as_string()


def outline(definition: dict[str, Any] | None, differing: Sequence[str]) -> str:
    """A definition on one line, cut; where something differs, that alone."""
    if definition is None:
        return ABSENT
    shown = {key: definition.get(key) for key in differing or definition}
    return cut("; ".join(f"{key}: {_value(value)}" for key, value in shown.items())) or "there"


def told(key: str, wanted: Any, there: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """What differs under one key."""
    if isinstance(wanted, list) or isinstance(there, list):
        return f"{key}: {_of_lists(wanted or [], there or [])}"
    if isinstance(wanted, str) and isinstance(there, str) and max(len(wanted), len(there)) > _MOST // 2:
        return f"{key}: {_of_texts(wanted, there)}"
    return f"{key}: {_value(wanted)} expected, {_value(there)} found"


def _of_lists(wanted: list[str], there: list[str]) -> str:
    said = [f"{cut(value)} missing" for value in wanted if value not in there]
    said += [f"{cut(value)} unexpected" for value in there if value not in wanted]
    return ", ".join(said) or f"in another order: {_value(wanted)} expected, {_value(there)} found"


def _of_texts(wanted: str, there: str) -> str:
    """Where two long texts part."""
    left, right = wanted.split("\n"), there.split("\n")
    number = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)
    if number is None:
        more = len(right) - len(left)
        return f"the same as far as line {min(len(left), len(right))}, then {abs(more)} lines {_side(more)}"
    one, other = _around(left[number], right[number])
    return f"{f'line {number + 1}: ' if len(left) > 1 else ''}{one} expected, {other} found"


def _side(more: int) -> str:
    return "too many" if more > 0 else "missing"


def _around(one: str, other: str) -> tuple[str, str]:
    """Two lines from shortly before where they part."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, at - _MOST // 4)
    left, right = (("…" if begin else "") + cut(line[begin:], _MOST // 2) for line in (one, other))
    return left, right


def _value(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return " ".join(_value(one) for one in value.values())
    return "none" if value is None else cut(value)


def cut(text: str, most: int = _MOST) -> str:
    """A text on one line, and no longer than this."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
