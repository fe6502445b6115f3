"""The records of a control: what a file or another system holds, as groups and exact amounts.

Refuses whatever might not be the number that a person wrote there: a number with an exponent in a text, thousands that
are not declared, a binary number of more than 15 digits. Guarantees that a group reads as PostgreSQL writes it, and
that no record is left out on the quiet: one without an amount is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from checks.base import EXACT
from drills.errors import CheckError
from drills.measures import TotalRow
from drills.plans.totals import TotalCheck

DIGITS_OF_A_FLOAT = 15
"""Every decimal of so many digits survives the way through a binary double (C's DBL_DIG); one of more may not."""
_EXPONENT = re.compile(r"[eE][+-]?\d+\s*$")


@dataclass(frozen=True)
class Writing:
    """How amounts are written in texts."""

    decimal_mark: str = "."
    thousands_mark: str = ""

    def amount(self, text: str) -> Decimal:
        """The number in this text. A minus may stand behind it, and parentheses make it negative, as in ledgers.

        Raises:
            CheckError: it is none, or is written otherwise.
        """
        body = text.strip()
        negative = re.fullmatch(r"-(.*)|(.*)-|\((.*)\)", body)
        digits = next((part for part in negative.groups() if part is not None), "") if negative else body
        if not re.fullmatch(self._pattern(), digits if negative else digits.removeprefix("+"), re.ASCII):
            raise CheckError(f"{text!r} is no amount{self._why(body)}")
        plain = digits.removeprefix("+").replace(self.thousands_mark, "") if self.thousands_mark else digits
        number = Decimal(plain.removeprefix("+").replace(self.decimal_mark, "."))
        return EXACT.minus(number) if negative else number

    def _pattern(self) -> str:
        mark = re.escape(self.decimal_mark)
        whole = r"\d+"
        if self.thousands_mark:
            whole += rf"|\d{{1,3}}({re.escape(self.thousands_mark)}\d{{3}})+"
        return rf"({whole})({mark}\d+)?"

    def _why(self, text: str) -> str:
        if not text:
            return ": it is empty"
        if _EXPONENT.search(text):
            return ": a program that wrote an exponent has dropped digits"
        grouped = f", thousands with {self.thousands_mark!r}" if self.thousands_mark else ", thousands with nothing"
        return f" with {self.decimal_mark!r} before its decimals{grouped} between them"


@dataclass(frozen=True)
class Records:
    """What was found: the names of the columns, and each record with its place."""

    columns: Sequence[str]
    rows: Iterable[tuple[str, Mapping[str, object]]]
    writing: Writing
    binary: bool = False
    """Whether its numbers are binary floats."""


def add_records(check: TotalCheck, found: Records) -> tuple[TotalRow, ...]:
    """The groups of the total and the sums of their records.

    Raises:
        CheckError: a column is not there, or a record cannot be read exactly.
    """
    if check.control is None:
        raise CheckError(f"{check.name} has no control")
    wanted = [check.control.by.get(label, label) for label in check.by]
    for column in (*wanted, check.control.amount):
        if list(found.columns).count(column) != 1:
            many = "no column" if column not in found.columns else "more than one column"
            raise CheckError(f"{many} {column!r}; there are: {', '.join(map(str, found.columns)) or 'none'}")
    groups: dict[tuple[str | None, ...], tuple[int, Decimal]] = {}
    for place, record in found.rows:
        try:
            group = tuple(_group(record[column]) for column in wanted)
            amount = _amount(record[check.control.amount], found)
        except CheckError as error:
            raise CheckError(f"{place}: {error.message}", hint=error.hint) from None
        count, whole = groups.get(group, (0, Decimal(0)))
        groups[group] = (
            count + 1,
            EXACT.subtract(whole, amount) if check.control.reversed else EXACT.add(whole, amount),
        )
    return tuple(
        TotalRow(group=group, rows=count, amounts=count, total=whole) for group, (count, whole) in groups.items()
    )


def _amount(value: object, found: Records) -> Decimal:
    if isinstance(value, str):
        return found.writing.amount(value)
    if isinstance(value, bool) or value is None:
        raise CheckError("no amount" if value is None else f"{str(value).lower()} is no amount")
    if found.binary and isinstance(value, int | float):
        return _short(Decimal(repr(value)))
    if isinstance(value, int | Decimal):
        return Decimal(value)
    raise CheckError(
        f"the amount is a {type(value).__name__}; expected a decimal, a whole number, or a text",
        hint="a binary float cannot hold money exactly: cast it in the query, to numeric or to a text",
    )


def _short(number: Decimal) -> Decimal:
    """A binary number whose shortest decimal is surely the one that was written."""
    digits = len(EXACT.create_decimal(number).normalize(EXACT).as_tuple().digits)
    if not number.is_finite() or digits > DIGITS_OF_A_FLOAT:
        raise CheckError(
            f"{number} has {digits} digits, and a binary number is exact up to {DIGITS_OF_A_FLOAT}",
            hint="round it in the file, or write it as a text",
        )
    return number


def _group(value: object) -> str | None:
    """As PostgreSQL casts it to text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | UUID) or (isinstance(value, date) and not isinstance(value, datetime)):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    raise CheckError(
        f"a group is a {type(value).__name__}, which reads otherwise from system to system",
        hint="write it as a text, as the total's own group reads",
    )
