"""What all recovery methods of a plan have in common, and those whose backup the drill takes by itself.

Owns `method: dump`, `method: stream` and `method: basebackup`. Refuses patterns that would
accept every warning, and more than one point to recover to.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from drills.fields import Address, Moment, Period, Reference, Size, Text
from drills.plans.section import Section, fault

Lsn = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$")]
"""A place in the WAL, as PostgreSQL writes it."""


class Recovery(Section):
    """What every method has."""

    jobs: int = Field(
        2,
        ge=1,
        le=64,
        description="Parallel connections or processes of tools and measuring.",
        examples=[4],
    )
    backup_timeout: Period = Field(
        timedelta(hours=4), description="The longest that the backup may take.", examples=["4h"]
    )
    restore_timeout: Period = Field(
        timedelta(hours=8), description="The longest that the restore may take.", examples=["8h"]
    )
    accept_warnings: tuple[Text, ...] = Field(
        (),
        description="Regular expressions for warnings of the tools that have been looked at and are in order. Any "
        "other warning makes the drill UNKNOWN; errors cannot be accepted.",
        examples=[["circular foreign-key constraints"]],
    )

    @property
    def physical(self) -> bool:
        """Whether the copy is made of production's own pages."""
        return False

    @property
    def programs(self) -> tuple[str, ...]:
        """PostgreSQL's own that it needs, besides those of a server."""
        return ("pg_restore",)

    @property
    def keeps(self) -> float:
        """What it may keep in staging besides the copy, by the source's size: a backup that nothing compresses."""
        return 1.0

    @property
    def aligned(self) -> bool:
        """Whether the copy stands where the drill's own snapshot of the source does: every row can be compared."""
        return True

    @property
    def reads_all(self) -> bool:
        """Whether every table of the copy is read once, after its first checks."""
        return False

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        for index, pattern in enumerate(self.accept_warnings):
            try:
                matches_all = re.search(pattern, "") or re.search(pattern, "\0")
            except re.error as error:
                said = f"{pattern!r} is not a regular expression: {error}"
                raise fault(said, "accept_warnings", index) from None
            if matches_all:
                raise fault(f"{pattern!r} accepts every warning", "accept_warnings", index)
        return self


class Dump(Recovery):
    """pg_dump in directory format from one exported snapshot, restored by pg_restore."""

    method: Literal["dump"] = Field(description="The recovery method.", examples=["dump"])
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "gzip",
        description="How the dump's files are compressed. `gzip` is written at level 1: the default level takes twice "
        "as long to save an eighth of the size. `lz4` and `zstd` need tools that were built with them.",
        examples=["none"],
    )

    @property
    def programs(self) -> tuple[str, ...]:
        """That which dumps, too."""
        return ("pg_dump", *super().programs)


class Stream(Recovery):
    """pg_dump straight into pg_restore, one of each, from one exported snapshot: no file is made.

    It takes half the room. Production is read until the last row is loaded, for which `backup_timeout` has to suffice,
    and let go before the indexes are made. Such a drill proves the copy, and no recovery objective. `jobs` is for
    measuring alone.
    """

    method: Literal["stream"] = Field(description="The recovery method.", examples=["stream"])

    @property
    def programs(self) -> tuple[str, ...]:
        """That which dumps, too."""
        return ("pg_dump", *super().programs)

    @property
    def keeps(self) -> float:
        """Nothing."""
        return 0.0


class Point(Section):
    """Where recovery stops. What the source has now can only be held against it where it no longer changes.

    Without one the drill recovers to its own snapshot, found in the WAL commit by commit, and every row is compared.
    """

    time: Moment | None = Field(
        None, description="The last commit before this instant.", examples=["2026-11-21T22:09:00Z"]
    )
    lsn: Lsn | None = Field(None, description="This place in the WAL.", examples=["16/B374D848"])
    name: str | None = Field(
        None, min_length=1, max_length=63, description="What pg_create_restore_point was told.", examples=["before-v42"]
    )
    latest: Literal[True] | None = Field(None, description="As far as the WAL goes.", examples=[True])

    @model_validator(mode="after")
    def _one_point(self) -> Self:
        given = [name for name in ("time", "lsn", "name", "latest") if getattr(self, name) is not None]
        if len(given) != 1:
            raise fault(f"expected one of time, lsn, name and latest, got {', '.join(given) or 'none'}")
        return self

    @property
    def chosen(self) -> tuple[str, str]:
        """Its kind, and its value as PostgreSQL takes it."""
        if self.time is not None:
            return "time", _instant(self.time)
        if self.lsn is not None:
            return "lsn", self.lsn
        return ("latest", "") if self.latest else ("name", self.name or "")


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


class Pages(Recovery):
    """What methods have in common that bring back production's own pages, and replay WAL."""

    wal_patience: Period = Field(
        timedelta(minutes=1),
        description="How long to wait for the WAL that belongs to the snapshot. An archive gets a segment when it is "
        "full, or after the source's `archive_timeout`.",
        examples=["10min"],
    )
    to: Point | None = Field(
        None,
        description="Where recovery stops; the drill's own snapshot unless given. With it, nothing but closed periods "
        "can be compared.",
        examples=[{"latest": True}],
    )

    @property
    def physical(self) -> bool:
        """They are those of production."""
        return True

    @property
    def keeps(self) -> float:
        """Nothing: the files of the backup become the copy."""
        return 0.0

    @property
    def aligned(self) -> bool:
        """Where no other point is asked for."""
        return self.to is None

    @property
    def programs(self) -> tuple[str, ...]:
        """What reads WAL, and what says how far a copy came."""
        return ("pg_controldata", "pg_waldump")


class BaseBackup(Pages):
    """pg_basebackup, verified by pg_verifybackup, with the WAL of the meantime received by pg_receivewal."""

    method: Literal["basebackup"] = Field(description="The recovery method.", examples=["basebackup"])
    address: Address | None = Field(
        None,
        description="Where the base backup is taken and WAL is received, with a role that has REPLICATION; the "
        "source's address unless given. It may lead to a standby of the source.",
        examples=["postgresql://drillbook_backup@db.internal:5432/postgres"],
    )
    password: Reference | None = Field(
        None, description="Reference to that role's password.", examples=["env:BILLING_BACKUP_PASSWORD"]
    )
    incrementals: int = Field(
        0,
        ge=0,
        le=20,
        description="Incremental backups taken on top of the full one and put together by pg_combinebackup. Needs "
        "PostgreSQL 17 and `summarize_wal` at the source.",
        examples=[2],
    )
    checkpoint: Literal["fast", "spread"] = Field(
        "fast",
        description="Whether the source writes its checkpoint at once, or slowly, which disturbs less.",
        examples=["spread"],
    )
    max_rate: Size | None = Field(
        None,
        ge=32 * 1024,
        le=1024**3,
        description="The most bytes a second that the source is to send.",
        examples=["100MB"],
    )

    @property
    def keeps(self) -> float:
        """The chain that a copy is put together from."""
        return 1.0 if self.incrementals else 0.0

    @property
    def programs(self) -> tuple[str, ...]:
        """Those that take it, too."""
        combining = ("pg_combinebackup",) if self.incrementals else ()
        return (*super().programs, "pg_basebackup", "pg_receivewal", "pg_verifybackup", *combining)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.address is None and self.password is not None:
            raise fault("password without address: the source's own role has one already", "password")
        return self
