"""What a drill finds out: results of checks and outages, clocks, objectives, problems.

Like all words, they are frozen models that go to disk and into the report.
"""

from __future__ import annotations

from drills.records import Basis, FileRef, Instant, Model, Verdict


class Line(Model):
    """One compared value."""

    key: str
    expected: str | None
    actual: str | None
    difference: str | None
    verdict: Verdict


class CheckResult(Model):
    """One question put to the copy, and the answer."""

    name: str
    kind: str
    verdict: Verdict
    reason: str
    basis: Basis
    expected: str
    actual: str
    difference: str
    sql: str
    started: Instant
    seconds: float
    compared: int
    differing: int
    lines: tuple[Line, ...] = ()
    """What differs first, then the rest, cut at `LINES_KEPT`; the CSV holds all."""
    total: Line | None = None
    """What the lines add up to, where they do. It is none of those that were compared."""
    csv: FileRef | None = None


class Clock(Model):
    """One of the recovery clocks: seconds from the moment of loss."""

    name: str
    meaning: str
    seconds: float | None
    """None where the drill never got there."""


class OutageResult(Model):
    """What a fault did to the copy, measured by acknowledged commits."""

    name: str
    kind: str
    verdict: Verdict
    reason: str
    injected: Instant
    healed: Instant | None
    """When the first commit was acknowledged again."""
    clocks: tuple[Clock, ...]
    acknowledged: int
    acknowledged_before: int
    """Of these, before the fault."""
    in_doubt: int
    """Sent, and neither acknowledged nor refused: either answer is right for them."""
    lost: int
    lost_commits: tuple[str, ...]
    """The acknowledged commits that are gone, named one by one; cut at `LINES_KEPT`, the file holds all."""
    unexpected: int
    """Commits found that nobody sent."""
    rpo_seconds: float | None
    """Age at the fault of the oldest lost commit; 0 when none was lost."""
    evidence: FileRef | None = None


class Objective(Model):
    """A target of the plan beside what was measured."""

    name: str
    target_seconds: float
    measured_seconds: float | None
    verdict: Verdict
    meaning: str
    at_least: bool = False
    """It may be more than what was measured: enough to see a target missed, and never to see one met."""


class Span(Model):
    """A stage on the timeline, in seconds from the opening."""

    stage: str
    started: Instant
    begin: float
    end: float | None
    """None where it never ended."""
    error: str = ""


class Problem(Model):
    """An error that the drill met."""

    stage: str
    verdict: Verdict
    message: str
    hint: str = ""


class Mark(Model):
    """A moment on the timeline."""

    name: str
    at: Instant
    elapsed: float


LINES_KEPT = 200
"""How many compared lines a record holds; the CSV beside it holds all."""
