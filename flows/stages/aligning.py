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

from drills import events, plan
from drills.commits import Aligned, Misaligned, NeedsMore, pass_over_waiting
from drills.errors import CheckError, ConnectError
from drills.measures import Measures
from drills.records import Snapshot
from drills.recovery.pages.alignment import find_target
from drills.recovery.pages.standbys import waiting_for_standbys
from drills.snapshots import taken_over, wait_until_gone
from flows.runtime import Drill, given
from flows.stages.expecting import Expecting

_MOST = 20
"""Snapshots that are taken until one aligns. Few commits become visible in another order than they are in the WAL."""
_AT_ONCE = 4
"""Of them, opened side by side: where WAL comes by way of an archive, all of them wait for the same segment."""
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
    pause: float = _POLL
    """Seconds between two of these."""


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
    """A snapshot that the leader holds, and its place where the plan asks for it; all others were let go."""
    reason, pause, count = "", 0.0, 0
    while count < _MOST:
        time.sleep(pause)
        waiting = waiting_for_standbys(source.leader)
        with ExitStack() as held:
            taken = list(_take(source, min(_AT_ONCE, wish.jobs) if wish.aligned else 1, held))
            count += len(taken)
            for one in taken:
                if wish.aligned:  # of several the last one counts
                    drill.say(events.SnapshotTaken(snapshot=one.snapshot, ago=time.monotonic() - one.taken))
                found = _look_for_target(drill, archive, one.snapshot, wish)
                if isinstance(found, Aligned):
                    found = pass_over_waiting(found, waiting)
                if isinstance(found, Misaligned) and wish.aligned:
                    patience = wish.wal_patience.total_seconds()
                    reason, pause = found.reason, patience * len(taken) / _MOST if found.waits else 0.0
                    continue
                with taken_over(source.leader, one.snapshot) as snapshot:
                    held.close()
                    wait_until_gone(source.leader, [other.process for other in taken])
                    yield snapshot, found if isinstance(found, Aligned) and wish.aligned else None
                return
    raise CheckError(
        f"none of {count} snapshots has a place of its own in the WAL: {reason}",
        hint="commits become visible in another order than they are written: do they wait for a standby?",
    )


@dataclass(frozen=True)
class _Taken:
    snapshot: Snapshot
    taken: float
    """By the monotonic clock."""
    process: int
    """That holds it on the server."""


def _take(source: Expecting, number: int, held: ExitStack) -> Iterator[_Taken]:
    """Snapshots side by side, as many as the source lets us have, each held by a session of its own.

    No more than the sessions that will measure, so that production need not let in more than it has to anyway.
    """
    for count in range(number):
        try:
            snapshot, process = held.enter_context(source.snapshot())
        except ConnectError:
            if not count:
                raise
            return
        yield _Taken(snapshot, time.monotonic(), process)


def _look_for_target(
    drill: Drill, archive: Archive, snapshot: Snapshot, wish: plan.Pages
) -> Aligned | Misaligned | None:
    """None where the WAL of the snapshot does not come, and recovery is to end long before it."""
    try:
        return _wait_for_target(drill, archive, snapshot, wish)
    except CheckError:
        if wish.to is None or wish.to.latest or isinstance(wish, plan.BaseBackup):
            raise
        return None


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
        time.sleep(archive.pause)
