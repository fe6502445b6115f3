"""Who servers run as, and places where that account can get to.

PostgreSQL refuses to run as root, so a root's servers run as somebody who may not pass everywhere. Refuses to open
folders of other people; guarantees that what is put elsewhere instead is root's alone to write.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ToolError
from drills.tools import Tools


@dataclass(frozen=True)
class Account:
    """The operating-system user that servers run as; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Whom servers run as: `postgres` where there is one, else `nobody`. None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ToolError(
        "running as root, and there is no user `postgres` or `nobody` to run servers as", hint="run as an ordinary user"
    )


def reachable(path: Path) -> bool:
    """Whether the servers' account can get to this path: every folder above it lets others pass."""
    account = server_account()
    if account is None:
        return True
    for folder in (path, *path.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        owner, group = found.st_uid == account.uid, found.st_gid == account.gid
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
    common = Path("/var/tmp") / f"drillbook-{os.geteuid()}"  # noqa: S108 - refused below unless it is ours alone
    common.mkdir(mode=0o755, exist_ok=True)
    found = common.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ToolError(f"{common} is not ours alone", hint="somebody else made it; remove it, or set DRILLBOOK_HOME")
    return common / f"{folder.parent.name}-{folder.name}"


def server_tools(tools: Tools) -> Tools:
    """The same tools at a place where the servers' account can run them: copied there, once a version, if need be."""
    target = open_place(tools.folder.parent)
    if target == tools.folder.parent:
        return tools
    target = target.with_name(f"postgresql-{tools.version}")
    if not (target / "bin" / "postgres").exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as half:
            Path(half).chmod(0o755)
            shutil.copytree(tools.folder.parent, Path(half) / "whole", symlinks=True)
            try:
                (Path(half) / "whole").rename(target)
            except OSError:
                # Another process was quicker; what it left must be whole.
                if not (target / "bin" / "postgres").exists():
                    raise
    return Tools.at(target / "bin")
