"""A replication slot of the drill's own, so that the source keeps the WAL that has not been received yet.

Guarantees that no slot outlives its session, so that production keeps no WAL for a drill that is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

import psycopg

from drills.addresses import Address
from drills.errors import ToolError
from drills.secrets import VAULT
from drills.sessions import Access, Limits, connect
from drills.wal import parse_lsn, show_lsn

SLOT_LIMITS = Limits(timedelta(seconds=30), timedelta(seconds=5))
"""Of the session that holds it."""
_KEEP = """
SELECT s.setting::bigint, made.lsn::text
  FROM pg_settings s, pg_create_physical_replication_slot(%s, true, true) AS made
 WHERE s.name = 'wal_segment_size'
"""
_RELEASE = "SELECT pg_replication_slot_advance(%s, %s)"
_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name = %s AND backend_type = 'walsender' AND usename = current_user
"""
_SENDS = """
SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE application_name = %s AND backend_type = 'walsender' AND query LIKE 'START_REPLICATION %%')
"""
"""A role sees what its own sessions do. Of pg_stat_replication it sees no more than that there is somebody."""


@dataclass
class Slot:
    """Has the server keep WAL: a temporary one, gone with its session.

    The receiver makes none by itself, and what a checkpoint takes away before it was sent, nobody gets any more.
    """

    connection: psycopg.Connection
    name: str
    segment: int
    """Bytes of a segment."""
    kept: int
    """From where on."""
    receiver: str
    """application_name of whoever receives it."""

    @classmethod
    def keeping(cls, address: Address, name: str) -> Slot:
        """One that keeps WAL from now on.

        Raises:
            ToolError: it cannot be made.
            ConnectError: nobody can log in to the database of this address.
        """
        connection = connect(address, name=name, access=Access.READ_ONLY, limits=SLOT_LIMITS)
        slot = f"drillbook_{secrets.token_hex(8)}"
        try:
            row = connection.execute(_KEEP, (slot,)).fetchone()
        except psycopg.Error as error:
            connection.close()
            raise ToolError(
                f"the WAL of {address} cannot be kept: {VAULT.redact(str(error)).strip()}",
                hint="the role needs REPLICATION, max_replication_slots two to spare, and wal_level has to be replica",
            ) from None
        segment, kept = row or (0, "0/0")
        return cls(connection, slot, segment, parse_lsn(kept), name)

    def sends(self) -> bool:
        """Whether somebody of the drill's name is sent WAL, or will be as soon as there is any.

        Raises:
            ToolError: the session is gone, and the slot with it.
        """
        row = self._ask(_SENDS, (self.receiver,)).fetchone()
        return row is not None and bool(row[0])

    def release(self, position: int) -> None:
        """What lies before this is not needed any more.

        Raises:
            ToolError: the session is gone, and the slot with it.
        """
        if position <= self.kept or self.connection.closed:
            return
        self._ask(_RELEASE, (self.name, show_lsn(position)))
        self.kept = position

    def _ask(self, statement: LiteralString, values: tuple[str, ...]) -> psycopg.Cursor:
        with self.session() as connection:
            return connection.execute(statement, values)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        """The one that holds it, to ask the server something more.

        Raises:
            ToolError: it is gone, and the slot with it.
        """
        try:
            yield self.connection
        except psycopg.Error as error:
            said = VAULT.redact(str(error)).strip()
            raise ToolError(f"the slot that kept the WAL was lost: {said}", hint="run the drill again") from None

    def end_senders(self) -> None:
        """The server ends what it sends to the drill: pg_basebackup's WAL as well, for which commits may wait.

        Raises:
            ToolError: the session is gone, and the slot with it.
        """
        self._ask(_END, (self.receiver,))

    def close(self) -> None:
        """Nothing is kept any more."""
        self.connection.close()
