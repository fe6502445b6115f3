"""The record of a drill: the journal folded into one model, which everything in a report comes from."""

from __future__ import annotations

from typing import Any

from drills.commits import Alignment
from drills.records import (
    Backup,
    Copy,
    FileRef,
    Finding,
    Instant,
    Model,
    Outcome,
    Person,
    Provenance,
    Resource,
    Server,
    Snapshot,
    Software,
    Verdict,
)
from drills.results import CheckResult, Clock, Mark, Objective, OutageResult, Problem, Span
from drills.targets import Quarantine, Recovered


class Record(Model):
    """The journal folded into one model. Everything in a report comes from it."""

    drill: str
    verdict: Verdict
    reasons: tuple[str, ...]
    outcome: Outcome
    opened: Instant
    closed: Instant | None
    seconds: float | None
    plan: dict[str, Any]
    evidence: str
    """The evidence folder, as an absolute path."""
    provenance: Provenance
    requester: str
    runner: Person
    software: Software
    findings: tuple[Finding, ...]
    source: Server | None
    snapshot: Snapshot | None
    expectations: FileRef | None
    backup: Backup | None
    recovered: Recovered | None = None
    """Where a physical copy stopped."""
    quarantine: Quarantine | None = None
    """What it answered before anything else was asked of it."""
    alignment: Alignment | None = None
    """How it was proved to hold just what the snapshot sees."""
    copy_of_it: Copy | None
    checks: dict[str, tuple[CheckResult, ...]]
    """By round: `after restore`, then `after <outage>`."""
    outages: tuple[OutageResult, ...]
    clocks: tuple[Clock, ...]
    objectives: tuple[Objective, ...]
    timeline: tuple[Span, ...]
    marks: tuple[Mark, ...]
    problems: tuple[Problem, ...]
    made: tuple[Resource, ...]
    left: tuple[Resource, ...]
    """What was made and not destroyed when the record was folded."""
    entries: int
    """Lines of the journal folded."""
    head: str
    """SHA-256 of the last line folded."""
