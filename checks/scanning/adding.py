"""A total put together from what the parts of a table have shown.

Guarantees exact arithmetic: an amount of a binary float type is an error, since its sum depends on the order of rows.
"""

from __future__ import annotations

from decimal import Decimal

from checks.base import EXACT
from checks.totals_sql import closed_at
from drills.errors import CheckError
from drills.measures import Total, TotalRow
from drills.plans.totals import TotalCheck

EXACT_TYPES = {"bigint", "numeric", "money"}
Group = tuple[str | None, ...]


def refuse_inexact(check: TotalCheck, kind: str) -> None:
    """Refuse a sum of this type.

    Raises:
        CheckError: it is not exact.
    """
    if kind not in EXACT_TYPES:
        raise CheckError(
            f"{check.name}: the sum of {check.amount} is of type {kind}; expected one of"
            f" {', '.join(sorted(EXACT_TYPES))}",
            hint=f"a binary float cannot hold money exactly; cast it in the plan: ({check.amount})::numeric",
        )


class Adding:
    """The groups of one total, growing."""

    def __init__(self, check: TotalCheck) -> None:
        self.check = check
        self._groups: dict[Group, tuple[int, int, Decimal | None]] = {}
        if not check.by:
            self._groups[()] = (0, 0, None)

    def add(self, group: Group, rows: int, amounts: int, total: Decimal | int | None) -> None:
        """One more part of a group."""
        if not rows and self.check.by:
            return  # a group of other totals, or of rows that do not count here
        rows_before, amounts_before, before = self._groups.get(group, (0, 0, None))
        part = None if total is None else Decimal(total)
        whole = part if before is None else before if part is None else EXACT.add(before, part)
        self._groups[group] = rows_before + rows, amounts_before + amounts, whole

    def join(self, other: Adding) -> None:
        """All that another one has of the same total."""
        for group, (rows, amounts, total) in other._groups.items():
            self.add(group, rows, amounts, total)

    def total(self) -> Total:
        """All of it, in the order of the groups."""
        rows = tuple(
            TotalRow(group=group, rows=rows, amounts=amounts, total=total)
            for group, (rows, amounts, total) in sorted(self._groups.items(), key=_place)
        )
        return Total(name=self.check.name, by=tuple(self.check.by), rows=rows, closed=closed_at(self.check))


def _place(entry: tuple[Group, object]) -> list[tuple[bool, str]]:
    """NULL last."""
    return [(part is None, part or "") for part in entry[0]]


def unmeasured(check: TotalCheck, why: str) -> Total:
    """A total that could not be had."""
    return Total(name=check.name, by=tuple(check.by), rows=(), closed=closed_at(check), error=why)
