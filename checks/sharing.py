"""Sharing work between sessions.

Guarantees that when one session fails, or the drill is stopped, nobody waits for the statements of the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import psycopg

from checks.asking import OpenSession
from drills.errors import ConnectError
from drills.secrets import VAULT

T = TypeVar("T")
_CANCEL_EVERY = 1.0
"""Seconds."""


class Advance(Protocol):
    """Is told how far something is; what it raises ends it."""

    def __call__(self, done: int, total: int, unit: str, about: str = "") -> None:
        """So much is done, and this was it last."""


@dataclass(frozen=True)
class Work(Generic[T]):
    """A piece of work."""

    weight: int
    """About how many bytes the server has to read for it."""
    run: Callable[[psycopg.Connection], T]
    told: Callable[[], str] = str
    """What has been done, in words, once it is."""


class Crew(Generic[T]):
    """Some sessions and the work before them, each piece done by whoever is free."""

    def __init__(self, open_session: OpenSession, work: Sequence[Work[T]]) -> None:
        self._open_session = open_session
        self._work = work
        self._waiting = iter(range(len(work)))
        self._results: dict[int, T] = {}
        self._done, self._whole = 0, sum(piece.weight for piece in work)
        self._at_work: set[psycopg.Connection] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, jobs: int, advance: Advance, farewell: Callable[[psycopg.Connection], None]) -> list[T]:
        """Do all of it, and give the results in the order of the work.

        Args:
            jobs: sessions at the same time.
            advance: told after each piece; what it raises ends the work.
            farewell: done in every session before it is closed.

        Raises:
            ConnectError: a session could not be had, or was lost.
        """
        count = max(1, min(jobs, len(self._work)))
        with ThreadPoolExecutor(count, thread_name_prefix="measure") as pool:
            labourers = [pool.submit(self._labour, advance, farewell) for _ in range(count)]
            try:
                for labourer in wait(labourers, return_when=FIRST_EXCEPTION).done:
                    labourer.result()
            except BaseException:
                self._stop(labourers)
                raise
        return [self._results[index] for index in range(len(self._work))]

    def _labour(self, advance: Advance, farewell: Callable[[psycopg.Connection], None]) -> None:
        try:
            with self._open_session() as connection:
                self._at_work.add(connection)
                try:
                    while (index := self._next()) is not None:
                        done = self._work[index].run(connection)
                        with self._lock:
                            self._results[index] = done
                            self._done += self._work[index].weight
                            advance(self._done, self._whole, "bytes", self._work[index].told())
                    if not self._stopped:
                        farewell(connection)
                finally:
                    self._at_work.discard(connection)
        except psycopg.Error as error:
            raise ConnectError(f"a session was lost while measuring: {VAULT.redact(str(error)).strip()}") from error

    def _next(self) -> int | None:
        with self._lock:
            return None if self._stopped else next(self._waiting, None)

    def _stop(self, labourers: Sequence[Future[None]]) -> None:
        """Nothing new is begun, and what runs is cancelled: again, since a statement may only be on its way."""
        self._stopped = True
        while wait(labourers, timeout=0).not_done:
            for connection in list(self._at_work):
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)
            wait(labourers, timeout=_CANCEL_EVERY)
