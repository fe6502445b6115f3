"""The bare tools as somebody types them, and pgcopydb: no checks, no quarantine, no guard.

Every tool that the same method of ours runs is told the same: jobs, compression, no fsync for a copy that is thrown
away. The server of the copy is started by pg_ctl with the settings of ours.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bench.children import ChildError, last_word
from bench.copying import DATABASE, PEER, PLAIN_DUMP, STANZA, VERIFIED, Copying, Job, answers, content
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
        who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
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
        options = " ".join(f"-c {name}='{value}'" for name, value in chosen.items())
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


def dump(job: Job, done: Copying) -> None:
    """pg_dump, initdb, pg_ctl start, pg_restore."""
    hand, folder = _begin(job, done), job.folder / "copy" / "dump"
    compression = "none" if job.method == PLAIN_DUMP else "gzip:1"
    with done.backing_up():
        hand.run("pg_dump", "--format=directory", f"--jobs={job.jobs}", f"--compress={compression}", f"--file={folder}",
                 address=job.address)  # fmt: skip
    with _restoring_into_new(hand):
        hand.run("pg_restore", f"--jobs={job.jobs}", "--create", "--dbname=template1", str(folder),
                 address=hand.copy.to("template1"))  # fmt: skip


def stream(job: Job, done: Copying) -> None:
    """initdb, pg_ctl start, pg_dump into pg_restore: there is no backup in between."""
    hand = _begin(job, done)
    with _restoring_into_new(hand):
        tools, into = server_tools(job.programs), hand.copy.to("template1")
        taking = [tools.program("pg_dump"), "--format=custom", "--compress=none", f"--dbname={_url(job.address)}"]
        loading = [tools.program("pg_restore"), "--create", f"--dbname={_url(into)}"]
        where = {"PGPASSFILE": str(_both_passwords(hand))}
        hand.run("/bin/bash", "-c", f"set -o pipefail; {shlex.join(taking)} | {shlex.join(loading)}", extra=where)


def basebackup(job: Job, done: Copying) -> None:
    """pg_basebackup, perhaps pg_verifybackup, pg_ctl start."""
    hand = _begin(job, done)
    with done.backing_up():
        hand.run("pg_basebackup", f"--pgdata={hand.data}", "--wal-method=stream", "--checkpoint=fast", "--no-sync",
                 address=job.address)  # fmt: skip
        if job.contender == VERIFIED:
            hand.run("pg_verifybackup", "--quiet", str(hand.data))
    _start_and_look(hand)


def pgbackrest(job: Job, done: Copying) -> None:
    """Pgbackrest restore to the end of the newest backup, pg_ctl start."""
    hand = _begin(job, done)
    with done.restoring():
        hand.run(job.extra["program"], "restore", "--no-config", f"--stanza={STANZA}",
                 f"--repo1-path={job.extra['repository']}", f"--pg1-path={hand.data}", f"--process-max={job.jobs}",
                 "--type=immediate", "--target-action=promote", "--log-level-file=off", "--log-level-console=warn",
                 f"--lock-path={hand.data.parent}")  # fmt: skip
    _start_and_look(hand)


def pgcopydb(job: Job, done: Copying) -> None:
    """initdb, pg_ctl start, createdb, pgcopydb clone: there is no backup in between."""
    hand = _begin(job, done)
    with _restoring_into_new(hand):
        hand.run("createdb", DATABASE, address=hand.copy.to("template1"))
        passwords = _both_passwords(hand)
        told = ["clone", f"--source={_url(job.address)}", f"--target={_url(hand.copy)}", f"--table-jobs={job.jobs}",
                f"--index-jobs={job.jobs}", f"--dir={job.folder / 'copy' / 'pgcopydb'}"]  # fmt: skip
        tools = server_tools(job.programs).folder
        where = {"PATH": f"{tools}:{os.environ['PATH']}", "PGPASSFILE": str(passwords), "HOME": str(passwords.parent)}
        hand.run(job.extra["program"], *told, extra=where)


METHODS: Mapping[str, Callable[[Job, Copying], None]] = MappingProxyType(
    {
        "dump": dump,
        PLAIN_DUMP: dump,
        "stream": stream,
        "basebackup": basebackup,
        "pgbackrest": pgbackrest,
        PEER: pgcopydb,
    }
)


def _both_passwords(hand: Hand) -> Path:
    """A file with the passwords of source and copy, which the servers' account can read."""
    passwords = hand.job.folder / "copy" / "passwords"
    passwords.touch(mode=0o600)
    sides = (hand.job.address, hand.copy)
    passwords.write_text("".join(f"*:{side.parts['port']}:*:*:{side.password}\n" for side in sides))
    account = server_account()
    if account is not None:
        os.chown(passwords, account.uid, account.gid)
    return passwords


def _begin(job: Job, done: Copying) -> Hand:
    hand = Hand(job, done)
    hand.prepare()
    return hand


@contextmanager
def _restoring_into_new(hand: Hand) -> Iterator[None]:
    """Into a new cluster with the settings of ours, which answers at the end; then it is looked at."""
    with ExitStack() as held:
        with hand.done.restoring():
            hand.initdb()
            held.enter_context(hand.serving(THROW_AWAY))
            yield
            answers(hand.copy)
        hand.look()


def _start_and_look(hand: Hand) -> None:
    with ExitStack() as held:
        with hand.done.restoring():
            held.enter_context(hand.serving(_RECOVERING))
            answers(hand.copy)
        hand.look()


def _url(address: Address) -> str:
    parts: Sequence[str] = [address.parts[name] for name in ("user", "host", "port", "dbname")]
    return "postgresql://{}@{}:{}/{}?sslmode=disable".format(*parts)
