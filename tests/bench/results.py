"""What the benchmark has found, as it is handed to the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Run:
    """One contender, once."""

    seconds: float
    """Of the work alone; of a peer from its start to its end."""
    ratio: float
    """To the bare scan of the same minutes."""
    process: float
    """Seconds from the start of the process to its end."""
    cpu: float
    """Seconds that the process computed."""
    peak: float
    """MB that were resident in the process."""


@dataclass
class Series:
    """The runs of one contender."""

    name: str
    runs: list[Run] = field(default_factory=list)
    failed: str = ""
    """Why there are none, or not all of them."""

    def median(self, of: str) -> float:
        """Of one of the figures; there must be a run."""
        return float(median(getattr(run, of) for run in self.runs))

    def spread(self, of: str) -> tuple[float, float]:
        """Smallest and largest."""
        figures = [getattr(run, of) for run in self.runs]
        return min(figures), max(figures)


@dataclass
class PeerResult:
    """What is known of a peer."""

    name: str
    version: str = ""
    installed: str = ""
    """How, in Markdown."""
    called: str = ""
    """Likewise."""
    note: str = ""
    absent: str = ""
    """Why it could not be run at all."""
    series: Series = field(default_factory=lambda: Series(""))
    over: float | None = None
    """The time limit at which it was ended."""


@dataclass(frozen=True)
class Machine:
    """Where it ran."""

    processor: str
    cores: int
    memory: float
    """GB."""
    load: float
    """Load average of the minute before the start."""
    python: str
    postgresql: str
    settings: Mapping[str, str]


@dataclass
class Findings:
    """All of it."""

    rows: int
    repetitions: int
    machine: Machine
    command: str
    heap: float = 0
    """MB of the ledger's heap."""
    bare: Series = field(default_factory=lambda: Series("bare scan"))
    by_hand: dict[str, Series] = field(default_factory=dict)
    """Statements without a tool."""
    ours: dict[str, Series] = field(default_factory=dict)
    peers: list[PeerResult] = field(default_factory=list)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    """By fault, then by contender: what it said."""
    fault_rows: int = 0
    tables: int = 0
    many: dict[str, Series] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """What could not be done, and why."""
    minutes: float = 0

    def of(self, name: str) -> Series | None:
        """One of ours, if it has run."""
        series = {**self.ours, **self.many}.get(name)
        return series if series is not None and series.runs else None
