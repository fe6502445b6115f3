"""Recovery by pg_dump straight into pg_restore: no file is made, and production is read until the last row is loaded.

Guarantees that the copy is made of one exported snapshot, which nobody needs any more once the last row is on its way;
that pg_restore never takes a dump that broke off for a whole one; and that every byte that it was given is in the
digest.
"""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from drills import plan
from drills.addresses import Address
from drills.errors import ToolError
from drills.records import Backup
from drills.recovery.base import Progress, Restore, Taken, ToolLog, Workspace, judge_log
from drills.recovery.dumps.dump import NOT_OURS, compress, restore_arguments
from drills.sessions import tool_environment
from drills.watched import Watched, watched

_CHUNK = 1 << 20
"""Bytes; as many as the pipes hold."""
_LAST = 60.0
"""Seconds within which pg_dump ends after its last byte."""
_TELL_EVERY = 0.1
_LOOK_EVERY = 1000
"""Milliseconds that nothing may come before somebody looks whether the drill is still on."""
_NO_BACKUP = (
    "no backup was kept: production was read while the copy was loaded, so this drill says nothing about how long a"
    " recovery takes, nor about what would be lost"
)


@dataclass(frozen=True)
class Stream:
    """pg_dump into pg_restore, one of each, as the plan wants them."""

    plan: plan.Stream
    lock_wait_ms: int

    @contextmanager
    def loading(self, target: Address, *, owned: bool, workspace: Workspace) -> Iterator[Loading]:
        """pg_restore, which waits for what it is to load; stopped when it is let go."""
        arguments = (*restore_arguments(workspace, target, owned=owned),)
        with watched(
            arguments,
            environment={**target.environment(), "PGAPPNAME": workspace.name},
            log=workspace.logs / "pg_restore.log",
            deadline=self.plan.restore_timeout.total_seconds(),
            feed=subprocess.PIPE,
        ) as restoring:
            yield Loading(self, restoring, arguments, time.monotonic(), owned, workspace)


@dataclass
class Loading:
    """pg_restore at work, and what it is given."""

    stream: Stream
    restoring: Watched
    arguments: tuple[str, ...]
    begun: float
    owned: bool
    workspace: Workspace
    failed: ToolLog | None = None
    """What pg_restore said, where it failed before it had all of the dump."""

    def take(self, source: Address, snapshot: str, progress: Progress) -> Taken:
        """Dump what that snapshot of the source sees, all of it into pg_restore. Then nobody needs the snapshot.

        Raises:
            ToolError: the dump did not come to its end, or pg_restore ended before; what it said is in the message.
        """
        begun, wish = time.monotonic(), self.stream.plan
        arguments = (
            self.workspace.tools.program("pg_dump"),
            "--format=custom",
            f"--snapshot={snapshot}",
            f"--compress={compress('none', self.workspace.tools)}",
            f"--lock-wait-timeout={self.stream.lock_wait_ms}",
            "--no-password",
        )
        with watched(
            arguments,
            environment=tool_environment(source, self.workspace.name),
            log=self.workspace.logs / "pg_dump.log",
            deadline=wish.backup_timeout.total_seconds(),
            output=subprocess.PIPE,
        ) as dumping:
            size, digest = self._hand_over(dumping, progress)
            _refuse_broken_off(dumping)
            log = judge_log("pg_dump", dumping.said(), 0, wish.accept_warnings, dumping.log)
        self.restoring.input.close()  # not before the dump is known to be whole
        backup = Backup(
            method=wish.method,
            path="a pipe from pg_dump to pg_restore",
            size=size,
            files=0,
            digest=digest,
            commands=(arguments,),
            seconds=round(time.monotonic() - begun, 6),
        )
        return Taken(backup, log)

    def finish(self) -> Restore:
        """Wait until pg_restore has made what comes after the rows, such as indexes.

        Raises:
            ToolError: it had not ended in time.
        """
        code = self._end()
        seconds = round(time.monotonic() - self.begun, 6)
        deviations = (_NO_BACKUP,) if self.owned else (_NO_BACKUP, NOT_OURS)
        return Restore((self.arguments,), seconds, deviations, self._judge(code))

    def _hand_over(self, dumping: Watched, progress: Progress) -> tuple[int, str]:
        """Everything that pg_dump writes, to its last byte: how much it was, and its SHA-256."""
        digest, size, told = hashlib.sha256(), 0, 0.0
        room = memoryview(bytearray(_CHUNK))
        reading, writing = dumping.output.fileno(), self.restoring.input.fileno()
        waiting = select.poll()
        waiting.register(reading, select.POLLIN)
        waiting.register(writing, 0)  # tells when nobody reads any more
        wanted = True
        while True:
            ready = dict(waiting.poll(_LOOK_EVERY))
            if time.monotonic() - told > _TELL_EVERY:
                progress(size, None, "bytes")
                told = time.monotonic()
            if writing in ready:
                self._refuse_failed()
                waiting.unregister(writing)
                wanted = False  # what it had no use for is part of the dump all the same
            if reading in ready:
                piece = room[: os.readv(reading, [room])]
                if not piece:
                    return size, digest.hexdigest()
                size += len(piece)
                digest.update(piece)
                if wanted:
                    _write(writing, piece)

    def _refuse_failed(self) -> None:
        """It reads no more: that is in order where it ended well.

        Raises:
            ToolError: it did not.
        """
        code = self._end()
        if code:
            self.failed = self._judge(code)
            raise ToolError(self.failed.reason, hint="all it said is in raw/pg_restore.log of the bundle")

    def _end(self) -> int:
        return self.restoring.end(hint="raise recovery.restore_timeout in the plan")

    def _judge(self, code: int) -> ToolLog:
        restoring, accepted = self.restoring, self.stream.plan.accept_warnings
        return judge_log("pg_restore", restoring.said(), code, accepted, restoring.log)


def _write(pipe: int, piece: memoryview) -> None:
    """All of it, unless nobody reads any more; the next look tells that."""
    try:
        while piece:
            piece = piece[os.write(pipe, piece) :]
    except BrokenPipeError:
        return


def _refuse_broken_off(dumping: Watched) -> None:
    """Nobody may take what came for the whole of a dump that did not end well."""
    try:
        code = dumping.end(_LAST, hint="raise recovery.backup_timeout in the plan")
    except ToolError as error:
        raise ToolError(f"the dump broke off: {error.message}", hint=error.hint) from None
    if code:
        said = judge_log("pg_dump", dumping.said(), code, (), dumping.log).reason
        raise ToolError(f"the dump broke off: {said}", hint="all it said is in raw/pg_dump.log of the bundle")
