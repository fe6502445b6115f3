"""Recovery by pg_dump and pg_restore, directory format, from one exported snapshot.

Guarantees that the dump holds exactly what the snapshot sees; that its files are digested before anything is restored
from them and digested again after, so that what was restored is what was taken.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from drills import plan
from drills.addresses import Address
from drills.backup_rows import TableRows
from drills.errors import ToolError
from drills.measures import Scan
from drills.processes import run_tool
from drills.records import Backup
from drills.recovery.base import Restore, Taken, Workspace, failure_of, judge_log
from drills.recovery.dumps.files import digest_file
from drills.recovery.dumps.rows import read_rows
from drills.sessions import tool_environment
from drills.tools import Tools

_COMPRESSION = {"none": "none", "gzip": "gzip:1", "lz4": "lz4", "zstd": "zstd:1"}
_READERS = min(os.cpu_count() or 1, 8)
"""Threads that digest files; hashing does not hold Python's lock."""
_METHODS_SINCE = 16
"""Before PostgreSQL 16, --compress takes a gzip level only."""
NOT_OURS = "owners and privileges were not restored: the staging server is not the drill's own"


@dataclass(frozen=True)
class Dump:
    """pg_dump -Fd and pg_restore, as the plan wants them."""

    plan: plan.Dump
    lock_wait_ms: int

    def back_up(self, source: Address, snapshot: str, workspace: Workspace) -> Taken:
        """Dump the source as that snapshot sees it.

        Raises:
            ToolError: pg_dump failed; what it said is in the message.
        """
        begun = time.monotonic()
        arguments = [
            workspace.tools.program("pg_dump"),
            "--format=directory",
            f"--jobs={self.plan.jobs}",
            f"--snapshot={snapshot}",
            f"--compress={compress(self.plan.compression, workspace.tools)}",
            f"--lock-wait-timeout={self.lock_wait_ms}",
            "--no-password",
            f"--file={workspace.backup}",
        ]
        done = run_tool(
            arguments,
            environment=tool_environment(source, workspace.name),
            log=workspace.logs / "pg_dump.log",
            deadline=self.plan.backup_timeout.total_seconds(),
            progress=lambda: workspace.progress(_size(workspace.backup), None, "bytes"),
        )
        log = judge_log("pg_dump", done.said, done.code, self.plan.accept_warnings, workspace.logs / "pg_dump.log")
        if done.code:
            raise failure_of(done, log)
        size, files, digest = digest_folder(workspace.backup)
        backup = Backup(
            method="dump",
            path=str(workspace.backup),
            size=size,
            files=files,
            digest=digest,
            commands=(done.arguments,),
            seconds=round(time.monotonic() - begun, 6),
        )
        return Taken(backup, log)

    def restore(self, backup: Backup, target: Address, *, owned: bool, workspace: Workspace) -> Restore:
        """Load the dump. Errors do not end it: everything that can be restored is, and every error is kept and judged.

        Raises:
            ToolError: the dump is not what was taken, or pg_restore could not be run to its end.
        """
        _, _, digest = digest_folder(workspace.backup)
        if digest != backup.digest:
            raise ToolError(
                f"the dump was changed after it was taken: expected digest {backup.digest}, got {digest}",
                hint="somebody or something writes to the drill's workspace, or its disk is failing",
            )
        arguments = [
            *restore_arguments(workspace, target, owned=owned),
            f"--jobs={self.plan.jobs}",
            str(workspace.backup),
        ]
        size = backup.size
        done = run_tool(
            arguments,
            environment={**target.environment(), "PGAPPNAME": workspace.name},
            log=workspace.logs / "pg_restore.log",
            deadline=self.plan.restore_timeout.total_seconds(),
            progress=lambda: workspace.progress(0, size, "bytes"),
        )
        log = judge_log(
            "pg_restore", done.said, done.code, self.plan.accept_warnings, workspace.logs / "pg_restore.log"
        )
        return Restore((done.arguments,), done.seconds, () if owned else (NOT_OURS,), log)

    def rows_of(
        self, scan: Scan, _buckets: Sequence[str], *, workspace: Workspace
    ) -> AbstractContextManager[TableRows]:
        """All rows of this table, streamed out of the dump (see `drills.backup_rows.GiveRows`)."""
        return read_rows(workspace, scan.namespace, scan.name, self.plan.restore_timeout.total_seconds())


def digest_folder(folder: Path) -> tuple[int, int, str]:
    """Bytes, number of files, and one digest over the sorted lines that `sha256sum *` would print."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_READERS, thread_name_prefix="digest") as readers:
        lines = [f"{digest}  {path.relative_to(folder)}\n"
                 for path, digest in zip(paths, readers.map(digest_file, paths), strict=True)]  # fmt: skip
    size = sum(path.stat().st_size for path in paths)
    return size, len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()


def compress(compression: str, tools: Tools) -> str:
    """What pg_dump is told by --compress.

    Raises:
        ToolError: this pg_dump cannot do so.
    """
    method = _COMPRESSION[compression]
    if tools.major >= _METHODS_SINCE:
        return method
    if compression in {"lz4", "zstd"}:
        raise ToolError(
            f"pg_dump {tools.version} knows no {compression}", hint="set recovery.compression to gzip or none"
        )
    return "0" if compression == "none" else "1"


def restore_arguments(workspace: Workspace, target: Address, *, owned: bool) -> list[str]:
    """pg_restore, and all it is told but from where."""
    return [
        workspace.tools.program("pg_restore"),
        "--no-password",
        "--no-tablespaces",
        *(["--create"] if owned else ["--no-owner", "--no-privileges"]),
        f"--dbname={target.parts['dbname']}",
    ]


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
