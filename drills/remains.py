"""What is left of a server: found by its folder alone, killed and removed.

Owns the end of everything that a drill started in a folder. Refuses a symbolic link, so that no other place is emptied
by mistake, and leaves alone whoever merely looks at a folder. Guarantees that processes and files are gone when it
returns, and the shared memory that a killed server leaves in the kernel, of which there is only so much for all servers
of a machine: whoever sweeps after a killed drill knows no more than the folder's name.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
import signal
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from drills.errors import ClusterError

_POLL = 0.005
_DEATH_DEADLINE = 60.0
_ATTEMPTS = 5
_QUIT_DEADLINE = 10.0
"""Seconds; after five of them a server kills its own children."""
_MEMORY_LINE = 6
_IPC_RMID = 0
"""Of sys/ipc.h."""
_LIBC = ctypes.CDLL(None)
_PROGRAMS = {
    "barman", "initdb", "pg_basebackup", "pg_combinebackup", "pg_controldata", "pg_dump", "pg_receivewal", "pg_restore",
    "pg_verifybackup", "pg_waldump", "pgbackrest", "pgbench", "postgres", "psql", "rsync", "wal-g",
}  # fmt: skip


def destroy_cluster(folder: Path) -> None:
    """Kill whatever server runs in this folder, and remove it. Nothing there is nothing to do.

    Raises:
        ClusterError: it is still there afterwards.
    """
    _refuse_link(folder)
    _ask_to_end(folder)
    kill_users(folder)
    _free_memory(folder)
    remove_folder(folder)


def _ask_to_end(folder: Path) -> None:
    """An immediate shutdown: a server that may end by itself takes its shared memory away, and writes nothing."""
    lock = _read_lock(folder)
    for process in processes_using(folder) if lock else ():
        if lock and process.pid == lock.pid:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGQUIT)
            until = time.monotonic() + _QUIT_DEADLINE
            while not _is_dead(process) and time.monotonic() < until:
                time.sleep(_POLL)


@dataclass(frozen=True)
class _ServerLock:
    """What postmaster.pid says of the server that made it (LOCK_FILE_LINE_* of miscadmin.h)."""

    pid: int
    key: int
    segment: int
    """The block of System V shared memory, which tells a second server in the folder that there is one."""


def _read_lock(folder: Path) -> _ServerLock | None:
    try:
        told = (folder / "data" / "postmaster.pid").read_text().splitlines()
        key, segment = told[_MEMORY_LINE].split()
        return _ServerLock(int(told[0]), int(key), int(segment))
    except (OSError, ValueError, IndexError):
        return None


def _free_memory(folder: Path) -> None:
    """The block of a server that was killed, if it is still the one that the server made, and nobody uses it.

    Its other memory is in files of its folder (see `drills.clusters`), or goes with its last process.
    """
    lock = _read_lock(folder)
    table = Path("/proc/sysvipc/shm")  # proc(5); elsewhere such a block is little and stays
    if lock is None or not table.exists():
        return
    for line in table.read_text().splitlines()[1:]:
        key, segment, _, _, creator, _, attached = line.split()[:7]
        if (int(segment), int(creator), attached) == (lock.segment, lock.pid, "0") and (
            int(key) - lock.key
        ) % 2**32 == 0:
            _LIBC.shmctl(lock.segment, _IPC_RMID, None)


def kill_users(folder: Path) -> None:
    """SIGKILL to every program of PostgreSQL that uses this folder, until there is none.

    Raises:
        ClusterError: there still are some.
    """
    for _ in range(_ATTEMPTS):
        users = processes_using(folder)
        if not users:
            return
        for process in users:
            kill_family(process.pid)
    raise ClusterError(f"somebody keeps starting programs in {folder}", hint="stop it, then sweep again")


def processes_using(folder: Path) -> list[psutil.Process]:
    """PostgreSQL's programs whose arguments name this folder or something in it, or that work in there.

    Nobody else's: a person may well be reading the log in there. A backend says nothing of its folder in its
    arguments, but works in it; it may outlive its postmaster for as long as its statement takes.
    """
    named = re.compile(rf"(?:^|^-D|[=\s'\",:]){re.escape(str(folder))}(?:/|$)")
    real = folder.resolve()
    found = []
    for process in psutil.process_iter(["name", "cmdline", "cwd", "status"]):
        told = process.info
        if told["name"] not in _PROGRAMS or told["status"] == psutil.STATUS_ZOMBIE:
            continue
        inside = bool(told["cwd"]) and Path(told["cwd"]).is_relative_to(real)
        if inside or any(named.search(argument) for argument in (told["cmdline"] or [])[1:]):
            found.append(process)
    return found


def remove_folder(folder: Path) -> None:
    """Remove a folder and everything in it. Refuses a symbolic link.

    Raises:
        ClusterError: it is still there afterwards.
    """
    for attempt in range(_ATTEMPTS):
        _refuse_link(folder)
        try:
            if folder.exists():
                with contextlib.suppress(FileNotFoundError):
                    (folder / "data" / "pg_tblspc").chmod(0o700)  # closed while a copy recovers
                shutil.rmtree(folder)
        except FileNotFoundError as error:
            # What somebody else removed meanwhile is gone as well.
            if attempt == _ATTEMPTS - 1:
                raise _still_there(folder, error) from None
        except OSError as error:
            raise _still_there(folder, error) from None
        else:
            return


def kill_family(pid: int) -> None:
    """SIGKILL a process and all below it, and wait until they are gone.

    Raises:
        ClusterError: they are not ours to kill, or do not die.
    """
    family: list[psutil.Process] = []
    try:
        family.append(psutil.Process(pid))
        # The postmaster is stopped first: it starts no child while its children are counted.
        family[0].suspend()
        family += family[0].children(recursive=True)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise ClusterError(
            f"process {pid} may not be killed by this account", hint="run it as the account that started the drill"
        ) from None
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    _wait_for_death(family)


def _wait_for_death(family: Iterable[psutil.Process]) -> None:
    until = time.monotonic() + _DEATH_DEADLINE
    while alive := [member.pid for member in family if not _is_dead(member)]:
        if time.monotonic() > until:
            raise ClusterError(f"processes did not die: {', '.join(map(str, alive))}")
        time.sleep(_POLL)


def _is_dead(process: psutil.Process) -> bool:
    """Gone, or a zombie: that one runs no more, and is taken away by its parent when it gets to it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _refuse_link(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(folder.lstat().st_mode):
            raise ClusterError(f"{folder} is a symbolic link", hint="look at where it leads, and remove it by hand")


def _still_there(folder: Path, error: OSError) -> ClusterError:
    return ClusterError(
        f"{folder} could not be removed: {error.strerror} ({error.filename})",
        hint="remove it by hand, then sweep again",
    )
