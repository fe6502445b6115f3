"""Every contender is a child process: how long it took, what it computed and how much memory it held.

Guarantees that a child that takes too long, or more memory than there is, is ended with all that it started, and that
nothing which is written down says where on this machine things lie.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from drills.processes import has_ended, last_words, plain_environment, redact_log, spawn, stop_process

_LOOK_EVERY = 0.05
"""Seconds."""
_MEMORY_SHARE = 0.85
"""Of what is free when a child is started: what it may take."""
_MEGABYTE = 2**20
_PLACES = re.compile(r"\w+://[^\s'\"]+|(?:/[\w.+@-]+){2,}/?")


class ChildError(Exception):
    """A child did not come to a good end; the message is fit for the document."""


class TooSlow(ChildError):  # noqa: N818 - it is reported, not raised further
    """It was ended at its time limit."""


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    seconds: float
    cpu: float
    """Seconds, of it and of the children that it waited for."""
    peak: float
    """MB that were resident at most, in it and its children together."""
    said: str
    """What it wrote."""


def run_child(
    arguments: Sequence[str],
    *,
    log: Path,
    limit: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Ended:
    """Run it to its end; `limit` in seconds. The exit code is for the caller to judge.

    Raises:
        TooSlow: it took longer than that.
        ChildError: it took too much memory.
        ToolError: it could not be started.
    """
    ceiling = psutil.virtual_memory().available * _MEMORY_SHARE / _MEGABYTE
    before = log.stat().st_size if log.exists() else 0
    started = time.monotonic()
    process = spawn(arguments, environment=plain_environment(environment), log=log, directory=directory)
    try:
        peaks: dict[int, float] = {}
        while not has_ended(process, _LOOK_EVERY):
            peaks |= _peaks(process.pid)
            if time.monotonic() - started > limit:
                raise TooSlow(f"over {limit:.0f} s")
            if sum(peaks.values()) > ceiling:
                raise ChildError(f"ended when it held {ceiling:.0f} MB of memory")
        seconds = time.monotonic() - started
        # It is not reaped yet, so that the kernel still knows what it computed.
        times = psutil.Process(process.pid).cpu_times()
    finally:
        stop_process(process)
        said = redact_log(log, before)
    cpu = times.user + times.system + times.children_user + times.children_system
    return Ended(process.returncode, seconds, cpu, sum(peaks.values()), said)


def without_places(text: str) -> str:
    """The same text with no path and no address in it, cut to what a table can hold."""
    return _PLACES.sub("…", text)[:300]


def last_word(said: str) -> str:
    """The last line that says something, fit for the document."""
    return without_places(last_words(said))


def _peaks(pid: int) -> dict[int, float]:
    """The most that each process of a family has held so far, in MB, as the kernel counts it."""
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        for member in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
            match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{member}/status").read_text())
            if match:
                found[member] = int(match[1]) / 1024
    return found
