"""Durations and sizes as a plan writes them, a number and its unit; and durations that were measured, for people.

Refuses a bare number, since a bare 15 has been read as seconds and as minutes, and whatever is not a whole number of
microseconds or bytes. Guarantees that what was parsed is shown in a form that parses to the same value; no binary
float is involved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from types import MappingProxyType

_MICROSECONDS: Mapping[str, int] = MappingProxyType(
    {"ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
)
_BYTES: Mapping[str, int] = MappingProxyType({"B": 1, "kB": 1_000, "MB": 1_000**2, "GB": 1_000**3, "TB": 1_000**4})

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(ms|s|min|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|TB)$"
_LENGTHS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_PARTS = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]+)")


def parse_duration(value: object) -> timedelta:
    """`90s`, `15min`, `4h`: a number and a unit, which must be written.

    Raises:
        ValueError: it is not that, or finer than a microsecond, or longer than a duration can be.
    """
    if isinstance(value, timedelta):
        return value
    micro = _whole(value, _MICROSECONDS)
    if micro is None:
        raise ValueError(f"expected a number and a unit (ms, s, min, h, d) such as 15min, got {_shown(value)}")
    try:
        return timedelta(microseconds=micro)
    except OverflowError:
        raise ValueError(f"expected a duration below 2700000 years, got {value!r}") from None


def show_duration(value: timedelta) -> str:
    """The largest unit that gives a whole number, down to milliseconds with decimals."""
    micro = value // timedelta(microseconds=1)
    if micro == 0:
        return "0s"
    for unit in ("d", "h", "min", "s"):
        if micro % _MICROSECONDS[unit] == 0:
            return f"{micro // _MICROSECONDS[unit]}{unit}"
    return f"{(Decimal(micro) / 1000).normalize():f}ms"


def human(seconds: float) -> str:
    """The duration as a person says it: `412 ms`, `4.213 s`, `1 min 12 s`, `2 h 5 min`."""
    given = Decimal(repr(seconds))
    sign, given = ("-" if given < 0 else ""), abs(given)
    if given == 0:
        return "0 s"
    if given < 1:
        return f"{sign}{plain(given * 1000, '0.001' if given < Decimal('0.01') else '1')} ms"
    if given < 60:  # noqa: PLR2004 - a minute
        return f"{sign}{given:.3f} s" if given % 1 else f"{sign}{given:.0f} s"
    rest, parts = int(given.to_integral_value(ROUND_HALF_EVEN)), []
    for length, unit in _LENGTHS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return sign + " ".join(parts)


def plain(number: Decimal, step: str) -> str:
    """The number to this step, without zeros at the end of its fraction."""
    text = format(number.quantize(Decimal(step), ROUND_HALF_EVEN), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_size(value: object) -> int:
    """`20GB`: a number and a decimal unit, in bytes.

    Raises:
        ValueError: it is not that, or not a whole number of bytes.
    """
    size = _whole(value, _BYTES)
    if size is None:
        raise ValueError(f"expected a number and a unit (B, kB, MB, GB, TB) such as 20GB, got {_shown(value)}")
    return size


def show_size(value: int) -> str:
    """The largest unit that gives a whole number."""
    for unit in ("TB", "GB", "MB", "kB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def _whole(value: object, units: Mapping[str, int]) -> int | None:
    """The number times its unit, where that is a whole number."""
    match = _PARTS.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        return None
    amount = Fraction(match[1]) * units[match[2]]
    return amount.numerator if amount.denominator == 1 else None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value)
    return str(value).lower() if isinstance(value, int | Decimal) else "something else"
