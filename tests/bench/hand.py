"""Somebody at a terminal who copies a database with the bare tools.

Guarantees that what the tools took is counted, and that no server of the copy is left running. The server is started by
pg_ctl with the settings of ours.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.children import ChildError, last_word
from bench.copying import Copying, Job, answers, content
from drills.addresses import Address
from drills.places import free_port, server_account, server_tools
from drills.staging import THROW_AWAY

_PR_SET_CHILD_SUBREAPER = 36
_ALONE = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "archive_mode": "off"}
_RECOVERING = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "8GB"}
_PATIENCE = "3600"


@dataclass
class Hand:
    """Somebody at a terminal."""

    job: Job
    done: Copying
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: os.environ["PGPASSWORD"])

    @property
    def data(self) -> Path:
        """The data directory of the copy."""
        return self.job.folder / "copy" / "data"

    @property
    def copy(self) -> Address:
        """The database that was copied, at the copy."""
        return Address({**self.job.source, "port": str(self.port)}, self.password)

    def prepare(self) -> None:
        """Folders, and what ends below us is counted as ours (prctl(2))."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        account = server_account()
        self.data.parent.mkdir()
        if account is not None:
            os.chown(self.data.parent, account.uid, account.gid)

    def run(
        self, name: str, *told: str, address: Address | None = None, extra: Mapping[str, str] | None = None
    ) -> None:
        """One command to its end, as the servers' account.

        Raises:
            ChildError: it failed.
        """
        path = name if "/" in name else server_tools(self.job.programs).program(name)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", **(extra or {})}
        environment |= address.environment() if address is not None else {}
        account = server_account()
        who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
        log = self.job.folder / f"{Path(name).name}.log"
        with log.open("ab") as said:
            tool = subprocess.Popen([path, *told], env=environment, stdout=said, stderr=said, cwd="/", **who)  # type: ignore[call-overload]
            _, status, used = os.wait4(tool.pid, 0)
            tool.returncode = code = os.waitstatus_to_exitcode(status)
        self.done.memory = max(self.done.memory, used.ru_maxrss / 1024)
        self.done.commands.append([Path(name).name, *told])
        if code:
            raise ChildError(f"{Path(name).name} ended with {code}: {last_word(log.read_text(errors='replace'))}")

    def initdb(self) -> None:
        """As ours."""
        self.password = secrets.token_urlsafe(16)
        handed = self.data.parent / "password"
        handed.write_text(self.password)
        user = self.job.source["user"]
        self.run("initdb", f"--pgdata={self.data}", f"--username={user}", f"--pwfile={handed}",
                 "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-sync")  # fmt: skip

    @contextmanager
    def serving(self, settings: Mapping[str, str]) -> Iterator[None]:
        """The copy's server; gone at the end."""
        chosen = {**settings, **_ALONE, "port": str(self.port)}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in chosen.items())
        log = self.data.parent / "log"
        self.run("pg_ctl", "start", "--wait", f"--timeout={_PATIENCE}", f"--pgdata={self.data}", f"--log={log}",
                 f"--options={options}")  # fmt: skip
        try:
            yield
        finally:
            self.run("pg_ctl", "stop", "--wait", "--mode=immediate", f"--pgdata={self.data}")

    def look(self) -> None:
        """What the copy holds."""
        self.done.tables = content(self.copy)


def both_passwords(hand: Hand) -> Path:
    """A file with the passwords of source and copy, which the servers' account can read."""
    passwords = hand.job.folder / "copy" / "passwords"
    passwords.touch(mode=0o600)
    sides = (hand.job.address, hand.copy)
    passwords.write_text("".join(f"*:{side.parts['port']}:*:*:{side.password}\n" for side in sides))
    account = server_account()
    if account is not None:
        os.chown(passwords, account.uid, account.gid)
    return passwords


def begin(job: Job, done: Copying) -> Hand:
    """Somebody, with folders to work in."""
    hand = Hand(job, done)
    hand.prepare()
    return hand


@contextmanager
def restoring_into_new(hand: Hand) -> Iterator[None]:
    """Into a new cluster with the settings of ours, which answers at the end; then it is looked at."""
    with ExitStack() as held:
        with hand.done.restoring():
            hand.initdb()
            held.enter_context(hand.serving(THROW_AWAY))
            yield
            answers(hand.copy)
        hand.look()


def start_and_look(hand: Hand) -> None:
    """The files that were brought, as a server which answers; then it is looked at."""
    with ExitStack() as held:
        with hand.done.restoring():
            held.enter_context(hand.serving(_RECOVERING))
            answers(hand.copy)
        hand.look()


def url(address: Address) -> str:
    """For tools that are told of two servers; without its password."""
    parts: Sequence[str] = [address.parts[name] for name in ("user", "host", "port", "dbname")]
    return "postgresql://{}@{}:{}/{}?sslmode=disable".format(*parts)
