"""Who servers run as, places where that account can get to, and ports.

PostgreSQL refuses to run as root, so a root's servers run as somebody who may not pass everywhere. Refuses to open
folders of other people; guarantees that what is put elsewhere instead is root's alone to write.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ToolError
from drills.locks import Lock
from drills.tools import Tools

_COMMON = Path("/var/tmp")  # noqa: S108 - what is in there is refused unless it is ours alone
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HALF = ".copying-"
_LOWEST_PORT = 10000
_PORTS_TRIED = 100


@dataclass(frozen=True)
class Account:
    """The operating-system user that servers run as; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All of its groups: a repository or a key may be open to one of them only."""
    home: str
    """Where libpq and others look for its certificates. A home of root's is closed to it."""


def server_account() -> Account | None:
    """Whom servers run as: `postgres` where there is one, else `nobody`. None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return Account(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)
    raise ToolError(
        "running as root, and there is no user `postgres` or `nobody` to run servers as", hint="run as an ordinary user"
    )


def reachable(path: Path) -> bool:
    """Whether the servers' account can get to this path: every folder above it lets others pass.

    Where there are symbolic links, what they lead to counts as well.
    """
    account = server_account()
    if account is None:
        return True
    real = path.resolve()
    for folder in (path, *path.parents, real, *real.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        owner, group = found.st_uid == account.uid, found.st_gid in account.groups
        needed = stat.S_IXUSR if owner else stat.S_IXGRP if group else stat.S_IXOTH
        if not found.st_mode & needed:
            return False
    return True


def open_place(folder: Path) -> Path:
    """This folder where the servers' account can get to it; one of the same name in a place open to it otherwise.

    A checkout under /root is closed to every other user, and opening folders that are not ours is not for us to do.
    """
    if reachable(folder):
        return folder
    common = _common()
    try:
        common.mkdir()
    except FileExistsError:
        pass  # looked at below
    else:
        common.chmod(0o755)  # whatever the umask of the person is
    if not _is_ours_alone(common):
        raise ToolError(f"{common} is not ours alone", hint="somebody else made it; remove it, or set DRILLBOOK_HOME")
    return common / f"{folder.parent.name}-{folder.name}"


def _common() -> Path:
    return _COMMON / f"drillbook-{os.geteuid()}"


def _is_ours_alone(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


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


def server_tools(tools: Tools) -> Tools:
    """The same tools at a place where the servers' account can run them: copied there, once each, if need be.

    Raises:
        ToolError: they would have to be copied, and their folder is not PostgreSQL's alone.
    """
    home = tools.folder.parent
    target = open_place(home)
    if target == home:
        return tools
    # With `tools: /home/jane/bin` the folder above is a person's, not PostgreSQL's.
    if not any((home / "share" / below / "postgres.bki").exists() for below in ("", "postgresql")):
        raise ToolError(
            f"the servers' account cannot run the tools in {tools.folder}",
            hint="install PostgreSQL where every user can reach it",
        )
    origin = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    target = target.with_name(f"postgresql-{tools.version}-{origin}")
    # Programs of a wheel find their libraries beside the package that holds them, by a relative path.
    inside, libraries = Path(home.parent.name) / home.name, home.parent.with_name(f"{home.parent.name}.libs")
    if not (target / inside / "bin" / "postgres").exists():
        with _half_copy(target.parent) as half:
            whole = half / "whole"
            shutil.copytree(home, whole / inside, symlinks=True)
            if libraries.is_dir():
                shutil.copytree(libraries, whole / libraries.name, symlinks=True)
            try:
                whole.rename(target)
            except OSError:
                # Another process was quicker; what it left must be whole.
                if not (target / inside / "bin" / "postgres").exists():
                    raise
    return Tools.at(target / inside / "bin")


@contextmanager
def _half_copy(place: Path) -> Iterator[Path]:
    """A folder for a copy that is not whole yet, which a sweep leaves alone while this process lives."""
    with tempfile.TemporaryDirectory(prefix=_HALF, dir=place) as made:
        half = Path(made)
        lock = Lock.take(half / "lock", f"pid {os.getpid()}")
        if lock is None:
            raise ToolError(f"a sweep takes {half} away", hint="run it again")
        try:
            half.chmod(0o755)
            yield half
        finally:
            lock.release()


def half_copies() -> list[Path]:
    """Copies of tools that are not whole: one whose `lock` nobody holds was left by a process that was killed."""
    return sorted(_common().glob(f"{_HALF}*")) if _is_ours_alone(_common()) else []


def free_port() -> int:
    """A port that nobody listens on, from below those that the kernel gives to connections by itself.

    One of the kernel's own could be taken by any connection while the server is down. Worse: somebody who tries again
    and again to connect to it would one day be given it as his own end, and be connected to himself.
    """
    try:
        highest = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        highest = 32768
    for _ in range(_PORTS_TRIED):
        port = _LOWEST_PORT + secrets.randbelow(max(highest - _LOWEST_PORT, 1))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
