"""Which backup of a repository is meant.

Refuses a repository of another system than the source, and a backup with a fault. Guarantees that the newest is the
newest of those that have ended: one with a fault is not passed over for an older one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from drills.errors import GuardError, NoBackupError
from drills.plans.recovery import Point
from drills.plans.repository import Repository
from drills.processes import ToolRun
from drills.records import Backup, Server
from drills.wal import parse_lsn

_SHOWN = 5
"""How many labels an error names."""
_PASSED_OVER = "passed over, not complete"


@dataclass(frozen=True)
class Found:
    """A backup that a repository holds."""

    label: str
    system_identifier: str
    """Empty where the repository does not say it; then it is looked for in what was laid out."""
    taken: datetime | None
    """When it was complete, or failed; None where it is still being taken."""
    start_lsn: str
    stop_lsn: str
    timeline: int
    size: int
    fault: str = ""
    """What is wrong with it, as its repository says."""
    passed_over: tuple[str, ...] = ()
    """Labels of younger ones that are still being taken."""


def choose(found: Sequence[Found], wish: Repository, source: Server, where: str) -> Found:
    """The backup that the plan asks for; `where` is what the repository is called in errors.

    The newest is the newest of those that have ended; a younger one that is still being taken is told. One with a fault
    is not passed over for an older one: what would be restored on the day of a disaster is just that one.

    Raises:
        GuardError: none of them is of the source.
        NoBackupError: there is none as asked for, or it has a fault.
    """
    if not found:
        raise NoBackupError(
            f"{where} holds no backup", hint="look at when its last backup was taken, and by whom it is read"
        )
    named = [one for one in found if one.label == wish.backup]
    if wish.backup is not None and not named:
        raise NoBackupError(
            f"{where} holds no backup {wish.backup}: expected one of {_labels(found)}", hint="mend recovery.backup"
        )
    own = [one for one in named or found if one.system_identifier in {source.system_identifier, ""}]
    if not own:
        others = ", ".join(sorted({one.system_identifier for one in named or found}))
        raise GuardError(
            f"{where} is of another system: expected system identifier {source.system_identifier}, got {others}",
            hint=f"name the repository of {source.address} in the plan; after pg_upgrade or initdb take a new backup",
        )
    picked = own[0] if named else _newest(own, wish, where)
    if picked.fault or picked.taken is None:
        raise NoBackupError(
            f"the backup {picked.label} in {where} is not sound: {picked.fault or 'it is not complete'}",
            hint="have a new one taken; another one can be named by recovery.backup",
        )
    younger = sorted(one.label for one in own if one.taken is None and one.label > picked.label)
    return replace(picked, passed_over=() if named else tuple(younger))


def _newest(own: Sequence[Found], wish: Repository, where: str) -> Found:
    complete = sorted((one.taken, one.label, one) for one in own if one.taken is not None)
    if not complete:
        raise NoBackupError(
            f"{where} holds no complete backup, but {_labels(own)}", hint="wait for the one that is taken now"
        )
    early = [entry for entry in complete if wish.before is None or entry[0] < wish.before]
    if not early:
        raise NoBackupError(
            f"{where} holds no backup from before {wish.before}: the oldest, {complete[0][1]}, is of {complete[0][0]}",
            hint="mend recovery.before, or keep backups for longer",
        )
    leading = [
        entry
        for entry in early
        if wish.to is None or _leads(entry[0], entry[2].stop_lsn or entry[2].start_lsn, wish.to)
    ]
    if wish.to is not None and not leading:
        raise NoBackupError(
            f"{where} holds no backup that leads to the {' '.join(wish.to.chosen)}: the oldest, {early[0][1]}, is of"
            f" {early[0][0]}",
            hint="mend recovery.to, or keep backups for longer",
        )
    return leading[-1][2]


def _leads(taken: datetime, lsn: str, to: Point) -> bool:
    """Whether a backup was whole before this point, as far as that can be told: recovery only goes forward."""
    if to.time is not None:
        return taken < to.time
    return to.lsn is None or not lsn or parse_lsn(lsn) <= parse_lsn(to.lsn)


def _labels(found: Iterable[Found]) -> str:
    labels = sorted((one.label for one in found), reverse=True)
    return ", ".join(labels[:_SHOWN]) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")


def as_backup(picked: Found, method: str, where: str, done: ToolRun) -> Backup:
    """The record of a backup that was picked."""
    return Backup(
        method=method,
        path=f"{picked.label} in {where}",
        size=picked.size,
        files=0,
        digest="",
        commands=(done.arguments,),
        seconds=done.seconds,
        label=picked.label,
        taken=picked.taken,
        start_lsn=picked.start_lsn,
        stop_lsn=picked.stop_lsn,
        timeline=picked.timeline,
        details={_PASSED_OVER: ", ".join(picked.passed_over)} if picked.passed_over else {},
    )
