"""Snapshots of a server that several sessions share, and the sessions that measure inside them.

Guarantees that a snapshot lasts no longer than the context that holds it, and that all sessions that measure can be
cancelled at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

import psycopg
from psycopg import sql

from drills.errors import ConnectError
from drills.records import Snapshot
from drills.sessions import only_row
from drills.wal import HERE

_CANCEL_AGAIN = 0.5
"""Seconds."""
_ENDING = 5.0
_POLL = 0.01


@contextmanager
def exported_snapshot(connection: psycopg.Connection) -> Iterator[Snapshot]:
    """A snapshot that others may import for as long as this context lasts.

    Backup and expectations share it: whatever production writes meanwhile, both see the same rows. The transaction
    is read only and holds no lock on any table.
    """
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        row = connection.execute(
            "SELECT pg_export_snapshot(), clock_timestamp(), pg_current_snapshot()::text, " + HERE
        ).fetchone()
        name, taken, seen, lsn = only_row(row)
        yield Snapshot.model_validate({"name": name, "taken": taken, "xmin_xmax": seen, "wal_lsn": lsn})
    finally:
        _roll_back(connection)


@contextmanager
def importing(connection: psycopg.Connection, snapshot: str) -> Iterator[psycopg.Connection]:
    """The same session inside that snapshot."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        yield connection
    finally:
        _roll_back(connection)


@contextmanager
def taken_over(connection: psycopg.Connection, snapshot: Snapshot) -> Iterator[Snapshot]:
    """The same snapshot, held and exported by this session as well: whoever held it may let it go."""
    with importing(connection, snapshot.name):
        (name,) = only_row(connection.execute("SELECT pg_export_snapshot()").fetchone())
        yield snapshot.model_copy(update={"name": name})


def wait_until_gone(connection: psycopg.Connection, processes: Sequence[int]) -> None:
    """Until the server has ended these sessions, which were closed: they count against a role's limit until then."""
    until = time.monotonic() + _ENDING
    while time.monotonic() < until:
        connection.execute("SELECT pg_stat_clear_snapshot()")  # in a transaction, the view is read once otherwise
        left = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", ([*processes],))
        if only_row(left.fetchone())[0] == 0:
            return
        time.sleep(_POLL)


def _roll_back(connection: psycopg.Connection) -> None:
    """End a transaction that only read. What ended it, such as a dead server, is not masked by that."""
    if not connection.closed:
        with suppress(psycopg.Error):
            connection.rollback()


class Sessions:
    """Sessions that measure, so that all of them can be cancelled at once."""

    def __init__(self, opening: Callable[[], psycopg.Connection]) -> None:
        self._opening = opening
        self._open: set[psycopg.Connection] = set()
        self._cancelled = False

    @contextmanager
    def plain(self) -> Iterator[psycopg.Connection]:
        """One more.

        Raises:
            ConnectError: no connection, or the sessions were cancelled.
        """
        connection = self._opening()
        self._open.add(connection)
        try:
            self.go_on()
            yield connection
        finally:
            self._open.discard(connection)
            connection.close()

    def inside(self, snapshot: str) -> Callable[[], AbstractContextManager[psycopg.Connection]]:
        """One more, inside that snapshot."""

        @contextmanager
        def opened() -> Iterator[psycopg.Connection]:
            with self.plain() as connection, importing(connection, snapshot):
                yield connection

        return opened

    @contextmanager
    def cancelled_on_error(self) -> Iterator[None]:
        """When the work beside them fails, nobody waits for a statement of half an hour."""
        try:
            yield
        except BaseException:
            self._cancelled = True
            self._cancel_all()
            # A statement may have been on its way to a server when its session was told to cancel.
            threading.Thread(target=self._cancel_until_closed, name="cancel", daemon=True).start()
            raise

    def _cancel_all(self) -> None:
        for connection in list(self._open):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)

    def _cancel_until_closed(self) -> None:
        while self._open:
            time.sleep(_CANCEL_AGAIN)
            self._cancel_all()

    def go_on(self, _done: int = 0, _total: int = 0, _unit: str = "", _about: str = "") -> None:
        """Called between two statements: a cancelled statement is one answer less, and the next would be asked.

        Raises:
            ConnectError: the sessions were cancelled.
        """
        if self._cancelled:
            raise ConnectError("cancelled: the work that these sessions belong to failed")
