"""Commits as a heartbeat sent them, held against what an outage has left of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Answer(StrEnum):
    """What became of one commit."""

    ACKNOWLEDGED = "acknowledged"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True)
class Beat:
    """One commit that was sent."""

    id: str
    """`<writer>-<number>`"""
    answer: Answer
    at: datetime
    """When the answer came, or the connection broke (UTC)."""
    monotonic: float
    """The same by the monotonic clock."""
    sent: float
    """When it was about to be sent, by the monotonic clock."""


@dataclass(frozen=True)
class Tally:
    """What is left of the beats after an outage."""

    beats: tuple[Beat, ...]
    lost: tuple[Beat, ...]
    unexpected: tuple[str, ...]
    found: frozenset[str] | None = None
    """The ids that are there; None when nobody could look."""

    def acknowledged(self) -> list[Beat]:
        """The beats that must have survived, in order of their answers."""
        return [beat for beat in self.beats if beat.answer is Answer.ACKNOWLEDGED]

    def in_doubt(self) -> list[Beat]:
        """The beats of which nobody can say."""
        return [beat for beat in self.beats if beat.answer is Answer.IN_DOUBT]


def compare(beats: list[Beat], found: set[str]) -> Tally:
    """Hold the beats against the ids that are there."""
    sent = {beat.id for beat in beats}
    lost = tuple(beat for beat in beats if beat.answer is Answer.ACKNOWLEDGED and beat.id not in found)
    return Tally(tuple(beats), lost, tuple(sorted(found - sent)), frozenset(found))


def write_beats(tally: Tally, path: Path) -> None:
    """Every beat with its answer and whether it is there, then every row that nobody sent, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["commit", "answer", "at_utc", "survived"])
        for beat in tally.beats:
            survived = "unknown" if tally.found is None else "yes" if beat.id in tally.found else "no"
            writer.writerow([beat.id, beat.answer, beat.at.isoformat(timespec="microseconds"), survived])
        writer.writerows([stranger, "never sent", "", "yes"] for stranger in tally.unexpected)
