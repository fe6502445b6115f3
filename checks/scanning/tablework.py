"""The work on one table: its pieces, and what they have shown so far, put together.

Guarantees that what one piece could not show is not shown for the table: a digest over all rows or none, a total over
all of them or none; that the rows are still counted where their content could not be read; and that locks are given
back as soon as a piece is read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

import psycopg

from checks.asking import Log
from checks.names import identifier
from checks.plans import reading_no_foreign_table
from checks.scanning.adding import unmeasured
from checks.scanning.portions import Portion
from checks.scanning.rewriting import WHY, rewritten
from checks.scanning.scans import Piece, count_statement, scan_statement
from checks.totals_sql import total_statement
from drills.errors import CheckError
from drills.measures import Bucket, Scan, TableCount, Total
from drills.plans.totals import TotalCheck

PAGE = 8192
"""Bytes. Where a server has larger ones, its pieces are larger too."""
_PIECE = 16384
"""Pages: 128 MB."""
_MOST_PIECES = 256
_BYTES_IN_BUCKET = 4096 * 100
_LARGE = 64 * 2**20
"""Bytes from which on a table gets settings of its own."""
_FOR_LARGE = "SELECT set_config('enable_sort', 'off', true), set_config('max_parallel_workers_per_gather', %s, true)"
"""No sorting where a hash table of a few thousand does, and workers; until the transaction is rolled back."""


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

    def __init__(
        self,
        scan: Scan,
        *,
        shown: str,
        size: int,
        digest: bool,
        oid: int = 0,
        as_stored: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.scan = scan if digest else scan.model_copy(update={"digest": "hash", "row": "", "bucket": ""})
        self._as_stored = as_stored
        self._asked = digest
        self.shown = shown
        self.size = size
        self.oid = oid
        """0 where nobody can rewrite it."""
        self.sums: list[TotalCheck] = []
        self.workers = 0
        """Processes that may help the server to read it, where it is large."""
        self.error = "" if digest else "not asked for"
        """Why there is no digest."""
        self.uncounted = ""
        """Why there is not even a count."""
        self.unsummed = ""
        self.overdue = ""
        """Why nothing more is asked of it: a statement was stopped, such as at its time limit."""
        self.rewritten = False
        """Since the snapshot."""
        self._lock = threading.Lock()
        self._found = Portion(self.scan, ())

    def fold(self, check: TotalCheck) -> None:
        """Let the scan answer this total too."""
        self.sums.append(check)
        self._found = Portion(self.scan, self.sums)

    def totals(self) -> list[Total]:
        """The totals that were folded in and answered."""
        if self.overdue:
            return [unmeasured(check, f"{check.name}: {self.overdue}") for check in self.sums]
        if self.unsummed:
            return []
        if self.rewritten:
            return [unmeasured(check, f"{check.name}: {self.shown}: {WHY}") for check in self.sums]
        return [adding.total() for adding in self._found.totals]

    def told(self) -> str:
        """How far it is."""
        return f"{self.shown}: {self._found.rows:,} rows"

    @property
    def large(self) -> bool:
        """Whether it is worth workers."""
        return self.size >= _LARGE

    @property
    def expected_buckets(self) -> int:
        """About how many buckets its rows fall into."""
        return max(self.size // _BYTES_IN_BUCKET, 1) if self.scan.bucket else 1

    def statement(self, piece: Piece | None = None, sums: Sequence[TotalCheck] = ()) -> str:
        """What is asked: for all that can still be had, or for the rows alone."""
        if self.error and not sums:
            return count_statement(self.scan, piece)
        return scan_statement(self.scan, sums, piece, self._as_stored, workers=self.large and self.workers > 0)

    def piece(self, log: Log, piece: Piece) -> Callable[[psycopg.Connection], None]:
        """The work on one piece."""

        def scan(connection: psycopg.Connection) -> None:
            while (sums := self._next_question()) is not None:
                try:
                    self._read(connection, log, piece, sums)
                except CheckError as error:
                    self._refused(error, sums)
                else:
                    return

        return scan

    def _next_question(self) -> Sequence[TotalCheck] | None:
        """The totals to be answered with the next scan; None where nothing more is asked of this table."""
        if self.uncounted:
            return None
        return () if self.unsummed or (self.error and self._asked) else self.sums

    def _refused(self, error: CheckError, sums: Sequence[TotalCheck]) -> None:
        """After a scan with totals one without, after that the rows alone."""
        if sums:
            self.unsummed = error.message
        elif self.error:
            self.uncounted = error.message
        else:
            self.error = error.message
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                self.overdue = self.uncounted = error.message  # to ask for less would read as much

    def _read(self, connection: psycopg.Connection, log: Log, piece: Piece, sums: Sequence[TotalCheck]) -> None:
        found, told = Portion(self.scan, sums), f"{'rows' if self.error else 'content'} of {self.shown}"
        with connection.transaction(force_rollback=True):
            if self.large:
                connection.execute(_FOR_LARGE, (str(self.workers),))
            with ExitStack() as guarded:
                for check in sums:
                    guarded.enter_context(reading_no_foreign_table(connection, log, check.name, total_statement(check)))
                for row in guarded.enter_context(log.reading(connection, told, self.statement(piece, sums))):
                    found.take(row)
            gone = rewritten(connection, log, [(self.oid, self.name)] if self.oid else [])
        self.take(found, rewritten=bool(gone))

    @property
    def name(self) -> str:
        """Its name for SQL."""
        return identifier(self.scan.namespace, self.scan.name)

    def take(self, found: Portion, *, rewritten: bool) -> None:
        """What one piece has shown."""
        with self._lock:
            self.rewritten |= rewritten
            self._found.join(found)

    def count(self) -> TableCount:
        """What is known of the table."""
        if self.rewritten:
            return TableCount(table=self.shown, rows=None, error=WHY)
        if self.uncounted:
            return TableCount(table=self.shown, rows=None, scan=self.scan, error=self.uncounted)
        if self.error:
            scan = self.scan if self._asked else None
            return TableCount(table=self.shown, rows=self._found.rows, scan=scan, error=self.error)
        parts = sorted((part for part in self._found.buckets.items() if part[1][0]), key=lambda part: part[0])
        listed = (Bucket(bucket=name, rows=rows, digest=str(digest)) for name, (rows, digest) in parts)
        return TableCount(
            table=self.shown,
            rows=self._found.rows,
            digest=_digest([(name, rows, digest) for name, (rows, digest) in parts], self.scan),
            buckets=tuple(listed) if self.scan.bucket else (),
            scan=self.scan,
            error=self._found.told_undigested(),
        )


def _digest(parts: Sequence[tuple[str, int, int | str]], scan: Scan) -> str:
    """Of the whole table."""
    if scan.digest == "sha256":
        lines = "".join(f"{name} {rows} {digest}\n" for name, rows, digest in parts)
        return hashlib.sha256(lines.encode()).hexdigest()
    return str(sum(int(digest) for _, _, digest in parts))
