"""What is measured in a database: counts, totals, relations, and the statements that asked.

Owns the models that hold what source and copy have shown, and the expectations made of them. Guarantees what
`drills.records` guarantees: what was written is what is read.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainSerializer

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


class Scan(Model):
    """How the content of one table is digested: source and copy are asked in the same words."""

    namespace: str
    """Its schema."""
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """Columns that name a row; empty where nothing does."""
    digest: Literal["hash", "sha256"]
    row: str
    """SQL of the digest of a row: a bigint, or a bytea with `sha256`."""
    bucket: str
    """SQL of the bucket that a row belongs to; empty where the table is one bucket."""


class Bucket(Model):
    """Rows of a table that are told apart by their key, and their digest."""

    bucket: str
    rows: int
    digest: str
    """The exact sum of the rows' digests, or SHA-256 over them in order."""


class TableCount(Model):
    """Rows of one table, and the digest of what they hold."""

    table: str
    """Schema and name, quoted where needed."""
    rows: int | None
    """None where it could not be counted."""
    digest: str | None = None
    """Over all columns of all rows; None where it was not asked for or could not be had."""
    buckets: tuple[Bucket, ...] = ()
    scan: Scan | None = None
    error: str = ""


class Held(Model):
    """Whether a table holds any row."""

    table: str
    """Schema and name, quoted where needed."""
    rows: bool | None
    """None where it could not be asked."""
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
    closed: str = ""
    """The end of its period, as it stands in the statement; empty where it has none."""
    error: str = ""
    """Why it could not be measured; then there are no rows."""


LARGE_OBJECTS = "large objects"
"""How the large objects are called, which are measured like a table."""
NEGATIVE_CONTROL = "negative control"
"""What the check is called that puts the others to the test, its round, and its stage."""
CONTROL_SUFFIX = "(control)"
"""Behind the name of a total: the comparison with what another system says of it."""


class ControlTotals(Model):
    """A total as another system has it, read once in a drill."""

    name: str
    """Of the total that it belongs to."""
    origin: str
    """The file with its digest, or the other database. No secret is in here."""
    query: str = ""
    """What was asked there, where it is a database."""
    read: Instant
    by: tuple[str, ...]
    rows: tuple[TotalRow, ...]
    """`rows` and `amounts` are the records of the group."""
    error: str = ""
    """Why it could not be read; then there are no rows."""


class Relation(Model):
    """A table, view or other relation that must be there."""

    kind: str
    name: str


Exact = Annotated[int, PlainSerializer(str, str)]
"""A bigint: canonical JSON, whose numbers are floats, could not hold it."""


class Item(Model):
    """Something of a database's structure: a column, a constraint, a function and so on."""

    kind: str
    name: str
    definition: str
    """What it is, as a JSON object of texts, lists of texts, and truth values; what is not set is not in it."""


class SequenceState(Model):
    """Where a sequence stands, and the columns that it feeds."""

    name: str
    low: Exact | None
    """The next value that it would give, before everything else was measured. None where it could not be read."""
    high: Exact | None
    """The same afterwards; where it was read once, equal to `low`."""
    increment: Exact
    cycle: bool = False
    feeds: tuple[tuple[str, str, str], ...] = ()
    """Schema, table and column of what takes its values: its owner, identity columns, defaults."""
    unlogged: bool = False
    error: str = ""


class Measures(Model):
    """What was measured in one database, source or copy alike."""

    relations: tuple[Relation, ...]
    counts: tuple[TableCount, ...]
    totals: tuple[Total, ...]
    queries: tuple[Query, ...]
    structure: tuple[Item, ...] = ()
    structure_error: str = ""
    """Why it could not be read; then there are no items."""
    sequences: tuple[SequenceState, ...] = ()
    held: tuple[Held, ...] | None = None
    """Which tables hold rows; None where nobody asked, since all rows are compared."""

    @property
    def filled(self) -> dict[str, int | None]:
        """The tables that hold rows, and how many; None where nobody counted them."""
        asked: dict[str, int | None] = {one.table: None for one in self.held or () if one.rows}
        return asked | {count.table: count.rows for count in self.counts if count.rows}


class Platform(Model):
    """What decides how a value is digested, besides the value."""

    version: str
    """As version() says: server, architecture, compiler."""
    encoding: str
    probe: str
    """The digest of known values of every kind, computed by this server."""


class Expectations(Model):
    """The values that the copy must show, and what they rest on."""

    basis: Basis
    snapshot: Snapshot
    platform: Platform | None = None
    """Where they were measured."""
    settings: dict[str, str]
    """Session settings that decide how values read."""
    measures: Measures
    controls: tuple[ControlTotals, ...] = ()
    """What other systems say of the totals."""
