"""One spelling for what PostgreSQL may write in two ways.

A stored expression is a tree, and its text is made anew each time. The text of a tree that was parsed from such a text
may differ from it, though both mean the same: this owns the differences that are known. It refuses to guess: whatever
is not known here stays a difference.
"""

from __future__ import annotations

import re
from typing import Any

_PUSHED = re.compile(r"\(ARRAY\[")
_CAST = re.compile(r"\)::([^\[\](),]+(?:\([0-9, ]+\))?)\[\]")


def respelled(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The same, with the cast of an array of constants pushed down to its elements.

    `x IN ('a', 'b')` over a varchar is stored as `(ARRAY['a'::character varying, …])::text[]`; the parser of that text
    hands the cast on to the elements (transformArrayExpr in parse_expr.c): `ARRAY[('a'::character varying)::text, …]`.
    """
    if isinstance(value, list):
        return [respelled(one) for one in value]
    if not isinstance(value, str):
        return value
    at = 0
    while (begun := _PUSHED.search(value, at)) is not None:
        pushed = _pushed_down(value, begun.start())
        # One without a cast stays, and so does each that was pushed down: `(ARRAY[…])` of an ANY. Others may follow.
        value, at = (value, begun.end()) if pushed is None else (pushed, begun.start())
    return value


def _pushed_down(text: str, begin: int) -> str | None:
    """The text with the cast of the array that begins here pushed down; None where there is none."""
    elements, end = _elements(text, begin + len("(ARRAY["))
    cast = _CAST.match(text, end)
    if cast is None:
        return None
    inside = ", ".join(f"({element})::{cast[1]}" for element in elements)
    return f"{text[:begin]}ARRAY[{inside}]{text[cast.end() :]}"


def _elements(text: str, at: int) -> tuple[list[str], int]:
    """What stands between the brackets, and the place behind the closing one; brackets inside texts do not count."""
    elements, depth, begun, quote = [], 0, at, ""
    for place in range(at, len(text)):
        mark = text[place]
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        elif mark in "([":
            depth += 1
        elif mark == "," and not depth:
            elements.append(text[begun:place].strip())
            begun = place + 1
        elif mark in ")]":
            if not depth:
                return [*elements, text[begun:place].strip()], place + 1
            depth -= 1
    return elements, len(text)
