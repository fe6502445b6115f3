"""Programs that a plan names, run against the copy: its commands, and the application itself.

Guarantees that they find the copy by environment and nobody finds a password in their arguments; that nothing of them
is left when they are done with, be it that they ignore SIGTERM or let go of their children; and that what they said is
kept, redacted. They run as the account of the drill: a plan is reviewed like any other code.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import psutil

from drills.addresses import Address
from drills.errors import CheckError, ToolError
from drills.places import free_port
from drills.probes import NoReply, Ran, Reply
from drills.processes import has_ended, plain_environment, redact_log, spawn, stop_process
from drills.records import file_name
from drills.secrets import VAULT

_MARK = "DRILLBOOK_PROBE"
"""A variable that whatever a program starts inherits: by it those are found who left their parent."""
_BODY = 1_000_000
_ATTEMPTS = 5
_DEATH_DEADLINE = 10.0


@dataclass(frozen=True)
class Applications:
    """Runs programs against one copy, as `drills.probes.Probe`."""

    copy: Address
    drill: str
    """Its id, by which `end_applications` finds what a killed drill left."""
    logs: Path
    """The folder for what they say."""
    directory: Path
    """Where they run."""

    def run(self, name: str, arguments: Sequence[str], limit: float) -> Ran:
        """Run a command to its end, for so many seconds at most.

        Raises:
            CheckError: there is no such program.
            ToolError: it could not be started, or cannot be stopped.
        """
        with self._running(name, arguments, {}) as running:
            started = time.monotonic()
            in_time = has_ended(running.process, limit)
            seconds = round(time.monotonic() - started, 6)
        return Ran(running.process.returncode if in_time else None, seconds, running.said())

    @contextmanager
    def serving(self, name: str, arguments: Sequence[str]) -> Iterator[_Running]:
        """An application that runs for as long as this context lasts.

        Raises:
            CheckError: there is no such program.
            ToolError: it could not be started, or cannot be stopped.
        """
        port = free_port()
        with self._running(name, arguments, {"PORT": str(port)}, port) as running:
            yield running

    def get(self, url: str, limit: float) -> Reply | NoReply:
        """One GET, answered in full within so many seconds. No proxy is asked, no redirect followed."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=limit)
        late = NoReply(f"no whole answer within {limit:.1f} s")
        try:
            connection.connect()
            with _cut_off(connection.sock, limit) as cut:
                connection.request("GET", target, headers={"User-Agent": "drillbook", "Connection": "close"})
                response = connection.getresponse()
                body = response.read(_BODY)
        except TimeoutError:
            return late
        except (OSError, HTTPException, ValueError) as error:
            return NoReply(VAULT.redact(f"{type(error).__name__}: {error}"))
        finally:
            connection.close()
        return late if cut.is_set() else Reply(response.status, VAULT.redact(body.decode("utf-8", "replace")))

    @contextmanager
    def _running(
        self, name: str, arguments: Sequence[str], extra: Mapping[str, str], port: int = 0
    ) -> Iterator[_Running]:
        mark = f"{self.drill}/{secrets.token_hex(8)}"
        environment = plain_environment({**self._environment(), **extra, _MARK: mark})
        program = self._find(arguments[0], environment.get("PATH", os.defpath))
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"smoke-{file_name(name)}.log"
        before = log.stat().st_size if log.exists() else 0
        process = spawn([program, *arguments[1:]], environment=environment, log=log, directory=self.directory)
        try:
            yield _Running(process, log, before, port)
        finally:
            try:
                stop_process(process)
                _end_marked(mark)
            finally:
                redact_log(log, before)

    def _find(self, program: str, path: str) -> str:
        """The program's path: by PATH, or where it has a slash by the directory that it runs in."""
        found = shutil.which(str(self.directory / program) if "/" in program else program, path=path)
        if found is None:
            raise CheckError(
                f"there is no program {program}",
                hint="install it where the drill runs, or give its full path in the plan",
            )
        return str(Path(found).absolute())

    def _environment(self) -> dict[str, str]:
        return {**self.copy.environment(), "DATABASE_URL": database_url(self.copy)}


@dataclass(frozen=True)
class _Running:
    """A program at work, as `drills.probes.Served`."""

    process: subprocess.Popen[bytes]
    log: Path
    begin: int
    """Where in the log its own words begin."""
    port: int

    def ended(self) -> int | None:
        """Its exit code, where it has ended. It is not reaped: `stop_process` would not look for its children."""
        if self.process.returncode is None and has_ended(self.process, 0):
            with contextlib.suppress(ChildProcessError):
                found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is not None:
                    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self.process.returncode

    def said(self) -> str:
        """What it has said so far, redacted."""
        return VAULT.redact(self.log.read_bytes()[self.begin :].decode("utf-8", "replace"))


def database_url(address: Address) -> str:
    """The address with its password, as most applications take it (DATABASE_URL). Never to be shown."""
    parts = dict(address.parts)
    user, database = parts.pop("user", ""), parts.pop("dbname")
    secret = f":{quote(address.password, safe='')}" if address.password else ""
    host = parts.get("host", "")
    where = ""
    if host and "/" not in host and "," not in host:
        where = f"[{host}]" if ":" in host else host
        where += f":{parts.pop('port')}" if parts.get("port") else ""
        del parts["host"]
    told = (
        f"postgresql://{quote(user, safe='')}{secret}{'@' if user or secret else ''}{where}/{quote(database, safe='')}"
    )
    return told + (f"?{urlencode(parts, quote_via=quote)}" if parts else "")


def end_applications(drill: str) -> None:
    """End every program that this drill ran against its copy: for whoever sweeps after it was killed.

    Raises:
        ToolError: one of them cannot be killed.
    """
    _end_marked(f"{drill}/")


def _end_marked(mark: str) -> None:
    """SIGKILL to everything whose environment says this mark, until there is nothing."""
    for _ in range(_ATTEMPTS):
        left = [process for process in psutil.process_iter() if _marked(process, mark)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_DEATH_DEADLINE)
    raise ToolError(f"a program cannot be killed, or keeps starting others: process {left[0].pid}")


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        there = process.environ().get(_MARK, "").startswith(mark)
        return there and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError, ValueError):
        return False


@contextmanager
def _cut_off(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """The connection ends after so many seconds, however slowly an answer drips in; the event says that it did.

    A time limit of the socket's own holds for each piece anew.
    """
    cut = threading.Event()

    def cut_it() -> None:
        cut.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut_it)
    timer.daemon = True
    timer.start()
    try:
        yield cut
    finally:
        timer.cancel()
