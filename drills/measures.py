"""What is measured in a database: counts, totals, relations, and the statements that asked.

Owns the models that hold what source and copy have shown, and the expectations made of them. Guarantees what
`drills.records` guarantees: what was written is what is read.
"""

from __future__ import annotations

from drills.records import Basis, Instant, Model, Money, Snapshot


class Query(Model):
    """A statement that was put to a server, for whoever re-performs it."""

    name: str
    sql: str
    parameters: tuple[str, ...] = ()
    role: str
    server: str
    """`system identifier/database`"""
    started: Instant
    ended: Instant
    seconds: float
    rows: int


class TableCount(Model):
    """Rows of one table."""

    table: str
    """Schema and name, quoted where needed."""
    rows: int | None
    """None where it could not be counted."""
    error: str = ""


class TotalRow(Model):
    """One group of a total."""

    group: tuple[str | None, ...]
    rows: int
    amounts: int
    """Rows whose amount is not NULL."""
    total: Money | None
    """None where every amount is NULL."""


class Total(Model):
    """A financial total as measured: its groups and their sums, as exact decimals."""

    name: str
    by: tuple[str, ...]
    rows: tuple[TotalRow, ...]
    error: str = ""
    """Why it could not be measured; then there are no rows."""


class Relation(Model):
    """A table, view or other relation that must be there."""

    kind: str
    name: str


class Measures(Model):
    """What was measured in one database, source or copy alike."""

    relations: tuple[Relation, ...]
    counts: tuple[TableCount, ...]
    totals: tuple[Total, ...]
    queries: tuple[Query, ...]


class Expectations(Model):
    """The values that the copy must show, and what they rest on."""

    basis: Basis
    snapshot: Snapshot
    settings: dict[str, str]
    """Session settings that decide how values read."""
    measures: Measures
