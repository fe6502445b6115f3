"""Recovery of a physical copy: WAL is replayed up to a target, the copy leaves recovery, and says where it ended.

Refuses a recovery that ended anywhere else: PostgreSQL takes a missing or damaged segment for the end of the archive.
Guarantees that no server runs when it returns, whatever happened.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from drills.clusters import Cluster
from drills.errors import ClusterError, DrillbookError
from drills.recovery.base import Progress
from drills.recovery.pages.laid_out import LaidOut, close_tablespaces, open_tablespaces
from drills.targets import Recovered, RecoveryTarget, TargetKind
from drills.wal import UNREADABLE, parse_lsn

_POLL = 0.01
_RECOVERING = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "replica",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "hot_standby": "off",
}
"""Nobody looks at the copy meanwhile, and it is thrown away if the machine dies."""
_RESTORED = re.compile(rb'restored log file "([0-9A-F]{24})" from archive')
_CHECKPOINT_TIME = "%a %b %d %H:%M:%S %Y"
"""As pg_controldata writes it where LC_ALL is C; the zone is UTC (see `drills.processes.plain_environment`)."""
_STATUS_LINE = 8
_HISTORY_FIELDS = 3
_NO_TARGET = "no recovery target specified"
_NOT_REACHED = "recovery ended before configured recovery target was reached"
_NEW_TABLESPACE = (
    "a tablespace was made after the backup was taken, and a copy must not follow it to production's path;"
    " choose an earlier target or a later backup"
)
_HINTS = {
    _NOT_REACHED: (
        "the target lies behind the end of the archive, or a segment of WAL before it is missing or damaged;"
        " choose an earlier target, or find out why that segment was not archived; where it is a restore point that is"
        " older than the backup, name an earlier one by recovery.backup or recovery.before"
    ),
    "requested recovery stop point is before consistent recovery point": (
        "the target lies before the backup's end; choose a later target or an older backup"
    ),
    "WAL ends before": "WAL that was written while the backup was taken is missing from the archive",
    "could not locate": "the first segment of WAL that the backup needs is missing from the archive",
    "has wrong size": "a segment of WAL in the archive is cut off: its copying was interrupted, or its disk was full",
    "could not restore file": "the restore command could not be run, or could not read the archive; see the log",
    "is not a child of this server's history": "the timeline of the plan does not come from this backup",
    "recovery target timeline": "the archive has no history of that timeline",
    "maximum number of prepared transactions": "production allowed more of them after the backup was taken",
    "resource manager": "the WAL holds an extension's own records, which only that extension's library can replay",
    "pg_tblspc/": _NEW_TABLESPACE,
    '" does not exist': _NEW_TABLESPACE,
    "invalid checkpoint": "the first segment of WAL that the backup needs is damaged",
    "did not answer within": "raise recovery.restore_timeout, or take backups more often: there is less to replay then",
}
"""What PostgreSQL says when a recovery ends too early, and what to do."""


def recover_files(
    cluster: Cluster, target: RecoveryTarget, restore_command: str, progress: Progress, deadline: float
) -> Recovered:
    """Replay WAL up to the target, leave recovery, and stop.

    Raises:
        ClusterError: it did not get there; the message has the server's last words.
    """
    laid = LaidOut(cluster.folder, cluster.tools, cluster.account)
    control = laid.control()
    _refuse_before_backup(target, control)
    replay = _Replay(cluster.log, int(control["Bytes per WAL segment"]), progress)
    laid.write("recovery.signal", "")
    close_tablespaces(laid)
    begun = time.monotonic()
    settings = {**_RECOVERING, "restore_command": restore_command, **target.settings()}
    with ended_on_error(cluster):
        try:
            cluster.start(settings, deadline=deadline, ready=partial(_has_opened, cluster.data, replay))
        except ClusterError as error:
            hint = next((hint for sign, hint in _HINTS.items() if sign in error.message), error.hint)
            raise ClusterError(f"recovery to {target} failed: {error.message}", hint=hint) from None
        cluster.stop()
    open_tablespaces(laid)
    replay.look()
    recovered = _read_end(laid, replay.segments, time.monotonic() - begun)
    _refuse_early_end(target, recovered)
    return recovered


def copy_from_folder(archive: Path) -> str:
    """A restore command that copies from a folder of WAL, and ends the recovery when that cannot be read.

    To PostgreSQL a plain `cp` that fails says that the archive ends there.
    """
    folder = shlex.quote(str(archive)).replace("%", "%%")
    asked = f"test -x {folder} || exit {UNREADABLE}; test -e {folder}/%f || exit 1"
    return f'{asked}; cp {folder}/%f "%p" || exit {UNREADABLE}'


class _Replay:
    """Follows the server's log, for the segments that came out of the archive since this was made."""

    def __init__(self, log: Path, segment: int, progress: Progress) -> None:
        self._log, self._segment, self._progress = log, segment, progress
        self._read = log.stat().st_size if log.exists() else 0
        self.segments = 0

    def look(self) -> None:
        """Read on, by whole lines, and tell."""
        with suppress(FileNotFoundError), self._log.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
            self._read += len(whole) + len(end)
            self.segments += len(_RESTORED.findall(whole))
        self._progress(self.segments * self._segment, None, "bytes")


def _has_opened(data: Path, replay: _Replay, process: subprocess.Popen[bytes], until: float) -> bool:
    """Wait until the server has left recovery, as its lock file says; nobody has to log in for that."""
    while process.poll() is None and time.monotonic() < until:
        with suppress(FileNotFoundError):
            told = (data / "postmaster.pid").read_text().splitlines()
            # LOCK_FILE_LINE_PM_STATUS of miscadmin.h, by which pg_ctl waits.
            if len(told) >= _STATUS_LINE and told[0] == str(process.pid) and told[_STATUS_LINE - 1].strip() == "ready":
                return True
        replay.look()
        time.sleep(_POLL)
    return False


@contextmanager
def ended_on_error(cluster: Cluster) -> Iterator[None]:
    """What goes wrong in here ends the copy's server."""
    try:
        yield
    except BaseException:
        with suppress(DrillbookError):  # what went wrong is not masked; the folder is destroyed at the end
            cluster.kill()
        raise


def _read_end(laid: LaidOut, segments: int, seconds: float) -> Recovered:
    """The new timeline's history is what a server goes by itself when it asks where that timeline began."""
    control = laid.control()
    timeline = int(control["Latest checkpoint's TimeLineID"])
    history = laid.data / "pg_wal" / f"{timeline:08X}.history"
    lines = [line for line in history.read_text().splitlines() if line.strip()] if history.exists() else []
    told = lines[-1].split("\t", 2) if lines else []
    if len(told) != _HISTORY_FIELDS or (laid.data / "recovery.signal").exists():
        raise ClusterError(
            "the copy runs, and does not say where its recovery ended", hint=f"see {laid.folder / 'log'}"
        )
    return Recovered(
        timeline=timeline,
        end_lsn=told[1],
        next_xid=_next_xid(control),
        reason=told[2].strip(),
        segments=segments,
        seconds=round(seconds, 6),
    )


def _next_xid(control: Mapping[str, str]) -> int:
    """The first 64-bit number that was given to no transaction, as pg_controldata says of a copy that was shut down.

    Raises:
        ClusterError: it says nothing of transactions.
    """
    told = control.get("Latest checkpoint's NextXID", "")
    epoch, colon, xid = told.partition(":")
    if not (colon and epoch.isdecimal() and xid.isdecimal()):
        raise ClusterError(f"expected the next transaction of the copy, such as 0:750, got {told!r}")
    return (int(epoch) << 32) | int(xid)


def _refuse_before_backup(target: RecoveryTarget, control: Mapping[str, str]) -> None:
    """Where no commit lies between an instant long ago and the backup's end, PostgreSQL opens as if it had got there.

    What the backup holds is known from the redo point of its checkpoint on, which comes after the time of that.
    """
    wanted = target.instant
    if wanted is None:
        return
    told = datetime.strptime(control["Time of latest checkpoint"], _CHECKPOINT_TIME).replace(tzinfo=UTC)
    if wanted < told + timedelta(seconds=1):
        raise ClusterError(
            f"recovery to {target} cannot be had: the backup holds everything up to {told.isoformat()}, its checkpoint",
            hint="the target lies before the backup's end; choose a later target or an older backup",
        )


def _refuse_early_end(target: RecoveryTarget, found: Recovered) -> None:
    # Before 13, a recovery whose target lies behind the archive's end opens as if it had got there.
    if target.kind is not TargetKind.LATEST and found.reason == _NO_TARGET:
        raise ClusterError(
            f"recovery to {target} ended at {found.end_lsn} without having got there", hint=_HINTS[_NOT_REACHED]
        )
    if target.reach and parse_lsn(found.end_lsn) < parse_lsn(target.reach):
        raise ClusterError(
            f"recovery to {target} ended too early: expected WAL up to {target.reach}, got it up to {found.end_lsn}",
            hint="a segment of WAL between the two is missing or damaged; the log has the last one that was found",
        )
