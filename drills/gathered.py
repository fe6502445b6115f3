"""What the entries of a journal amount to: facts gathered one by one, and no judgement over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from drills import events
from drills.commits import Alignment
from drills.events import Entry
from drills.records import Backup, Copy, FileRef, Finding, Resource, Server, Snapshot, Verdict
from drills.results import CheckResult, Mark, OutageResult, Problem, Span
from drills.targets import Quarantine, Recovered


@dataclass
class Gathered:
    """What the entries read so far amount to."""

    marks: dict[str, Mark] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    source: Server | None = None
    snapshot: Snapshot | None = None
    expectations: FileRef | None = None
    backup: Backup | None = None
    reaches: datetime | None = None
    recovered: Recovered | None = None
    quarantine: Quarantine | None = None
    alignment: Alignment | None = None
    copied: Copy | None = None
    checks: dict[str, list[CheckResult]] = field(default_factory=dict)
    rounds: set[str] = field(default_factory=set)
    outages: list[OutageResult] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    made: list[Resource] = field(default_factory=list)
    gone: list[Resource] = field(default_factory=list)
    refused: str = ""
    interrupted: str = ""
    closed: Entry | None = None

    def take(self, entry: Entry) -> None:  # noqa: C901, PLR0912 - one flat case for each kind of entry
        """One more entry."""
        match entry.body:
            case events.StageBegan(stage=stage):
                self.spans.append(Span(stage=stage, started=entry.at, begin=entry.elapsed or 0.0, end=None))
            case events.StageEnded(stage=stage, error=error):
                self._end_span(stage, entry, error)
            case events.Guarded(findings=findings, source=source):
                self.findings, self.source = findings, source
            case events.Refused(message=message, hint=hint):
                self.refused = message
                self.problems.append(Problem(stage="guard", verdict=Verdict.UNKNOWN, message=message, hint=hint))
            case events.Intended(resource=resource):
                self.made.append(resource)
            case events.Destroyed(resource=resource):
                self.gone.append(resource)
            case events.SnapshotTaken(snapshot=snapshot, ago=ago):
                self.snapshot = snapshot
                self._mark("snapshot taken", entry, ago)
            case events.Expected(file=file):
                self.expectations = file
            case events.BackedUp(backup=backup, reaches=reaches):
                self.backup, self.reaches = backup, reaches
            case events.LossDeclared():
                self._mark("loss declared", entry)
            case events.Accepting():
                self._mark("accepting connections", entry)
            case events.Replayed() | events.Quarantined() | events.AlignmentProved():
                self._take_physical(entry.body)
            case events.Restored(copy_of_it=copied):
                self.copied = copied
                self._mark("restored", entry)
            case events.Checked(round=name, result=result):
                self.checks.setdefault(name, []).append(result)
            case events.FullyRead(unread=(), tables=tables) if tables:
                self._mark("fully read", entry)
            case events.RoundEnded(round=name, verdict=verdict):
                self.rounds.add(name)
                # What was found out before the round, such as whether the copy is aligned, belongs to the first one.
                if verdict is Verdict.PASS and all(one.verdict is verdict for one in self.checks.get(name, [])):
                    self._mark(f"checks passed {name}", entry)
            case events.OutageEnded(result=result):
                self.outages.append(result)
            case events.Failed(problem=problem):
                self.problems.append(problem)
            case events.Interrupted(reason=reason):
                self.interrupted = reason
            case events.Closed():
                self.closed = entry
            case _:
                pass

    def _mark(self, name: str, entry: Entry, ago: float = 0.0) -> None:
        if entry.elapsed is not None:
            at, elapsed = entry.at - timedelta(seconds=ago), round(entry.elapsed - ago, 6)
            self.marks[name] = Mark(name=name, at=at, elapsed=elapsed)

    def _take_physical(self, said: events.Replayed | events.Quarantined | events.AlignmentProved) -> None:
        """What a copy of production's own pages has said of itself."""
        match said:
            case events.Replayed(recovered=recovered):
                self.recovered = recovered
            case events.Quarantined(quarantine=quarantine):
                self.quarantine = quarantine
            case events.AlignmentProved(alignment=alignment):
                self.alignment = alignment

    def _end_span(self, stage: str, entry: Entry, error: str) -> None:
        for index in range(len(self.spans) - 1, -1, -1):
            if self.spans[index].stage == stage and self.spans[index].end is None:
                self.spans[index] = self.spans[index].model_copy(update={"end": entry.elapsed, "error": error})
                return
