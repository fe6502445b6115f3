"""The work on one table: its pieces, and what they have shown so far, put together.

Guarantees that what one piece could not show is not shown for the table: a digest over all rows or none, a total over
all of them or none; and that the rows are still counted where their content could not be read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import psycopg

from checks.adding import Adding, refuse_inexact, unmeasured
from checks.asking import Log
from checks.plans import reading_no_foreign_table
from checks.scans import Piece, count_statement, group_keys, scan_statement
from checks.totals_sql import group_expressions, total_statement
from drills.errors import CheckError
from drills.measures import Bucket, Scan, TableCount, Total
from drills.plan_totals import TotalCheck

PAGE = 8192
"""Bytes. Where a server has larger ones, its pieces are larger too."""
_PIECE = 16384
"""Pages: 128 MB."""
_MOST_PIECES = 256
_BYTES_IN_BUCKET = 4096 * 100
_LARGE = 64 * 2**20
"""Bytes from which on a table gets settings of its own."""


def cut_in_pieces(size: int) -> list[Piece]:
    """Ranges of pages that cover a table of these bytes, and whatever is appended to it."""
    pages = size // PAGE
    length = max(_PIECE, -(-pages // _MOST_PIECES))
    starts = range(0, max(pages, 1), length)
    if len(starts) == 1:
        return [Piece()]
    return [Piece(start, start + length if start + length < pages else None) for start in starts]


class TableWork:
    """One table while it is measured. Its pieces may be at work in several sessions."""

    def __init__(self, scan: Scan, *, shown: str, size: int, digest: bool) -> None:
        self.scan = scan
        self.shown = shown
        self.size = size
        self.sums: list[TotalCheck] = []
        self.workers = 0
        """Processes that may help the server to read it, where it is large."""
        self.error = "" if digest else "not asked for"
        """Why there is no digest."""
        self.uncounted = ""
        """Why there is not even a count."""
        self.unsummed = ""
        self._lock = threading.Lock()
        self._rows = 0
        self._buckets: dict[str, tuple[int, int | str]] = {}
        self._totals: list[Adding] = []

    def fold(self, check: TotalCheck) -> None:
        """Let the scan answer this total too."""
        self.sums.append(check)
        self._totals.append(Adding(check))

    def totals(self) -> list[Adding]:
        """The totals that were folded in and answered."""
        return [] if self.unsummed else self._totals

    def total(self, adding: Adding, rewritten: set[str], why: str) -> Total:
        """One of them, unless the table was rewritten meanwhile: then why not."""
        if self.shown in rewritten:
            return unmeasured(adding.check, f"{adding.check.name}: {self.shown}: {why}")
        return adding.total()

    def told(self) -> str:
        """How far it is."""
        return f"{self.shown}: {self._rows:,} rows"

    @property
    def expected_buckets(self) -> int:
        """About how many buckets its rows fall into."""
        return max(self.size // _BYTES_IN_BUCKET, 1) if self.scan.bucket else 1

    def piece(self, log: Log, piece: Piece) -> Callable[[psycopg.Connection], None]:
        """The work on one piece."""

        def scan(connection: psycopg.Connection) -> None:
            with _settings(connection, self.size, self.workers):
                if self.sums and not self.unsummed and not self.error:
                    try:
                        self._scan(connection, log, piece, self.sums)
                    except CheckError as error:
                        self.unsummed = error.message
                    else:
                        return
                if not self.error:
                    try:
                        self._scan(connection, log, piece, ())
                    except CheckError as error:
                        self.error = error.message
                    else:
                        return
                self._count(connection, log, piece)

        return scan

    def _scan(self, connection: psycopg.Connection, log: Log, piece: Piece, sums: Sequence[TotalCheck]) -> None:
        with connection.transaction(), ExitStack() as guarded:
            for check in sums:
                guarded.enter_context(reading_no_foreign_table(connection, log, check.name, total_statement(check)))
            rows = log.ask(connection, f"content of {self.shown}", scan_statement(self.scan, sums, piece))
        for row in rows:
            for check, kind in zip(sums, row[len(row) - 4 * len(sums) + 3 :: 4], strict=True):
                refuse_inexact(check, kind)
        with self._lock:
            self._take(rows, sums)

    def _count(self, connection: psycopg.Connection, log: Log, piece: Piece) -> None:
        if self.uncounted:
            return
        try:
            with connection.transaction():
                rows = log.ask(connection, f"rows of {self.shown}", count_statement(self.scan, piece))
        except CheckError as error:
            self.uncounted = error.message
            return
        with self._lock:
            self._rows += rows[0][0]

    def _take(self, rows: Iterable[Sequence[Any]], sums: Sequence[TotalCheck]) -> None:
        keys = group_keys(sums)
        for bucket, *rest in rows:
            group, (count, digest), more = rest[: len(keys)], rest[len(keys) : len(keys) + 2], rest[len(keys) + 2 :]
            self._rows += count
            self._add(str(bucket), count, digest)
            told = dict(zip(keys, group, strict=True))
            for place, total in enumerate(self._totals if sums else ()):
                key = tuple(told[expression] for expression in group_expressions(total.check))
                total.add(key, *more[4 * place : 4 * place + 3])

    def _add(self, bucket: str, count: int, digest: Decimal | str | None) -> None:
        if self.scan.digest == "sha256":
            self._buckets[bucket] = count, str(digest)
            return
        rows, whole = self._buckets.get(bucket, (0, 0))
        self._buckets[bucket] = rows + count, int(whole) + int(digest or 0)

    def count(self, rewritten: set[str], why: str) -> TableCount:
        """What is known of the table, unless it was rewritten meanwhile: then why not."""
        if self.shown in rewritten:
            return TableCount(table=self.shown, rows=None, error=why)
        if self.uncounted:
            return TableCount(table=self.shown, rows=None, scan=self.scan, error=self.uncounted)
        if self.error:
            return TableCount(table=self.shown, rows=self._rows, scan=self.scan, error=self.error)
        found = {name: (count, digest) for name, (count, digest) in sorted(self._buckets.items()) if count}
        listed = tuple(Bucket(bucket=name, rows=count, digest=str(digest)) for name, (count, digest) in found.items())
        return TableCount(
            table=self.shown,
            rows=self._rows,
            digest=self._digest(found),
            buckets=listed if self.scan.bucket else (),
            scan=self.scan,
        )

    def _digest(self, found: dict[str, tuple[int, int | str]]) -> str:
        """Of the whole table."""
        if self.scan.digest == "sha256":
            lines = "".join(f"{name} {count} {digest}\n" for name, (count, digest) in found.items())
            return hashlib.sha256(lines.encode()).hexdigest()
        return str(sum(int(digest) for _, digest in found.values()))


@contextmanager
def _settings(connection: psycopg.Connection, size: int, workers: int) -> Iterator[None]:
    """For the scan of a large table: workers, and no sorting where a hash table of a few thousand does."""
    if size < _LARGE:
        yield
        return
    choose = "SELECT set_config('enable_sort', %s, false), set_config('max_parallel_workers_per_gather', %s, false)"
    connection.execute(choose, ("off", str(workers)))
    yield
    if not connection.closed:
        connection.execute(choose, ("on", "0"))
