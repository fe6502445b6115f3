"""The part of a plan that says what has to add up: totals, and rules that books keep.

Owns the models and every rule between their keys. Refuses a rule without the sums that it is made of, or with sums by
different groups. What the sums are made of is in `drills.plans.sums`, and what they are held against from outside in
`drills.plans.control`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from drills.fields import ShortTitle, Title
from drills.measures import CONTROL_SUFFIX
from drills.plans.control import Control
from drills.plans.section import Section, fault
from drills.plans.sums import Sum, Tolerance


class _Named(Section):
    name: Title = Field(description="What the total is called in the report.", examples=["invoices by currency"])


class TotalCheck(Sum, _Named):
    """A sum of money, by groups, that must come back to the last digit."""

    tolerance: Tolerance | None = Field(
        None,
        description="How far a sum may be off; not at all unless given. Where the total has a `control`, it counts for "
        "source and copy against that control only: source against copy is exact then.",
    )
    control: Control | None = Field(None, description="What another system says of the same total.")

    @model_validator(mode="after")
    def _control_has_these_groups(self) -> Self:
        if self.control and (unknown := sorted({*self.control.by} - {*self.by})):
            raise fault(f"{unknown[0]!r} is none of the total's groups ({', '.join(self.by) or 'it has none'})",
                        "control", "by", unknown[0])  # fmt: skip
        return self


def control_name(total: TotalCheck) -> str:
    """What the comparison of a total with its control is called."""
    return f"{total.name} {CONTROL_SUFFIX}"


Kind = Literal["trial_balance", "debits_equal_credits", "subledger_equals_control", "roll_forward"]
NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "trial_balance": (("postings",),),
        "debits_equal_credits": (("debits", "credits"), ("postings",)),
        "subledger_equals_control": (("subledger", "control_account"),),
        "roll_forward": (("opening", "movement", "closing"),),
    }
)
"""The sums that each kind is made of; of several sets, one."""
SIDES = ("debits", "credits", "neither_side")
"""What `postings` with a side come apart into."""


class LedgerCheck(Section):
    """A rule that books keep, put to the copy and to the source's snapshot."""

    kind: Kind = Field(
        description="`trial_balance`: `postings` add up to nothing in every group. `debits_equal_credits`: `debits` "
        "and `credits` are equal in every group, or `postings` with a `sign` whose column tells them apart. "
        "`subledger_equals_control`: `subledger` equals `control_account`. `roll_forward`: `opening` and `movement` "
        "make `closing`.",
        examples=["trial_balance"],
    )
    name: ShortTitle = Field(description="What the check is called in the report.", examples=["the books balance"])
    postings: Sum | None = Field(None, description="The signed amounts of the journal.")
    debits: Sum | None = Field(None, description="What was debited.")
    credits: Sum | None = Field(None, description="What was credited.")
    subledger: Sum | None = Field(None, description="The single items, such as the open invoices.")
    control_account: Sum | None = Field(None, description="The account of the general ledger that sums them up.")
    opening: Sum | None = Field(None, description="The balances at the beginning.")
    movement: Sum | None = Field(None, description="What was posted since.")
    closing: Sum | None = Field(None, description="The balances at the end.")

    @property
    def sums(self) -> dict[str, Sum]:
        """The sums that it is made of, in the order in which the rule names them."""
        given = {key: getattr(self, key) for needed in NEEDED[self.kind] for key in needed}
        return {key: total for key, total in given.items() if total is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and those of the totals that are measured for it."""
        sided = self.kind == "debits_equal_credits" and self.postings is not None
        return self.name, *(self.part_name(key) for key in (SIDES if sided else self.sums))

    def part_name(self, key: str) -> str:
        """What one of its sums is called among the totals."""
        return f"{self.name}: {key.replace('_', ' ')}"

    def settled(self, opened: datetime) -> LedgerCheck:
        """The same check with the ends of all periods as instants."""
        return self.model_copy(update={key: total.settled(opened) for key, total in self.sums.items()})

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        every = dict.fromkeys(key for needed in NEEDED.values() for keys in needed for key in keys)
        given = [key for key in every if getattr(self, key) is not None]
        if not any({*given} == {*needed} for needed in NEEDED[self.kind]):
            wanted = ", or ".join(" and ".join(f"`{key}`" for key in needed) for needed in NEEDED[self.kind])
            raise fault(f"{self.kind} needs {wanted}, got {', '.join(f'`{key}`' for key in given) or 'none'}")
        if self.kind == "debits_equal_credits" and self.postings is not None and not _tells_sides(self.postings):
            raise fault("needs a `sign` with `column`, which tells debits from credits", "postings")
        first, *others = self.sums.items()
        for key, total in others:
            if [*total.by] != [*first[1].by]:
                raise fault(f"expected the groups of `{first[0]}` in their order, got {', '.join(total.by) or 'none'}",
                            key)  # fmt: skip
        return self


def _tells_sides(postings: Sum) -> bool:
    return postings.sign is not None and postings.sign.column is not None
