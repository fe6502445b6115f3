"""The WAL of the meantime: received while a base backup is taken, until the drill's snapshot lies in it.

Owns pg_receivewal. Refuses a source that would take the receiver for a synchronous standby: commits would wait for it.
Guarantees that no slot outlives its session, so that production keeps no WAL for a drill that is gone, and that what
was received is complete from the first segment to where it was stopped.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from drills.addresses import Address
from drills.errors import ToolError
from drills.libpq import instead_of_environment
from drills.places import server_account, server_tools
from drills.processes import has_ended, last_words, plain_environment, redact_log, spawn, stop_process
from drills.records import Finding, Server, Verdict
from drills.recovery.base import Workspace
from drills.secrets import VAULT
from drills.sessions import CONNECT_TIMEOUT

MANIFEST = "backup_manifest"
_PARTIAL = ".partial"
_POLL = 0.05
_START = 30.0
"""Seconds that the receiver has to write down its first byte."""


@dataclass(frozen=True)
class History:
    """What a manifest says of its backup."""

    start: str
    end: str
    timeline: int
    size: int
    files: int


def read_history(manifest: Path) -> History:
    """The manifest of a base backup (PostgreSQL, Backup Manifest Format).

    Raises:
        ToolError: there is none, or it says nothing of WAL.
    """
    try:
        told = json.loads(manifest.read_bytes())
        ranges, files = told["WAL-Ranges"], told["Files"]
        first, last = ranges[0], ranges[-1]
        size = sum(file["Size"] for file in files)
        return History(first["Start-LSN"], last["End-LSN"], last["Timeline"], size, len(files))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ToolError(f"the manifest of the base backup cannot be read: {error}") from None


def judge_standbys(connection: psycopg.Connection, name: str) -> Finding:
    """Whether the source would wait with its commits for whoever receives its WAL under this application_name."""
    row = connection.execute("SELECT current_setting('synchronous_standby_names')").fetchone()
    names = str(row[0]) if row else ""
    waits = "*" in names or name.casefold() in names.casefold()
    return Finding(
        name="no commit waits for the receiver",
        verdict=Verdict.FAIL if waits else Verdict.PASS,
        found=f"synchronous_standby_names = {names!r}",
        hint="name the standbys in synchronous_standby_names, so that * is none of them" if waits else "",
    )


def judge_sender(address: Address, source: Server, name: str) -> Finding:
    """Whether base backups can be had at this address, and are the source's.

    Asked as pg_basebackup does it (PostgreSQL, Streaming Replication Protocol: IDENTIFY_SYSTEM); no row of any table
    can be read that way.
    """
    title = "base backups are the source's"
    try:
        with closing(_connect_sender(address, name)) as connection:
            found = connection.execute("IDENTIFY_SYSTEM").fetchone()
    except psycopg.Error as error:
        return Finding(
            name=title,
            verdict=Verdict.FAIL,
            found=f"{address}: {VAULT.redact(str(error)).strip()}",
            hint="the role needs REPLICATION, and pg_hba.conf a line for `replication`",
        )
    # A walsender names no encoding, so that texts come as bytes.
    identifier = found[0].decode() if found and isinstance(found[0], bytes) else str(found and found[0])
    same = identifier == source.system_identifier
    return Finding(
        name=title,
        verdict=Verdict.PASS if same else Verdict.FAIL,
        found=f"system identifier {identifier}" + ("" if same else f", {source.system_identifier} expected"),
        hint="" if same else "recovery.address leads to another system than source.address",
    )


def _connect_sender(address: Address, name: str) -> psycopg.Connection:
    told = {**instead_of_environment(), "connect_timeout": str(CONNECT_TIMEOUT), **address.parts}
    told |= {"password": address.password, "application_name": name[:63], "replication": "true"}
    # Its protocol knows simple statements alone.
    return psycopg.connect(
        **told,  # type: ignore[arg-type]
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    )


class Receiver:
    """pg_receivewal at work."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self._process = process
        self.folder = folder
        self._log = log

    def must_run(self) -> None:
        """It has not ended.

        Raises:
            ToolError: it has.
        """
        if has_ended(self._process, 0):
            code = self._process.poll()
            raise ToolError(
                f"pg_receivewal ended with {code}: {last_words(redact_log(self._log, 0))}",
                hint="the role needs REPLICATION, pg_hba.conf a line for `replication`, max_wal_senders three to spare",
            )

    def stop(self) -> None:
        """Nothing more is received. The last segment is as long as the others, with nothing at its end."""
        stop_process(self._process)
        for part in self.folder.glob(f"*{_PARTIAL}"):
            part.rename(part.with_suffix(""))


@contextmanager
def receiving(address: Address, folder: Path, workspace: Workspace) -> Iterator[Receiver]:
    """Write down the WAL of this server from the segment that it is at, for as long as this lasts.

    Raises:
        ToolError: nothing comes.
    """
    account, log = server_account(), workspace.logs / "pg_receivewal.log"
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    with _kept(address, workspace.name):
        process = spawn(
            [
                server_tools(workspace.tools).program("pg_receivewal"),
                f"--directory={folder}",
                "--no-loop",
                "--no-password",
                "--no-sync",
                "--status-interval=1",
            ],
            environment=plain_environment({**address.environment(), "PGAPPNAME": workspace.name}),
            log=log,
            account=account,
        )
        receiver = Receiver(process, folder, log)
        try:
            _wait(receiver, lambda: any(folder.iterdir()))
            yield receiver
        finally:
            stop_process(process)
            redact_log(log, 0)


@contextmanager
def _kept(address: Address, name: str) -> Iterator[None]:
    """A slot has the server keep the WAL that is not received yet; a temporary one, gone with this session.

    The receiver makes none by itself, and what a checkpoint takes away before it was sent, nobody gets any more.
    """
    with closing(_keep(address, name)):
        yield


def _keep(address: Address, name: str) -> psycopg.Connection:
    slot = f"drillbook_{secrets.token_hex(8)}"
    try:
        connection = _connect_sender(address, name)
        connection.execute(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL RESERVE_WAL".encode())
    except psycopg.Error as error:
        raise ToolError(
            f"the WAL of {address} cannot be kept: {VAULT.redact(str(error)).strip()}",
            hint="max_replication_slots needs two to spare, and wal_level to be replica",
        ) from None
    return connection


def _wait(receiver: Receiver, until: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not until():
        receiver.must_run()
        if time.monotonic() - started > _START:
            raise ToolError(f"pg_receivewal wrote nothing within {_START:g} s")
        time.sleep(_POLL)
