"""Financial totals: every group's sum comes back to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd

from checks.base import (
    ACTUAL,
    DIFFERENCE,
    EXACT,
    EXPECTED,
    SIDE,
    VERDICT,
    Answer,
    figure,
    frame,
    join,
    shown,
)
from drills.errors import CheckError
from drills.measures import Total
from drills.records import Verdict

_COUNTS = ("rows", "amounts")
"""Rows of a group, and those of them that have an amount."""
_SIDED = [f"{count}_{side}" for count in _COUNTS for side in (EXPECTED, ACTUAL)]
_COLUMNS = [EXPECTED, ACTUAL, DIFFERENCE, *_SIDED, VERDICT]


def compare_totals(expected: Total, actual: Total, seconds: float) -> Answer:
    """Group by group: the sum, the rows behind it, and how many of them had an amount.

    Raises:
        CheckError: one side could not be measured, or was measured by other groups.
    """
    for side, total in (("in the source's snapshot", expected), ("in the copy", actual)):
        if total.error:
            raise CheckError(f"not measured {side}: {total.error}")
    if expected.by != actual.by:
        raise CheckError(f"measured by other groups: expected {expected.by}, got {actual.by}")
    # The plan's labels come in at the end only: one of them may read like a column of ours.
    keys = [f"key {number}" for number in range(max(len(expected.by), 1))]
    joined = join(_side(expected, EXPECTED, keys), _side(actual, ACTUAL, keys), keys)
    rows = [_judge(row, keys) for row in sorted(joined, key=lambda row: [_as_people_sort(row[key]) for key in keys])]
    labels = _labels(expected.by)
    found = frame(rows, [*labels, *_COLUMNS])
    verdict = Verdict.worst(found[VERDICT])
    differing = int((found[VERDICT] != Verdict.PASS).sum())
    reason = (
        f"{differing} of {len(found)} groups differ"
        if differing
        else f"all {len(found)} groups are equal to the last digit"
    )
    if verdict is not Verdict.FAIL and not any(row.amounts for row in expected.rows):
        verdict, reason = Verdict.UNKNOWN, "no row of the snapshot had an amount: there was nothing to add up"
    wanted, there = _sum(expected), _sum(actual)
    return Answer(verdict, reason, figure(wanted), figure(there), _difference(there, wanted), found, labels, seconds)


def _as_people_sort(group: str) -> tuple[bool, int, str]:
    """Numbers by their size and before texts: 2 comes before 10."""
    number = group.isascii() and group.isdigit()
    digits = group.lstrip("0")
    return (False, len(digits), digits) if number else (True, 0, group)


def _side(total: Total, side: str, keys: list[str]) -> pd.DataFrame:
    """One side's groups as a frame whose values carry the side in their names."""
    rows = [
        (*(map(shown, row.group) if total.by else ("all",)), row.rows, row.amounts, row.total) for row in total.rows
    ]
    return frame(rows, [*keys, f"rows_{side}", f"amounts_{side}", side])


def _labels(by: tuple[str, ...]) -> tuple[str, ...]:
    """The groups as the plan calls them, told apart from the columns beside them."""
    labels: list[str] = []
    for name in by or ("group",):
        label = name
        while label in (*_COLUMNS, *labels):
            label += " (group)"
        labels.append(label)
    return tuple(labels)


def _judge(row: dict[str, Any], keys: list[str]) -> tuple[object, ...]:
    """One group: keys, expected, actual, difference, the counts, verdict."""
    group, counts = [row[key] for key in keys], [row[column] for column in _SIDED]
    wanted, there = row[EXPECTED], row[ACTUAL]
    if row[SIDE] == "left_only":
        return *group, figure(wanted), None, "the group is missing", *counts, Verdict.FAIL
    if row[SIDE] == "right_only":
        return *group, None, figure(there), "the group is unexpected", *counts, Verdict.FAIL
    behind = [
        f"{there_too - wanted_too:+d} {count}"
        for count, wanted_too, there_too in zip(_COUNTS, counts[0::2], counts[1::2], strict=True)
        if wanted_too != there_too
    ]
    verdict = Verdict.PASS if _same(wanted, there) and not behind else Verdict.FAIL
    difference = ", ".join([_difference(there, wanted), *behind])
    return *group, figure(wanted), figure(there), difference, *counts, verdict


def _same(wanted: Decimal | None, there: Decimal | None) -> bool:
    """Equal as numbers; NaN, which PostgreSQL holds equal to itself, by its name."""
    if wanted is not None and there is not None and wanted.is_nan() and there.is_nan():
        return True
    return wanted == there


def _sum(total: Total) -> Decimal | None:
    amounts = [row.total for row in total.rows if row.total is not None]
    if not amounts:
        return None
    whole = Decimal(0)
    for amount in amounts:
        whole = EXACT.add(whole, amount)
    return whole


def _difference(there: Decimal | None, wanted: Decimal | None) -> str:
    """Actual less expected, in words where it is no number."""
    if _same(wanted, there):
        return "0"
    if there is None or wanted is None or not there.is_finite() or not wanted.is_finite():
        return "not a number"
    return figure(EXACT.subtract(there, wanted))
