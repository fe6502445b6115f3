"""The part of a plan that says what the copy must prove.

Owns the models of the checks and every rule between them. Refuses what cannot be asked. The rest of the plan is in
`drills.plan`.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from drills.fields import Text, Title
from drills.plans.section import Section, Value, fault, refuse_twice
from drills.plans.smoke import Smoke, SmokeCommand, SmokeHttp
from drills.plans.totals import LedgerCheck, TotalCheck, control_name

OWN_NAMES = ("row counts", "content", "tables", "structure", "sequences", "emptied tables", "amcheck",
             "page checksums")  # fmt: skip
"""What the checks that need no name in the plan are called."""
ROWS_OF = "rows of "
"""How the answers begin that name the rows of a table which differ."""


class InvariantCheck(Section):
    """An SQL statement whose answer is known beforehand."""

    name: Title = Field(description="What the invariant is called in the report.", examples=["books balance"])
    sql: Text = Field(
        description="One SELECT. With `expect: no rows` every row that it returns is a violation; with a value it must "
        "return exactly one row with one column.",
        examples=["SELECT id FROM invoice WHERE total <> (SELECT sum(amount) FROM line WHERE invoice = id)"],
    )
    expect: Value = Field(
        "no rows",
        description="`no rows`, or the value as PostgreSQL writes it. Numbers are compared as exact decimals.",
        examples=["0.00"],
    )


class LeftOut(Section):
    """A table of which something is not asked."""

    table: Text = Field(description="Its name as the report writes it.", examples=["public.session_cache"])
    reason: Text = Field(
        description="Why that is in order. It stands in the report.", examples=["holds nothing that is missed"]
    )


class Content(Section):
    """Every column of every row, by digests that are made where the rows are."""

    compare: bool = Field(default=True, description="Compare the content of every table.", examples=[True])
    digest: Literal["fast", "sha256"] = Field(
        "fast",
        description="`fast` finds every accident: a damage escapes it once in 2^64. `sha256` stands against a forger "
        "too, reads every table in one piece, and takes about three times as long.",
        examples=["sha256"],
    )
    leave_out: tuple[LeftOut, ...] = Field(
        (),
        description="Tables whose content is not compared, each with its reason; their rows are counted all the same. "
        "`large objects` stands for these.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        refuse_twice(
            "a table", [(one.table, ("leave_out", index, "table")) for index, one in enumerate(self.leave_out)]
        )
        return self


class Checks(Section):
    """What the copy must prove."""

    row_counts: bool = Field(default=True, description="Compare the row count of every table.", examples=[True])
    content: Content = Field(default_factory=Content, description="The content of every table.")
    tables: bool = Field(default=True, description="Look for missing and unexpected tables.", examples=[True])
    totals: tuple[TotalCheck, ...] = Field((), description="Financial totals.")
    ledger: tuple[LedgerCheck, ...] = Field((), description="Rules that books keep.")
    invariants: tuple[InvariantCheck, ...] = Field((), description="Statements whose answer is known.")
    structure: bool = Field(
        default=True,
        description="Compare the catalogue: columns, constraints, indexes, triggers, views, functions, policies, "
        "owners and grants, types, extensions and whatever else a schema is made of.",
        examples=[True],
    )
    sequences: bool = Field(
        default=True,
        description="Compare where every sequence stands, also with the largest value of the column that it feeds.",
        examples=[True],
    )
    unlogged: bool = Field(
        default=True,
        description="Whether what unlogged tables and sequences hold has to come back as well. No physical copy has "
        "it, and PostgreSQL empties them after a crash, such as that of the outage `kill_server`: then it is a FAIL. "
        "With `false` it is given up, and the report names what was not compared.",
        examples=[False],
    )
    may_be_empty: tuple[LeftOut, ...] = Field(
        (),
        description="Tables that hold rows at the source now and may hold none in a copy of another time, each with "
        "its reason. Of such a copy every other table has to hold rows where the source does, or the drill is UNKNOWN. "
        "`large objects` stands for these.",
    )
    amcheck: bool = Field(
        default=True,
        description="Have PostgreSQL's own amcheck go over every B-tree index, heap and TOAST table of the copy.",
        examples=[True],
    )
    checksums: bool = Field(
        default=True,
        description="Read every page of a physical copy, so that the server verifies its checksum. A logical copy "
        "has pages of its own making, and is not asked.",
        examples=[True],
    )
    smoke: tuple[Smoke, ...] = Field((), description="Whether people could work with the copy.")

    @property
    def tries_programs(self) -> bool:
        """Whether programs work with the copy after everything else, and may write to it."""
        return any(isinstance(smoke, SmokeCommand | SmokeHttp) for smoke in self.smoke)

    @model_validator(mode="after")
    def _something_is_asked(self) -> Self:
        given = [(check.name, ("totals", index, "name")) for index, check in enumerate(self.totals)]
        given += [(control_name(check), ("totals", i, "name")) for i, check in enumerate(self.totals) if check.control]
        given += [(name, ("ledger", i, "name")) for i, check in enumerate(self.ledger) for name in check.names]
        given += [(check.name, ("invariants", index, "name")) for index, check in enumerate(self.invariants)]
        given += [(check.name, ("smoke", index, "name")) for index, check in enumerate(self.smoke)]
        empty = [(one.table, ("may_be_empty", index, "table")) for index, one in enumerate(self.may_be_empty)]
        refuse_twice("a table", empty)
        refuse_twice("a check", [*((name, ()) for name in OWN_NAMES), *given])
        for name, at in given:
            if name.casefold().startswith(ROWS_OF):
                raise fault(f"{name!r}: what begins with {ROWS_OF!r} tells of the rows that differ", *at)
        asked = (self.row_counts, self.content.compare, self.tables, self.structure, self.sequences, self.amcheck)
        if not any((*asked, self.totals, self.ledger, self.invariants, self.smoke)):
            raise fault("no check at all: a drill that asks nothing proves nothing")
        return self
