"""The backup of a physical copy: production's own pages, and the target that leads to the commit it was measured at.

Owns the order of things that makes it exact: WAL is received from before the backup; a snapshot is held on the source;
the place in the WAL is found at which just the commits of that snapshot have happened (see `flows.stages.aligning`).
Guarantees that where no such place is asked for, nothing but closed periods is compared.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from drills import events, guard, plan
from drills.addresses import Address, resolve_address
from drills.errors import ToolError
from drills.places import make_folder, open_place
from drills.records import Backup, Basis, FileRef, Server
from drills.recovery.pages.basebackup import BaseBackup
from drills.recovery.pages.receiving import Receiver, receiving
from drills.recovery.pages.replay import copy_from_folder
from drills.recovery.pages.standbys import judge_standbys
from drills.recovery.repositories.existing import open_repository
from drills.recovery.repositories.repository import Existing
from drills.staging import look_at_tablespaces
from drills.targets import RecoveryTarget, TargetKind
from drills.wal import page_start, parse_lsn, segment_name, show_lsn
from flows.runtime import REPOSITORY, WAL, Drill, given
from flows.stages.aligning import Archive, Measured, measured_in_wal
from flows.stages.expecting import Expecting, expecting
from flows.stages.shared import check_age, check_log, staging_place, workspace_of

_ASK_AGAIN = 1.0
"""Seconds. Each time a tool is started, which may have to log in far away."""


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
        # The guard has looked, and production's settings may have been changed since.
        guard.refuse_if_any([judge_standbys(source.leader, drill.name)])
        with receiving(address, wal, workspace) as receiver:
            try:
                taken = method.back_up(address, replace(workspace, progress=partial(_while_received, drill, receiver)))
            except ToolError:
                receiver.must_run()  # whoever looks after it may have ended the backup, and says why
                raise
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
    drill.say(events.BackedUp(backup=backup, reaches=_reaches(wish.to, measured)))
    check_log(drill, taken.log)
    return backup, file


def pick_pages(drill: Drill, server: Server, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> tuple[Backup, FileRef]:
    """A backup that was there, and expectations from a snapshot that lies in the archive's WAL.

    Raises:
        NoBackupError: there is no such backup.
        DrillbookError: the repository cannot be read, or the archive does not hold what belongs to the snapshot.
    """
    wal = wal_place(drill)
    for place in (wal, repository_place(drill)):
        drill.intend("directory", str(place))
    method = repository_of(drill, server, wish)
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
    drill.say(events.BackedUp(backup=backup, reaches=_reaches(wish.to, measured)))
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

    return Archive(wal, show_lsn(number * size), backup.stop_lsn, timeline, go_on, pause=_ASK_AGAIN)


def repository_of(drill: Drill, server: Server, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> Existing:
    """That of the plan."""
    return open_repository(wish, server, given(drill.tools), repository_place(drill), drill.raw)


def repository_place(drill: Drill) -> Path:
    """What the tools of a repository want to write goes here, and not there."""
    return open_place(drill.folder / REPOSITORY)


def _while_received(drill: Drill, receiver: Receiver, done: int, total: int | None, unit: str) -> None:
    """Progress of the backup, which is worth nothing without the WAL of the meantime."""
    receiver.must_run()
    drill.progress.advance(done, total, unit)


def wal_place(drill: Drill) -> Path:
    """Where WAL is collected, likewise."""
    return open_place(drill.folder / WAL)


def _address(drill: Drill, wish: plan.BaseBackup) -> Address:
    return given(drill.source) if wish.address is None else resolve_address(wish.address, wish.password)


def _target(point: plan.Point | None, measured: Measured, segment: int) -> RecoveryTarget:
    if measured.aligned is not None:
        return RecoveryTarget(
            kind=TargetKind.LSN, value=measured.aligned.target, inclusive=measured.aligned.inclusive, timeline="current"
        )
    kind, value = given(point).chosen
    # On a server at rest the next record's place lies behind the header of a page that nobody has written yet.
    at = page_start(parse_lsn(measured.snapshot.wal_lsn), segment)
    reach = show_lsn(at) if kind == TargetKind.LATEST else ""
    return RecoveryTarget(kind=TargetKind(kind), value=value, reach=reach)


def _reaches(point: plan.Point | None, measured: Measured) -> datetime | None:
    """As of when a copy is that was recovered to this point; a place in the WAL and a name do not say it."""
    if point is None:
        return None
    return measured.snapshot.taken if point.latest else point.time


def _basis(measured: Measured) -> Basis:
    return Basis.CLOSED_PERIOD if measured.aligned is None else Basis.WAL
