"""The journal folded into a record: the same entries give the same record, here and in two years."""

from __future__ import annotations

from collections.abc import Iterable

from drills import events
from drills.errors import JournalError
from drills.events import Entry
from drills.gathered import Gathered
from drills.journal import Reading
from drills.judgement import clocks_of, objectives_of, outcome_of, verdict_of
from drills.record import Record
from drills.records import Outcome, Resource, Verdict


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
    gathered = Gathered()
    for entry in reading.entries:
        gathered.take(entry)
    clocks = clocks_of(opened.plan, gathered)
    objectives = tuple(objectives_of(opened.plan, gathered, clocks))
    outcome = outcome_of(gathered)
    left = outstanding(reading.entries)
    verdict, reasons = verdict_of(opened.plan, gathered, objectives, outcome, left)
    closed = gathered.closed
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
        findings=gathered.findings,
        source=gathered.source,
        snapshot=gathered.snapshot,
        expectations=gathered.expectations,
        backup=gathered.backup,
        recovered=gathered.recovered,
        quarantine=gathered.quarantine,
        alignment=gathered.alignment,
        copy_of_it=gathered.copied,
        checks={name: tuple(results) for name, results in gathered.checks.items()},
        outages=tuple(gathered.outages),
        clocks=clocks,
        objectives=objectives,
        timeline=tuple(gathered.spans),
        marks=tuple(sorted(gathered.marks.values(), key=lambda mark: mark.elapsed)),
        problems=tuple(gathered.problems),
        made=tuple(gathered.made),
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
