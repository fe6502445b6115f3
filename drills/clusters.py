"""Servers of our own: making, starting, killing and destroying PostgreSQL clusters.

Owns the data directories under a drill's workspace. Refuses to run a server as root. Guarantees that a server listens
on the loopback address alone, asks for a password, dies with this process, and keeps its port over a restart: whoever
holds its address reaches this server or none. How it ends, see `drills.remains`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from drills.addresses import Address
from drills.errors import ClusterError, ConnectError, ToolError
from drills.places import Account, free_port, server_account, server_tools
from drills.processes import has_ended, last_words, plain_environment, run_tool, spawn
from drills.quarantine import QUARANTINE
from drills.remains import destroy_cluster, kill_family, kill_users, processes_using, remove_folder
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.tools import Tools

__all__ = ["QUARANTINE", "SUPERUSER", "Cluster", "destroy_cluster", "make_cluster", "processes_using", "remove_folder"]

SUPERUSER = "drillbook"
_POLL = 0.02
_PORT_POLL = 0.2
_START_DEADLINE = 120.0
_STOP_DEADLINE = 60.0
_IN_ITS_FOLDER = {"dynamic_shared_memory_type": "mmap"}
"""Of shared memory elsewhere, a server that is killed leaves some behind, and nobody knows whose it was."""
_BUSY_PORT = "could not bind"
_NEW_CHECKSUM_DEFAULT = 18
"""Since then a cluster has checksums unless told otherwise (initdb(1))."""

Ready = Callable[[subprocess.Popen[bytes], float], bool]
"""Waits until the server that was started is ready, or False when it ended or that moment has passed."""


@dataclass
class Cluster:
    """A server of ours. Its folder holds `data/` and `log`."""

    folder: Path
    tools: Tools
    account: Account | None
    password: str = field(repr=False)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    superuser: str = SUPERUSER
    database: str = "postgres"
    """Where its superuser is let in when nobody says where."""
    held: Mapping[str, str] = field(default_factory=dict)
    """What it is told at every start, whatever else it is started with."""
    options: str = ""
    """What each session as its superuser is told."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the commands that it runs need, such as the secrets of the archive that it recovers from."""
    fetches: bool = False
    """Whether it runs a tool that reads a repository, as the account may."""

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "log"

    def address(self, database: str | None = None) -> Address:
        """How to reach it as its superuser."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "user": self.superuser,
            "dbname": database or self.database,
            "sslmode": "disable",
        }
        if self.options:
            parts["options"] = self.options
        return Address(parts, self.password)

    @property
    def running(self) -> bool:
        """Whether the server that was started last has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(
        self, settings: Mapping[str, str], *, deadline: float = _START_DEADLINE, ready: Ready | None = None
    ) -> None:
        """Start it and wait until it answers, or is what `ready` waits for; `deadline` in seconds.

        Its port is chosen once.

        Raises:
            ClusterError: it runs already, it ended, or did not answer in time; its last words are in the message.
        """
        if self.running:
            raise ClusterError(f"the server in {self.folder} runs already")
        until = time.monotonic() + deadline
        known = self.port
        while True:
            said = self._log_size()
            self.port = known or free_port()
            process = self._spawn(settings)
            if (ready or self._answers)(process, until):
                return
            ended = process.poll() is not None
            words = self._words(said)
            self.kill()
            if ended and _BUSY_PORT in words and time.monotonic() < until:
                # Somebody was quicker. A port that others know is waited for; else the next one is tried.
                time.sleep(_PORT_POLL)
                continue
            if not known:
                self.port = 0
            reason = (
                f"did not start: {last_words(words)}"
                if ended
                else f"did not answer within {deadline:g} s: {last_words(words)}"
            )
            raise ClusterError(f"the server in {self.folder} {reason}", hint=_what_it_lacks(words, self.log))

    def _identity(self) -> tuple[dict[str, str], Account | None]:
        """What the server finds of the account that it runs as: keys and groups only to read a repository.

        Whoever is in the copy is its superuser, and what was production's code runs there.
        """
        if self.fetches:
            return {}, self.account
        return {"HOME": str(self.folder)}, self.account and replace(self.account, groups=())

    def _spawn(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        own, account = self._identity()
        chosen = {**_IN_ITS_FOLDER, **settings, **QUARANTINE, **self.held, "port": str(self.port)}
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        try:
            self.process = spawn(
                [self.tools.program("postgres"), "-D", str(self.data), *options],
                environment=plain_environment({**own, **self.environment}, account),
                log=self.log,
                account=account,
                when_orphaned=signal.SIGQUIT,
            )
        except ToolError as error:
            raise ClusterError(
                f"the server in {self.folder} could not be started: {error.message}", hint=error.hint
            ) from None
        return self.process

    def _answers(self, process: subprocess.Popen[bytes], until: float) -> bool:
        """Wait until it answers, and is the one with this data directory; False when it ended or time is up."""
        # Whoever else has the port may let us in and say nothing.
        asked = Address({**self.address().parts, "connect_timeout": "2"}, self.password)
        while process.poll() is None and time.monotonic() < until:
            try:
                connection = connect(asked, name="drillbook start", access=Access.READ_ONLY, limits=STAGING_LIMITS)
                with contextlib.closing(connection):
                    row = connection.execute("SELECT current_setting('data_directory')").fetchone()
            except (ConnectError, psycopg.Error):
                time.sleep(_POLL)
                continue
            return row is not None and os.path.realpath(row[0]) == os.path.realpath(self.data)
        return False

    def stop(self) -> None:
        """End it in good order: sessions are cut, a checkpoint is written."""
        process = self.process
        if process is None or not self.running:
            self.process = None
            return
        process.send_signal(signal.SIGINT)
        if not has_ended(process, _STOP_DEADLINE):
            raise ClusterError(
                f"the server in {self.folder} had not stopped after {_STOP_DEADLINE:g} s", hint=f"its log is {self.log}"
            )
        process.wait()
        self.process = None

    def kill(self) -> None:
        """SIGKILL to every process of the server at once, as a lost machine would.

        Raises:
            ClusterError: one of them does not die.
        """
        if self.process is not None and self.running:
            kill_family(self.process.pid)
        elif self.process is not None:
            # A postmaster that ended by itself may have left backends in the midst of a statement.
            kill_users(self.data)
        self.reap()

    def reap(self) -> None:
        """Take note that the server has ended; until its parent has, the kernel keeps it as a zombie.

        Raises:
            ClusterError: it has not.
        """
        if self.process is None:
            return
        try:
            self.process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"the server in {self.folder} has not ended") from None
        self.process = None

    def destroy(self) -> None:
        """End it and remove its folder.

        Raises:
            ClusterError: something of it is left.
        """
        try:
            destroy_cluster(self.folder)
        finally:
            if not self.running:
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
            raise ClusterError(f"initdb --sync-only ended with {done.code}: {last_words(done.said)}")

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _words(self, since: int) -> str:
        return VAULT.redact(self.log.read_bytes()[since:].decode("utf-8", "replace"))


def make_cluster(folder: Path, tools: Tools, *, checksums: bool = True) -> Cluster:
    """A new, empty cluster in this folder, not started. Its superuser's password is made here and kept in memory.

    Raises:
        ClusterError: the folder is there already, or initdb failed.
        ToolError: initdb could not be run to its end.
    """
    account = server_account()
    tools = server_tools(tools)
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise ClusterError(f"the folder {folder} cannot be made: {error.strerror}") from None
    password = secrets.token_urlsafe(24)
    VAULT.know(password)
    handed = folder / "password"
    try:
        handed.touch(mode=0o600)
        handed.write_text(password)
        if account is not None:
            for path in (folder, handed):
                os.chown(path, account.uid, account.gid)
        done = run_tool(
            _initdb(tools, folder / "data", handed, checksums=checksums),
            environment={},
            log=folder / "log",
            deadline=_START_DEADLINE,
            account=account,
        )
    finally:
        handed.unlink(missing_ok=True)
    if done.code:
        hint = _what_it_lacks(done.said, folder / "log")
        raise ClusterError(f"initdb ended with {done.code}: {last_words(done.said)}", hint=hint)
    return Cluster(folder, tools, account, password)


def _what_it_lacks(said: str, log: Path) -> str:
    """What to do for a server that could not be made or started; its log goes when it is destroyed."""
    # A kernel that is out of segments or semaphores calls that "No space left on device", too (shmget(2), semget(2)).
    if "shared memory segment" in said:
        seen = "`ipcs -m` and `df /dev/shm` show what is taken, `sysctl kernel.shmmni` how many segments there may be"
        return f"{seen}: remove those that are nobody's (`ipcrm`), or raise it"
    if "could not create semaphores" in said:
        return "`ipcs -s` shows what is taken: remove those that are nobody's (`ipcrm`), or raise kernel.sem"
    if "No space left on device" in said:
        return f"`df {log.parent}` and `df -i` show it: free some space, or set DRILLBOOK_HOME to a larger file system"
    return f"its log is {log}, and after a drill raw/{log.parent.name}-server.log of the bundle"


def _initdb(tools: Tools, data: Path, password: Path, *, checksums: bool) -> list[str]:
    arguments = [tools.program("initdb"), "-D", str(data), "--username", SUPERUSER, "--pwfile", str(password)]
    arguments += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    if checksums:
        arguments.append("--data-checksums")
    elif tools.major >= _NEW_CHECKSUM_DEFAULT:
        arguments.append("--no-data-checksums")
    return arguments
