"""A snapshot of the source whose place in the WAL is known, and the source measured inside it.

Owns how long is waited for the WAL of a snapshot, and how many snapshots are taken. Guarantees that a copy is called
aligned only where its WAL has a point with just the commits of the snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from drills import events, plan
from drills.commits import Aligned, Misaligned, NeedsMore, pass_over_waiting
from drills.errors import CheckError, ConnectError
from drills.measures import Measures
from drills.records import Snapshot
from drills.recovery.pages.alignment import find_target
from drills.recovery.pages.standbys import waiting_for_standbys
from flows.runtime import Drill, given
from flows.stages.expecting import Expecting

_ROUNDS = 5
_AT_ONCE = 4
"""Snapshots of a round; the first that aligns is measured. Few commits become visible in another order than they are in
the WAL, but where WAL comes by way of an archive, each round waits until a segment is full."""
_POLL = 0.1


@dataclass(frozen=True)
class Measured:
    """The source, as it is to be compared with the copy."""

    snapshot: Snapshot
    measures: Measures
    aligned: Aligned | None
    """None where the plan wants another point."""


@dataclass(frozen=True)
class Archive:
    """The WAL behind a backup, as far as it is here."""

    folder: Path
    start: str
    """From where on it has to be whole."""
    stop: str
    """Where the backup is consistent."""
    timeline: int
    go_on: Callable[[str], None]
    """Brings what has come since, as far as a snapshot needs it that was noted here; raises where none will come."""
    enough: Callable[[], None] = lambda: None
    """Nothing more is needed of it."""


@contextmanager
def measured_in_wal(drill: Drill, source: Expecting, archive: Archive, wish: plan.Pages) -> Iterator[Measured]:
    """The source inside a snapshot whose place in the WAL is known, measured before this is left.

    Raises:
        CheckError: no snapshot aligns, or the WAL does not come.
    """
    with _placed(drill, source, archive, wish) as (snapshot, aligned):
        archive.enough()  # production need not keep WAL while it is measured
        with source.sessions.cancelled_on_error():
            measures = source.measure(snapshot, drill.progress.advance)
        yield Measured(snapshot, measures, aligned)


@contextmanager
def _placed(
    drill: Drill, source: Expecting, archive: Archive, wish: plan.Pages
) -> Iterator[tuple[Snapshot, Aligned | None]]:
    """A snapshot that is held, and its place where the plan asks for it; all others were let go."""
    reason, pause = "", 0.0
    for _ in range(_ROUNDS):
        time.sleep(pause)
        waiting = waiting_for_standbys(source.leader)
        with ExitStack() as held:
            taken = list(_take(source, _AT_ONCE if wish.aligned else 1, held))
            for snapshot, session in taken:
                if wish.aligned:  # of several the last one counts
                    drill.say(events.SnapshotTaken(snapshot=snapshot))
                found = _wait_for_target(drill, archive, snapshot, wish)
                if isinstance(found, Aligned):
                    found = pass_over_waiting(found, waiting)
                if isinstance(found, Misaligned) and wish.aligned:
                    reason, pause = found.reason, wish.wal_patience.total_seconds() / _ROUNDS if found.waits else 0.0
                    continue
                for _, other in taken:
                    if other is not session:
                        other.close()
                yield snapshot, found if isinstance(found, Aligned) and wish.aligned else None
                return
    raise CheckError(
        f"none of {_ROUNDS * _AT_ONCE} snapshots has a place of its own in the WAL: {reason}",
        hint="commits become visible in another order than they are written: do they wait for a standby?",
    )


def _take(source: Expecting, number: int, held: ExitStack) -> Iterator[tuple[Snapshot, psycopg.Connection]]:
    """Snapshots side by side, as many as the source lets us have, each held by a session of its own."""
    for count in range(number):
        try:
            yield held.enter_context(source.snapshot())
        except ConnectError:
            if not count:
                raise
            return


def _wait_for_target(drill: Drill, archive: Archive, snapshot: Snapshot, wish: plan.Pages) -> Aligned | Misaligned:
    until = time.monotonic() + wish.wal_patience.total_seconds()
    while True:
        archive.go_on(snapshot.wal_lsn)
        found = find_target(
            given(drill.tools),
            archive.folder,
            start=archive.start,
            timeline=archive.timeline,
            snapshot=snapshot.xmin_xmax,
            noted=snapshot.wal_lsn,
            log=drill.raw / "pg_waldump.log",
            stop=archive.stop,
            place=archive.folder,
        )
        if not isinstance(found, NeedsMore):
            return found
        if time.monotonic() > until:
            raise CheckError(
                f"the WAL of the snapshot did not come within {wish.wal_patience.total_seconds():g} s: {found.reason}",
                hint="raise recovery.wal_patience, or find out why WAL is late: a source that is idle archives nothing"
                " before its archive_timeout, or SELECT pg_switch_wal()",
            )
        time.sleep(_POLL)
