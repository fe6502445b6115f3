"""What every comparison of sums has in common: exact arithmetic, groups in order, labels, and the line that adds up.

Guarantees that nothing is rounded: a cent on a sum of any size stays a cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from checks.base import EXACT, figure, shown
from drills.errors import CheckError
from drills.measures import ControlTotals, Total, TotalRow
from drills.plans.sums import Tolerance
from drills.records import Verdict

LINE = "line"
"""The column that tells the groups from the line that adds them up."""
GROUP, TOTAL = "group", "total"
NO_NUMBER = "not a number"
Group = tuple[str, ...]
"""As `shown` writes it: what was NULL is told apart from the text."""


def rows(total: Total | ControlTotals) -> dict[Group, TotalRow]:
    """The rows by their groups; a total without groups has one.

    Raises:
        CheckError: a group stands twice, so that nobody knows what to hold against what.
    """
    found = {tuple(map(shown, row.group)) if total.by else ("all",): row for row in total.rows}
    if len(found) != len(total.rows):
        raise CheckError(f"ambiguous: a group of {total.name} stands more than once")
    return found


def any_amount(total: Total | ControlTotals) -> bool:
    """Whether there was anything to add up."""
    return any(row.amounts for row in total.rows)


def in_order(groups: Iterable[Group]) -> list[Group]:
    """As people count."""
    return sorted(groups, key=lambda group: [as_people_sort(part) for part in group])


def as_people_sort(group: str) -> tuple[bool, int, str]:
    """Numbers by their size and before texts: 2 comes before 10."""
    number = group.isascii() and group.isdigit()
    digits = group.lstrip("0")
    return (False, len(digits), digits) if number else (True, 0, group)


def labels(by: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """The groups as the plan calls them, told apart from the columns beside them."""
    found: list[str] = []
    for name in by or ("group",):
        label = name
        while label in (*columns, *found):
            label += " (group)"
        found.append(label)
    return tuple(found)


def same(one: Decimal | None, other: Decimal | None) -> bool:
    """Equal as numbers; NaN, which PostgreSQL holds equal to itself, by its name."""
    if one is not None and other is not None and one.is_nan() and other.is_nan():
        return True
    return one == other


def add_up(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Their sum; None where there is none at all."""
    given = [amount for amount in amounts if amount is not None]
    whole = Decimal(0) if given else None
    for amount in given:
        whole = EXACT.add(whole or Decimal(0), amount)
    return whole


def gap(there: Decimal | None, wanted: Decimal | None) -> Decimal | None:
    """Actual less expected; None where that is no number."""
    if same(wanted, there):
        return Decimal(0)
    if there is None or wanted is None or not there.is_finite() or not wanted.is_finite():
        return None
    return EXACT.subtract(there, wanted)


def difference(there: Decimal | None, wanted: Decimal | None) -> str:
    """Actual less expected, in words where it is no number."""
    if same(wanted, there):
        return "0"
    found = gap(there, wanted)
    return NO_NUMBER if found is None else figure(found)


def lets_pass(tolerance: Tolerance | None, wanted: Decimal | None, there: Decimal | None) -> bool:
    """Whether a difference lies within the tolerance; an equality needs none."""
    found = gap(there, wanted)
    if tolerance is None or found is None or wanted is None:
        return False
    most = tolerance.number
    if tolerance.relative:
        most = EXACT.multiply(EXACT.abs(wanted), EXACT.scaleb(most, -2)) if wanted.is_finite() else Decimal(0)
    return EXACT.compare(EXACT.abs(found), most) <= 0


def told(tolerance: Tolerance) -> str:
    """The tolerance and its reason, for a line of the report."""
    return f"within the tolerance of {tolerance.within}: {tolerance.justification}"


def foot(
    keys: Sequence[str], columns: Sequence[str], amounts: Mapping[str, object], verdict: Verdict
) -> dict[str, object]:
    """The line that adds up the others: amounts by their columns, and what it has none of left empty."""
    blank: dict[str, object] = dict.fromkeys([*keys, *columns])
    return {**blank, keys[0]: TOTAL, **amounts, "verdict": verdict, LINE: TOTAL}
