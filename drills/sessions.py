"""Sessions on PostgreSQL servers: addresses, limits, and the settings that decide how values read.

Owns every connection this program opens. Guarantees on each of them a statement timeout, a lock timeout, a name that
says which drill it is, and the same settings for reading values on source and copy; sessions on the source are read
only as well. An address alone says where a session goes: libpq's PG* variables of the person do not reach it. Errors
never carry a secret.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import psycopg
from psycopg import sql

from drills.addresses import Address, connect_error
from drills.errors import ConnectError
from drills.libpq import instead_of_environment
from drills.records import Server, Snapshot

CONNECT_TIMEOUT = 10
"""Seconds."""

PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "public",
    # A policy that hides rows must raise an error, not shorten a count.
    "row_security": "off",
}
"""Settings that decide how a value reads, the same wherever one is measured."""

_LONGEST_MS = 2**31 - 1
_CANCEL_AGAIN = 0.5
"""Seconds."""


_KEEPALIVE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""A network that died is noticed within a minute; without this it may take hours."""
NOTICED_DEAD = {f"tcp_{name.removeprefix('tcp_')}": value for name, value in _KEEPALIVE.items()}
"""The same as settings of a server: it ends the session within a minute when this machine is gone."""


class Access(Enum):
    """What a session may do."""

    READ_ONLY = "on"
    READ_WRITE = "off"


@dataclass(frozen=True)
class Limits:
    """How long a session may make a server work or wait."""

    statement: timedelta
    lock: timedelta
    pause: timedelta = timedelta(0)
    """How much longer than a statement a session may rest between two of them."""


STAGING_LIMITS = Limits(timedelta(hours=8), timedelta(seconds=30))
"""For servers that hold only copies."""


@contextmanager
def session(address: Address, *, name: str, access: Access, limits: Limits) -> Iterator[psycopg.Connection]:
    """A session in autocommit; closed at the end, whatever happens.

    Args:
        address: where.
        name: shown as application_name.
        access: whether it may write.
        limits: its timeouts.

    Raises:
        ConnectError: no connection; says what to do.
    """
    connection = connect(address, name=name, access=access, limits=limits)
    try:
        yield connection
    finally:
        connection.close()


def connect(address: Address, *, name: str, access: Access, limits: Limits) -> psycopg.Connection:
    """As `session`, for who closes it himself."""
    settings = {
        **PINNED,
        # To compile a statement costs more than it gains: a second for the catalogue's, where a server has it.
        "jit": "off",
        "default_transaction_read_only": access.value,
        "statement_timeout": _milliseconds(limits.statement),
        "lock_timeout": _milliseconds(limits.lock),
        "idle_in_transaction_session_timeout": _milliseconds(limits.statement + limits.pause),
    }
    wanted = {"connect_timeout": str(CONNECT_TIMEOUT), **address.parts, "application_name": name[:63]}
    try:
        connection = psycopg.connect(
            **{**instead_of_environment(), **_KEEPALIVE, **wanted, "password": address.password},  # type: ignore[arg-type]
            autocommit=True,
        )
    except psycopg.Error as error:
        raise connect_error(address, error) from None
    try:
        set_all(connection, settings)
    except psycopg.Error as error:
        connection.close()
        raise connect_error(address, error) from None
    return connection


def set_all(connection: psycopg.Connection, settings: Mapping[str, str]) -> None:
    """These settings, until the session ends."""
    chosen = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, false)").format(key, value) for key, value in settings.items()
    )
    connection.execute(sql.SQL("SELECT {}").format(chosen))


def _milliseconds(limit: timedelta) -> str:
    """As PostgreSQL takes it. Its 0 means no limit, so that is never said."""
    return str(min(max(math.ceil(limit.total_seconds() * 1000), 1), _LONGEST_MS))


def measure_cluster(connection: psycopg.Connection) -> int:
    """Bytes of all databases of the server that the role may connect to."""
    row = connection.execute(
        "SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')"
    ).fetchone()
    return int(row[0]) if row and row[0] else 0


def describe(connection: psycopg.Connection, address: Address) -> Server:
    """The server as it describes itself."""
    row = connection.execute(
        "SELECT system_identifier::text, current_setting('server_version'),"
        " current_setting('server_version_num')::int / 10000, current_database()::text, current_user::text,"
        " pg_database_size(current_database()) FROM pg_control_system()"
    ).fetchone()
    identifier, version, major, database, role, size = _some(row)
    return Server(
        address=str(address),
        system_identifier=identifier,
        version=version,
        major=major,
        database=database,
        role=role,
        size=size,
    )


def _some(row: tuple[object, ...] | None) -> tuple[object, ...]:  # type: ignore[explicit-any,unused-ignore]
    if row is None:
        raise ConnectError("the server gave no row where there is always one")
    return row


@contextmanager
def exported_snapshot(connection: psycopg.Connection) -> Iterator[Snapshot]:
    """A snapshot that others may import for as long as this context lasts.

    Backup and expectations share it: whatever production writes meanwhile, both see the same rows. The transaction
    is read only and holds no lock on any table.
    """
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        row = connection.execute(
            "SELECT pg_export_snapshot(), clock_timestamp(), pg_current_snapshot()::text,"
            " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text"
        ).fetchone()
        name, taken, seen, lsn = _some(row)
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
