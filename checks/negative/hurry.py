"""A limit that a whole series of statements has to keep, whatever each of them may take.

Guarantees that no statement begins when the time is over, and that none runs on beyond it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from checks.asking import Log
from drills.errors import CheckError

OVER = "not reached within the limit of the plan"
_LIMIT = "SELECT set_config('statement_timeout', %s, false)"


@dataclass
class Hurried(Log):
    """The statements put to one server until a moment, each with the time that is left by then."""

    until: float = 0.0
    """On the clock of `time.monotonic`."""

    @staticmethod
    def of(log: Log, seconds: float) -> Hurried:
        """One that writes into another's list, and ends after so many seconds."""
        return Hurried(log.role, log.server, log.queries, until=time.monotonic() + seconds)

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.until

    def refuse_late(self) -> None:
        """Nothing begins any more when the time is over.

        Raises:
            CheckError: it is.
        """
        if self.late:
            raise CheckError(OVER)

    @contextmanager
    def _noting(self, connection: psycopg.Connection, name: str, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        self.refuse_late()
        left = max(int((self.until - time.monotonic()) * 1000), 1)  # 0 would be no limit at all
        with suppress(psycopg.Error):  # the statement itself meets the same server, and says what is wrong
            connection.execute(_LIMIT, (str(left),))
        with super()._noting(connection, name, statement) as rows:
            yield rows
