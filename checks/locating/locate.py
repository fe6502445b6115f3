"""Which rows of a table differ, and in which columns, once its content is known to differ.

Expected values come from the backup itself, never from production as it is now. The backup's rows of the buckets that
differ are loaded beside the copy's, into a table of the session's own, and compared there. Guarantees that the
transaction is rolled back, so that the copy is left as it was; that rows of the backup are believed only as far as
they give the digests that were measured in the snapshot; and that what could not be loaded is UNKNOWN and says why.

Generated columns are in no backup: they are computed from its other columns as the copy computes them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg

from checks.asking import Log, OpenSession
from checks.base import Answer, Question
from checks.content import differing_buckets
from checks.locating import statements
from checks.locating.located import KINDS, Found, Odd, Sum, Texts, Unlike, to_answer
from checks.locating.rows import generated_columns, near
from checks.scanning.relations import Column, Table, read_tables
from checks.scanning.scans import Piece
from checks.scanning.tablework import TableWork
from drills.backup_rows import GiveRows, TableRows
from drills.errors import CheckError
from drills.measures import LARGE_OBJECTS, Bucket, Measures, Scan, TableCount
from drills.plans.checks import ROWS_OF, Content
from drills.records import Basis
from drills.results import LINES_KEPT

KIND = "rows"
_MOST_TABLES = 20
_TOGETHER = 50
"""Rows whose values are fetched at once."""
_SETTINGS = """
SELECT set_config('statement_timeout', '1h', true), set_config('work_mem', '64MB', true),
       set_config('xmloption', 'content', true)
"""
_QUIET = """
SELECT set_config('session_replication_role', 'replica', true)
  FROM pg_roles WHERE rolname = current_user AND rolsuper
"""
"""Event triggers of the copy do not fire for a replica. Only a superuser may say so."""


@dataclass
class Locator:
    """Finds the rows of one copy that differ, a table at a time."""

    open_session: OpenSession
    """Gives sessions on the copy that may write."""
    log: Log
    give_rows: GiveRows
    _tables: dict[str, Table] = field(default_factory=dict)

    def questions(self, expected: Measures, actual: Measures, wish: Content) -> Iterator[Question]:
        """One for each table whose content differs, as far as there are not too many of them."""
        differing = _differing(expected, actual, wish)
        for one, other in differing[:_MOST_TABLES]:
            asked: list[str] = []  # what is asked depends on what the backup holds
            ask = partial(self.locate, one, other, asked)
            yield Question(f"{ROWS_OF}{one.table}", KIND, Basis.SNAPSHOT, asked, ask)
        if len(differing) > _MOST_TABLES:
            rest = ", ".join(one.table for one, _ in differing[_MOST_TABLES:])
            yield Question(f"{ROWS_OF}other tables", KIND, Basis.SNAPSHOT, (), partial(_too_many, rest))

    def locate(self, expected: TableCount, actual: TableCount, asked: list[str]) -> Answer:
        """The rows of this table that differ; the statements that found them are added to `asked`.

        Raises:
            CheckError: they cannot be compared.
            ConnectError: the copy went away.
            ToolError: the backup cannot be read.
        """
        clock = time.monotonic()
        scan = _comparable(expected)
        buckets = differing_buckets(expected, actual)
        with self.open_session() as connection, connection.transaction(force_rollback=True):
            table = self._table(connection, expected)
            work = _Work(connection, self.log, scan, table, buckets, expected.table, asked)
            loaded = work.load(self.give_rows)
            unlike = work.hold_against(expected)
            counts = work.compare()
            if not unlike and not any(counts.values()):
                raise CheckError("no row differs from the backup: the copy was changed since it was measured")
            columns = [column for column in table.columns if column.name in scan.columns]
            found = Found(scan, columns, counts, work.listed(columns), work.sums(), unlike, loaded)
        return to_answer(found, expected, actual, time.monotonic() - clock)

    def _table(self, connection: psycopg.Connection, count: TableCount) -> Table:
        if not self._tables:
            self._tables = {table.shown: table for table in read_tables(connection, self.log)}
        table = self._tables.get(count.table)
        scan = _comparable(count)
        missing = sorted(set(scan.columns) - {column.name for column in table.columns}) if table else []
        if table is None or missing:
            raise CheckError(f"the copy has no {', '.join(missing) or 'such table'}, so its rows cannot be compared")
        return replace(table, key=scan.key)


def _differing(expected: Measures, actual: Measures, wish: Content) -> list[tuple[TableCount, TableCount]]:
    """The tables of both sides whose rows are not the same, but for those that the plan leaves out."""
    left_out = {one.table for one in wish.leave_out}
    there = {count.table: count for count in actual.counts}
    both = [(one, there[one.table]) for one in expected.counts if one.table in there and one.table not in left_out]
    return [pair for pair in both if _differ(*pair)]


def _differ(one: TableCount, other: TableCount) -> bool:
    if one.rows is not None and other.rows is not None and one.rows != other.rows:
        return True
    digested = one.digest is not None and other.digest is not None and not one.error and one.scan == other.scan
    return digested and one.digest != other.digest


def _comparable(count: TableCount) -> Scan:
    if count.table == LARGE_OBJECTS:
        raise CheckError("which large objects differ is not looked for: they are no rows of a table")
    if count.scan is None or count.digest is None:
        raise CheckError(f"its content was not digested in the snapshot: {count.error or 'no digest'}")
    return count.scan


def _too_many(tables: str) -> Answer:
    raise CheckError(f"rows are looked for in {_MOST_TABLES} tables at most; these differ too: {tables}")


@dataclass(frozen=True)
class _Work:
    """One table, inside of the transaction that is rolled back."""

    connection: psycopg.Connection
    log: Log
    scan: Scan
    table: Table
    buckets: Sequence[str]
    """Those that differ; none where the table is one bucket."""
    shown: str
    asked: list[str]

    def load(self, give_rows: GiveRows) -> str:
        """Put the backup's rows beside the copy's. Says what was read."""
        self._ask("settings", _SETTINGS)
        self._ask("no event triggers", _QUIET)
        self._tell("a place for expected rows", statements.make_statement(self.scan))
        loosened = statements.loosen_statement(self.table)
        if loosened is not None:
            self._tell("NULL is allowed there", loosened)
        with give_rows(self.scan, self.buckets) as rows:
            computed = self._computed(rows)
            if not rows.pinned:
                self._tell("money as the dump wrote it", "SET LOCAL lc_monetary TO DEFAULT")
            statement = statements.load_statement(self.scan, rows.columns, rows.encoding, self.buckets)
            self.asked.append(statement)
            chunks = near(rows, self.scan, self.buckets)
            count = self.log.load(self.connection, f"{self._name}: expected rows", statement, chunks)
        self._tell("money as it was measured", "SET LOCAL lc_monetary TO 'C'")
        some = "bucket that differs" if len(self.buckets) == 1 else f"{len(self.buckets)} buckets that differ"
        where = f"those of the {some}" if self.buckets else "all that it has"
        also = f"; {', '.join(computed)} computed from them, being generated" if computed else ""
        return f"{count} rows of the backup were loaded, {where}{also}"

    def _computed(self, rows: TableRows) -> list[str]:
        """The columns that the backup does not hold, if the copy computes them."""
        lacking = [column for column in self.scan.columns if column not in rows.columns]
        if lacking:
            generated = generated_columns(self.connection, self.log, self._name, self.scan)
            unknown = [column for column in lacking if column not in generated]
            if unknown:
                raise CheckError(f"the backup has no {', '.join(unknown)}, and the copy does not compute it")
        return lacking

    def hold_against(self, expected: TableCount) -> list[Unlike]:
        """The buckets in which the loaded rows do not give what was measured in the snapshot."""
        namespace, name = statements.EXPECTED_ROWS
        scan = self.scan.model_copy(update={"namespace": namespace, "name": name})
        work = TableWork(scan, shown=f"{self.shown} in the backup", size=0, digest=True)
        work.piece(self.log, Piece())(self.connection)
        held = work.count()
        if held.digest is None:
            raise CheckError(f"the backup's rows cannot be digested: {held.error}")
        one, other = _by_bucket(expected), _by_bucket(held)
        pairs = [(one.get(bucket), other.get(bucket)) for bucket in self.buckets or one]
        return [Unlike(*pair) for pair in pairs if pair[0] != pair[1]]

    def compare(self) -> dict[str, int]:
        """How many rows of each kind there are."""
        odd = statements.odd_statement(self.scan, self.table, self.buckets)
        pairs = statements.pairs_statement(self.table)
        self.asked.extend((odd, pairs))
        self._tell("rows that differ", odd)
        self._tell("rows that differ, by key", pairs)
        return dict(zip(KINDS, self._ask("rows that differ, counted", statements.counts_statement())[0], strict=True))

    def sums(self) -> list[Sum]:
        """Of each money column, over all rows that differ."""
        columns = statements.money_columns(self.scan, self.table)
        if not columns:
            return []
        amounts = self._ask("money of the rows that differ", statements.sums_statement(columns))[0]
        pairs = zip(columns, amounts[::2], amounts[1::2], strict=True)
        return [Sum(column.name, expected, actual) for column, expected, actual in pairs]

    def listed(self, columns: Sequence[Column]) -> list[Odd]:
        """The first rows of each kind, with all their values."""
        found: list[Odd] = []
        for kind in KINDS:
            rows = self._ask(f"rows {kind}", statements.shown_statement(kind, self.table, LINES_KEPT))
            wanted = self._values(statements.EXPECTED_ROWS, columns, [row[0] for row in rows if row[0]])
            there = self._values((self.scan.namespace, self.scan.name), columns, [row[1] for row in rows if row[1]])
            found += [Odd(kind, wanted.get(one), there.get(other), times) for one, other, times in rows]
        return found

    def _values(self, name: tuple[str, str], columns: Sequence[Column], places: Sequence[str]) -> dict[str, Texts]:
        found: dict[str, Texts] = {}
        for at in range(0, len(places), _TOGETHER):
            some = places[at : at + _TOGETHER]
            found |= dict(self._ask("their values", statements.values_statement(name, columns, some)))
        return found

    @property
    def _name(self) -> str:
        return f"locate {self.shown}"

    def _ask(self, name: str, statement: str) -> list[tuple[Any, ...]]:
        return self.log.ask(self.connection, f"{self._name}: {name}", statement)

    def _tell(self, name: str, statement: str) -> None:
        self.log.tell(self.connection, f"{self._name}: {name}", statement)


def _by_bucket(count: TableCount) -> dict[str, Bucket]:
    """A table that is one bucket is told as one."""
    whole = Bucket(bucket=statements.NO_KEY, rows=count.rows or 0, digest=count.digest or "")
    return {bucket.bucket: bucket for bucket in count.buckets or (whole,)}
