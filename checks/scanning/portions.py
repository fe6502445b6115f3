"""What some rows of a table have shown: how many they are, their digests by buckets, and their part of each total.

Guarantees that rows which have no digest are noticed: the chain of columns that are never NULL breaks where one is NULL
all the same, and a sum passes over it in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from checks.scanning.adding import Adding, refuse_inexact
from checks.scanning.scans import group_keys
from checks.totals_sql import group_expressions
from drills.measures import Scan
from drills.plans.totals import TotalCheck

_ENOUGH = Context(prec=50)
_BEFORE_TOTALS = 3
"""Of the columns of a scan, behind bucket and groups: rows, digest, the digests' mean."""
_OF_A_TOTAL = 4


class Portion:
    """Some rows of a table."""

    def __init__(self, scan: Scan, sums: Sequence[TotalCheck]) -> None:
        self.rows = 0
        self.undigested = 0
        """Rows that have no digest."""
        self.buckets: dict[str, tuple[int, int | str]] = {}
        """Rows and digest of each."""
        self.totals = [Adding(check) for check in sums]
        self._hashed = scan.digest == "hash"
        self._summed = self._hashed and bool(scan.row)
        self._keys = group_keys(sums)

    def take(self, row: Sequence[Any]) -> None:
        """A line of a scan, or of a count.

        Raises:
            CheckError: a sum is of a type that is not exact.
        """
        if len(row) == 1:
            self.rows += row[0]
            return
        bucket, *rest = row
        groups = dict(zip(self._keys, rest, strict=False))
        rows, digest, mean = rest[len(self._keys) : len(self._keys) + _BEFORE_TOTALS]
        self.rows += rows
        self.undigested += _passed_over(rows, digest, mean) if self._summed else 0
        self._add(str(bucket), rows, digest)
        for place, total in enumerate(self.totals):
            begin = 1 + len(self._keys) + _BEFORE_TOTALS + _OF_A_TOTAL * place
            counted, amounts, amount, kind = row[begin : begin + _OF_A_TOTAL]
            refuse_inexact(total.check, kind)
            group = tuple(groups[expression] for expression in group_expressions(total.check))
            total.add(group, counted, amounts, amount)

    def join(self, other: Portion) -> None:
        """What other rows of the same table have shown."""
        self.rows += other.rows
        self.undigested += other.undigested
        for bucket, (rows, digest) in other.buckets.items():
            self._add(bucket, rows, digest)
        for mine, its in zip(self.totals, other.totals, strict=False):
            mine.join(its)

    def told_undigested(self) -> str:
        """That there are rows without a digest; empty where there are none."""
        return f"{self.undigested} rows have NULL in a column that may not be NULL" if self.undigested else ""

    def _add(self, bucket: str, rows: int, digest: Decimal | int | str | None) -> None:
        if not self._hashed:
            self.buckets[bucket] = rows, str(digest)
            return
        before, whole = self.buckets.get(bucket, (0, 0))
        self.buckets[bucket] = before + rows, int(whole) + int(digest or 0)


def _passed_over(rows: int, digest: Decimal | None, mean: Decimal | None) -> int:
    """Rows that a sum and its mean have passed over. PostgreSQL gives a mean of 16 digits or more."""
    if digest is None or mean is None:
        return rows
    return rows - int(_ENOUGH.divide(digest, mean).to_integral_value()) if mean else 0
