"""What was found by looking for the rows that differ, put into words and lines.

Guarantees that every count and sum is exact, however few rows are listed, that no amount passes through a float, and
that of two long values the part is shown in which they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from checks.base import ACTUAL, DIFFERENCE, EXACT, EXPECTED, VERDICT, Answer, figure, frame, named, shown
from checks.locating.statements import NO_KEY, shift_of
from checks.scanning.relations import Column
from drills.measures import Bucket, Scan, TableCount
from drills.records import Verdict
from drills.results import LINES_KEPT

CHANGED, MISSING, UNEXPECTED = "changed", "missing", "unexpected"
KINDS = (CHANGED, MISSING, UNEXPECTED)
_KEYS = ("what", "key", "column")
_NUMBERS = {"int2", "int4", "int8", "numeric", "money"}
_LONG, _BEFORE = 200, 60
"""Characters of a value that are shown, and how many of them before the first difference."""
_LONG_ROW = 1000
Texts = Sequence[str | None]


@dataclass(frozen=True)
class Odd:
    """A row that differs, listed."""

    kind: str
    expected: Texts | None
    """The values of all columns in the backup; None where it has no such row."""
    actual: Texts | None
    times: int = 1


@dataclass(frozen=True)
class Sum:
    """What a money column adds up to over all rows that differ."""

    column: str
    expected: Decimal
    actual: Decimal

    @property
    def difference(self) -> Decimal:
        """What the copy has too much; NaN where there is no telling, as with infinities."""
        return EXACT.subtract(self.actual, self.expected)


@dataclass(frozen=True)
class Unlike:
    """A bucket in which the backup itself is not what was measured in the snapshot."""

    measured: Bucket | None
    held: Bucket | None

    @property
    def name(self) -> str:
        """Of the bucket."""
        return next(bucket.bucket for bucket in (self.measured, self.held) if bucket)


@dataclass(frozen=True)
class Found:
    """All that looking has shown."""

    scan: Scan
    columns: Sequence[Column]
    counts: dict[str, int]
    """Of each kind, exactly."""
    listed: Sequence[Odd]
    sums: Sequence[Sum]
    unlike: Sequence[Unlike]
    loaded: str
    """What was read of the backup."""


def to_answer(found: Found, expected: TableCount, actual: TableCount, seconds: float) -> Answer:
    """The rows and columns that differ, the sums first."""
    lines = [*map(_of_sum, found.sums), *(_of_bucket(found.scan, one) for one in found.unlike)]
    changed: dict[str, None] = {}
    for odd in found.listed:
        for line in _of_row(found, odd):
            lines.append(line)
            changed |= {str(line[2]): None} if line[2] else {}
    moved = [f"{one.column} {_signed(one.difference)}" for one in found.sums]
    return Answer(
        Verdict.FAIL,
        _reason(found, expected, list(changed)),
        expected=f"{expected.rows} rows",
        actual=f"{actual.rows} rows",
        difference="; ".join([_told(found.counts), *moved]),
        frame=frame(lines, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT]),
        keys=_KEYS,
        seconds=seconds,
    )


def _reason(found: Found, expected: TableCount, changed: list[str]) -> str:
    whole = sum(found.counts.values())
    said = []
    if found.unlike:
        places = named([_of_keys(found.scan, one.name) for one in found.unlike])
        said.append(f"the backup itself does not hold what was measured in the snapshot: {expected.table}, {places}")
    if whole:
        columns = f" in {named(changed)}" if changed else ""
        than = " from the backup" if found.unlike else ""
        rows = "1 row" if whole == 1 else f"{whole} rows"
        differ = "differs" if whole == 1 else "differ"
        said.append(f"{rows} of {expected.table} {differ}{than}: {_told(found.counts)}{columns}")
    else:
        said.append("the copy holds what the backup holds")
    if any(found.counts[kind] > LINES_KEPT for kind in KINDS):
        said.append(f"the first {LINES_KEPT} of each kind are listed")
    return "; ".join([*said, found.loaded])


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "none"


def _of_sum(one: Sum) -> tuple[object, ...]:
    verdict = Verdict.PASS if one.difference == 0 else Verdict.FAIL
    amounts = figure(one.expected), figure(one.actual), _signed(one.difference)
    return "sum", "all rows that differ", one.column, *amounts, verdict


def _of_bucket(scan: Scan, one: Unlike) -> tuple[object, ...]:
    measured, held = (0 if bucket is None else bucket.rows for bucket in (one.measured, one.held))
    told = [bucket and f"{bucket.rows} rows, digest {bucket.digest}" for bucket in (one.measured, one.held)]
    difference = f"{held - measured:+d} rows in the backup" if held != measured else "other content in the backup"
    return "backup", _of_keys(scan, one.name), None, *told, difference, Verdict.FAIL


def _of_keys(scan: Scan, bucket: str) -> str:
    """A bucket, for people."""
    bits = shift_of(scan)
    if not scan.bucket:
        return "all rows"
    if bits is None or bucket == NO_KEY:
        return f"bucket {bucket}"
    first = int(bucket) << bits
    return f"{scan.key[0]} from {first} to {first + (1 << bits) - 1}"


def _of_row(found: Found, odd: Odd) -> Iterator[tuple[object, ...]]:
    there = odd.actual if odd.expected is None else odd.expected
    key = _key(found, there or ())
    if odd.expected is None or odd.actual is None:
        told = [None if side is None else _row(found.columns, side) for side in (odd.expected, odd.actual)]
        times = f" {odd.times} times" if odd.times > 1 else ""
        yield odd.kind, key, None, *told, odd.kind + times, Verdict.FAIL
        return
    pairs = list(zip(found.columns, odd.expected, odd.actual, strict=True))
    for column, one, other in pairs:
        if one != other:
            yield odd.kind, key, column.name, *_beside(one, other), _difference(column, one, other), Verdict.FAIL
    if list(odd.expected) == list(odd.actual):
        told = [_row(found.columns, side) for side in (odd.expected, odd.actual)]
        yield odd.kind, key, None, *told, "the digests differ, the texts do not", Verdict.FAIL


def _key(found: Found, texts: Texts) -> str | None:
    values = {column.name: text for column, text in zip(found.columns, texts, strict=True)}
    return ", ".join(f"{name} = {_cut(shown(values[name]))}" for name in found.scan.key) or None


def _row(columns: Sequence[Column], texts: Texts) -> str:
    told = ", ".join(f"{column.name} = {_cut(shown(text))}" for column, text in zip(columns, texts, strict=True))
    return told if len(told) <= _LONG_ROW else f"{told[:_LONG_ROW]}…"


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _beside(one: str | None, other: str | None) -> tuple[str, str]:
    """Both, and of what is long the part around the first difference."""
    texts = shown(one), shown(other)
    if max(map(len, texts)) <= _LONG:
        return texts
    same = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(same - _BEFORE, 0)
    first, second = (f"{'…' if start else ''}{_cut(text[start:])}" for text in texts)
    return first, second


def _difference(column: Column, one: str | None, other: str | None) -> str:
    numbers = [_number(column, text) for text in (one, other)]
    if numbers[0] is None or numbers[1] is None:
        return CHANGED
    difference = EXACT.subtract(numbers[1], numbers[0])
    return _signed(difference) if difference else f"{CHANGED}, the same amount"


def _number(column: Column, text: str | None) -> Decimal | None:
    if text is None or column.base not in _NUMBERS:
        return None
    try:
        # Money is written as lc_monetary C has it, which sessions are pinned to.
        number = Decimal(text.replace("$", "").replace(",", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _signed(amount: Decimal) -> str:
    """With all its digits and its sign."""
    return format(amount, "+f") if amount else "0"
