"""Financial totals: every group's sum comes back to the last digit, or as near as the plan allows in writing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, SIDE, VERDICT, Answer, figure, frame, join, shown
from checks.sums import (
    GROUP,
    LINE,
    add_up,
    any_amount,
    as_people_sort,
    difference,
    foot,
    labels,
    lets_pass,
    same,
    told,
)
from drills.errors import CheckError
from drills.measures import Total
from drills.plans.sums import Sum, Tolerance
from drills.plans.totals import TotalCheck
from drills.records import Verdict

_COUNTS = ("rows", "amounts")
"""Rows of a group, and those of them that have an amount."""
_SIDED = [f"{count}_{side}" for count in _COUNTS for side in (EXPECTED, ACTUAL)]
_COLUMNS = [EXPECTED, ACTUAL, DIFFERENCE, *_SIDED, VERDICT, LINE]


def compare_totals(expected: Total, actual: Total, seconds: float, check: TotalCheck | None = None) -> Answer:
    """Group by group: the sum, the rows behind it, and how many of them had an amount.

    Args:
        expected: as measured in the source's snapshot.
        actual: as measured in the copy.
        seconds: spent on measuring it there.
        check: what the plan says, for its tolerance and its sign convention; None has neither. The tolerance of a
            total with a control is for that control: source against copy is exact there.

    Raises:
        CheckError: one side could not be measured, or was measured by other groups or over another period.
    """
    refuse_unlike(expected, actual)
    tolerance = check.tolerance if check and check.control is None else None
    # The plan's labels come in at the end only: one of them may read like a column of ours.
    keys = [f"key {number}" for number in range(max(len(expected.by), 1))]
    joined = join(_side(expected, EXPECTED, keys), _side(actual, ACTUAL, keys), keys)
    ordered = sorted(joined, key=lambda row: [as_people_sort(row[key]) for key in keys])
    names = labels(expected.by, _COLUMNS)
    found = frame([_judge(row, keys, tolerance) for row in ordered], [*names, *_COLUMNS])
    verdict = Verdict.worst(found[VERDICT])
    passed = sum(1 for row in joined if row[SIDE] == "both" and not same(row[EXPECTED], row[ACTUAL]))
    reason = _reason(found, passed, tolerance)
    if verdict is not Verdict.FAIL and (unsure := _unsure(expected, check)):
        verdict, reason = Verdict.UNKNOWN, unsure
    if expected.closed:
        reason += f"; of what was dated before {expected.closed}"
    wanted, there = (add_up(row.total for row in side.rows) for side in (expected, actual))
    added = {EXPECTED: figure(wanted), ACTUAL: figure(there), DIFFERENCE: difference(there, wanted)}
    counts = {column: sum(number for number in found[column] if number is not None) for column in _SIDED}
    return Answer(
        verdict,
        reason,
        **added,
        frame=found,
        keys=names,
        seconds=seconds,
        foot=foot(names, _COLUMNS, added | counts, verdict),
    )


def refuse_unlike(expected: Total, actual: Total) -> None:
    """Two sides that cannot be held against each other.

    Raises:
        CheckError: one of them could not be measured, or they were measured by other groups or over another period.
    """
    for side, total in (("in the source's snapshot", expected), ("in the copy", actual)):
        if total.error:
            raise CheckError(f"not measured {side}: {total.error}")
    if expected.by != actual.by:
        raise CheckError(f"measured by other groups: expected {expected.by}, got {actual.by}")
    if expected.closed != actual.closed:
        raise CheckError(
            f"measured over another period: expected until {expected.closed or 'now'}, got until"
            f" {actual.closed or 'now'}"
        )


def without_a_side(expected: Total, check: Sum | None) -> str:
    """Why a total whose amounts stand on sides proves nothing; empty where it does."""
    if check is None or check.sign is None or check.sign.column is None:
        return ""
    lacking = sum(row.rows - row.amounts for row in expected.rows)
    return (
        f"{lacking} rows of the snapshot have no amount, or stand on a side that is neither positive nor negative in"
        " the plan: they were not added up"
        if lacking
        else ""
    )


def _reason(found: pd.DataFrame, unequal: int, tolerance: Tolerance | None) -> str:
    differing = int((found[VERDICT] != Verdict.PASS).sum())
    if differing:
        return f"{differing} of {len(found)} groups differ"
    if unequal and tolerance is not None:
        return (
            f"{unequal} of {len(found)} groups differ {told(tolerance)}; the others are equal to the last digit"
            if unequal < len(found)
            else f"all {len(found)} groups differ {told(tolerance)}"
        )
    return f"all {len(found)} groups are equal to the last digit"


def _unsure(expected: Total, check: TotalCheck | None) -> str:
    """Why sums that do not differ prove nothing; empty where they do."""
    if not any_amount(expected):
        return "no row of the snapshot had an amount: there was nothing to add up"
    return without_a_side(expected, check)


def _side(total: Total, side: str, keys: list[str]) -> pd.DataFrame:
    """One side's groups as a frame whose values carry the side in their names."""
    rows = [
        (*(map(shown, row.group) if total.by else ("all",)), row.rows, row.amounts, row.total) for row in total.rows
    ]
    return frame(rows, [*keys, f"rows_{side}", f"amounts_{side}", side])


def _judge(row: dict[str, Any], keys: list[str], tolerance: Tolerance | None) -> tuple[object, ...]:
    """One group: keys, expected, actual, difference, the counts, verdict."""
    group, counts = [row[key] for key in keys], [row[column] for column in _SIDED]
    wanted, there = row[EXPECTED], row[ACTUAL]
    if row[SIDE] == "left_only":
        return *group, figure(wanted), None, "the group is missing", *counts, Verdict.FAIL, GROUP
    if row[SIDE] == "right_only":
        return *group, None, figure(there), "the group is unexpected", *counts, Verdict.FAIL, GROUP
    behind = [
        f"{there_too - wanted_too:+d} {count}"
        for count, wanted_too, there_too in zip(_COUNTS, counts[0::2], counts[1::2], strict=True)
        if wanted_too != there_too
    ]
    allowed = _allowed(wanted, there, tolerance)
    verdict = Verdict.PASS if (same(wanted, there) or allowed) and not behind else Verdict.FAIL
    parts = [difference(there, wanted), *([allowed] if allowed and not behind else []), *behind]
    return *group, figure(wanted), figure(there), ", ".join(parts), *counts, verdict, GROUP


def _allowed(wanted: Decimal | None, there: Decimal | None, tolerance: Tolerance | None) -> str:
    """Why a difference is let pass; empty where there is none, or where it is not."""
    if tolerance is None or same(wanted, there) or not lets_pass(tolerance, wanted, there):
        return ""
    return told(tolerance)
