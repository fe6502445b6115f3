"""Asking a server: every statement recorded with its text, role, start and end.

Refuses more than one statement at a time: statements come from plans, and what follows a semicolon is no question.
Guarantees that a statement goes to the server as it is written (a % is a %), and that a server which went away is told
apart from a statement that it refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg
from psycopg.types.string import TextLoader

from drills.errors import CheckError, ConnectError
from drills.measures import Query
from drills.records import utc_now
from drills.secrets import VAULT

OpenSession = Callable[[], AbstractContextManager[psycopg.Connection]]
"""Gives a session that is ready to measure in: on the source, inside the snapshot."""

_UTF8 = "utf-8"


@dataclass(frozen=True)
class Sample:
    """The first rows of an answer, each value as PostgreSQL writes it."""

    columns: tuple[str, ...]
    kinds: tuple[int, ...]
    """The columns' types, by OID. Columns and kinds are empty where there is no row."""
    rows: list[tuple[str | None, ...]]


@dataclass
class Log:
    """The statements put to one server, in order of their ends."""

    role: str
    server: str
    queries: list[Query] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, connection: psycopg.Connection, name: str, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, noted with start and end.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with self._noting(connection, name, statement) as rows:
            rows.extend(connection.cursor().stream(statement.encode()))
        return rows

    @contextmanager
    def reading(self, connection: psycopg.Connection, name: str, statement: str) -> Iterator[Iterator[tuple[Any, ...]]]:
        """As `ask`, row by row: none is kept. What is not read by the end is cancelled.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with (
            self._noting(connection, name, statement) as rows,
            closing(connection.cursor().stream(statement.encode())) as answer,  # type: ignore[type-var]
        ):

            def each() -> Iterator[tuple[Any, ...]]:
                for row in answer:
                    rows.append(())  # for their number
                    yield row

            yield each()

    def count(self, connection: psycopg.Connection, name: str, statement: str) -> int:
        """How many rows a statement gives. All of them are fetched, and none is kept.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with self._noting(connection, name, statement) as rows:
            rows.extend(() for _ in connection.cursor().stream(statement.encode()))
        return len(rows)

    def tell(self, connection: psycopg.Connection, name: str, statement: str) -> None:
        """A statement that gives no rows, such as one that makes something.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with self._noting(connection, name, statement):
            # Binary, since psycopg sends a text without parameters by the one protocol that takes several statements.
            connection.cursor().execute(statement.encode(), binary=True)

    def load(self, connection: psycopg.Connection, name: str, statement: str, chunks: Iterable[bytes]) -> int:
        """A COPY from here: what the chunks hold goes to the server as they come. Gives the number of rows loaded.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with self._noting(connection, name, statement):
            cursor = connection.cursor()
            with cursor.copy(statement.encode()) as copy:
                for chunk in chunks:
                    copy.write(chunk)
        return cursor.rowcount

    def unload(self, connection: psycopg.Connection, name: str, statement: str) -> Iterator[bytes]:
        """A COPY to here: whole lines, as they come.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        with self._noting(connection, name, statement), connection.cursor().copy(statement.encode()) as copy:
            yield from map(bytes, copy)

    def sample(self, connection: psycopg.Connection, name: str, statement: str, most: int) -> Sample:
        """The first `most` rows; the statement is cancelled when it has more.

        Nothing is wrapped around it: a LIMIT would have the planner bet on an early hit, where a sound copy has none.

        Raises:
            CheckError: the server refused it.
            ConnectError: the server went away.
        """
        cursor = connection.cursor()
        for kind in cursor.adapters.types:
            for oid in (kind.oid, kind.array_oid):
                cursor.adapters.register_loader(oid, TextLoader)
        with (
            self._noting(connection, name, statement) as rows,
            closing(cursor.stream(statement.encode())) as answer,  # type: ignore[type-var]
        ):
            rows.extend(islice(answer, most))
        shape = cursor.description or () if rows else ()
        return Sample(tuple(column.name for column in shape), tuple(column.type_code for column in shape), rows)

    @contextmanager
    def _noting(self, connection: psycopg.Connection, name: str, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        started, clock = utc_now(), time.monotonic()
        rows: list[tuple[Any, ...]] = []
        try:
            _speak_utf8(connection)
            yield rows
        except psycopg.Error as error:
            said = VAULT.redact(str(error)).strip() or type(error).__name__
            if connection.closed:
                raise ConnectError(f"the server went away: {name}: {said}", hint="see the server's log") from error
            raise CheckError(f"{name}: {said}") from error
        finally:
            self.note(
                Query(
                    name=name,
                    sql=statement,
                    role=self.role,
                    server=self.server,
                    started=started,
                    ended=utc_now(),
                    seconds=round(time.monotonic() - clock, 6),
                    rows=len(rows),
                )
            )

    def note(self, query: Query) -> None:
        """One more statement."""
        with self._lock:
            self.queries.append(query)


def _speak_utf8(connection: psycopg.Connection) -> None:
    """A database in another encoding would read our statements in its own, and SQL_ASCII would answer in bytes."""
    if connection.info.encoding != _UTF8:
        connection.execute("SET client_encoding TO 'UTF8'")
