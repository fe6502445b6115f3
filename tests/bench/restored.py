"""What the copying of databases has shown, its goals, and whether they are met. What was not measured meets none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.copying import Copying
from bench.goals import Goal
from bench.kept import Kept
from bench.lanes import AGAINST, MOST, OURS, PEER, PLAIN_DUMP
from bench.results import Machine

_MADE = "the backup that is there"


@dataclass(frozen=True)
class Copied:
    """One copying, as it is shown."""

    block: int
    done: Copying
    source_read: int
    source_written: int

    @property
    def seconds(self) -> float:
        """From the beginning to the copy that answers."""
        return self.done.backup + self.done.restore

    def figure(self, of: str) -> float:
        """One of the figures."""
        read, written = self.done.read + self.source_read, self.done.written + self.source_written
        found = {"backup": self.done.backup, "restore": self.done.restore, "seconds": self.seconds, "read": read,
                 "written": written, "memory": self.done.memory}  # fmt: skip
        return float(found[of])


@dataclass
class Lane:
    """One contender with one method."""

    method: str
    contender: str
    runs: list[Copied] = field(default_factory=list)
    failed: str = ""
    """Why there are none, or not all of them."""

    def median(self, of: str) -> float:
        """Of one of the figures; there must be a run."""
        return float(median(run.figure(of) for run in self.runs))

    def ratios(self, other: Lane) -> list[float]:
        """Of its time to another's, block by block."""
        seconds = {run.block: run.seconds for run in other.runs}
        return [run.seconds / seconds[run.block] for run in self.runs if run.block in seconds]


@dataclass
class Restored:
    """All of it."""

    rows: int
    blocks: int
    machine: Machine
    command: str
    megabytes: float = 0
    """Of the database, its indexes counted."""
    lanes: dict[tuple[str, str], Lane] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    """Of what else was run."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """Backups that were there before, by method."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """What could not be done, and why."""
    absent: list[tuple[str, str]] = field(default_factory=list)
    """What was not done for want of a tool, which is no failure."""
    minutes: float = 0

    def lane(self, method: str, contender: str) -> Lane:
        """Made where there is none yet."""
        return self.lanes.setdefault((method, contender), Lane(method, contender))

    def ratios(self, method: str, contender: str, base: str) -> list[float]:
        """Of one contender to another, block by block; none where one of them was not measured."""
        one, other = self.lanes.get((method, contender)), self.lanes.get((PLAIN_DUMP if base == PEER else method, base))
        return one.ratios(other) if one and other else []


def judge(found: Restored) -> Iterator[Goal]:
    """Each goal with what was found."""
    for method, others in AGAINST.items():
        for other in others:
            ratios = found.ratios(method, OURS, other)
            most = 1.0 if other == PEER else MOST
            said = f"{method}: " + (f"not slower than {PEER}" if other == PEER else f"at most {most:g} of the {other}")
            if not ratios:
                yield Goal(said, "not measured", None)
                continue
            middle = median(ratios)
            yield Goal(said, f"{middle:.2f}", middle <= most)


def commands(found: Restored) -> Mapping[tuple[str, str], Sequence[Sequence[str]]]:
    """What each contender ran, as in its last run; before them, what made the backup that was there."""
    told: dict[tuple[str, str], Sequence[Sequence[str]]] = {
        (method, _MADE): kept.commands for method, kept in found.kept.items()
    }
    told |= {key: lane.runs[-1].done.commands for key, lane in found.lanes.items() if lane.runs}
    methods = [*AGAINST]
    return dict(sorted(told.items(), key=lambda one: methods.index(one[0][0])))
