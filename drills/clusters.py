"""Servers of our own: making, starting, killing and destroying PostgreSQL clusters.

Owns the data directories under a drill's workspace. Refuses to run a server as root. Guarantees that a server listens
on the loopback address alone, asks for a password, dies with this process, and that `destroy_cluster` needs nothing
but the folder: whoever sweeps after a killed drill uses the same function as the drill itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from drills.addresses import Address
from drills.errors import ClusterError, ConnectError
from drills.places import Account, server_account, server_tools
from drills.processes import plain_environment, run_tool, spawn
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.tools import Tools

SUPERUSER = "drillbook"
_POLL = 0.02
_START_DEADLINE = 120.0
_STOP_DEADLINE = 60.0
_BUSY_PORT = "could not bind"
_PROGRAMS = {"postgres", "initdb", "pg_dump", "pg_restore", "pgbench", "psql"}

QUARANTINE = {
    "archive_mode": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_logical_replication_workers": "0",
    "shared_preload_libraries": "",
}
"""A copy reaches nobody, and nobody but this machine reaches it."""


@dataclass
class Cluster:
    """A server of ours. Its folder holds `data/` and `log`."""

    folder: Path
    tools: Tools
    account: Account | None
    password: str = field(repr=False)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "log"

    def address(self, database: str = "postgres") -> Address:
        """How to reach it as its superuser."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "user": SUPERUSER,
            "dbname": database,
            "sslmode": "disable",
        }
        return Address(parts, self.password)

    def start(self, settings: Mapping[str, str], *, deadline: float = _START_DEADLINE) -> None:
        """Start it and wait until it answers; `deadline` in seconds.

        Raises:
            ClusterError: it ended, or did not answer in time; its last words are in the message.
        """
        until = time.monotonic() + deadline
        while True:
            said = self._log_size()
            self.port = self.port or _free_port()
            chosen = {**settings, **QUARANTINE, "port": str(self.port)}
            options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
            self.process = spawn(
                [self.tools.program("postgres"), "-D", str(self.data), *options],
                environment=plain_environment(),
                log=self.log,
                account=self.account,
                when_orphaned=signal.SIGQUIT,
            )
            if self._answers(until):
                return
            words = self._words(said)
            self.kill()
            if _BUSY_PORT in words and time.monotonic() < until:
                self.port = 0  # somebody was quicker; another one
                continue
            raise ClusterError(
                f"the server in {self.folder} did not start: {_last(words)}", hint=f"its log is {self.log}"
            )

    def _answers(self, until: float) -> bool:
        """Wait until it answers with the identifier of its own data directory; False when it ended or time is up."""
        process = self.process
        while process is not None and process.poll() is None and time.monotonic() < until:
            try:
                connection = connect(
                    self.address(), name="drillbook start", access=Access.READ_ONLY, limits=STAGING_LIMITS
                )
            except ConnectError:
                time.sleep(_POLL)
                continue
            with contextlib.closing(connection):
                row = connection.execute("SELECT current_setting('data_directory')").fetchone()
                return row is not None and Path(row[0]).samefile(self.data)
        return False

    def stop(self) -> None:
        """End it in good order: sessions are cut, a checkpoint is written."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"the server in {self.folder} had not stopped after {_STOP_DEADLINE:g} s", hint=f"its log is {self.log}"
            ) from None
        self.process = None

    def kill(self) -> None:
        """SIGKILL to every process of the server at once, as a lost machine would."""
        if self.process is not None and self.process.poll() is None:
            _kill_family(self.process.pid)
        self.reap()

    def reap(self) -> None:
        """Take note that the server has ended; until its parent has, the kernel keeps it as a zombie."""
        if self.process is not None:
            self.process.wait(_STOP_DEADLINE)
            self.process = None

    def destroy(self) -> None:
        """End it and remove its folder."""
        destroy_cluster(self.folder)
        self.reap()

    def sync(self) -> None:
        """Put what a server without fsync wrote on disk. The server is stopped."""
        done = run_tool(
            [self.tools.program("initdb"), "--sync-only", "-D", str(self.data)],
            environment={},
            log=self.log,
            deadline=3600,
            account=self.account,
        )
        if done.code:
            raise ClusterError(f"initdb --sync-only ended with {done.code}: {_last(done.said)}")

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _words(self, since: int) -> str:
        return VAULT.redact(self.log.read_bytes()[since:].decode("utf-8", "replace"))


def make_cluster(folder: Path, tools: Tools, *, checksums: bool = True) -> Cluster:
    """A new, empty cluster in this folder, not started. Its superuser's password is made here and kept in memory.

    Raises:
        ClusterError: initdb failed.
    """
    account = server_account()
    tools = server_tools(tools)
    folder.mkdir(parents=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    VAULT.know(password)
    handed = folder / "password"
    handed.touch(mode=0o600)
    handed.write_text(password)
    if account is not None:
        for path in (folder, handed):
            os.chown(path, account.uid, account.gid)
    arguments = [
        tools.program("initdb"),
        "-D",
        str(folder / "data"),
        "--username",
        SUPERUSER,
        "--pwfile",
        str(handed),
        "--auth",
        "scram-sha-256",
        "--encoding",
        "UTF8",
        "--locale",
        "C",
        "--no-sync",
        "--no-instructions",
    ]
    done = run_tool(
        [*arguments, *(["--data-checksums"] if checksums else [])],
        environment={},
        log=folder / "log",
        deadline=_START_DEADLINE,
        account=account,
    )
    handed.unlink()
    if done.code:
        raise ClusterError(f"initdb ended with {done.code}: {_last(done.said)}", hint=f"its log is {folder / 'log'}")
    return Cluster(folder, tools, account, password)


def destroy_cluster(folder: Path) -> None:
    """Kill whatever server runs in this folder, and remove it. Nothing there is nothing to do.

    Raises:
        ClusterError: it is still there afterwards.
    """
    for process in processes_using(folder):
        _kill_family(process.pid)
    remove_folder(folder)


def processes_using(folder: Path) -> list[psutil.Process]:
    """PostgreSQL's programs whose arguments name this folder or something in it.

    Nobody else's: a person may well be reading the log in there.
    """
    found = []
    for process in psutil.process_iter(["cmdline"]):
        program, *arguments = process.info["cmdline"] or [""]
        named = any(argument == str(folder) or f"{folder}/" in argument for argument in arguments)
        if named and Path(program).name in _PROGRAMS:
            found.append(process)
    return found


def remove_folder(folder: Path) -> None:
    """Remove a folder and everything in it. Refuses a symbolic link, so that no other place is emptied by mistake.

    Raises:
        ClusterError: it is still there afterwards.
    """
    try:
        if stat.S_ISLNK(folder.lstat().st_mode):
            raise ClusterError(f"{folder} is a symbolic link", hint="look at where it leads, and remove it by hand")
    except FileNotFoundError:
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ClusterError(
            f"{folder} could not be removed: {error.strerror} ({error.filename})",
            hint="remove it by hand, then sweep again",
        ) from None


def _kill_family(pid: int) -> None:
    """SIGKILL a process and all below it, and wait until they are gone."""
    try:
        family = [psutil.Process(pid)]
        # The postmaster is stopped first: it starts no child while its children are counted.
        family[0].suspend()
        family += family[0].children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    until = time.monotonic() + _STOP_DEADLINE
    while alive := [member.pid for member in family if not _is_dead(member)]:
        if time.monotonic() > until:
            raise ClusterError(f"processes did not die: {', '.join(map(str, alive))}")
        time.sleep(_POLL / 4)


def _is_dead(process: psutil.Process) -> bool:
    """Gone, or a zombie: that one runs no more, and is taken away by its parent when it gets to it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    marked = [line for line in lines if "FATAL" in line or "ERROR" in line or "error:" in line]
    return (marked or lines or ["it said nothing"])[-1].strip()
