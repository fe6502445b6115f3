"""The part of a plan that says what the copy must prove.

Owns the models of the checks and every rule between them. Refuses what cannot be asked. The rest of the plan is in
`drills.plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from drills.fields import Text, Title
from drills.records import Model


def fault(said: str, *at: str | int) -> PydanticCustomError:
    """An error that knows its place below the model which raises it, so that it is shown with the right line."""
    return PydanticCustomError("plan_rule", "{said}", {"said": said, "at": at})


def refuse_twice(kind: str, places: Sequence[tuple[str, tuple[str | int, ...]]]) -> None:
    """Two of one name could not be told apart in the report, nor, in another case, as files."""
    seen: set[str] = set()
    for name, at in places:
        if name.casefold() in seen:
            raise fault(f"duplicate name of {kind}: {name!r}", *at)
        seen.add(name.casefold())


class Section(Model):
    """A part of the plan. Its values stay out of pydantic's own errors: one of them may be a misplaced secret."""

    model_config = ConfigDict(hide_input_in_errors=True)


class TotalCheck(Section):
    """A sum of money, by groups, that must come back to the last digit."""

    name: Title = Field(description="What the total is called in the report.", examples=["invoices by currency"])
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


class InvariantCheck(Section):
    """An SQL statement whose answer is known beforehand."""

    name: Title = Field(description="What the invariant is called in the report.", examples=["books balance"])
    sql: Text = Field(
        description="One SELECT. With `expect: no rows` every row that it returns is a violation; with a value it must "
        "return exactly one row with one column.",
        examples=["SELECT id FROM invoice WHERE total <> (SELECT sum(amount) FROM line WHERE invoice = id)"],
    )
    expect: str = Field(
        "no rows",
        description="`no rows`, or the value as PostgreSQL writes it. Numbers are compared as exact decimals.",
        examples=["0.00"],
        json_schema_extra={"type": ["string", "number"]},
    )

    @model_validator(mode="before")
    @classmethod
    def _value_as_text(cls, given: Any) -> Any:  # noqa: ANN401 - whatever YAML held
        """A number in the plan is meant as PostgreSQL would write it."""
        value = given.get("expect") if isinstance(given, dict) else None
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return given | {"expect": format(value, "f" if isinstance(value, Decimal) else "d")}
        return given


class Checks(Section):
    """What the copy must prove."""

    row_counts: bool = Field(default=True, description="Compare the row count of every table.", examples=[True])
    tables: bool = Field(default=True, description="Look for missing and unexpected tables.", examples=[True])
    totals: tuple[TotalCheck, ...] = Field((), description="Financial totals.")
    invariants: tuple[InvariantCheck, ...] = Field((), description="Statements whose answer is known.")

    @model_validator(mode="after")
    def _something_is_asked(self) -> Self:
        given = [(check.name, ("totals", index, "name")) for index, check in enumerate(self.totals)]
        given += [(check.name, ("invariants", index, "name")) for index, check in enumerate(self.invariants)]
        refuse_twice("a check", [("row counts", ()), ("tables", ()), *given])
        if not (self.row_counts or self.tables or self.totals or self.invariants):
            raise fault("no check at all: a drill that asks nothing proves nothing")
        return self
