"""Emptied tables: what holds rows at the source now, and not one in a copy of another time.

Such a copy is held against totals of closed periods, which say nothing of the tables that they do not read. So every
table is asked on both sides whether it holds any row. Guarantees that one which holds rows at the source and none in
the copy is no PASS unless the plan says why that is in order, nor one that could not be asked; and that the answer
names the tables of which nothing else was compared. Partitions and children are asked one by one, which is all there
is of a partitioned table. Foreign tables are named and not asked: no backup holds their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import psycopg

from checks.asking import Log
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, named
from checks.names import qualified
from checks.plans import reading_no_foreign_table, tables_read
from checks.scanning.relations import KINDS, Table
from checks.scanning.rewriting import WHY, rewritten
from checks.totals_sql import total_statement
from drills.errors import CheckError
from drills.measures import LARGE_OBJECTS, Held, Measures
from drills.plans.checks import LeftOut
from drills.plans.totals import TotalCheck
from drills.records import Verdict

ASKED = "any rows of "
"""How the names of the statements begin that ask it."""
_KEYS = ("table",)
_MOST_TABLES = 100
"""In one statement."""
_OBJECTS = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"
_HINT = (
    "a total with a closing rule on it would tell; where it may be empty in the backup, name it under"
    " checks.may_be_empty with the reason"
)


def read_held(connection: psycopg.Connection, tables: Sequence[Table], log: Log) -> tuple[Held, ...]:
    """Whether each of these tables holds any row. Of large objects, which are listed where there are any, likewise.

    Raises:
        CheckError: it is not known whether there are large objects.
        ConnectError: the server went away.
    """
    lots = (tables[start : start + _MOST_TABLES] for start in range(0, len(tables), _MOST_TABLES))
    held = [one for lot in lots for one in _ask(connection, lot, log)]
    if log.ask(connection, f"{ASKED}{LARGE_OBJECTS}", _OBJECTS)[0][0]:
        held.append(Held(table=LARGE_OBJECTS, rows=True))
    return tuple(held)


def _ask(connection: psycopg.Connection, tables: Sequence[Table], log: Log) -> list[Held]:
    """Where the server refuses, table by table: the one that is to blame leaves their answers to the others."""
    more = f" and {len(tables) - 1} others" if len(tables) > 1 else ""
    statement = " UNION ALL ".join(
        f"SELECT {place}, EXISTS (SELECT FROM ONLY {table.quoted})"  # noqa: S608 - quoted
        for place, table in enumerate(tables)
    )
    try:
        with connection.transaction(force_rollback=True):
            found = dict(log.ask(connection, f"{ASKED}{tables[0].shown}{more}", statement))
            gone = rewritten(connection, log, [(table.oid, table.quoted) for table in tables])
    except CheckError as error:
        if len(tables) == 1:
            return [Held(table=tables[0].shown, rows=None, error=error.message)]
        return [one for table in tables for one in _ask(connection, [table], log)]
    return [
        Held(table=table.shown, rows=None, error=WHY)
        if table.oid in gone
        else Held(table=table.shown, rows=found[place])
        for place, table in enumerate(tables)
    ]


def tables_summed(connection: psycopg.Connection, totals: Iterable[TotalCheck], log: Log) -> frozenset[str]:
    """The tables that these totals read here, by their names for people. One that cannot be planned reads none."""
    found: set[str] = set()
    for total in totals:
        statement = total_statement(total)
        try:
            with (
                connection.transaction(force_rollback=True),
                reading_no_foreign_table(connection, log, total.name, statement) as planned,
            ):
                found |= {qualified(*table) for table in tables_read(connection, log, total.name, planned)}
        except CheckError:
            continue  # it says by itself what is wrong with it
    return frozenset(found)


def compare_held(
    expected: Measures, actual: Measures, may_be_empty: Sequence[LeftOut], summed: frozenset[str]
) -> Answer:
    """Table by table.

    Args:
        expected: as measured at the source, now.
        actual: as measured in the copy.
        may_be_empty: the tables whose emptiness the plan explains.
        summed: the tables of which a total or a ledger rule compares something.

    Raises:
        CheckError: one side was not asked.
    """
    if expected.held is None or actual.held is None:
        raise CheckError("nobody asked which tables hold rows", hint="run the drill again")
    there = {one.table: one for one in actual.held}
    excused = {one.table: one.reason for one in may_be_empty}
    rows = [_judge(one, there.get(one.table), excused) for one in expected.held]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict, reason = Verdict.worst(found[VERDICT]), _reason(expected.held, there, rows, excused)
    held = [one.table for one in expected.held if one.rows and one.table in there and there[one.table].rows]
    known = {one.name for one in expected.relations} | {LARGE_OBJECTS}
    nowhere = sorted({*excused} - known)
    if not held and all(row[-1] is Verdict.PASS for row in rows):
        verdict, reason = Verdict.UNKNOWN, "no table has rows both at the source and in the copy: nothing was compared"
    return Answer(
        Verdict.worst([verdict, *([Verdict.UNKNOWN] if nowhere else [])]),
        reason + _told(held, summed, nowhere, expected),
        expected=f"rows in {sum(bool(one.rows) for one in expected.held)} of {len(expected.held)} tables",
        actual=f"rows in {sum(bool(one.rows) for one in actual.held)} of {len(actual.held)} tables",
        difference=f"{len(lost)} tables without rows" if (lost := _lost(expected.held, there)) else "none",
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith(ASKED)),
    )


def _judge(wanted: Held, there: Held | None, excused: Mapping[str, str]) -> tuple[object, ...]:
    """One table: name, expected, actual, difference, verdict."""
    sides = (("at the source", wanted), ("in the copy", there))
    unasked = [f"{where}: {side.error or 'nobody knows why'}" for where, side in sides if side and side.rows is None]
    line = wanted.table, _shown(wanted), _shown(there)
    if unasked:
        return *line, f"not known {' and '.join(unasked)}", Verdict.UNKNOWN
    if not wanted.rows or (there and there.rows):
        return *line, "none", Verdict.PASS
    if wanted.table in excused:
        return *line, f"it may be empty: {excused[wanted.table]}", Verdict.PASS
    return *line, "no row came back" if there else "the table is missing", Verdict.UNKNOWN


def _shown(side: Held | None) -> str | None:
    if side is None or side.rows is None:
        return None
    return "rows" if side.rows else "no rows"


def _lost(expected: Iterable[Held], there: Mapping[str, Held]) -> list[str]:
    """The tables that hold rows at the source, and none in the copy or are not there."""
    return [one.table for one in expected if one.rows and (one.table not in there or there[one.table].rows is False)]


def _reason(
    expected: Sequence[Held], there: Mapping[str, Held], rows: Sequence[tuple[object, ...]], excused: Mapping[str, str]
) -> str:
    lost = _lost(expected, there)
    missed = [table for table in lost if table not in excused]
    unasked = [row for row in rows if row[-1] is Verdict.UNKNOWN and row[0] not in missed]
    said = []
    if missed:
        it = "it had" if len(missed) == 1 else "they had"
        said.append(
            f"rows at the source now, none in the copy: {named(missed)};"
            f" whether {it} any when the backup was made nobody knows ({_HINT})"
        )
    if unasked:
        said.append(f"{named([str(row[0]) for row in unasked])}: {unasked[0][-2]}")
    if not said:
        holding = sum(bool(one.rows) for one in expected) - len(lost)
        said.append(f"of {len(expected)} tables, {holding} have rows at the source, and all of them in the copy too")
    said += [f"without rows in the copy, as the plan allows: {table} ({excused[table]})" for table in lost if
             table in excused]  # fmt: skip
    return "; ".join(said)


def _told(held: Sequence[str], summed: frozenset[str], nowhere: Sequence[str], expected: Measures) -> str:
    """What this answer does not say: what else is in there."""
    alone = [table for table in held if table not in summed]
    foreign = [one.name for one in expected.relations if one.kind == KINDS["f"]]
    told = f"; that they have rows is all that is known of {len(alone)}, which no total reads: {named(alone)}"
    said = told if alone else ""
    said += f"; foreign tables were not asked, since no backup holds their rows: {named(foreign)}" if foreign else ""
    return said + (f"; may be empty by the plan, but not there: {named(nowhere)}" if nowhere else "")
