"""Sessions on PostgreSQL servers: addresses, limits, and the settings that decide how values read.

Owns every connection this program opens. Guarantees on each of them a statement timeout, a lock timeout, a name that
says which drill it is, and the same settings for reading values on source and copy; sessions on the source are read
only as well. An address alone says where a session goes: libpq's PG* variables of the person do not reach it. Errors
never carry a secret.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import psycopg
from psycopg import sql

from drills.addresses import Address, connect_error
from drills.errors import ConnectError
from drills.libpq import instead_of_environment
from drills.records import Server

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


_KEEPALIVE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""A network that died is noticed within a minute; without this it may take hours."""
NOTICED_DEAD = {f"tcp_{name.removeprefix('tcp_')}": value for name, value in _KEEPALIVE.items()}
"""The same as settings of a server: it ends the session within a minute when this machine is gone."""
_LOOKING = {"client_connection_check_interval": "10s"}
"""A server that is at work on a statement does not notice otherwise that nobody waits for it any more."""
_LOOKS_SINCE = 140000


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
        **NOTICED_DEAD,
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
        _set(connection, settings)
    except psycopg.Error as error:
        connection.close()
        raise connect_error(address, error) from None
    if connection.info.server_version >= _LOOKS_SINCE:
        with suppress(psycopg.Error):  # not every platform can
            _set(connection, _LOOKING)
    return connection


def tool_environment(address: Address, name: str) -> dict[str, str]:
    """For one of PostgreSQL's tools at the source, which switches the server's timeouts off for its own sessions.

    What it leaves alone makes the server end them within a minute when this machine is gone, and with them the lock
    that pg_dump holds on every table.
    """
    told = address.environment()
    options = " ".join(f"-c {key}={value}" for key, value in NOTICED_DEAD.items())
    return {**told, "PGAPPNAME": name, "PGOPTIONS": f"{told.get('PGOPTIONS', '')} {options}".strip()}


def _set(connection: psycopg.Connection, settings: Mapping[str, str]) -> None:
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
    identifier, version, major, database, role, size = only_row(row)
    return Server(
        address=str(address),
        system_identifier=identifier,
        version=version,
        major=major,
        database=database,
        role=role,
        size=size,
    )


def only_row(row: tuple[object, ...] | None) -> tuple[object, ...]:  # type: ignore[explicit-any,unused-ignore]
    """That of a statement which always has one.

    Raises:
        ConnectError: there is none.
    """
    if row is None:
        raise ConnectError("the server gave no row where there is always one")
    return row
