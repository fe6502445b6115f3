"""A program that reads what it is given, such as psql: fed, watched, and stopped when its time is over.

Guarantees that whatever goes wrong while it is fed ends it before it can take what came for the whole.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from drills.errors import ToolError
from drills.processes import ToolRun, has_ended, plain_environment, redact_log, spawn, stop_process


def feed_tool(
    arguments: Sequence[str], pieces: Iterable[bytes], *, environment: Mapping[str, str], log: Path, deadline: float
) -> ToolRun:
    """Run a tool that reads these pieces from its standard input; `deadline` in seconds. For the rest, see `run_tool`.

    What the pieces raise stops it. A tool that ends early is not given the rest.

    Raises:
        ToolError: it could not be started, or had not ended at its deadline and was stopped.
    """
    started = time.monotonic()
    before = log.stat().st_size if log.exists() else 0
    process = spawn(arguments, environment=plain_environment(environment), log=log, feed=subprocess.PIPE)
    late = threading.Event()

    def stop_late() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(deadline, stop_late)
    timer.daemon = True
    timer.start()
    try:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):
            for piece in pieces:
                process.stdin.write(piece)
            process.stdin.close()
        while not has_ended(process, deadline) and not late.is_set():
            continue
        seconds = round(time.monotonic() - started, 6)
    except BaseException:
        process.kill()  # at the end of its input it would commit what it has
        raise
    finally:
        timer.cancel()
        stop_process(process)
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        said = redact_log(log, before)
    if late.is_set():
        name = Path(arguments[0]).name
        raise ToolError(
            f"{name} had not ended after {deadline:g} s and was stopped", hint="raise restore_timeout in the plan"
        )
    return ToolRun(tuple(arguments), process.returncode, seconds, said)
