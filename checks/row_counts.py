"""Row counts: every table of the snapshot has as many rows in the copy."""

from __future__ import annotations

from collections.abc import Sequence

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, SIDE, VERDICT, Answer, frame, join, named
from drills.measures import Measures, TableCount
from drills.records import Verdict

_KEYS = ("table",)


def compare_row_counts(expected: Measures, actual: Measures) -> Answer:
    """Table by table. A table that could not be counted is UNKNOWN; a database without a single row proves nothing."""
    left = frame(
        [(count.table, count.rows, count.error) for count in expected.counts], [*_KEYS, EXPECTED, "expected_error"]
    )
    right = frame([(count.table, count.rows, count.error) for count in actual.counts], [*_KEYS, ACTUAL, "actual_error"])
    rows = [_judge(row) for row in join(left, right, _KEYS)]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict = Verdict.worst(found[VERDICT])
    reason = _reason(verdict, found.loc[found[VERDICT] == verdict, "table"].tolist(), len(found))
    if verdict is Verdict.PASS and not _rows(expected.counts):
        verdict, reason = Verdict.UNKNOWN, "no table of the snapshot had a row: there was nothing to compare"
    return Answer(
        verdict,
        reason,
        expected=_told(expected.counts),
        actual=_told(actual.counts),
        difference=_difference(expected.counts, actual.counts),
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith("rows of ")),
    )


def emptied(expected: Measures, actual: Measures) -> dict[str, int | None]:
    """The tables that had rows in the snapshot and have none in the copy, with those rows, as far as they are known."""
    there = {count.table for count in actual.counts if count.rows != 0}
    there |= {one.table for one in actual.held or () if one.rows is not False}
    return {table: rows for table, rows in expected.filled.items() if table not in there}


def _judge(row: dict[str, object]) -> tuple[object, ...]:
    table, wanted, there = row["table"], row[EXPECTED], row[ACTUAL]
    if row[SIDE] == "left_only":
        return table, wanted, None, "the table is missing", Verdict.FAIL
    if row[SIDE] == "right_only":
        return table, None, there, "the table is unexpected", Verdict.FAIL
    if not isinstance(wanted, int) or not isinstance(there, int):
        said = row["expected_error"] or row["actual_error"] or "nobody knows why"
        return table, wanted, there, f"not counted: {said}", Verdict.UNKNOWN
    return table, wanted, there, there - wanted, Verdict.PASS if wanted == there else Verdict.FAIL


def _reason(verdict: Verdict, tables: list[str], compared: int) -> str:
    if not compared:
        return "the snapshot has no tables: there was nothing to count"
    if verdict is Verdict.PASS:
        return f"all {compared} tables have the expected number of rows"
    fault = "not the expected number of rows" if verdict is Verdict.FAIL else "could not be counted"
    return f"{named(tables)}: {fault}"


def _rows(counts: Sequence[TableCount]) -> int:
    return sum(count.rows or 0 for count in counts)


def _told(counts: Sequence[TableCount]) -> str:
    missed = sum(count.rows is None for count in counts)
    return f"{len(counts)} tables, {_rows(counts)} rows" + (f", {missed} tables not counted" if missed else "")


def _difference(expected: Sequence[TableCount], actual: Sequence[TableCount]) -> str:
    """Of the whole; without a table that was not counted there is no such figure."""
    if any(count.rows is None for count in (*expected, *actual)):
        return "not measured"
    more = _rows(actual) - _rows(expected)
    return f"{more:+d} rows" if more else "0 rows"
