"""Financial totals: every group's sum comes back to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, NULL, VERDICT, Answer, frame, join, rows_of
from drills.errors import CheckError
from drills.records import Total, Verdict

_COUNTS = ("rows", "amounts")
"""Rows of a group, and those of them that have an amount."""


def compare_totals(expected: Total, actual: Total, seconds: float) -> Answer:
    """Group by group: the sum, the rows behind it, and how many of them had an amount.

    Raises:
        CheckError: one side could not be measured.
    """
    for side, total in (("in the source's snapshot", expected), ("in the copy", actual)):
        if total.error:
            raise CheckError(f"not measured {side}: {total.error}")
    keys = expected.by or ("group",)
    joined = join(_side(expected, EXPECTED), _side(actual, ACTUAL), keys)
    counts = [f"{count}_{side}" for count in _COUNTS for side in (EXPECTED, ACTUAL)]
    found = frame(
        [_judge(row, keys) for row in rows_of(joined)], [*keys, EXPECTED, ACTUAL, DIFFERENCE, *counts, VERDICT]
    )
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
    return Answer(
        verdict, reason, _shown(wanted), _shown(there), _difference(there, wanted), found, tuple(keys), seconds
    )


def _side(total: Total, side: str) -> pd.DataFrame:
    """One side's groups as a frame whose values carry the side in their names."""
    rows = [(*(row.group if total.by else ("all",)), row.rows, row.amounts, row.total) for row in total.rows]
    return frame(rows, [*(total.by or ("group",)), f"rows_{side}", f"amounts_{side}", side])


def _judge(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[object, ...]:
    """One group: keys, expected, actual, difference, the counts, verdict."""
    group = [row[key] for key in keys]
    if row["side"] == "left_only":
        return (
            *group,
            _shown(row[EXPECTED]),
            None,
            "the group is missing",
            row["rows_expected"],
            None,
            row["amounts_expected"],
            None,
            Verdict.FAIL,
        )
    if row["side"] == "right_only":
        return (
            *group,
            None,
            _shown(row[ACTUAL]),
            "the group is unexpected",
            None,
            row["rows_actual"],
            None,
            row["amounts_actual"],
            Verdict.FAIL,
        )
    counts = [row[f"{count}_{side}"] for count in _COUNTS for side in (EXPECTED, ACTUAL)]
    wanted, there = row[EXPECTED], row[ACTUAL]
    equal = _same(wanted, there) and counts[0] == counts[1] and counts[2] == counts[3]
    verdict = Verdict.PASS if equal else Verdict.FAIL
    return *group, _shown(wanted), _shown(there), _difference(there, wanted), *counts, verdict


def _same(wanted: Decimal | None, there: Decimal | None) -> bool:
    """Equal as numbers; NaN, which PostgreSQL holds equal to itself, by its name."""
    if wanted is not None and there is not None and wanted.is_nan() and there.is_nan():
        return True
    return wanted == there


def _sum(total: Total) -> Decimal | None:
    amounts = [row.total for row in total.rows if row.total is not None]
    return sum(amounts, Decimal(0)) if amounts else None


def _difference(there: Decimal | None, wanted: Decimal | None) -> str:
    """Actual less expected, in words where it is no number."""
    if _same(wanted, there):
        return "0"
    if there is None or wanted is None or not there.is_finite() or not wanted.is_finite():
        return "not a number"
    return _shown(there - wanted)


def _shown(amount: Decimal | None) -> str:
    return NULL if amount is None else format(amount, "f")
