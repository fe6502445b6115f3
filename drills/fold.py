"""The journal folded into a record: the same entries give the same record, here and in two years.

Owns every judgement over a whole drill: clocks, objectives, verdict, and the reasons for it. Refuses to see a PASS
where anything is missing: a drill passes when it finished, every check and outage and objective of its plan was
answered PASS, and nothing that it made is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from drills import events
from drills.commits import Alignment
from drills.errors import JournalError
from drills.events import Entry
from drills.journal import Reading
from drills.measures import NEGATIVE_CONTROL
from drills.planned import (
    BY_PROGRAMS,
    planned_checks,
    planned_full_read,
    planned_outages,
    planned_programs,
    planned_proofs,
)
from drills.record import Record
from drills.records import (
    Backup,
    CheckResult,
    Clock,
    Copy,
    FileRef,
    Finding,
    Mark,
    Objective,
    OutageResult,
    Outcome,
    Problem,
    Resource,
    Server,
    Snapshot,
    Span,
    Verdict,
)
from drills.targets import Quarantine, Recovered
from drills.units import parse_duration

AFTER_RESTORE = "after restore"
"""The name of the first round of checks."""


def after_outage(name: str) -> str:
    """The name of the round of checks that follows this outage."""
    return f"after {name}"


@dataclass
class _Folding:
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
            case events.SnapshotTaken(snapshot=snapshot):
                self.snapshot = snapshot
                self._mark("snapshot taken", entry)
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

    def _mark(self, name: str, entry: Entry) -> None:
        if entry.elapsed is not None:
            self.marks[name] = Mark(name=name, at=entry.at, elapsed=entry.elapsed)

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


def fold(reading: Reading) -> Record:
    """The record of a drill, up to where its journal goes.

    Raises:
        JournalError: the journal does not begin with the opening of a drill.
    """
    first = reading.entries[0]
    opened = first.body
    if not isinstance(opened, events.Opened):
        raise JournalError(f"expected the opening of a drill in the first entry, got {opened.event!r}")
    reading = _to_its_closing(reading)
    folding = _Folding()
    for entry in reading.entries:
        folding.take(entry)
    clocks = _clocks(opened.plan, folding)
    objectives = tuple(_objectives(opened.plan, folding, clocks))
    outcome = _outcome(folding)
    left = outstanding(reading.entries)
    verdict, reasons = _verdict(opened.plan, folding, objectives, outcome, left)
    closed = folding.closed
    return Record(
        drill=opened.drill,
        verdict=verdict,
        reasons=reasons,
        outcome=outcome,
        opened=first.at,
        closed=closed.at if closed else None,
        seconds=closed.elapsed if closed else None,
        plan=opened.plan,
        evidence=opened.evidence,
        provenance=opened.provenance,
        requester=opened.requester,
        runner=opened.runner,
        software=opened.software,
        findings=folding.findings,
        source=folding.source,
        snapshot=folding.snapshot,
        expectations=folding.expectations,
        backup=folding.backup,
        recovered=folding.recovered,
        quarantine=folding.quarantine,
        alignment=folding.alignment,
        copy_of_it=folding.copied,
        checks={name: tuple(results) for name, results in folding.checks.items()},
        outages=tuple(folding.outages),
        clocks=clocks,
        objectives=objectives,
        timeline=tuple(folding.spans),
        marks=tuple(sorted(folding.marks.values(), key=lambda mark: mark.elapsed)),
        problems=tuple(folding.problems),
        made=tuple(folding.made),
        left=left,
        entries=reading.lines,
        head=reading.head,
    )


def _to_its_closing(reading: Reading) -> Reading:
    """What is said after the closing, such as where the bundle went, is not part of the record."""
    for index, entry in enumerate(reading.entries[:-1]):
        if isinstance(entry.body, events.Closed):
            return Reading(reading.entries[: index + 1], reading.entries[index + 1].prev, entry.seq)
    return reading


def verdict_if_closed(reading: Reading) -> tuple[Verdict, Outcome]:
    """What the fold would say if the drill were closed now: for the entry that closes it."""
    last = reading.entries[-1]
    closing = Entry(
        seq=last.seq + 1,
        at=last.at,
        elapsed=last.elapsed,
        prev=reading.head,
        body=events.Closed(verdict=Verdict.UNKNOWN, outcome=Outcome.FINISHED),
    )
    record = fold(Reading((*reading.entries, closing), reading.head, reading.lines))
    return record.verdict, record.outcome


def outstanding(entries: Iterable[Entry]) -> tuple[Resource, ...]:
    """What was intended and not yet destroyed, newest first: the order in which to destroy it."""
    left: list[Resource] = []
    for entry in entries:
        match entry.body:
            case events.Intended(resource=resource) if resource not in left:
                left.append(resource)
            case events.Destroyed(resource=resource) if resource in left:
                left.remove(resource)
            case _:
                pass
    return tuple(reversed(left))


def _clocks(plan: dict[str, object], folding: _Folding) -> tuple[Clock, ...]:
    """The recovery clocks, all from the declared loss."""
    declared = folding.marks.get("loss declared")
    if declared is None:
        return ()
    restore = next((span for span in folding.spans if span.stage == "restore"), None)
    passed = folding.marks.get(f"checks passed {AFTER_RESTORE}")
    told = [
        ("declared", "production counts as lost from here on", declared.elapsed),
        ("restore begun", "the restore stage began", restore.begin if restore else None),
        (
            "restored",
            "every object was loaded, and the server restarted as production runs",
            _elapsed(folding, "restored"),
        ),
        (
            "accepting connections",
            "the restored copy answered its first query",
            _elapsed(folding, "accepting connections"),
        ),
        ("checks passed", "every check of the first round had passed", passed.elapsed if passed else None),
    ]
    if planned_full_read(plan):
        told.append(("fully read", "every table of the copy had been read once", _elapsed(folding, "fully read")))
    return tuple(
        Clock(name=name, meaning=meaning, seconds=None if at is None else round(at - declared.elapsed, 6))
        for name, meaning, at in told
    )


def _elapsed(folding: _Folding, mark: str) -> float | None:
    found = folding.marks.get(mark)
    return found.elapsed if found else None


def _objectives(plan: dict[str, object], folding: _Folding, clocks: tuple[Clock, ...]) -> Iterable[Objective]:
    targets = plan.get("objectives")
    targets = targets if isinstance(targets, dict) else {}
    recovered = next((clock.seconds for clock in clocks if clock.name == "checks passed"), None)
    if targets.get("rto") is not None:
        yield _objective(
            "RTO", targets["rto"], recovered, "from the declared loss to a restored copy whose checks have passed"
        )
    if targets.get("rpo") is not None:
        meaning = "age of what the backup holds at the declared loss: what was written since would be gone"
        yield _objective("RPO", targets["rpo"], _age(plan, folding), meaning)
    measured = {outage.name: outage for outage in folding.outages}
    for planned in planned_outages(plan):
        outage = measured.get(planned["name"])
        back = (
            None
            if outage is None
            else next((clock.seconds for clock in outage.clocks if clock.name == "first commit"), None)
        )
        if planned.get("rto") is not None:
            yield _objective(
                f"RTO of {planned['name']}",
                planned["rto"],
                back,
                "from the fault to the first commit acknowledged again",
            )
        lost = None if outage is None else outage.rpo_seconds
        objective = _objective(
            f"RPO of {planned['name']}",
            planned["rpo"],
            lost,
            "age at the fault of the oldest acknowledged commit that was lost",
        )
        # A commit that was lost after the recovery has no age at the fault, and is lost all the same.
        failed = outage is not None and outage.lost > 0 and outage.verdict is Verdict.FAIL
        yield objective.model_copy(update={"verdict": Verdict.FAIL}) if failed else objective


def _age(plan: dict[str, object], folding: _Folding) -> float | None:
    """Seconds from the snapshot that the copy stands at to the declared loss; else from when the backup was taken.

    Only a copy that stands at the drill's own snapshot has one in the journal. One that was recovered to a point of the
    plan's is as of then, if that is known. The age of another is by the clock of whoever took it.
    """
    taken, declared = folding.marks.get("snapshot taken"), folding.marks.get("loss declared")
    if declared is None:
        return None
    if taken is not None:
        return round(declared.elapsed - taken.elapsed, 6)
    recovery = plan.get("recovery")
    pointed = isinstance(recovery, dict) and bool(recovery.get("to"))
    since = folding.reaches if pointed else folding.backup.taken if folding.backup else None
    return None if since is None else round((declared.at - since).total_seconds(), 6)


def _objective(name: str, target: object, measured: float | None, meaning: str) -> Objective:
    seconds = parse_duration(target).total_seconds()
    verdict = Verdict.UNKNOWN if measured is None else Verdict.PASS if measured <= seconds else Verdict.FAIL
    return Objective(name=name, target_seconds=seconds, measured_seconds=measured, verdict=verdict, meaning=meaning)


def _outcome(folding: _Folding) -> Outcome:
    if folding.refused:
        return Outcome.REFUSED
    if folding.interrupted:
        return Outcome.INTERRUPTED
    if folding.closed is None:
        return Outcome.RUNNING
    return Outcome.BROKEN_OFF if folding.problems else Outcome.FINISHED


def _verdict(
    plan: dict[str, object],
    folding: _Folding,
    objectives: tuple[Objective, ...],
    outcome: Outcome,
    left: tuple[Resource, ...],
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and a sentence for everything that keeps it from PASS."""
    if outcome is Outcome.REFUSED:
        return Verdict.UNKNOWN, (f"UNKNOWN: refused before it began: {folding.refused}",)
    found: list[tuple[Verdict, str]] = [
        (problem.verdict, f"{problem.stage}: {problem.message}") for problem in folding.problems
    ]
    if outcome is Outcome.INTERRUPTED:
        found.append((Verdict.UNKNOWN, f"interrupted: {folding.interrupted}"))
    for name, results in folding.checks.items():
        found += [(result.verdict, f"{_in_round(result.name, name)}: {result.reason}") for result in results]
    found += [(outage.verdict, f"{outage.name}: {outage.reason}") for outage in folding.outages]
    found += [
        (objective.verdict, f"{objective.name}: {_against(objective)}")
        for objective in objectives
        if objective.measured_seconds is not None
    ]
    # What the plan wanted and the journal does not hold was skipped; skipped is UNKNOWN.
    skipped = _skipped(plan, folding)
    skipped += [f"measuring {objective.name}" for objective in objectives if objective.measured_seconds is None]
    if skipped:
        found.append((Verdict.UNKNOWN, f"not reached: {'; '.join(skipped)}"))
    if outcome is Outcome.RUNNING:
        found.append((Verdict.UNKNOWN, "not closed: the drill is still running, or was killed and not swept"))
    else:
        found += [(Verdict.UNKNOWN, f"left behind: {resource.kind} {resource.name}") for resource in left]
    verdict = Verdict.UNKNOWN if outcome is Outcome.RUNNING else Verdict.worst(verdict for verdict, _ in found)
    return verdict, _reasons(found)


def _in_round(check: str, name: str) -> str:
    """A check and its round, where the two are not the same."""
    return check if check == name else f"{check}, {name}"


def _reasons(found: list[tuple[Verdict, str]]) -> tuple[str, ...]:
    """What does not pass: FAIL first."""
    ranked = [pair for worse in (Verdict.FAIL, Verdict.UNKNOWN) for pair in found if pair[0] is worse]
    return tuple(dict.fromkeys(f"{verdict}: {reason}" for verdict, reason in ranked))


def _skipped(plan: dict[str, object], folding: _Folding) -> list[str]:
    """Rounds, checks and outages of the plan that the journal does not hold."""
    outages = [str(outage["name"]) for outage in planned_outages(plan)]
    done = {outage.name for outage in folding.outages}
    skipped = [f"the outage {name}" for name in outages if name not in done]
    for name in (AFTER_RESTORE, *(after_outage(outage) for outage in outages)):
        skipped += _missing(name, planned_checks(plan), folding)
    proved = {result.name for result in folding.checks.get(AFTER_RESTORE, [])}
    skipped += [f"the check {name}, {AFTER_RESTORE}" for name in planned_proofs(plan) if name not in proved]
    skipped += _missing(BY_PROGRAMS, planned_programs(plan), folding) if planned_programs(plan) else []
    # A journal from before there was one has no such key, and nobody asked.
    control = plan.get(NEGATIVE_CONTROL.replace(" ", "_"))
    proven = any(result.name == NEGATIVE_CONTROL for result in folding.checks.get(NEGATIVE_CONTROL, []))
    if isinstance(control, dict) and control.get("enabled") and not proven:
        skipped.append(f"the {NEGATIVE_CONTROL}")
    return skipped


def _missing(name: str, planned: list[str], folding: _Folding) -> list[str]:
    """What a round did not answer."""
    answered = {result.name for result in folding.checks.get(name, [])}
    missing = [check for check in planned if check not in answered]
    if name not in folding.rounds and len(missing) == len(planned):
        return [f"the checks {name}"]
    unended = [f"the end of the checks {name}"] if name not in folding.rounds else []
    return [*(f"the check {check}, {name}" for check in missing), *unended]


def _against(objective: Objective) -> str:
    if objective.measured_seconds is None:
        return "not measured"
    return f"{objective.measured_seconds:.3f} s measured against a target of {objective.target_seconds:g} s"
