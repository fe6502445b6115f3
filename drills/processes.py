"""Child processes: PostgreSQL's programs, run so that nothing of them outlives this process or says a secret.

Guarantees that a child gets its password by environment and never by argument, dies when this process dies, ends at its
deadline, and has all it said kept, redacted, in a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from drills.errors import ToolError
from drills.places import Account
from drills.secrets import VAULT

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PROGRESS_EVERY = 0.1


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child needs and no more: no PG* variable of the person reaches it, and messages are in English."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "SSL_CERT_FILE") if key in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"} | dict(extra or {})


def spawn(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    account: Account | None = None,
    when_orphaned: signal.Signals = signal.SIGTERM,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that ends when this process does; what it says is added to `log`."""
    identity: dict[str, object] = {}
    if account is not None:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
    with log.open("ab") as output:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            list(arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), when_orphaned),  # noqa: PLW1509 - it only makes two system calls
            cwd=directory or "/",
            **identity,
        )


def _die_with(parent: int, sign: signal.Signals) -> Callable[[], None] | None:
    """Have the kernel signal the child when its parent dies (prctl(2)); a change of user clears it: it comes last."""
    if _LIBC is None:
        return None
    libc = _LIBC

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
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
) -> ToolRun:
    """Run a tool to its end; `deadline` in seconds. The exit code is for the caller to judge.

    Raises:
        ToolError: it could not be started, or had not ended at its deadline and was stopped.
    """
    name = Path(arguments[0]).name
    started = time.monotonic()
    before = log.stat().st_size if log.exists() else 0
    try:
        process = spawn(arguments, environment=plain_environment(environment), log=log, account=account)
    except OSError as error:
        raise ToolError(f"{name} could not be started: {error.strerror}") from None
    try:
        while True:
            try:
                code = process.wait(_PROGRESS_EVERY)
                break
            except subprocess.TimeoutExpired:
                if progress is not None:
                    progress()
                if time.monotonic() - started > deadline:
                    raise ToolError(
                        f"{name} had not ended after {deadline:g} s and was stopped",
                        hint="raise the timeout in the plan, or the jobs",
                    ) from None
    finally:
        stop_process(process)
        said = _redact_log(log, before)
    return ToolRun(tuple(arguments), code, round(time.monotonic() - started, 6), said)


def stop_process(process: subprocess.Popen[bytes], *, patience: float = 10) -> None:
    """End a child and everything below it: politely, then not."""
    if process.poll() is not None:
        return
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def _redact_log(log: Path, start: int) -> str:
    """What was said since `start`, with secrets masked in the file as well."""
    whole = log.read_bytes()
    text = whole[start:].decode("utf-8", "replace")
    masked = VAULT.redact(text)
    if masked != text:
        log.write_bytes(whole[:start] + masked.encode())
    return masked
