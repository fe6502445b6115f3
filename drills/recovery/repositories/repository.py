"""What the methods have in common that read a repository of backups: choosing one, and a place of their own.

Refuses a repository of another system than the source. Guarantees that whatever a tool wants to write while it reads
(locks, logs, what it unpacks) goes to a place of the drill's own, and that no tool writes over what is there.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from drills.errors import GuardError, ToolError
from drills.places import server_account
from drills.plans.repository import Repository
from drills.processes import ToolRun, last_words, run_tool
from drills.records import Backup, Server
from drills.recovery.base import ToolLog, Workspace

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
        ToolError: there is none as asked for, or it has a fault.
    """
    if not found:
        raise ToolError(
            f"{where} holds no backup", hint="look at when its last backup was taken, and by whom it is read"
        )
    named = [one for one in found if one.label == wish.backup]
    if wish.backup is not None and not named:
        raise ToolError(
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
        raise ToolError(
            f"the backup {picked.label} in {where} is not sound: {picked.fault or 'it is not complete'}",
            hint="have a new one taken; another one can be named by recovery.backup",
        )
    younger = sorted(one.label for one in own if one.taken is None and one.label > picked.label)
    return replace(picked, passed_over=() if named else tuple(younger))


def _newest(own: Sequence[Found], wish: Repository, where: str) -> Found:
    complete = sorted((one.taken, one.label, one) for one in own if one.taken is not None)
    if not complete:
        raise ToolError(
            f"{where} holds no complete backup, but {_labels(own)}", hint="wait for the one that is taken now"
        )
    early = [entry for entry in complete if wish.before is None or entry[0] < wish.before]
    if not early:
        raise ToolError(
            f"{where} holds no backup from before {wish.before}: the oldest, {complete[0][1]}, is of {complete[0][0]}",
            hint="mend recovery.before, or keep backups for longer",
        )
    return early[-1][2]


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


def age_of(backup: Backup, at: datetime) -> timedelta | None:
    """How old a backup was at this instant; None where nobody knows when it was taken."""
    return None if backup.taken is None else at - backup.taken


def find_program(name: str, package: str) -> str:
    """The path of a tool that is not PostgreSQL's own.

    Raises:
        ToolError: it is not on the path.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is not on the path", hint=f"install {package} on the machine that runs the drill")
    return path


def make_folder(folder: Path) -> Path:
    """A folder of the drill's own for the servers' account, which may be there already.

    Raises:
        ToolError: it cannot be made.
    """
    account = server_account()
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise ToolError(f"the folder {folder} cannot be made: {error.strerror}") from None
    return folder


def make_target(folder: Path) -> Path:
    """The data directory of a copy, which must not be there yet, and beside it the folder for its tablespaces.

    Raises:
        ToolError: it is there: whatever is in it, no tool of ours writes over it.
    """
    if os.path.lexists(folder):
        raise ToolError(f"{folder} is there already", hint="a backup is laid out in a new folder only; sweep first")
    make_folder(folder)
    return make_folder(folder.parent / "tablespaces")


def refuse_foreign(folder: Path, source: Server) -> None:
    """What was laid out is of the source; its system identifier comes first in pg_control.

    Raises:
        GuardError: it is of another system.
        ToolError: it has no pg_control.
    """
    try:
        with (folder / "global" / "pg_control").open("rb") as file:
            found = int.from_bytes(file.read(8), sys.byteorder)
    except OSError as error:
        raise ToolError(f"what was laid out has no control file: {error.strerror}") from None
    if str(found) != source.system_identifier:
        raise GuardError(
            f"the backup is of another system: expected system identifier {source.system_identifier}, got {found}",
            hint=f"name the repository of {source.address} in the plan",
        )


def count_files(*folders: Path) -> int:
    """How many files lie in there."""
    return sum(len(names) for folder in folders for _, _, names in os.walk(folder))


def growth_of(folder: Path, total: int, workspace: Workspace) -> Callable[[], None]:
    """Tells how much of a backup of `total` bytes has come to a folder and what lies beside it, for whoever waits."""

    def tell() -> None:
        done = 0
        for place, _, names in os.walk(folder.parent):
            for name in names:
                with suppress(OSError):  # a tool gives its files their names when they are whole
                    done += Path(place, name).lstat().st_size
        workspace.progress(done, total or None, "bytes")

    return tell


def run_reader(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    deadline: timedelta,
    progress: Callable[[], None] | None = None,
) -> ToolRun:
    """Run a tool that reads a repository, as the servers' account: it cannot write what that account may only read.

    Raises:
        ToolError: it could not be run to its end.
    """
    return run_tool(
        arguments,
        environment=environment,
        log=log,
        deadline=deadline.total_seconds(),
        account=server_account(),
        progress=progress,
    )


def refuse_failure(done: ToolRun, log: ToolLog, hint: str = "") -> None:
    """Let nothing pass that a tool itself calls failed.

    Raises:
        ToolError: it does.
    """
    if done.code or log.errors:
        said = log.errors[0] if log.errors else last_words(done.said)
        raise ToolError(
            f"{log.tool} ended with {done.code}: {said}",
            hint=hint or f"all it said is in raw/{log.log.name} of the bundle",
        )
