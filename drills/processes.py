"""Child processes: PostgreSQL's programs, run so that nothing of them outlives this process or says a secret.

Guarantees that a child gets its password by environment and never by argument, dies when this process dies, ends at its
deadline with all that it started, and has what it said kept, redacted, in a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from drills.errors import ToolError
from drills.places import Account
from drills.secrets import VAULT

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PROGRESS_EVERY = 0.1
_PROGRESS_SHARE = 20
"""Looking how far a tool is takes so many times less than what lies between: it may walk through all it has written."""
_DEATH_DEADLINE = 30.0
_LONGEST_WAIT = 3600.0
"""Seconds; poll(2) counts milliseconds in 32 bits."""
_PIPE = 1 << 20
"""Bytes that a pipe holds: what a kernel gives to everybody, and fewer changes between two processes."""
_STARTERS: dict[int, ThreadPoolExecutor] = {}
"""Threads that start children, by process: a fork has no threads but the one that made it."""


def plain_environment(extra: Mapping[str, str] | None = None, account: Account | None = None) -> dict[str, str]:
    """What a child needs and no more: no PG* variable of the person reaches it, and messages are in English.

    One that runs as an account has that one's home: libpq looks there for certificates, and gives up where it may not.
    """
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE") if key in os.environ}
    home = {} if account is None else {"HOME": account.home}
    return kept | home | {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"} | dict(extra or {})


def spawn(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    account: Account | None = None,
    when_orphaned: signal.Signals = signal.SIGTERM,
    directory: Path | None = None,
    output: int | None = None,
    feed: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a child that ends when this process does; what it says is added to `log`.

    What it writes to its standard output goes there too, unless `output` says where, such as subprocess.PIPE. It reads
    nothing, unless `feed` is an open file.

    Raises:
        ToolError: it could not be started.
    """
    try:
        return _in_lasting_thread(
            lambda: _start(arguments, environment, log, account, when_orphaned, directory, output, feed)
        )
    except OSError as error:
        raise ToolError(f"{Path(arguments[0]).name} could not be started: {error.strerror}") from None


def _in_lasting_thread(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a child from a thread that lasts as long as this process.

    For the kernel a child's parent is the thread that made it, and that thread's end is the parent's death (prctl(2)).
    A server that the thread of one task has started must outlive it.
    """
    if threading.current_thread() is threading.main_thread():
        return start()
    starter = _STARTERS.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="starter"))
    return starter.submit(start).result()


def _start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    account: Account | None,
    when_orphaned: signal.Signals,
    directory: Path | None,
    output: int | None,
    feed: int,
) -> subprocess.Popen[bytes]:
    identity: dict[str, object] = {}
    if account is not None:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    # A Ctrl-C that arrives while Python forks is raised in a callback that throws it away, so it has to wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with log.open("ab") as said:
            return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
                list(arguments),
                env=dict(environment),
                stdin=feed,
                stdout=said if output is None else output,
                stderr=said,
                start_new_session=True,
                preexec_fn=_prepare(os.getpid(), when_orphaned, before),  # noqa: PLW1509 - only system calls
                cwd=directory or "/",
                pipesize=_PIPE,
                **identity,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(parent: int, sign: signal.Signals, mask: Iterable[int]) -> Callable[[], None]:
    """What the child does before it becomes the program.

    It listens to signals again, and has the kernel signal it when its parent dies (prctl(2)). A change of user clears
    that, so it comes last.
    """

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its environment may hold a password
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


@dataclass(frozen=True)
class ToolRun:
    """How a tool ended, and what it said."""

    arguments: tuple[str, ...]
    code: int
    seconds: float
    said: str
    """Standard output and error, redacted."""


def run_tool(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    deadline: float,
    account: Account | None = None,
    progress: Callable[[], None] | None = None,
    told: str = "",
) -> ToolRun:
    """Run a tool to its end; `deadline` in seconds. The exit code is for the caller to judge.

    It reads what it is `told`, a few lines, from its standard input.

    Raises:
        ToolError: it could not be started, or had not ended at its deadline and was stopped.
    """
    started = time.monotonic()
    before = log.stat().st_size if log.exists() else 0
    whole = plain_environment(environment, account)
    with _pipe_holding(told) as feed:
        process = spawn(arguments, environment=whole, log=log, account=account, feed=feed)
    try:
        pause = _PROGRESS_EVERY
        while not has_ended(process, max(min(pause, started + deadline - time.monotonic()), 0)):
            looked = time.monotonic()
            if progress is not None:
                progress()
                pause = max(_PROGRESS_EVERY, _PROGRESS_SHARE * (time.monotonic() - looked))
            if time.monotonic() - started > deadline:
                raise ToolError(
                    f"{Path(arguments[0]).name} had not ended after {deadline:g} s and was stopped",
                    hint="raise the timeout in the plan, or the jobs",
                )
        seconds = round(time.monotonic() - started, 6)
    finally:
        stop_process(process)
        said = redact_log(log, before)
    return ToolRun(tuple(arguments), process.returncode, seconds, said)


@contextlib.contextmanager
def _pipe_holding(text: str) -> Iterator[int]:
    """The reading end of a pipe that has this in it and then ends: no file ever holds it."""
    if not text:
        yield subprocess.DEVNULL
        return
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as end:
            end.write(text.encode())
        yield reading
    finally:
        os.close(reading)


def has_ended(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Whether it ends within so many seconds. It is not reaped, so that nobody else gets its number meanwhile."""
    if process.returncode is not None:
        return True
    until = time.monotonic() + patience
    pause = 0.0005
    with contextlib.suppress(ChildProcessError):  # somebody else reaped it
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            left = until - time.monotonic()
            if left <= 0:
                return False
            if not _await_end(process.pid, left):
                time.sleep(min(pause, left))
                pause = min(pause * 2, 0.05)
    return True


def _await_end(pid: int, patience: float) -> bool:
    """Wait until it ends or that many seconds are over (pidfd_open(2)); False where the kernel cannot tell."""
    if sys.platform != "linux":
        return False
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        ending = select.poll()
        ending.register(handle, select.POLLIN)
        ending.poll(math.ceil(min(patience, _LONGEST_WAIT) * 1000))
    finally:
        os.close(handle)
    return True


def stop_process(process: subprocess.Popen[bytes], *, patience: float = 10) -> None:
    """End a child and everything it started: politely, then not. What it left when it ended by itself goes too.

    Raises:
        ToolError: it cannot be killed.
    """
    if process.returncode is not None:
        return
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    if not has_ended(process, 0):
        process.send_signal(signal.SIGTERM)
        has_ended(process, patience)
    # `spawn` gave it a group of its own; a group's number is not given away before its leader is reaped.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    try:
        process.wait(_DEATH_DEADLINE)
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"process {process.pid} cannot be killed", hint="it hangs in the kernel: is a disk or a network drive away?"
        ) from None


def redact_log(log: Path, start: int) -> str:
    """What was said since `start`, with secrets masked in the file as well."""
    whole = log.read_bytes()
    text = whole[start:].decode("utf-8", "replace")
    masked = VAULT.redact(text)
    if masked != text:
        log.write_bytes(whole[:start] + masked.encode())
    return masked


def last_words(text: str) -> str:
    """The last line that says what is wrong.

    A server that is going down tells everybody who knocks that it does ("the database system is in recovery mode");
    what it went down of was said before.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    marked = [line for line in lines if re.search("PANIC|FATAL|ERROR|error:", line)]
    causes = [line for line in marked if "the database system is" not in line]
    return (causes or marked or lines or ["it said nothing"])[-1].strip()
