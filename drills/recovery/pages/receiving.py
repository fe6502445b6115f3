"""The WAL of the meantime: received while a base backup is taken, until the drill's snapshot lies in it.

Owns pg_receivewal. Guarantees that no slot outlives its session, so that production keeps no WAL for a drill that is
gone, and that what was received is complete from the first segment to where it was stopped.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
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
from drills.sessions import CONNECT_TIMEOUT, Access, Limits, connect
from drills.targets import parse_lsn, segment_start

MANIFEST = "backup_manifest"
_PARTIAL = ".partial"
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_POLL = 0.01
_KEEP = """
SELECT s.setting::bigint, made.lsn::text
  FROM pg_settings s, pg_create_physical_replication_slot(%s, true, true) AS made
 WHERE s.name = 'wal_segment_size'
"""
_RELEASE = "SELECT pg_replication_slot_advance(%s, %s)"
_NOTICED_DEAD = """
SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false),
       set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '60000', false)
"""
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

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path, slot: Slot) -> None:
        self._process = process
        self.folder = folder
        self._log = log
        self._slot = slot

    @property
    def first(self) -> str:
        """Where the first segment begins that was received."""
        return segment_start(min(self._names()), self._slot.segment)

    def must_run(self) -> None:
        """It has not ended. What has been received, the server need not keep any more.

        Raises:
            ToolError: it has.
        """
        self.must_start()
        self._slot.release(segment_start(max(self._names()), self._slot.segment))

    def must_start(self) -> None:
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

    def _names(self) -> list[str]:
        return [
            path.name.removesuffix(_PARTIAL) for path in self.folder.glob("0*") if not path.name.endswith("history")
        ]

    def stop(self) -> None:
        """Nothing more is received or kept. The last segment is as long as the others, with nothing at its end."""
        stop_process(self._process)
        self._slot.close()
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
    with closing(Slot.keeping(address, workspace.name)) as slot:
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
        receiver = Receiver(process, folder, log, slot)
        try:
            _wait(receiver, folder)
            yield receiver
        finally:
            stop_process(process)
            redact_log(log, 0)


@dataclass
class Slot:
    """Has the server keep the WAL that is not received yet: a temporary one, gone with its session.

    The receiver makes none by itself, and what a checkpoint takes away before it was sent, nobody gets any more.
    """

    connection: psycopg.Connection
    name: str
    segment: int
    """Bytes of a segment."""
    kept: int
    """From where on."""

    @classmethod
    def keeping(cls, address: Address, name: str) -> Slot:
        """One that keeps WAL from now on.

        Raises:
            ToolError: it cannot be made.
        """
        limits = Limits(timedelta(seconds=30), timedelta(seconds=5))
        connection = connect(address, name=name, access=Access.READ_ONLY, limits=limits)
        slot = f"drillbook_{secrets.token_hex(8)}"
        try:
            # When this machine is gone, the server is to notice within a minute.
            connection.execute(_NOTICED_DEAD)
            row = connection.execute(_KEEP, (slot,)).fetchone()
        except psycopg.Error as error:
            connection.close()
            raise ToolError(
                f"the WAL of {address} cannot be kept: {VAULT.redact(str(error)).strip()}",
                hint="the role needs REPLICATION, max_replication_slots two to spare, and wal_level has to be replica",
            ) from None
        segment, kept = row or (0, "0/0")
        return cls(connection, slot, segment, parse_lsn(kept))

    def release(self, position: str) -> None:
        """What lies before this is not needed any more.

        Raises:
            ToolError: the session is gone, and the slot with it.
        """
        wanted = parse_lsn(position)
        if wanted <= self.kept or self.connection.closed:
            return
        try:
            self.connection.execute(_RELEASE, (self.name, position))
        except psycopg.Error as error:
            said = VAULT.redact(str(error)).strip()
            raise ToolError(f"the slot that kept the WAL was lost: {said}", hint="run the drill again") from None
        self.kept = wanted

    def close(self) -> None:
        """Nothing is kept any more."""
        self.connection.close()


def _wait(receiver: Receiver, folder: Path) -> None:
    started = time.monotonic()
    while not any(folder.iterdir()):
        receiver.must_start()
        if time.monotonic() - started > _START:
            raise ToolError(f"pg_receivewal wrote nothing within {_START:g} s")
        time.sleep(_POLL)
