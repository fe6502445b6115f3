"""The journal folded: nothing that is missing reads as PASS."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fix_record import SAMPLES, Told, passed, tell
from fix_results import UNKNOWN, check

from drills import events
from drills.errors import JournalError
from drills.events import Entry, Event
from drills.fold import fold, outstanding, verdict_if_closed
from drills.gathered import Gathered
from drills.journal import Reading, read_journal
from drills.judgement import _skipped
from drills.planned import AFTER_RESTORE, BY_PROGRAMS, planned_checks
from drills.record import Record
from drills.records import Outcome, Resource, Verdict
from drills.results import Line


def entries_of(told: Told, tmp_path: Path) -> tuple[Entry, ...]:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(told.journal)
    return read_journal(path).entries


def refold(entries: tuple[Entry, ...], change: Callable[[Event], Event | None]) -> Record:
    """The record of the same entries, each changed, or left out where `change` gives None."""
    kept = []
    for entry in entries:
        body = change(entry.body)
        if body is not None:
            kept.append((entry.elapsed, body))
    return tell(kept).record


def without(kind: type[Event], which: Callable[[Event], bool] = lambda _body: True) -> Callable[[Event], Event | None]:
    return lambda body: None if isinstance(body, kind) and which(body) else body


def named(body: Event, name: str) -> bool:
    return isinstance(body, events.Checked) and body.result.name == name


def test_a_negative_control_that_the_plan_wants_and_nobody_ran_is_unknown(tmp_path: Path) -> None:
    def wanting(body: Event) -> Event:
        wish = {"negative_control": {"enabled": True}}
        return body.model_copy(update={"plan": {**body.plan, **wish}}) if isinstance(body, events.Opened) else body

    told = [(entry.elapsed, wanting(entry.body)) for entry in entries_of(passed(), tmp_path)]
    record = tell(told).record
    assert (record.verdict, record.reasons) == (Verdict.UNKNOWN, ("UNKNOWN: not reached: the negative control",))
    missed = Line(key="one cent · content", expected="caught", actual="not caught", difference="1", verdict=UNKNOWN)
    control = check("negative control", 20.0, [missed], reason="11 of 12 damages were caught")
    answered = tell([*told[:-1], (told[-1][0], events.Checked(round="negative control", result=control)), told[-1]])
    assert answered.record.reasons == ("UNKNOWN: negative control: 11 of 12 damages were caught",)


def test_the_sound_sample_passes_without_a_reason() -> None:
    record = passed().record
    assert (record.verdict, record.outcome, record.reasons) == (Verdict.PASS, Outcome.FINISHED, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(events.RoundEnded), "the end of the checks after restore"),
        (without(events.Checked), "the check row counts, after restore"),
        (without(events.Checked, lambda body: named(body, "books balance")), "the check books balance, after restore"),
        (without(events.OutageEnded), "the outage server killed"),
        (without(events.Destroyed), "left behind"),
        (without(events.Closed), "not closed"),
        (without(events.LossDeclared), "measuring RTO"),
        (without(events.SnapshotTaken), "measuring RPO"),
    ],
)
def test_what_is_missing_makes_a_sound_drill_unknown(
    tmp_path: Path, change: Callable[[Event], Event | None], reason: str
) -> None:
    record = refold(entries_of(passed(), tmp_path), change)
    assert record.verdict is Verdict.UNKNOWN
    assert any(reason in said for said in record.reasons), record.reasons


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_one_check_that_does_not_pass_decides(tmp_path: Path, verdict: Verdict) -> None:
    def spoil(body: Event) -> Event:
        if isinstance(body, events.Checked) and body.result.name == "row counts":
            return body.model_copy(update={"result": body.result.model_copy(update={"verdict": verdict})})
        return body

    assert refold(entries_of(passed(), tmp_path), spoil).verdict is verdict


def test_an_outage_that_lost_commits_decides(tmp_path: Path) -> None:
    def spoil(body: Event) -> Event:
        if isinstance(body, events.OutageEnded):
            update = {"verdict": Verdict.FAIL, "lost": 2, "rpo_seconds": 0.5}
            return body.model_copy(update={"result": body.result.model_copy(update=update)})
        return body

    record = refold(entries_of(passed(), tmp_path), spoil)
    assert record.verdict is Verdict.FAIL
    assert any(
        objective.verdict is Verdict.FAIL and objective.name.startswith("RPO of") for objective in record.objectives
    )


def test_a_check_that_failed_outranks_an_interruption(tmp_path: Path) -> None:
    def spoil(body: Event) -> Event | None:
        if isinstance(body, events.RoundEnded):
            return events.Interrupted(reason="swept")
        if isinstance(body, events.Checked):
            return body.model_copy(update={"result": body.result.model_copy(update={"verdict": Verdict.FAIL})})
        return body

    record = refold(entries_of(passed(), tmp_path), spoil)
    assert (record.verdict, record.outcome) == (Verdict.FAIL, Outcome.INTERRUPTED)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_the_verdict_before_the_closing_is_the_verdict_after_it(name: str, tmp_path: Path) -> None:
    entries = entries_of(SAMPLES[name](), tmp_path)
    closing = next(index for index, entry in enumerate(entries) if isinstance(entry.body, events.Closed))
    record = fold(Reading(entries, "0" * 64, len(entries)))
    before = Reading(entries[:closing], entries[closing].prev, closing)
    assert verdict_if_closed(before) == (record.verdict, record.outcome)


def test_what_is_said_after_the_closing_is_not_part_of_the_record(tmp_path: Path) -> None:
    told = passed()
    entries = entries_of(told, tmp_path)
    later = [(entry.elapsed, entry.body) for entry in entries]
    later.append((None, events.Published(bundle="/evidence", sums_sha256="0" * 64)))
    assert tell(later).record == told.record


def test_a_journal_that_does_not_open_a_drill_is_refused(tmp_path: Path) -> None:
    entries = entries_of(passed(), tmp_path)[1:]
    with pytest.raises(JournalError, match="expected the opening"):
        fold(Reading(entries, "0" * 64, len(entries)))


@pytest.mark.parametrize(
    ("to", "reaches", "age"),
    [
        ({"latest": True}, timedelta(seconds=5), 2.31),
        ({"time": "2026-11-21T22:09:00Z"}, timedelta(hours=-1), 3607.31),
        ({"lsn": "0/5000060"}, None, None),
        (None, None, 7207.31),
    ],
)
def test_what_a_recovery_loses_counts_from_where_it_goes_and_not_from_its_backup(
    tmp_path: Path, to: dict[str, object] | None, reaches: timedelta | None, age: float | None
) -> None:
    """The backup is two hours old, and the WAL behind it younger."""
    entries = entries_of(passed(), tmp_path)
    begun = entries[0].at

    def physical(body: Event) -> Event | None:
        if isinstance(body, events.SnapshotTaken):
            return None
        if isinstance(body, events.Opened):
            return body.model_copy(update={"plan": {**body.plan, "recovery": {"method": "barman", "to": to}}})
        if isinstance(body, events.BackedUp):
            backup = body.backup.model_copy(update={"taken": begun - timedelta(hours=2)})
            return events.BackedUp(backup=backup, reaches=None if reaches is None else begun + reaches)
        return body

    (rpo,) = (one for one in refold(entries, physical).objectives if one.name == "RPO")
    assert rpo.measured_seconds == age
    assert (rpo.verdict is Verdict.UNKNOWN) == (age is None)


@pytest.mark.parametrize(
    ("ahead", "age", "verdict"),
    [(timedelta(seconds=60), 0.0, Verdict.PASS), (timedelta(hours=1), -3592.69, Verdict.UNKNOWN)],
)
def test_a_backup_from_the_future_never_meets_an_objective(
    tmp_path: Path, ahead: timedelta, age: float, verdict: Verdict
) -> None:
    """Unless it is by no more than clocks differ."""
    entries = entries_of(passed(), tmp_path)

    def dated(body: Event) -> Event | None:
        if isinstance(body, events.SnapshotTaken):
            return None
        if isinstance(body, events.BackedUp):
            return events.BackedUp(backup=body.backup.model_copy(update={"taken": entries[0].at + ahead}))
        return body

    record = refold(entries, dated)
    (rpo,) = (one for one in record.objectives if one.name == "RPO")
    assert (rpo.measured_seconds, rpo.verdict) == (age, verdict)
    assert ("a clock is wrong" in rpo.meaning) == (verdict is Verdict.UNKNOWN)
    assert [reason for reason in record.reasons if "a clock is wrong" not in reason] == []
    assert record.verdict is verdict


def at_aws(entries: tuple[Entry, ...], read: float | None, unread: tuple[str, ...] = ()) -> Record:
    """The sound sample as a copy that AWS runs, read in full so many seconds after the drill began."""
    named = {"method": "rds", "full_read": True}
    told: list[tuple[float | None, Event]] = []
    for entry in entries:
        body = entry.body
        if isinstance(body, events.Opened):
            body = body.model_copy(update={"plan": {**body.plan, "recovery": named}})
        told.append((entry.elapsed, body))
        if isinstance(body, events.RoundEnded) and body.round == AFTER_RESTORE and read is not None:
            told.append((read, events.FullyRead(seconds=1.0, tables=3, bytes=1, unread=unread)))
    return tell(told).record


@pytest.mark.parametrize(
    ("read", "unread", "measured", "verdict"),
    [
        (20.0, (), 12.69, Verdict.PASS),
        (40.0, (), 32.69, Verdict.FAIL),
        (None, (), 11.79, Verdict.UNKNOWN),
        (20.0, ("note",), 11.79, Verdict.UNKNOWN),
    ],
)
def test_at_aws_the_time_to_recover_goes_on_until_every_table_was_read(
    tmp_path: Path, read: float | None, unread: tuple[str, ...], measured: float, verdict: Verdict
) -> None:
    entries = entries_of(passed(), tmp_path)
    (before,) = (one for one in passed().record.objectives if one.name == "RTO")
    assert (before.verdict, before.measured_seconds) == (Verdict.PASS, 11.79)
    (rto,) = (one for one in at_aws(entries, read, unread).objectives if one.name == "RTO")
    assert (rto.verdict, rto.measured_seconds) == (verdict, measured)
    assert rto.at_least == (verdict is Verdict.UNKNOWN)
    assert ("every table" in rto.meaning, "every table" in before.meaning) == (True, False)


def test_a_full_read_is_no_recovery_where_the_checks_have_not_passed(tmp_path: Path) -> None:
    def spoil(body: Event) -> Event:
        return body.model_copy(update={"verdict": Verdict.FAIL}) if isinstance(body, events.RoundEnded) else body

    told = [(entry.elapsed, spoil(entry.body)) for entry in entries_of(passed(), tmp_path)]
    (rto,) = (one for one in at_aws(entries_of(tell(told), tmp_path), 20.0).objectives if one.name == "RTO")
    assert (rto.verdict, rto.measured_seconds, rto.at_least) == (Verdict.UNKNOWN, None, False)


def test_outstanding_is_what_was_intended_and_not_destroyed_newest_first(tmp_path: Path) -> None:
    first, second = Resource(kind="directory", name="/a"), Resource(kind="cluster", name="/b")
    opening = entries_of(passed(), tmp_path)[0].body
    told = tell(
        [
            (0.0, opening),
            (0.1, events.Intended(resource=first)),
            (0.2, events.Intended(resource=second)),
            (0.3, events.Intended(resource=first)),
        ]
    )
    entries = entries_of(told, tmp_path)
    assert outstanding(entries) == (second, first)
    gone = tell([*((entry.elapsed, entry.body) for entry in entries), (0.4, events.Destroyed(resource=second))])
    assert outstanding(entries_of(gone, tmp_path)) == (first,)


def test_every_round_answers_the_checks_that_the_plan_asks_for_and_the_copy_can_be_asked() -> None:
    asked = {"row_counts": False, "tables": False, "amcheck": True, "checksums": True, "smoke": [{"name": "search"}]}
    assert planned_checks({"checks": asked, "recovery": {"method": "dump"}}) == ["amcheck", "search"]
    physical = {"checks": asked, "recovery": {"method": "basebackup"}}
    assert planned_checks(physical) == ["amcheck", "page checksums", "search"]
    assert planned_checks({"checks": {**asked, "amcheck": False, "checksums": False}}) == ["search"]


def test_programs_are_asked_in_the_last_round_and_in_no_other() -> None:
    smoke = [{"kind": kind, "name": kind} for kind in ("command", "sql", "http")]
    plan: dict[str, object] = {"checks": {"row_counts": False, "tables": False, "smoke": smoke}, "outages": []}
    assert planned_checks(plan) == ["sql"]
    gathered = Gathered(rounds={AFTER_RESTORE, BY_PROGRAMS})
    gathered.checks = {AFTER_RESTORE: [check("sql", 1.0, []), check("command", 1.0, []), check("http", 1.0, [])]}
    assert _skipped(plan, gathered) == ["the check command, by programs", "the check http, by programs"]
    gathered.checks = {
        AFTER_RESTORE: [check("sql", 1.0, [])],
        BY_PROGRAMS: [check("command", 1.0, []), check("http", 1.0, [])],
    }
    assert _skipped(plan, gathered) == []
    gathered.rounds.remove(BY_PROGRAMS)
    assert _skipped(plan, gathered) == ["the end of the checks by programs"]
    gathered.checks.pop(BY_PROGRAMS)
    assert _skipped(plan, gathered) == ["the checks by programs"]


def test_a_journal_from_before_a_check_was_there_does_not_lack_it() -> None:
    assert planned_checks({"checks": {}, "recovery": {"method": "basebackup"}}) == ["row counts", "tables"]
