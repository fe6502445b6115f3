"""Physical copies: production's own pages, recovered to the very commit at which the source was measured.

Owns the order of things that makes it exact: WAL is received from before the backup; a snapshot is held on the source;
the place in the WAL is found at which just the commits of that snapshot have happened; the copy stops there, and says
itself which transactions it holds. Guarantees that where no such place is asked for, nothing but closed periods is
compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from drills import events, plan
from drills.addresses import Address, resolve_address
from drills.commits import Aligned, Alignment, Misaligned, NeedsMore, pass_over_waiting
from drills.errors import CheckError
from drills.measures import Measures
from drills.places import open_place
from drills.planned import AFTER_RESTORE, ALIGNMENT
from drills.records import Backup, Basis, CheckResult, Copy, FileRef, Server, Snapshot, Verdict, utc_now
from drills.recovery.pages.adopt import adopt_cluster
from drills.recovery.pages.alignment import find_target
from drills.recovery.pages.basebackup import BaseBackup
from drills.recovery.pages.proof import ReplayEnd, prove_alignment
from drills.recovery.pages.receiving import Receiver, receiving
from drills.recovery.pages.replay import copy_from_folder
from drills.recovery.pages.standbys import waiting_for_standbys
from drills.recovery.repositories.existing import Existing, open_repository
from drills.recovery.repositories.repository import make_folder
from drills.sessions import STAGING_LIMITS, Access, describe, exported_snapshot, session
from drills.staging import look_at_tablespaces
from drills.targets import RecoveryTarget, TargetKind, page_start, parse_lsn, segment_name, show_lsn
from flows.runtime import Drill, given
from flows.stages.expecting import Expecting, expecting
from flows.stages.shared import check_age, check_likeness, check_log, staging_place, workspace_of

_ATTEMPTS = 20
"""Snapshots that are taken until one aligns. Few commits become visible in another order than they are in the WAL."""
_POLL = 0.1
IN_PLACE = "the pages lay where the copy runs before the loss was declared: bringing them there is not in the RTO"


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


def take_pages(drill: Drill, server: Server, wish: plan.BaseBackup) -> tuple[Backup, FileRef]:
    """A base backup, the WAL of the meantime, and expectations from a snapshot that lies in that WAL."""
    place, wal = staging_place(drill), wal_place(drill)
    drill.intend("cluster", str(place))
    drill.intend("directory", str(wal))
    address = _address(drill, wish)
    workspace = workspace_of(drill, drill.progress.advance)
    with expecting(drill, server) as source:
        look = partial(look_at_tablespaces, source.leader)
        method = BaseBackup(wish, look(), look)
        with receiving(address, wal, workspace) as receiver:
            taken = method.back_up(address, replace(workspace, progress=partial(_while_received, drill, receiver)))
            found = taken.backup
            # A standby's backup starts at its last restartpoint, and has the WAL from there up to its end by itself.
            start = max(found.start_lsn, receiver.first, key=parse_lsn)
            archive = Archive(
                wal, start, found.stop_lsn, found.timeline, lambda _: receiver.must_run(), enough=receiver.stop
            )
            before = source.sequences()
            with measured_in_wal(drill, source, archive, wish) as measured:
                drill.target = _target(wish.to, measured, given(drill.likeness).wal_segment)
            file = source.file(measured.snapshot, measured.measures, before, _basis(measured))
        backup = found.model_copy(update={"surroundings": source.around})
    drill.restore_command = copy_from_folder(wal)
    drill.aligned = measured.aligned
    drill.journal.append(events.BackedUp(backup=backup, reaches=_reaches(wish.to, measured)))
    check_log(drill, taken.log)
    return backup, file


def pick_pages(drill: Drill, server: Server, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> tuple[Backup, FileRef]:
    """A backup that was there, and expectations from a snapshot that lies in the archive's WAL.

    Raises:
        DrillbookError: there is no such backup, or the archive does not hold what belongs to the snapshot.
    """
    wal = wal_place(drill)
    for place in (wal, repository_place(drill)):
        drill.intend("directory", str(place))
    method = _repository(drill, server, wish)
    backup = method.pick()
    check_age(drill, backup, wish.max_age)
    make_folder(wal)
    with expecting(drill, server) as source:
        before = source.sequences()
        archive = _archive(source, method, wal, backup)
        with measured_in_wal(drill, source, archive, wish) as measured:
            target = _target(wish.to, measured, given(drill.likeness).wal_segment)
            # The backup's own timeline leads to that of production, or the recovery says that it does not.
            drill.target = target.model_copy(update={"timeline": str(archive.timeline)})
        file = source.file(measured.snapshot, measured.measures, before, _basis(measured))
        backup = backup.model_copy(update={"surroundings": source.around})
    drill.aligned = measured.aligned
    drill.journal.append(events.BackedUp(backup=backup, reaches=_reaches(wish.to, measured)))
    return backup, file


def _archive(source: Expecting, method: Existing, wal: Path, backup: Backup) -> Archive:
    """The archive's WAL from where production is now; what lies between the backup and here, the recovery reads."""
    row = source.leader.execute(
        "SELECT pg_walfile_name(here), here::text, (SELECT setting::bigint FROM pg_settings"
        " WHERE name = 'wal_segment_size') FROM pg_current_wal_insert_lsn() AS here"
    ).fetchone()
    name, here, size = given(row)
    # From the one before, so that there is a record ahead of the snapshot where a segment has just begun.
    timeline, number = int(name[:8], 16), max(parse_lsn(here) // size - 1, 1)

    def go_on(noted: str) -> None:
        # Production may write faster than one segment after the other is fetched: to its newest one there is no end.
        nonlocal number
        last = parse_lsn(noted) // size + 1
        while number <= last and method.fetch_wal(name := segment_name(timeline, number, size), wal / name):
            number += 1

    return Archive(wal, show_lsn(number * size), backup.stop_lsn, timeline, go_on)


def _repository(drill: Drill, server: Server, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> Existing:
    return open_repository(wish, server, given(drill.tools), repository_place(drill), drill.raw)


def repository_place(drill: Drill) -> Path:
    """What the tools of a repository want to write goes here, and not there."""
    return open_place(drill.folder / "repository")


def _while_received(drill: Drill, receiver: Receiver, done: int, total: int | None, unit: str) -> None:
    """Progress of the backup, which is worth nothing without the WAL of the meantime."""
    receiver.must_run()
    drill.progress.advance(done, total, unit)


def wal_place(drill: Drill) -> Path:
    """Where WAL is collected, likewise."""
    return open_place(drill.folder / "wal")


def _address(drill: Drill, wish: plan.BaseBackup) -> Address:
    return given(drill.source) if wish.address is None else resolve_address(wish.address, wish.password)


@contextmanager
def measured_in_wal(drill: Drill, source: Expecting, archive: Archive, wish: plan.Pages) -> Iterator[Measured]:
    """The source inside a snapshot whose place in the WAL is known, measured before this is left.

    Raises:
        CheckError: no snapshot aligns, or the WAL does not come.
    """
    reason, pause = "", 0.0
    for _ in range(_ATTEMPTS):
        time.sleep(pause)
        waiting = waiting_for_standbys(source.leader)
        with exported_snapshot(source.leader) as snapshot:
            if wish.aligned:  # of several the last one counts
                drill.journal.append(events.SnapshotTaken(snapshot=snapshot))
            found = _wait_for_target(drill, archive, snapshot, wish)
            if isinstance(found, Aligned):
                found = pass_over_waiting(found, waiting)
            if isinstance(found, Misaligned) and wish.aligned:
                reason, pause = found.reason, wish.wal_patience.total_seconds() / _ATTEMPTS if found.waits else 0.0
                continue
            archive.enough()  # production need not keep WAL while it is measured
            with source.sessions.cancelled_on_error():
                measures = source.measure(snapshot, drill.progress.advance)
            yield Measured(snapshot, measures, found if isinstance(found, Aligned) and wish.aligned else None)
            return
    raise CheckError(
        f"none of {_ATTEMPTS} snapshots has a place of its own in the WAL: {reason}",
        hint="commits become visible in another order than they are written: do they wait for a standby?",
    )


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


def _target(point: plan.Point | None, measured: Measured, segment: int) -> RecoveryTarget:
    if measured.aligned is not None:
        return RecoveryTarget(
            kind=TargetKind.LSN, value=measured.aligned.target, inclusive=measured.aligned.inclusive, timeline="current"
        )
    kind, value = given(point).chosen
    # On a server at rest the next record's place lies behind the header of a page that nobody has written yet.
    reach = page_start(measured.snapshot.wal_lsn, segment) if kind == TargetKind.LATEST else ""
    return RecoveryTarget(kind=TargetKind(kind), value=value, reach=reach)


def _reaches(point: plan.Point | None, measured: Measured) -> datetime | None:
    """As of when a copy is that was recovered to this point; a place in the WAL and a name do not say it."""
    if point is None:
        return None
    return measured.snapshot.taken if point.latest else point.time


def _basis(measured: Measured) -> Basis:
    return Basis.CLOSED_PERIOD if measured.aligned is None else Basis.WAL


# --- restore --------------------------------------------------------------------------------------------------------


def bring_pages(drill: Drill, server: Server, backup: Backup, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> Copy:
    """Have the repository's tool bring the pages, then as `recover_pages`."""
    method, place = _repository(drill, server, wish), staging_place(drill)
    drill.intend("cluster", str(place))
    laid = method.lay_out(backup, place / "data", workspace_of(drill, drill.progress.advance))
    check_log(drill, laid.log)
    drill.restore_command = method.restore_command()
    copied = recover_pages(drill, server, method.environment(), ())
    return copied.model_copy(update={"commands": laid.backup.commands})


def recover_pages(
    drill: Drill, server: Server, environment: Mapping[str, str] | None = None, told: Sequence[str] = (IN_PLACE,)
) -> Copy:
    """Start the pages as a copy in quarantine, and have it replay the WAL up to its target."""
    limit = drill.plan.recovery.restore_timeout.total_seconds()
    adopted = adopt_cluster(
        staging_place(drill),
        given(drill.tools),
        target=given(drill.target),
        restore_command=given(drill.restore_command),
        progress=drill.progress.advance,
        deadline=limit,
        database=server.database,
        environment=environment,
        on_disk=bool(drill.plan.outages),
    )
    drill.cluster = adopted.cluster
    drill.say(events.Replayed(recovered=adopted.recovered))
    drill.say(events.Quarantined(quarantine=adopted.quarantine))
    drill.copy = copy = adopted.cluster.address(server.database)
    with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = describe(connection, copy)
        check_likeness(drill, connection)
        if drill.aligned is not None:
            recovered = adopted.recovered
            ended = ReplayEnd(recovered.end_lsn, recovered.next_xid)
            alignment = prove_alignment(connection, drill.aligned, ended)
            drill.say(events.AlignmentProved(alignment=alignment))
            drill.say(events.Checked(round=AFTER_RESTORE, result=_as_check(alignment)))
    return Copy(
        server=there,
        made=True,
        commands=(),
        seconds=0,
        deviations=(f"recovery stopped {adopted.recovered.reason}", "production's settings are not in force", *told),
    )


def _as_check(alignment: Alignment) -> CheckResult:
    asked = alignment.hidden_asked + alignment.seen_asked
    return CheckResult(
        name=ALIGNMENT,
        kind=ALIGNMENT,
        verdict=alignment.verdict,
        reason=alignment.reason,
        basis=Basis.WAL,
        expected=f"the transactions of snapshot {alignment.snapshot}, and no others",
        actual=f"replayed to {alignment.replayed}; {asked} transactions asked for",
        difference="none" if alignment.verdict is Verdict.PASS else alignment.reason,
        sql=alignment.sql,
        started=utc_now(),
        seconds=0.0,
        compared=asked,
        differing=0 if alignment.verdict is Verdict.PASS else 1,
    )
