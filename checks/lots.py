"""Many small questions in a few statements: 10,000 sequences are not worth 10,000 round trips.

Guarantees that one which the server refuses leaves their answers to the others, and that locks are given back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg

from checks.asking import Log
from drills.errors import CheckError

AT_ONCE = 200
"""Questions in one statement."""
T = TypeVar("T")


def in_lots(
    connection: psycopg.Connection, log: Log, told: str, wanted: Sequence[T], statement: Callable[[T], str]
) -> list[tuple[Any, ...] | CheckError]:
    """One row for each of them, many in one statement; where a lot is refused, each of it by itself."""
    found: list[tuple[Any, ...] | CheckError] = []
    for begin in range(0, len(wanted), AT_ONCE):
        lot = [statement(one) for one in wanted[begin : begin + AT_ONCE]]
        try:
            found += _asked(connection, log, told, lot)
        except CheckError:
            found += [_alone(connection, log, told, text) for text in lot]
    return found


def _alone(connection: psycopg.Connection, log: Log, told: str, text: str) -> tuple[Any, ...] | CheckError:
    try:
        return _asked(connection, log, told, [text])[0]
    except CheckError as error:
        return error


def _asked(connection: psycopg.Connection, log: Log, told: str, texts: Sequence[str]) -> list[tuple[Any, ...]]:
    """A row for each statement. What one of them takes for a lock is given back."""
    whole = " UNION ALL ".join(f"SELECT {number}, * FROM ({text}) q" for number, text in enumerate(texts))  # noqa: S608 - our own
    with connection.transaction(force_rollback=True):
        rows = log.ask(connection, told, whole)
    return [row[1:] for row in sorted(rows, key=lambda row: int(row[0]))]
