"""Programs that a plan names, run against the copy: its commands, and the application itself.

Guarantees that they find the copy by environment and nobody finds a password in their arguments; that nothing of them
is left when they are done with, be it that they ignore SIGTERM, let go of their children or clear their environment;
and that what they said is kept, redacted: a bundle never holds what nobody could mask any more. After a drill that was
itself killed, only those are found whose environment can be read and still holds the mark. They run as the account of
the drill: a plan is reviewed like any other code.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from drills.processes import has_ended, plain_environment, spawn, stop_process
from drills.records import file_name
from drills.secrets import VAULT

_MARK = "DRILLBOOK_PROBE"
"""A variable that whatever a program starts inherits: by it those are found who left their parent."""
_UNMASKED = ".unmasked"
"""What the name of a log ends with while its program runs."""
_LEFT_OUT = "[left out: the drill was killed while this program ran, and nobody can mask the secrets in what it said]\n"
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_BODY = 1_000_000
_ATTEMPTS = 5
_DEATH_DEADLINE = 10.0


@dataclass(frozen=True)
class Applications:
    """Runs programs against one copy, as `drills.probes.Probe`."""

    copy: Address | Callable[[], Address]
    """Where it is; asked for every program where that does not stay good."""
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
        until = time.monotonic() + limit
        late = NoReply(f"no whole answer within {limit:.1f} s")
        try:
            connection.connect()
            with _cut_off(connection.sock, max(until - time.monotonic(), 0)) as cut:
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
        unmasked, before = log.with_name(log.name + _UNMASKED), log.stat().st_size if log.exists() else 0
        with _adopting() as end_adopted:
            try:
                process = spawn(
                    [program, *arguments[1:]], environment=environment, log=unmasked, directory=self.directory
                )
                try:
                    yield _Running(process, unmasked, log, before, port)
                finally:
                    stop_process(process)
                    _end_marked(mark)
                    end_adopted()
            finally:
                _keep_masked(unmasked, log)

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
        copy = self.copy if isinstance(self.copy, Address) else self.copy()
        return {**copy.environment(), "DATABASE_URL": database_url(copy)}


@dataclass(frozen=True)
class _Running:
    """A program at work, as `drills.probes.Served`."""

    process: subprocess.Popen[bytes]
    unmasked: Path
    """What it says, for as long as it runs."""
    log: Path
    """What it and those before it have said, masked."""
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
        running = self.unmasked.exists()
        said = self.unmasked.read_bytes() if running else self.log.read_bytes()[self.begin :]
        return VAULT.redact(said.decode("utf-8", "replace"))


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


def leave_out_unmasked(logs: Path) -> None:
    """For whoever closes a killed drill: a sentence for what its last program said, before the bundle is made.

    The password of a cluster that the drill made itself was known to the drill alone.
    """
    for unmasked in logs.glob(f"smoke-*.log{_UNMASKED}"):
        with unmasked.with_name(unmasked.name.removesuffix(_UNMASKED)).open("a") as log:
            log.write(_LEFT_OUT)
        unmasked.unlink()


def _keep_masked(unmasked: Path, log: Path) -> None:
    """What a program said, masked, at the end of its log; where it was not started there is nothing to keep."""
    if unmasked.exists():
        said = VAULT.redact(unmasked.read_bytes().decode("utf-8", "replace"))
        with log.open("a", encoding="utf-8") as kept:
            kept.write(said)
        unmasked.unlink()


def end_applications(drill: str) -> None:
    """End every program that this drill ran against its copy: for whoever sweeps after it was killed.

    Found by their environment; one that has cleared it, or may not be looked at, is not.

    Raises:
        ToolError: one of them cannot be killed.
    """
    _end_marked(f"{drill}/")


@contextmanager
def _adopting() -> Iterator[Callable[[], None]]:
    """While this lasts, whoever loses its parent below this process becomes its child (prctl(2)).

    Gives what ends those that it has adopted: all its children that it did not have before. So nothing else may be
    started meanwhile, and nothing else of the drill is at work in the round of the programs.
    """
    before = {*psutil.Process().children()}
    was = ctypes.c_int(0)
    if _LIBC is not None:
        _LIBC.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield lambda: _end_all(lambda: _adopted(before))
    finally:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


def _adopted(before: set[psutil.Process]) -> list[psutil.Process]:
    """The children that were not there before, and theirs."""
    found = [child for child in psutil.Process().children() if child not in before]
    for child in tuple(found):
        with contextlib.suppress(psutil.Error):
            found += child.children(recursive=True)
    return found


def _end_marked(mark: str) -> None:
    _end_all(lambda: [process for process in psutil.process_iter() if _marked(process, mark)])


def _end_all(find: Callable[[], list[psutil.Process]]) -> None:
    """SIGKILL to everything that is found, until there is nothing.

    Raises:
        ToolError: one of them cannot be killed.
    """
    for _ in range(_ATTEMPTS):
        left = find()
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
