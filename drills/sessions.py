"""Sessions on PostgreSQL servers: addresses, limits, and the settings that decide how values read.

Owns every connection this program opens. Guarantees on each of them a statement timeout, a lock timeout, a name that
says which drill it is, and the same settings for reading values on source and copy; sessions on the source are read
only as well. Errors never carry a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import psycopg
from psycopg import sql

from drills.addresses import Address
from drills.errors import ConnectError
from drills.records import Server, Snapshot
from drills.secrets import VAULT

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


class Access(Enum):
    """What a session may do."""

    READ_ONLY = "on"
    READ_WRITE = "off"


@dataclass(frozen=True)
class Limits:
    """How long a session may make a server work or wait."""

    statement: timedelta
    lock: timedelta


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
        "default_transaction_read_only": access.value,
        "statement_timeout": f"{limits.statement.total_seconds() * 1000:.0f}",
        "lock_timeout": f"{limits.lock.total_seconds() * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{limits.statement.total_seconds() * 1000:.0f}",
    }
    wanted = {"connect_timeout": str(CONNECT_TIMEOUT), **address.parts, "application_name": name[:63]}
    try:
        connection = psycopg.connect(**wanted, password=address.password, autocommit=True)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        raise connect_error(address, error) from None
    try:
        chosen = sql.SQL(", ").join(
            sql.SQL("set_config({}, {}, false)").format(key, value) for key, value in settings.items()
        )
        connection.execute(sql.SQL("SELECT {}").format(chosen))
    except psycopg.Error as error:
        connection.close()
        raise connect_error(address, error) from None
    return connection


def connect_error(address: Address, error: psycopg.Error) -> ConnectError:
    """What went wrong, without a secret, and what to do about it."""
    said = VAULT.redact(str(error)).strip()
    reasons = {
        "password authentication failed": "check the reference under `password:` and the role's password",
        "does not exist": "check the name in the address",
        "no pg_hba.conf entry": "allow this host and role in pg_hba.conf, or mend sslmode in the address",
        "Connection refused": "is the server running, and the port right?",
        "timeout": "is the host reachable from here?",
        "not resolve": "check the host's name",
        "too many connections": "raise max_connections or lower `jobs`",
        "fe_sendauth: no password supplied": "set `password:` in the plan to a reference",
    }
    hint = next((hint for sign, hint in reasons.items() if sign in said), "see the server's log")
    return ConnectError(
        f"cannot connect to {address}: {said.splitlines()[-1] if said else type(error).__name__}", hint=hint
    )


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
            " (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text"
        ).fetchone()
        name, taken, seen, lsn = _some(row)
        yield Snapshot.model_validate({"name": name, "taken": taken, "xmin_xmax": seen, "wal_lsn": lsn})
    finally:
        if not connection.closed:
            connection.rollback()


@contextmanager
def importing(connection: psycopg.Connection, snapshot: str) -> Iterator[psycopg.Connection]:
    """The same session inside that snapshot."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        yield connection
    finally:
        if not connection.closed:
            connection.rollback()


class Sessions:
    """Sessions that measure, so that all of them can be cancelled at once."""

    def __init__(self, opening: Callable[[], psycopg.Connection]) -> None:
        self._opening = opening
        self._open: set[psycopg.Connection] = set()
        self._cancelled = False

    @contextmanager
    def plain(self) -> Iterator[psycopg.Connection]:
        """One more."""
        connection = self._opening()
        self._open.add(connection)
        try:
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
            for connection in list(self._open):
                try:
                    connection.cancel_safe(timeout=5)
                except psycopg.Error:
                    continue
            raise

    def go_on(self, _done: int, _total: int, _unit: str) -> None:
        """Called between two statements: a cancelled statement is one answer less, and the next would be asked.

        Raises:
            ConnectError: the sessions were cancelled.
        """
        if self._cancelled:
            raise ConnectError("cancelled: the work that these sessions belong to failed")
