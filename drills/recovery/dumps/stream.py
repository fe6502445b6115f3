"""Recovery by pg_dump straight into pg_restore: no file is made, and production is read until the last row is loaded.

Guarantees that the copy is made of one exported snapshot; that pg_restore never takes a dump that broke off for a whole
one; and that every byte that it was given is in the digest.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from drills import plan
from drills.addresses import Address
from drills.errors import ToolError
from drills.processes import has_ended, plain_environment, redact_log, spawn, stop_process
from drills.records import Backup
from drills.recovery.base import Restore, Taken, Workspace, judge_log
from drills.recovery.dumps.dump import NOT_OURS, as_client, compress, restore_arguments
from drills.recovery.dumps.feeding import feed_tool
from drills.recovery.dumps.files import CHUNK, Through

_LAST = 60.0
"""Seconds within which pg_dump ends after its last byte."""
_NO_BACKUP = (
    "no backup was kept: production was read while the copy was loaded, so this drill says nothing about how long a"
    " recovery takes, nor about what would be lost"
)


@dataclass(frozen=True)
class Stream:
    """pg_dump into pg_restore, one of each, as the plan wants them."""

    plan: plan.Stream
    lock_wait_ms: int

    def copy(
        self, source: Address, snapshot: str, target: Address, *, owned: bool, workspace: Workspace
    ) -> tuple[Taken, Restore]:
        """Load what that snapshot of the source sees into the target.

        Raises:
            ToolError: one of the two failed or could not be run to its end; what it said is in the message.
        """
        begun = time.monotonic()
        arguments = (
            workspace.tools.program("pg_dump"),
            "--format=custom",
            f"--snapshot={snapshot}",
            f"--compress={compress('none', workspace.tools)}",
            f"--lock-wait-timeout={self.lock_wait_ms}",
            "--no-password",
        )
        log = workspace.logs / "pg_dump.log"
        with _dumping(arguments, source, workspace, self.plan.backup_timeout.total_seconds()) as dumping:
            pieces = dumping.pieces(workspace)
            done = feed_tool(
                restore_arguments(workspace, target, owned=owned),
                pieces,
                environment={**target.environment(), "PGAPPNAME": workspace.name},
                log=workspace.logs / "pg_restore.log",
                deadline=self.plan.restore_timeout.total_seconds(),
            )
            if done.code == 0:
                for _ in pieces:  # what it had no use for is part of the dump all the same
                    pass
        restored = judge_log(
            "pg_restore", done.said, done.code, self.plan.accept_warnings, workspace.logs / "pg_restore.log"
        )
        if not dumping.whole:
            raise ToolError(restored.reason, hint="all it said is in raw/pg_restore.log of the bundle")
        taken = judge_log("pg_dump", redact_log(log, 0), 0, self.plan.accept_warnings, log)
        backup = Backup(
            method=self.plan.method,
            path="a pipe from pg_dump to pg_restore",
            size=dumping.through.size,
            files=0,
            digest=dumping.through.digest,
            commands=(arguments,),
            seconds=round(time.monotonic() - begun, 6),
        )
        deviations = (_NO_BACKUP,) if owned else (_NO_BACKUP, NOT_OURS)
        return Taken(backup, taken), Restore((done.arguments,), done.seconds, deviations, restored)


@dataclass
class _Dumping:
    """pg_dump at work, and what of it came through."""

    process: subprocess.Popen[bytes]
    through: Through
    late: threading.Event = field(default_factory=threading.Event)
    whole: bool = False
    """It ended well, and everything that it wrote was read."""

    def pieces(self, workspace: Workspace) -> Iterator[bytes]:
        """The dump.

        Raises:
            ToolError: it did not end well. Nobody may take what came for the whole.
        """
        while data := self.through.read(CHUNK):
            workspace.progress(self.through.size, None, "bytes")
            yield data
        ended = has_ended(self.process, _LAST)
        code = self.process.wait() if ended else None
        if code != 0:
            log = workspace.logs / "pg_dump.log"
            said = judge_log("pg_dump", redact_log(log, 0), code or 1, (), log).reason
            how = "it had not ended at backup_timeout and was stopped" if self.late.is_set() else said
            raise ToolError(f"the dump broke off: {how}", hint="all it said is in raw/pg_dump.log of the bundle")
        self.whole = True


@contextmanager
def _dumping(arguments: tuple[str, ...], source: Address, workspace: Workspace, deadline: float) -> Iterator[_Dumping]:
    process = spawn(
        arguments,
        environment=plain_environment(as_client(source, workspace)),
        log=workspace.logs / "pg_dump.log",
        output=subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    dumping = _Dumping(process, Through(process.stdout))

    def stop_late() -> None:
        dumping.late.set()
        process.terminate()

    timer = threading.Timer(deadline, stop_late)
    timer.daemon = True
    timer.start()
    try:
        with process.stdout:
            yield dumping
    finally:
        timer.cancel()
        stop_process(process)
