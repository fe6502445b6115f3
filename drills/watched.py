"""Children that are written to or read from while they work, through a pipe and with a deadline.

Owns the way of such a child from its start to its end. Guarantees that one which has not ended at its deadline is
stopped, politely and then not, whatever it waits for; that one which is let go is stopped before its input is closed,
so that it never takes what came for the whole; and that what it said is redacted in its log.
"""

from __future__ import annotations

import math
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from drills.errors import ToolError
from drills.processes import has_ended, plain_environment, redact_log, spawn, stop_process


class Watched:
    """A child at work."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path, before: int, deadline: float) -> None:
        self.process, self.name, self.log, self.deadline = process, name, log, deadline
        self.late = False
        self._before = before
        self._timer = threading.Timer(deadline, self._stop_late)
        self._timer.daemon = True

    @property
    def output(self) -> IO[bytes]:
        """What it writes, while it does."""
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        return self.process.stdout

    @property
    def input(self) -> IO[bytes]:
        """What it reads, until this is closed."""
        assert self.process.stdin is not None  # noqa: S101 - a pipe was asked for
        return self.process.stdin

    def said(self) -> str:
        """Beside its output, redacted."""
        return redact_log(self.log, self._before)

    def end(self, patience: float = math.inf, *, hint: str = "raise the timeout in the plan") -> int:
        """Its exit code. It has so many seconds to end by itself.

        Raises:
            ToolError: it did not, or its time was over; it is stopped.
        """
        by_itself = has_ended(self.process, patience)
        self.stop()
        if self.late:
            raise ToolError(f"{self.name} had not ended after {self.deadline:g} s and was stopped", hint=hint)
        if not by_itself:
            raise ToolError(f"{self.name} closed its pipe and did not end within {patience:g} s")
        return self.process.returncode

    def watch(self) -> None:
        """Its time begins."""
        self._timer.start()

    def stop(self) -> None:
        """End it and all that it started.

        Whoever is stopping it late is waited for: the number of a child that was reaped may be another's by now.
        """
        self._timer.cancel()
        if self._timer.is_alive():
            self._timer.join()
        stop_process(self.process)

    def _stop_late(self) -> None:
        self.late = True
        with suppress(ToolError):  # whoever lets it go tries again, and says so
            stop_process(self.process)


@contextmanager
def watched(
    arguments: Sequence[str],
    *,
    log: Path,
    deadline: float,
    environment: Mapping[str, str] | None = None,
    output: int | None = None,
    feed: int = subprocess.DEVNULL,
) -> Iterator[Watched]:
    """A child for as long as this context lasts, and no longer; `deadline` in seconds. For the rest, see `spawn`.

    Raises:
        ToolError: it could not be started, or cannot be stopped.
    """
    before = log.stat().st_size if log.exists() else 0
    process = spawn(arguments, environment=plain_environment(environment), log=log, output=output, feed=feed)
    child = Watched(process, Path(arguments[0]).name, log, before, deadline)
    try:
        child.watch()
        yield child
    finally:
        try:
            child.stop()
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            child.said()
