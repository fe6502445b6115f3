"""How far a physical copy is to be recovered, how far it came, and what it answered when it was asked.

Owns the words for a recovery target, for the end of a recovery and for the quarantine of a copy. Refuses a target that
PostgreSQL would read in more than one way: an instant says its offset, and "the latest" says how far it has to come.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from pydantic import model_validator

from drills.records import Instant, Model
from drills.wal import parse_lsn

_TIMELINE = re.compile(r"latest|current|[1-9][0-9]{0,9}")
_NAME_LIMIT = 63
"""Bytes of a restore point's name (MAXFNAMELEN less its end)."""


class TargetKind(StrEnum):
    """What a target is given by."""

    LSN = "lsn"
    TIME = "time"
    NAME = "name"
    """A restore point that somebody made with pg_create_restore_point()."""
    LATEST = "latest"
    """The end of the archive."""
    IMMEDIATE = "immediate"
    """The end of the backup."""


class RecoveryTarget(Model):
    """Where replay is to stop."""

    kind: TargetKind
    value: str = ""
    """The WAL position, the instant with its offset from UTC, or the name; empty for the other kinds."""
    inclusive: bool = True
    """Whether the commit at the position or instant itself is replayed."""
    timeline: str = "latest"
    """`latest`, `current` (the backup's own) or a number."""
    reach: str = ""
    """A WAL position that replay has to come to. PostgreSQL ends a recovery without a target at the first segment that
    is missing or damaged, as if that were the end of the archive: "the latest" cannot be had without it."""

    @model_validator(mode="after")
    def _means_one_thing(self) -> Self:
        if self.kind is TargetKind.LSN:
            parse_lsn(self.value)
        elif self.kind is TargetKind.TIME:
            self.instant  # noqa: B018 - raises where it is none
        elif self.kind is TargetKind.NAME:
            if not 0 < len(self.value.encode()) <= _NAME_LIMIT:
                raise ValueError(f"expected a name of 1 to {_NAME_LIMIT} bytes, got {self.value!r}")
        elif self.value:
            raise ValueError(f"expected no value for a target of kind {self.kind}, got {self.value!r}")
        if self.reach:
            parse_lsn(self.reach)
        elif self.kind is TargetKind.LATEST:
            raise ValueError("expected a WAL position in `reach`, which the latest has to come to, got none")
        if not _TIMELINE.fullmatch(self.timeline):
            raise ValueError(f"expected latest, current or the number of a timeline, got {self.timeline!r}")
        return self

    @property
    def instant(self) -> datetime | None:
        """Of a target in time."""
        if self.kind is not TargetKind.TIME:
            return None
        at = datetime.fromisoformat(self.value)
        if at.tzinfo is None:
            raise ValueError(f"expected an instant with its offset from UTC, got {self.value!r}")
        return at.astimezone(UTC)

    def settings(self) -> dict[str, str]:
        """What a server is told, so that it stops there and then opens."""
        told = {"recovery_target_timeline": self.timeline, "recovery_target_action": "promote"}
        told["recovery_target_inclusive"] = "on" if self.inclusive else "off"
        match self.kind:
            case TargetKind.LSN:
                told["recovery_target_lsn"] = self.value
            case TargetKind.TIME:
                told["recovery_target_time"] = str(self.instant)
            case TargetKind.NAME:
                told["recovery_target_name"] = self.value
            case TargetKind.IMMEDIATE:
                told["recovery_target"] = "immediate"
            case TargetKind.LATEST:
                pass
        return told

    def __str__(self) -> str:
        return f"{self.kind} {self.value}".strip()


class Recovered(Model):
    """Where a recovery ended, as the history of the copy's new timeline says."""

    timeline: int
    """The copy's own, which begins there."""
    end_lsn: str
    """The end of the WAL that was replayed."""
    next_xid: int
    """The first transaction, in 64 bits, that had no number yet: from there on numbers are the copy's own."""
    reason: str
    """In PostgreSQL's words, such as `before LSN 0/5000060`."""
    segments: int
    """WAL segments that came out of the archive."""
    seconds: float


class Answer(Model):
    """One question put to a copy about its quarantine."""

    question: str
    expected: str
    actual: str


class Quarantine(Model):
    """What a copy answered. There is none with a wrong answer: that stops the drill."""

    asked: Instant
    answers: tuple[Answer, ...]
