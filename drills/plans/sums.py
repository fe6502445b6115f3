"""What every sum of a plan is made of: its amounts and groups, its signs, its period, and how far it may be off.

Owns the models and every rule between their keys. Refuses a tolerance without its reason or of a whole sum, a side
that is both debit and credit or neither, and a period whose end is not one instant.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from drills.fields import Text, Title
from drills.plans.section import Section, Value, fault

_ALLOWANCE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)(%?)", re.ASCII)
_PERIOD = re.compile(r"end of previous (day|month|quarter|year)")
_QUARTER = 3
"""Months."""
_WHOLE = 100
"""Percent."""


def _allowance(value: str) -> str:
    found = _ALLOWANCE.fullmatch(value)
    if found is None or not Decimal(found[1]):
        raise ValueError("expected an amount above 0 such as 0.05, or a percentage such as 0.01%")
    if found[2] and Decimal(found[1]) >= _WHOLE:
        raise ValueError(f"expected less than 100%, got {value}: the whole sum could be lost and pass")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise ValueError("expected a time zone such as UTC or Europe/Berlin") from None
    return value


def _until(value: str) -> str:
    if not _PERIOD.fullmatch(value) and _instant(value) is None:
        raise ValueError(
            "expected `end of previous day`, `month`, `quarter` or `year`, or an instant with its offset such as"
            " 2026-11-01T00:00:00+01:00"
        )
    return value


def _instant(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if found.tzinfo is None else found


class Tolerance(Section):
    """How far a sum may be off and still pass, and why. Rows and groups have no tolerance."""

    within: Annotated[Value, AfterValidator(_allowance)] = Field(
        description="The largest difference that passes: an amount, or a percentage of each expected sum, less than "
        "100%. Where the total has a `control`, the expected sum is the control's.",
        examples=["0.01%"],
    )
    justification: Text = Field(
        description="Why that is in order. It stands in the report beside every difference that it lets pass.",
        examples=["the warehouse rounds each line to a cent"],
    )

    @property
    def relative(self) -> bool:
        """Whether it is a percentage of the expected sum."""
        return self.within.endswith("%")

    @property
    def number(self) -> Decimal:
        """The amount, or how many percent."""
        return Decimal(self.within.removesuffix("%"))


class Sign(Section):
    """How debits and credits become one signed amount, where the table does not hold it so."""

    column: Text | None = Field(
        None,
        description="What says on which side an amount stands: a column or an SQL expression. Without it the amounts "
        "are signed as they are stored.",
        examples=["side"],
    )
    positive: tuple[str, ...] = Field(
        (), description="The sides whose amounts count as they are.", examples=[["D", "debit"]]
    )
    negative: tuple[str, ...] = Field(
        (), description="The sides whose amounts count with the opposite sign.", examples=[["C", "credit"]]
    )
    reversed: bool = Field(
        default=False,
        description="Whether amounts that are signed as stored count with the opposite sign: a table that holds "
        "credits as positive amounts.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _one_convention(self) -> Self:
        if self.column is None:
            if self.positive or self.negative:
                raise fault("sides without `column`, which says where they stand")
            if not self.reversed:
                raise fault("says nothing: give `column` with `positive` and `negative`, or `reversed: true`")
            return self
        for key in ("positive", "negative"):
            if not getattr(self, key):
                raise fault(f"`column` needs `{key}` too: a side that neither names is an error, never a guess", key)
        if both := sorted({*self.positive} & {*self.negative}):
            raise fault(f"{both[0]!r} is both positive and negative", "negative")
        if self.reversed:
            raise fault("`reversed` is for amounts without `column`; exchange `positive` and `negative`", "reversed")
        return self


class Closing(Section):
    """The end of the period: what lies at it or after it does not count. It is fixed when the drill is opened."""

    column: Text = Field(
        description="When a row belongs to: a date or timestamp column, or an SQL expression of such a type.",
        examples=["posted_at"],
    )
    until: Annotated[str, AfterValidator(_until)] = Field(
        description="`end of previous day`, `month`, `quarter` or `year`, seen from the opening of the drill; or an "
        "instant with its offset, which itself does not count.",
        examples=["end of previous month"],
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="Where the period ends at midnight.", examples=["Europe/Berlin"]
    )

    def ends(self, opened: datetime) -> datetime:
        """The first instant that does not count, in the closing's own time zone."""
        zone = ZoneInfo(self.time_zone)
        period = _PERIOD.fullmatch(self.until)
        if period is None:
            return datetime.fromisoformat(self.until).astimezone(zone)
        local = opened.astimezone(zone)
        day = datetime(local.year, local.month, local.day, tzinfo=zone)
        match period[1]:
            case "day":
                return day
            case "month":
                return day.replace(day=1)
            case "quarter":
                return day.replace(month=(local.month - 1) // _QUARTER * _QUARTER + 1, day=1)
            case _:
                return day.replace(month=1, day=1)

    def settled(self, opened: datetime) -> Closing:
        """The same period with its end as an instant, so that both sides are asked about the same one."""
        return self.model_copy(update={"until": self.ends(opened).isoformat()})


class Sum(Section):
    """Amounts of one table, added up by groups."""

    table: Text = Field(description="The table, with its schema unless that is `public`.", examples=["billing.invoice"])
    amount: Text = Field(description="The amount: a column or an SQL expression of an exact type.", examples=["amount"])
    by: dict[Title, Text] = Field(
        default_factory=dict,
        description="The groups: a label, and the column or SQL expression behind it.",
        examples=[{"currency": "currency", "month": "date_trunc('month', posted_at)"}],
    )
    where: Text | None = Field(
        None, description="Which rows count, as an SQL condition.", examples=["status <> 'draft'"]
    )
    sign: Sign | None = Field(None, description="How debits and credits become one signed amount.")
    closed: Closing | None = Field(None, description="The period that counts.")

    def settled(self, opened: datetime) -> Self:
        """The same sum with the end of its period as an instant."""
        return self if self.closed is None else self.model_copy(update={"closed": self.closed.settled(opened)})
