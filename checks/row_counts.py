"""Row counts: every table of the snapshot has as many rows in the copy."""

from __future__ import annotations

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, join, named, rows_of
from drills.records import Measures, Verdict

_KEYS = ("table",)


def compare_row_counts(expected: Measures, actual: Measures) -> Answer:
    """Table by table. A table that could not be counted is UNKNOWN; a database without a single row proves nothing."""
    left = frame(
        [(count.table, count.rows, count.error) for count in expected.counts], [*_KEYS, EXPECTED, "expected_error"]
    )
    right = frame([(count.table, count.rows, count.error) for count in actual.counts], [*_KEYS, ACTUAL, "actual_error"])
    rows = [_judge(row) for row in rows_of(join(left, right, _KEYS))]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    wanted = sum(count.rows or 0 for count in expected.counts)
    there = sum(count.rows or 0 for count in actual.counts)
    verdict = Verdict.worst(found[VERDICT])
    reason = _reason(verdict, found.loc[found[VERDICT] == verdict, "table"].tolist(), len(found))
    if verdict is Verdict.PASS and not wanted:
        verdict, reason = Verdict.UNKNOWN, "no table of the snapshot had a row: there was nothing to compare"
    return Answer(
        verdict,
        reason,
        expected=f"{len(expected.counts)} tables, {wanted} rows",
        actual=f"{len(actual.counts)} tables, {there} rows",
        difference=f"{there - wanted:+d} rows" if there != wanted else "0 rows",
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith("rows of ")),
    )


def _judge(row: dict[str, object]) -> tuple[object, ...]:
    table, wanted, there = row["table"], row[EXPECTED], row[ACTUAL]
    if row["side"] == "left_only":
        return table, wanted, None, "the table is missing", Verdict.FAIL
    if row["side"] == "right_only":
        return table, None, there, "the table is unexpected", Verdict.FAIL
    if not isinstance(wanted, int) or not isinstance(there, int):
        return table, wanted, there, row["expected_error"] or row["actual_error"], Verdict.UNKNOWN
    return table, wanted, there, there - wanted, Verdict.PASS if wanted == there else Verdict.FAIL


def _reason(verdict: Verdict, tables: list[str], compared: int) -> str:
    if verdict is Verdict.PASS:
        return f"all {compared} tables have the expected number of rows"
    fault = "not the expected number of rows" if verdict is Verdict.FAIL else "could not be counted"
    return f"{named(tables)}: {fault}"
