"""Control totals in another database: one query, through SQLAlchemy.

Owns the connection, which lasts as long as the query. Refuses to write: PostgreSQL and SQLite are told so, and any
other is rolled back. Guarantees that a query which takes too long is ended, that libpq's variables of the
person do not change where it goes, and that no error holds a secret.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from checks.control.records import Records, Writing
from drills.errors import CheckError
from drills.libpq import instead_of_environment
from drills.plans.control import QueryControl
from drills.secrets import REFERENCE, VAULT
from drills.units import show_duration

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

MOST = 1_000_000
"""Records. A control holds totals; a query that gives more has forgotten to add up."""
_CONNECT_TIMEOUT = 10
"""Seconds."""
_LIBPQ = frozenset({"psycopg", "psycopg2", "psycopg2cffi"})
"""Drivers that read PG variables."""
_TIMEOUT_NAMES = {
    **dict.fromkeys(_LIBPQ, "connect_timeout"),
    "mariadbconnector": "connect_timeout",
    "mysqldb": "connect_timeout",
    "oracledb": "tcp_connect_timeout",
    "pymssql": "login_timeout",
    "pymysql": "connect_timeout",
    "pyodbc": "timeout",
}
"""What drivers call the longest that connecting may take. Not here: those whose only timeout ends long queries too."""


def ask(query: QueryControl, closed: str) -> Records:
    """The records that the query gives.

    Args:
        query: what the plan says.
        closed: the end of the total's period, for `:closed` in the query; empty where it has none.

    Raises:
        CheckError: the database cannot be reached or refuses the query, or it takes too long.
        SecretError: a reference leads nowhere.
    """
    from sqlalchemy import exc, text  # noqa: PLC0415 - slow to import, and rarely wanted

    try:
        with _engine(query).connect() as connection, _ended_in_time(connection, query) as late:
            try:
                _protect(connection, query)
                # Streamed, so that rows beyond the most are never fetched.
                asked = connection.execution_options(stream_results=True).execute(
                    text(_statement(query.sql, closed)), {"closed": closed} if closed else {}
                )
                columns = list(asked.keys())
                rows = [tuple(row) for row in islice(asked, MOST + 1)]
            except exc.SQLAlchemyError:
                if late.is_set():
                    raise _too_long(query) from None
                raise
    except exc.SQLAlchemyError as error:
        said = getattr(error, "orig", None) or error.args[0] if error.args else type(error).__name__
        raise CheckError(f"the control's query: {VAULT.redact(str(said)).strip()}") from None
    except ImportError as error:
        raise CheckError(
            f"no driver for the control's database: {error}", hint="install the driver that its url names"
        ) from None
    if len(rows) > MOST:
        raise CheckError(f"the control's query gives more than {MOST} records", hint="add up in the query")
    records = ((f"record {number}", dict(zip(columns, row, strict=True))) for number, row in enumerate(rows, 1))
    return Records(columns, records, Writing())


def _engine(query: QueryControl) -> Engine:
    from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - same
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 - same

    url = make_url(VAULT.resolve(query.url) if REFERENCE.fullmatch(query.url) else query.url)
    if url.password:
        VAULT.know(str(url.password))
    if query.password:
        url = url.set(password=VAULT.resolve(query.password))
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    given: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        given["creator"] = lambda: _open_sqlite(url)
    else:
        given["connect_args"] = _connect_args(url)
    return create_engine(url, poolclass=NullPool, hide_parameters=True, **given)


def _connect_args(url: URL) -> dict[str, Any]:
    """What the driver is told besides the url; SQLAlchemy puts it above the url, so nothing of that is repeated."""
    driver = url.get_driver_name()
    told: dict[str, Any] = {**instead_of_environment()} if driver in _LIBPQ else {}
    if driver in _TIMEOUT_NAMES:
        told[_TIMEOUT_NAMES[driver]] = _CONNECT_TIMEOUT
    said = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    return {name: value for name, value in told.items() if name not in said}


def _open_sqlite(url: URL) -> sqlite3.Connection:
    """Read only from the start: opened otherwise, a file that is not there would be made."""
    return sqlite3.connect(f"file:{quote(url.database or '')}?mode=ro", uri=True, check_same_thread=False)


def _protect(connection: Connection, query: QueryControl) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        milliseconds = int(query.statement_timeout.total_seconds() * 1000)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")


def _statement(statement: str, closed: str) -> str:
    """The plan's text with no parameter but `:closed`: a colon of its own is none."""
    escaped = statement.replace(":", r"\:")
    return re.sub(r"(?<!:)\\:closed\b", ":closed", escaped) if closed else escaped


@contextmanager
def _ended_in_time(connection: Connection, query: QueryControl) -> Iterator[threading.Event]:
    """Ends what runs on the connection when its time is over, whatever the database; the event says so."""
    late = threading.Event()

    def end() -> None:
        late.set()
        raw: Any = connection.connection.dbapi_connection
        # psycopg and Oracle's driver can cancel, SQLite's can interrupt, and every other can be closed.
        way = next(getattr(raw, name) for name in ("cancel", "interrupt", "close") if hasattr(raw, name))
        with suppress(Exception):
            way()

    timer = threading.Timer(query.statement_timeout.total_seconds(), end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _too_long(query: QueryControl) -> CheckError:
    return CheckError(f"the control's query took longer than {show_duration(query.statement_timeout)}")
