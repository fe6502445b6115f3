"""The part of a plan that says how the checks themselves are put to the test.

Owns the names of the damages that a drill can plant; how each is planted is in `checks.negative.damages`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from drills.fields import Period, Title
from drills.plans.section import Section, fault, refuse_twice

DAMAGES = (
    "one cent",
    "swapped amounts",
    "signs flipped in two rows",
    "amounts of equal hash",
    "amount not a number",
    "1.5 to 1.50",
    "NULL to zero",
    "bigint of equal hash",
    "last digit of a float",
    "minus zero",
    "boolean flipped",
    "one microsecond",
    "an hour in every row",
    "another day",
    "one month to thirty days",
    "NULL to empty text",
    "value to NULL",
    "trailing space",
    "case of one letter",
    "other text of equal collation",
    "other Unicode form",
    "trailing blank of a char",
    "letter moved across a column border",
    "values exchanged between columns",
    "white space in json",
    "number in jsonb 5 to 5.0",
    "array element lost",
    "array in another order",
    "another enum label",
    "range bound",
    "byte in bytea",
    "bit string inverted",
    "digit of a uuid",
    "network mask",
    "foreign key orphan",
    "one row instead of another",
    "large object byte",
    "lost row",
    "duplicated row",
    "emptied table",
    "lost large object",
    "amount lost from a total",
    "amount lost from a ledger rule",
    "emptied tables under an invariant",
    "missing table",
    "unexpected table",
    "missing view",
    "table made unlogged",
    "dropped index",
    "invalid index",
    "dropped constraint",
    "constraint not validated",
    "disabled trigger",
    "dropped trigger",
    "dropped default",
    "widened column",
    "dropped NOT NULL",
    "dropped column",
    "unexpected column",
    "generated column made plain",
    "identity made optional",
    "redefined view",
    "changed function body",
    "dropped function",
    "dropped policy",
    "row security off",
    "unexpected grant",
    "revoked grant",
    "another owner",
    "default privileges",
    "enum labels exchanged",
    "enum label added",
    "dropped domain constraint",
    "materialized view without data",
    "missing extension",
    "changed comment",
    "dropped publication",
    "dropped statistics object",
    "dropped rule",
    "detached partition",
    "heir without parent",
    "storage parameter",
    "replica identity",
    "sequence behind",
    "sequence ahead",
    "sequence with another step",
    "missing sequence",
    "index that misses a row",
)
"""Every damage there is, by what it damages."""
CHOSEN = (
    "one cent",
    "swapped amounts",
    "one microsecond",
    "trailing space",
    "lost row",
    "duplicated row",
    "emptied table",
    "amount lost from a total",
    "amount lost from a ledger rule",
    "emptied tables under an invariant",
    "missing table",
    "dropped index",
    "disabled trigger",
    "dropped NOT NULL",
    "sequence behind",
    "index that misses a row",
)
"""Those that are planted unless the plan names others: at least one for every check."""


class NegativeControl(Section):
    """Damages planted into a scratch clone of the copy, each of which has to be caught by the check that claims it.

    One that is not caught makes the drill UNKNOWN at best.
    """

    enabled: bool = Field(default=True, description="Put the checks to the test.", examples=[True])
    damages: tuple[Title, ...] = Field(
        CHOSEN,
        description="Which damages are planted, in this order. docs/checks.md lists them all.",
        examples=[["one cent", "lost row", "duplicated row", "dropped index"]],
    )
    limit: Period = Field(
        timedelta(minutes=15),
        description="The longest that all of it may take; what was not planted by then is UNKNOWN.",
        examples=["15min"],
    )

    @model_validator(mode="after")
    def _damages_are_known(self) -> Self:
        for index, name in enumerate(self.damages):
            if name not in DAMAGES:
                raise fault(f"{name!r} is no damage; expected one of: {', '.join(DAMAGES)}", "damages", index)
        refuse_twice("a damage", [(name, ("damages", index)) for index, name in enumerate(self.damages)])
        if self.enabled and not self.damages:
            raise fault("no damage: a control that plants nothing proves nothing", "damages")
        return self
