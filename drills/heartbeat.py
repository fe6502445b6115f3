"""The heartbeat: writers that record every commit the database acknowledged.

Owns a schema of its own in the copy, and the threads that write to it. Each writer commits one row at a time and notes
the outcome before it sends the next:

    acknowledged   COMMIT was answered: this row must survive
    in doubt       sent, and the connection broke before the answer: it may or may not be there
    refused        never sent, or the server said no: it must not be there

After the outage `lost` are acknowledged rows that are gone, `unexpected` are rows that nobody is known to have sent.
Refuses a copy that has such a schema already. Guarantees that the schema is removed again, so that the checks see the
copy as it was, and that a writer which broke down is not taken for a quiet one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import errors, sql

from drills.addresses import Address
from drills.errors import ClusterError, ConnectError
from drills.outages.tally import Answer, Beat, Tally, compare
from drills.records import utc_now
from drills.sessions import STAGING_LIMITS, Access, connect, session

SCHEMA = "drillbook_heartbeat"
_QUIET = """
SELECT set_config('session_replication_role', 'replica', false) FROM pg_roles WHERE rolname = current_user AND rolsuper
"""
"""Event triggers that came along from production fire for nobody who replicates. Only a superuser may say so."""
_RECONNECT = 0.01
"""Seconds between attempts while the server is away."""
_JOIN_DEADLINE = 60.0
_HANG_UP_DEADLINE = 15.0


@dataclass
class Heartbeat:
    """Writers on a copy. `start`, then `stop`, then `tally`, then `remove`."""

    address: Address
    name: str
    writers: int
    _beats: list[Beat] = field(default_factory=list)
    _failures: list[tuple[float, str]] = field(default_factory=list)
    _broken: list[Exception] = field(default_factory=list)
    _sessions: set[psycopg.Connection] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _made: bool = False

    def start(self) -> None:
        """Make the table and let the writers begin.

        Raises:
            ClusterError: the copy has such a schema already.
        """
        with session(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            schema = sql.Identifier(SCHEMA)
            # The table must survive, whatever the copy's own settings do to the commits that are measured.
            connection.execute("SET synchronous_commit = on")
            # Production's event triggers came along; they fire for nobody who says that he replicates.
            connection.execute(_QUIET)
            try:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            except errors.DuplicateSchema:
                raise ClusterError(
                    f"the copy has a schema {SCHEMA} already", hint="production must not have one of that name; drop it"
                ) from None
            self._made = True
            connection.execute(
                sql.SQL("CREATE TABLE {}.beat (id text PRIMARY KEY, sent timestamptz NOT NULL)").format(schema)
            )
        for number in range(self.writers):
            thread = threading.Thread(target=self._run, args=(number,), name=f"heartbeat-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_for_beat(self, *, after: float, deadline: float) -> Beat | None:
        """The first commit sent after this monotonic instant that was acknowledged.

        None when none came within `deadline` seconds. Sent after it, not merely noted: a writer may have got its
        answer before a fault and not have found the time to note it.
        """
        until = time.monotonic() + deadline
        looked_at = 0
        with self._changed:
            while True:
                for beat in self._beats[looked_at:]:
                    if beat.answer is Answer.ACKNOWLEDGED and beat.sent > after:
                        return beat
                looked_at = len(self._beats)
                left = until - time.monotonic()
                if left <= 0 or len(self._broken) == self.writers:
                    return None
                self._changed.wait(left)

    def first_failure(self, *, after: float) -> float | None:
        """Monotonic instant at which a writer first noticed that something is wrong, at or after this one."""
        with self._changed:
            found = [at for at, _ in self._failures if at >= after]
        return min(found, default=None)

    def stop(self) -> None:
        """Let every writer finish its beat; hang up on a server that does not answer.

        Raises:
            ClusterError: one of them did not finish.
            Exception: what one of them broke down with before.
        """
        self._stopping.set()
        alive = self._join(_JOIN_DEADLINE)
        if alive:
            self._hang_up()
            self._join(_HANG_UP_DEADLINE)
        # Who is still on his way in has sent nothing, and will not: he ends when the server lets him in, or is gone.
        if self._sessions:
            raise ClusterError(
                f"{len(self._sessions)} heartbeat writers did not stop", hint="the copy's server does not answer"
            )
        if self._broken:
            raise self._broken[0]

    def tally(self) -> Tally:
        """Compare what was acknowledged with what is there. A table that is gone holds nothing."""
        with session(self.address, name=self.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            try:
                rows = connection.execute(sql.SQL("SELECT id FROM {}.beat").format(sql.Identifier(SCHEMA))).fetchall()
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                rows = []
        return compare(self._beats, {str(row[0]) for row in rows})

    def unread(self) -> Tally:
        """The beats, of which nobody could see what is left."""
        return Tally(tuple(self._beats), (), ())

    def remove(self) -> None:
        """Take the schema away again, if it is ours."""
        if not self._made:
            return
        with session(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            connection.execute(_QUIET)
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))

    def _join(self, deadline: float) -> int:
        """Wait for the writers; how many are left."""
        until = time.monotonic() + deadline
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        return sum(thread.is_alive() for thread in self._threads)

    def _hang_up(self) -> None:
        """Shut the sockets that writers wait at. They alone close their sessions, and not while the lock is held."""
        with self._changed:
            for connection in self._sessions:
                with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def _run(self, writer: int) -> None:
        try:
            self._write(writer)
        except Exception as error:  # noqa: BLE001 - `stop` raises it; a thread's error reaches nobody
            with self._changed:
                self._broken.append(error)
                self._changed.notify_all()

    def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping.is_set():
            try:
                connection = connect(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS)
            except ConnectError as error:
                self._fail(str(error))
                self._stopping.wait(_RECONNECT)
                continue
            with self._changed:
                self._sessions.add(connection)
            try:
                number = self._beat(connection, writer, number)
            finally:
                with self._changed:
                    self._sessions.discard(connection)
                connection.close()

    def _beat(self, connection: psycopg.Connection, writer: int, number: int) -> int:
        """Commit one row after the other until something goes wrong; the number of the last one."""
        insert = sql.SQL("INSERT INTO {}.beat VALUES (%s, clock_timestamp())").format(sql.Identifier(SCHEMA))
        while not self._stopping.is_set():
            number += 1
            beat, sent = f"{writer}-{number}", time.monotonic()
            try:
                connection.execute(insert, (beat,))
            except psycopg.Error as error:
                # A server that says no and keeps the session has not committed; all else is open.
                if connection.broken or error.sqlstate is None or error.sqlstate.startswith("57"):
                    self._note(beat, Answer.IN_DOUBT, sent)
                self._fail(str(error))
                self._stopping.wait(_RECONNECT)
                break
            self._note(beat, Answer.ACKNOWLEDGED, sent)
        return number

    def _note(self, beat: str, answer: Answer, sent: float) -> None:
        at, monotonic = utc_now(), time.monotonic()
        with self._changed:
            self._beats.append(Beat(beat, answer, at, monotonic, sent))
            self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        at = time.monotonic()
        with self._changed:
            self._failures.append((at, reason))
