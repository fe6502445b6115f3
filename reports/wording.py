"""How values read in a report: instants, figures, sizes, listings; durations as `drills.units.human` tells them.

Owns the display of a value, never its meaning. Refuses floating-point arithmetic on figures: a number that came as text
is regrouped as text. Guarantees that the same value always reads the same, and that a rounded duration never stands
alone where `exact` stands beside it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import yaml

from drills.units import plain

_FIGURE = re.compile(r"([+-]?)(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_LEADING = ("version", "database", "owner", "requester", "controls", "name", "kind", "method")
"""Keys that come first in a listing: the journal holds them in alphabetical order, which nobody reads well."""


def instant(at: datetime) -> str:
    """`2026-06-30 22:09:00.123 UTC`, cut (not rounded) to the millisecond."""
    return f"{at.astimezone(UTC).isoformat(sep=' ', timespec='milliseconds').removesuffix('+00:00')} UTC"


def stamp(at: datetime) -> str:
    """The instant in full, for machines."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def exact(seconds: float) -> str:
    """The figure to the microsecond, which is as fine as the journal's clock: `72.104233 s`."""
    return f"{plain(Decimal(repr(seconds)), '0.000001')} s"


def is_rounded(seconds: float) -> bool:
    """Whether `drills.units.human` leaves something out, so that `exact` has to stand beside it."""
    fine = Decimal(repr(seconds)).quantize(Decimal("0.000001"))
    if abs(fine) < Decimal("0.01"):
        return False
    return fine % (Decimal("0.001") if abs(fine) < 60 else 1) != 0  # noqa: PLR2004 - a minute


def is_figure(text: object) -> bool:
    """Whether this is a plain decimal number and nothing else. `007` is a name, not a figure."""
    return _FIGURE.fullmatch(str(text)) is not None


def figure(value: str | int) -> str:
    """A purely numeric text with its thousands separated, digit for digit; any other text as it is."""
    text = str(value)
    match = _FIGURE.fullmatch(text)
    if match is None:
        return text
    sign, whole, fraction = match[1], match[2], match[3] or ""
    return f"{sign}{re.sub(r'(?<=[0-9])(?=(?:[0-9]{3})+$)', ',', whole)}{fraction}"


def size(count: int) -> str:
    """`12,345,678 bytes (12.3 MB)`, in decimal units as the plan writes them."""
    for length, unit in _SIZES:
        if count >= length:
            return f"{figure(count)} bytes ({(Decimal(count) / length).quantize(Decimal('0.1'))} {unit})"
    return f"{figure(count)} bytes"


def command(arguments: Iterable[str]) -> str:
    """An argument vector as a line that a shell would read back as the same vector."""
    return shlex.join(arguments)


def answer(told: str) -> str:
    """What a copy said of a setting or a list, also where that is nothing: `none`, `empty, by command line`."""
    value, by, source = told.rpartition(" by ")
    if not told.strip():
        return "none"
    return told if value.strip() or not by else f"empty, by {source}"


def capitalized(text: str) -> str:
    """With a capital first; the rest as it is."""
    return text[:1].upper() + text[1:]


def beside(path: str) -> str:
    """A link to a file of the bundle: always relative, whatever the path says."""
    return "./" + quote(path, safe="/")


def css_string(text: str) -> str:
    """A text inside a CSS string: everything but letters, digits and a few marks as an escape."""
    return "".join(sign if re.fullmatch(r"[A-Za-z0-9 ._-]", sign) else f"\\{ord(sign):x} " for sign in text)


class _Listing(yaml.SafeDumper):
    """YAML for reading: block text for several lines, no aliases, sequences indented."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - whatever the plan holds
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        return super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Listing.add_representer(str, _text)


def listing(content: object) -> str:
    """Plain data as YAML, with the keys that name a thing first."""
    return yaml.dump(
        _ordered(content), Dumper=_Listing, sort_keys=False, allow_unicode=True, default_flow_style=False, width=96
    ).rstrip("\n")


def _ordered(content: object) -> object:
    if isinstance(content, dict):
        keys = sorted(content, key=lambda key: _LEADING.index(key) if key in _LEADING else len(_LEADING))
        return {key: _ordered(content[key]) for key in keys}
    if isinstance(content, (list, tuple)):
        return [_ordered(item) for item in content]
    return content
