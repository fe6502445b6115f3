"""A program that reads what it is given, such as psql: fed, watched, and stopped when its time is over.

Guarantees that whatever goes wrong while it is fed ends it before it can take what came for the whole.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from drills.processes import ToolRun
from drills.watched import watched


def feed_tool(
    arguments: Sequence[str], pieces: Iterable[bytes], *, environment: Mapping[str, str], log: Path, deadline: float
) -> ToolRun:
    """Run a tool that reads these pieces from its standard input; `deadline` in seconds. For the rest, see `run_tool`.

    What the pieces raise stops it. A tool that ends early is not given the rest.

    Raises:
        ToolError: it could not be started, or had not ended at its deadline and was stopped.
    """
    started = time.monotonic()
    with watched(arguments, environment=environment, log=log, deadline=deadline, feed=subprocess.PIPE) as child:
        with suppress(BrokenPipeError):
            for piece in pieces:
                child.input.write(piece)
            child.input.close()
        code = child.end(hint="raise restore_timeout in the plan")
        seconds = round(time.monotonic() - started, 6)
        return ToolRun(tuple(arguments), code, seconds, child.said())
