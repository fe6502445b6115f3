"""The heartbeat: writers that record every commit the database acknowledged.

Owns a schema of its own in the copy, and the threads that write to it. Each writer commits one row at a time and notes
the outcome before it sends the next:

    acknowledged   COMMIT was answered: this row must survive
    in doubt       sent, and the connection broke before the answer: it may or may not be there
    refused        never sent, or the server said no: it must not be there

After the outage `lost` are acknowledged rows that are gone, `unexpected` are rows that nobody is known to have sent.
Guarantees that the schema is removed again, so that the checks see the copy as it was.
"""

from __future__ import annotations

import csv
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg import sql

from drills.addresses import Address
from drills.errors import ClusterError, ConnectError
from drills.records import utc_now
from drills.sessions import STAGING_LIMITS, Access, connect, session

SCHEMA = "drillbook_heartbeat"
_RECONNECT = 0.01
"""Seconds between attempts while the server is away."""
_JOIN_DEADLINE = 60.0


class Answer(StrEnum):
    """What became of one commit."""

    ACKNOWLEDGED = "acknowledged"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True)
class Beat:
    """One commit that was sent."""

    id: str
    """`<writer>-<number>`"""
    answer: Answer
    at: datetime
    """When the answer came, or the connection broke (UTC)."""
    monotonic: float


@dataclass(frozen=True)
class Tally:
    """What is left of the beats after an outage."""

    beats: tuple[Beat, ...]
    lost: tuple[Beat, ...]
    unexpected: tuple[str, ...]

    def acknowledged(self) -> list[Beat]:
        """The beats that must have survived, in order of their answers."""
        return [beat for beat in self.beats if beat.answer is Answer.ACKNOWLEDGED]

    def in_doubt(self) -> list[Beat]:
        """The beats of which nobody can say."""
        return [beat for beat in self.beats if beat.answer is Answer.IN_DOUBT]


@dataclass
class Heartbeat:
    """Writers on a copy. `start`, then `stop`, then `tally`, then `remove`."""

    address: Address
    name: str
    writers: int
    _beats: list[Beat] = field(default_factory=list)
    _failures: list[tuple[float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Make the table and let the writers begin."""
        with session(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            schema = sql.Identifier(SCHEMA)
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            connection.execute(
                sql.SQL("CREATE TABLE {}.beat (id text PRIMARY KEY, sent timestamptz NOT NULL)").format(schema)
            )
        for number in range(self.writers):
            thread = threading.Thread(target=self._write, args=(number,), name=f"heartbeat-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait_for_beat(self, *, after: float, deadline: float) -> Beat | None:
        """The first commit acknowledged after this monotonic instant; None when none came within `deadline` seconds."""
        until = time.monotonic() + deadline
        with self._changed:
            while True:
                found = [beat for beat in self._beats if beat.answer is Answer.ACKNOWLEDGED and beat.monotonic > after]
                if found:
                    return min(found, key=lambda beat: beat.monotonic)
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def first_failure(self, *, after: float) -> float | None:
        """Monotonic instant at which a writer first noticed that something is wrong, at or after this one."""
        with self._lock:
            found = [at for at, _ in self._failures if at >= after]
        return min(found, default=None)

    def stop(self) -> None:
        """Let every writer finish its beat.

        Raises:
            ClusterError: one of them did not.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join(_JOIN_DEADLINE)
        if any(thread.is_alive() for thread in self._threads):
            raise ClusterError("a heartbeat writer did not stop", hint="the copy's server does not answer")

    def tally(self) -> Tally:
        """Compare what was acknowledged with what is there."""
        with session(self.address, name=self.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            found = connection.execute(sql.SQL("SELECT id FROM {}.beat").format(sql.Identifier(SCHEMA))).fetchall()
        return compare(self._beats, {str(row[0]) for row in found})

    def remove(self) -> None:
        """Take the schema away again."""
        with session(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))

    def _write(self, writer: int) -> None:
        number = 0
        insert = sql.SQL("INSERT INTO {}.beat VALUES (%s, clock_timestamp())").format(sql.Identifier(SCHEMA))
        while not self._stopping.is_set():
            try:
                connection = connect(self.address, name=self.name, access=Access.READ_WRITE, limits=STAGING_LIMITS)
            except ConnectError as error:
                self._fail(str(error))
                self._stopping.wait(_RECONNECT)
                continue
            with connection:
                while not self._stopping.is_set():
                    number += 1
                    beat = f"{writer}-{number}"
                    try:
                        connection.execute(insert, (beat,))
                    except psycopg.Error as error:
                        # A server that says no and keeps the session has not committed; all else is open.
                        if connection.broken or error.sqlstate is None or error.sqlstate.startswith("57"):
                            self._note(beat, Answer.IN_DOUBT)
                        self._fail(str(error))
                        break
                    self._note(beat, Answer.ACKNOWLEDGED)

    def _note(self, beat: str, answer: Answer) -> None:
        with self._changed:
            self._beats.append(Beat(beat, answer, utc_now(), time.monotonic()))
            self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failures.append((time.monotonic(), reason))


def compare(beats: list[Beat], found: set[str]) -> Tally:
    """Hold the beats against the ids that are there."""
    sent = {beat.id for beat in beats}
    lost = tuple(beat for beat in beats if beat.answer is Answer.ACKNOWLEDGED and beat.id not in found)
    return Tally(tuple(beats), lost, tuple(sorted(found - sent)))


def write_beats(tally: Tally, path: Path) -> None:
    """Every beat with its answer and whether it survived, as CSV."""
    lost = {beat.id for beat in tally.lost}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["commit", "answer", "at_utc", "survived"])
        for beat in tally.beats:
            survived = "unknown" if beat.answer is Answer.IN_DOUBT else "no" if beat.id in lost else "yes"
            writer.writerow([beat.id, beat.answer, beat.at.isoformat(timespec="microseconds"), survived])
