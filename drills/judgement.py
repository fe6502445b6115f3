"""Every judgement over a whole drill: clocks, objectives, outcome, verdict, and the reasons for it.

Refuses to see a PASS where anything is missing: a drill passes when it finished, every check and outage and objective
of its plan was answered PASS, and nothing that it made is left.
"""

from __future__ import annotations

from collections.abc import Iterable

from drills.gathered import Gathered
from drills.measures import NEGATIVE_CONTROL
from drills.planned import (
    AFTER_RESTORE,
    BY_PROGRAMS,
    after_outage,
    planned_checks,
    planned_full_read,
    planned_outages,
    planned_programs,
    planned_proofs,
)
from drills.records import CLOCKS_APART, Outcome, Resource, Verdict
from drills.results import Clock, Objective
from drills.units import parse_duration

_WRONG_CLOCK = "a clock is wrong"


def clocks_of(plan: dict[str, object], gathered: Gathered) -> tuple[Clock, ...]:
    """The recovery clocks, all from the declared loss."""
    declared = gathered.marks.get("loss declared")
    if declared is None:
        return ()
    restore = next((span for span in gathered.spans if span.stage == "restore"), None)
    passed = gathered.marks.get(f"checks passed {AFTER_RESTORE}")
    told = [
        ("declared", "production counts as lost from here on", declared.elapsed),
        ("restore begun", "the restore stage began", restore.begin if restore else None),
        (
            "restored",
            "every object was loaded, and the server restarted as production runs",
            _elapsed(gathered, "restored"),
        ),
        (
            "accepting connections",
            "the restored copy answered its first query",
            _elapsed(gathered, "accepting connections"),
        ),
        ("checks passed", "every check of the first round had passed", passed.elapsed if passed else None),
    ]
    if planned_full_read(plan):
        told.append(("fully read", "every table of the copy had been read once", _elapsed(gathered, "fully read")))
    return tuple(
        Clock(name=name, meaning=meaning, seconds=None if at is None else round(at - declared.elapsed, 6))
        for name, meaning, at in told
    )


def _elapsed(gathered: Gathered, mark: str) -> float | None:
    found = gathered.marks.get(mark)
    return found.elapsed if found else None


def objectives_of(plan: dict[str, object], gathered: Gathered, clocks: tuple[Clock, ...]) -> Iterable[Objective]:
    """Every target of the plan beside what was measured; what was not is None."""
    targets = plan.get("objectives")
    targets = targets if isinstance(targets, dict) else {}
    if targets.get("rto") is not None:
        yield _rto(targets["rto"], plan, clocks)
    if targets.get("rpo") is not None:
        age, at_least = _age(plan, gathered)
        yield _rpo(targets["rpo"], age, at_least=at_least)
    measured = {outage.name: outage for outage in gathered.outages}
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
        meaning = "age at the fault of the oldest acknowledged commit that was lost"
        objective = _objective(f"RPO of {planned['name']}", planned["rpo"], lost, meaning)
        # A commit that was lost after the recovery has no age at the fault, and is lost all the same.
        failed = outage is not None and outage.lost > 0 and outage.verdict is Verdict.FAIL
        yield objective.model_copy(update={"verdict": Verdict.FAIL}) if failed else objective


def _rto(target: object, plan: dict[str, object], clocks: tuple[Clock, ...]) -> Objective:
    """Until the checks have passed, and where a full read is planned until it is over: then all of the copy is there.

    A copy whose checks passed and which was never read in full took longer than they.
    """
    at = {clock.name: clock.seconds for clock in clocks}
    passed, read = at.get("checks passed"), at.get("fully read")
    meaning = "from the declared loss to a restored copy whose checks have passed"
    if not planned_full_read(plan):
        return _objective("RTO", target, passed, meaning)
    reached = None if passed is None else max(passed, read or 0.0)
    meaning += " and of which every table has been read once"
    return _objective("RTO", target, reached, meaning, at_least=passed is not None and read is None)


def _rpo(target: object, age: float | None, *, at_least: bool) -> Objective:
    """A backup that is dated after the loss has no age to hold against a target, unless clocks may differ so much."""
    meaning = "age of what the backup holds at the declared loss: what was written since would be gone"
    if age is None or age >= -CLOCKS_APART:
        return _objective("RPO", target, age if age is None else max(age, 0.0), meaning, at_least=at_least)
    found = _objective("RPO", target, age, f"{meaning}; {_WRONG_CLOCK}: the backup is dated after the loss")
    return found.model_copy(update={"verdict": Verdict.UNKNOWN})


def _age(plan: dict[str, object], gathered: Gathered) -> tuple[float | None, bool]:
    """Seconds from the snapshot that the copy stands at to the declared loss; else from when the backup was taken.

    Only a copy that stands at the drill's own snapshot has one in the journal. One that was recovered to a point of the
    plan's is as of then, if that is known. The age of another is by the clock of whoever took it; the second
    is whether it may be older than that.
    """
    taken, declared = gathered.marks.get("snapshot taken"), gathered.marks.get("loss declared")
    if declared is None:
        return None, False
    if taken is not None:
        return round(declared.elapsed - taken.elapsed, 6), False
    recovery = plan.get("recovery")
    pointed = isinstance(recovery, dict) and bool(recovery.get("to"))
    backup = gathered.backup
    since = gathered.reaches if pointed else backup.taken if backup else None
    if since is None:
        return None, False
    return round((declared.at - since).total_seconds(), 6), not pointed and backup is not None and backup.perhaps_older


def _objective(name: str, target: object, measured: float | None, meaning: str, *, at_least: bool = False) -> Objective:
    seconds = parse_duration(target).total_seconds()
    if measured is not None and measured > seconds:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.UNKNOWN if measured is None or at_least else Verdict.PASS
    return Objective(
        name=name,
        target_seconds=seconds,
        measured_seconds=measured,
        verdict=verdict,
        meaning=meaning,
        at_least=at_least,
    )


def outcome_of(gathered: Gathered) -> Outcome:
    """How the drill itself ended, whatever it found."""
    if gathered.refused:
        return Outcome.REFUSED
    if gathered.interrupted:
        return Outcome.INTERRUPTED
    if gathered.closed is None:
        return Outcome.RUNNING
    return Outcome.BROKEN_OFF if gathered.problems else Outcome.FINISHED


def verdict_of(
    plan: dict[str, object],
    gathered: Gathered,
    objectives: tuple[Objective, ...],
    outcome: Outcome,
    left: tuple[Resource, ...],
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and a sentence for everything that keeps it from PASS."""
    if outcome is Outcome.REFUSED:
        return Verdict.UNKNOWN, (f"UNKNOWN: refused before it began: {gathered.refused}",)
    found: list[tuple[Verdict, str]] = [
        (problem.verdict, f"{problem.stage}: {problem.message}") for problem in gathered.problems
    ]
    if outcome is Outcome.INTERRUPTED:
        found.append((Verdict.UNKNOWN, f"interrupted: {gathered.interrupted}"))
    for name, results in gathered.checks.items():
        found += [(result.verdict, f"{_in_round(result.name, name)}: {result.reason}") for result in results]
    found += [(outage.verdict, f"{outage.name}: {outage.reason}") for outage in gathered.outages]
    found += [
        (objective.verdict, f"{objective.name}: {_against(objective)}")
        for objective in objectives
        if objective.measured_seconds is not None
    ]
    # What the plan wanted and the journal does not hold was skipped; skipped is UNKNOWN.
    skipped = _skipped(plan, gathered)
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


def _skipped(plan: dict[str, object], gathered: Gathered) -> list[str]:
    """Rounds, checks and outages of the plan that the journal does not hold."""
    outages = [str(outage["name"]) for outage in planned_outages(plan)]
    done = {outage.name for outage in gathered.outages}
    skipped = [f"the outage {name}" for name in outages if name not in done]
    for name in (AFTER_RESTORE, *(after_outage(outage) for outage in outages)):
        skipped += _missing(name, planned_checks(plan), gathered)
    proved = {result.name for result in gathered.checks.get(AFTER_RESTORE, [])}
    skipped += [f"the check {name}, {AFTER_RESTORE}" for name in planned_proofs(plan) if name not in proved]
    skipped += _missing(BY_PROGRAMS, planned_programs(plan), gathered) if planned_programs(plan) else []
    # A journal from before there was one has no such key, and nobody asked.
    control = plan.get(NEGATIVE_CONTROL.replace(" ", "_"))
    proven = any(result.name == NEGATIVE_CONTROL for result in gathered.checks.get(NEGATIVE_CONTROL, []))
    if isinstance(control, dict) and control.get("enabled") and not proven:
        skipped.append(f"the {NEGATIVE_CONTROL}")
    return skipped


def _missing(name: str, planned: list[str], gathered: Gathered) -> list[str]:
    """What a round did not answer."""
    answered = {result.name for result in gathered.checks.get(name, [])}
    missing = [check for check in planned if check not in answered]
    if name not in gathered.rounds and len(missing) == len(planned):
        return [f"the checks {name}"]
    unended = [f"the end of the checks {name}"] if name not in gathered.rounds else []
    return [*(f"the check {check}, {name}" for check in missing), *unended]


def _against(objective: Objective) -> str:
    if objective.measured_seconds is None:
        return "not measured"
    least, wrong = "at least " if objective.at_least else "", objective.measured_seconds < 0
    said = f"{least}{objective.measured_seconds:.3f} s measured against a target of {objective.target_seconds:g} s"
    return f"{said}: {_WRONG_CLOCK}" if wrong else said
