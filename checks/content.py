"""Content: every column of every row of the snapshot is in the copy, and nothing else is.

Guarantees that a table whose rows could not be digested on either side is UNKNOWN with the reason, as is a foreign
table, whose rows no backup holds; a plan may leave a table out, and the answer says which and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, SIDE, VERDICT, Answer, frame, join, named
from checks.scanning.relations import KINDS
from drills.measures import LARGE_OBJECTS, Measures, TableCount
from drills.plans.checks import Content
from drills.records import Verdict

_KEYS = ("table",)
_FOREIGN = KINDS["f"]
_SHA256 = 64
"""Digits of one."""
_COLUMNS = [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, "rows_expected", "rows_actual", VERDICT]


def compare_content(expected: Measures, actual: Measures, wish: Content) -> Answer:
    """Table by table: the digest over all of its rows."""
    left_out = {one.table: one.reason for one in wish.leave_out}
    sides = [frame([(count.table, count) for count in side.counts if count.table not in left_out], ["table", told])
             for side, told in ((expected, EXPECTED), (actual, ACTUAL))]  # fmt: skip
    rows = [_judge(row) for row in join(sides[0], sides[1], _KEYS)]
    foreign = sorted({one.name for side in (expected, actual) for one in side.relations if one.kind == _FOREIGN})
    rows += [
        (table, None, None, "a foreign table: no backup holds its rows", None, None, Verdict.UNKNOWN)
        for table in foreign
        if table not in left_out
    ]
    found = frame(sorted(rows, key=lambda row: str(row[0])), _COLUMNS)
    verdict = Verdict.worst(found[VERDICT])
    compared = sum(count.rows or 0 for count in expected.counts if count.table not in left_out)
    known = {one.name for side in (expected, actual) for one in side.relations} | {LARGE_OBJECTS}
    nowhere = [table for table in left_out if table not in known]
    if nowhere:
        verdict = Verdict.worst([verdict, Verdict.UNKNOWN])
    reason = _reason(rows, verdict, left_out) + _told(left_out, nowhere) + _told_of_views(expected)
    if verdict is Verdict.PASS and not compared:
        verdict, reason = Verdict.UNKNOWN, "no table of the snapshot had a row: there was nothing to compare"
    differing = [row for row in rows if row[-1] is Verdict.FAIL]
    return Answer(
        verdict,
        reason,
        expected=f"{len(sides[0])} tables, {compared} rows",
        actual=f"{len(sides[1])} tables, {sum(count.rows or 0 for count in sides[1][ACTUAL])} rows",
        difference=f"{len(differing)} tables differ" if differing else "none",
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith("content of ")),
    )


def differing_buckets(expected: TableCount, actual: TableCount) -> tuple[str, ...]:
    """The buckets in which the two differ, in the order of their keys; none where the table is one bucket."""
    one, other = ({found.bucket: (found.rows, found.digest) for found in side.buckets} for side in (expected, actual))
    return tuple(sorted((name for name in {*one, *other} if one.get(name) != other.get(name)), key=_place))


def _place(bucket: str) -> tuple[bool, int]:
    """Buckets are numbers, but for that of rows whose key went missing."""
    number = bucket.lstrip("-").isdigit()
    return number, int(bucket) if number else 0


def _judge(row: Mapping[str, Any]) -> tuple[object, ...]:
    table, wanted, there = row["table"], row[EXPECTED], row[ACTUAL]
    if row[SIDE] == "left_only":
        return table, _shown(wanted.digest), None, "the table is missing", wanted.rows, None, Verdict.FAIL
    if row[SIDE] == "right_only":
        return table, None, _shown(there.digest), "the table is unexpected", None, there.rows, Verdict.FAIL
    return table, _shown(wanted.digest), _shown(there.digest), *_compare(wanted, there)


def _shown(digest: str | None) -> str | None:
    """In hexadecimal, so that nobody takes it for an amount."""
    if digest is None or not digest.lstrip("-").isdigit() or len(digest) == _SHA256:
        return digest
    return f"{int(digest):#x}"


def _compare(wanted: TableCount, there: TableCount) -> tuple[str, int | None, int | None, Verdict]:
    """Difference, rows of both, verdict."""
    verdict, told = Verdict.FAIL, "other content"
    if wanted.rows is not None and there.rows is not None and wanted.rows != there.rows:
        told = f"{there.rows - wanted.rows:+d} rows"
    elif wanted.digest is None or there.digest is None or wanted.error:
        # A copy that has rows without a digest is another one than a source whose rows all had theirs.
        sides = (("at the source", wanted), ("in the copy", there))
        why = [f"{where}: {side.error or 'no digest'}" for where, side in sides if side.error or side.digest is None]
        verdict, told = Verdict.UNKNOWN, f"not compared, {' and '.join(why)}"
    elif wanted.scan != there.scan:
        verdict, told = Verdict.UNKNOWN, "not compared: the two sides were not asked in the same words"
    elif wanted.digest == there.digest and not there.error:
        verdict, told = Verdict.PASS, "none"
    elif wanted.buckets or there.buckets:
        of = len({found.bucket for side in (wanted, there) for found in side.buckets})
        told += f", in {len(differing_buckets(wanted, there))} of {of} buckets"
    return told, wanted.rows, there.rows, verdict


def _reason(rows: Sequence[tuple[object, ...]], verdict: Verdict, left_out: Mapping[str, str]) -> str:
    if not rows:
        why = "every table is left out by the plan" if left_out else "the snapshot has no tables"
        return f"{why}: there was nothing to compare"
    if all(row[-1] is Verdict.PASS for row in rows):
        return f"all {len(rows)} tables hold the same rows, in every column"
    tables = [str(row[0]) for row in rows if row[-1] is verdict]
    return f"{named(tables)}: " + ("other content than expected" if verdict is Verdict.FAIL else "not proven")


def _told(left_out: Mapping[str, str], nowhere: Sequence[str]) -> str:
    said = "; ".join(f"{table} ({reason})" for table, reason in left_out.items())
    lost = f"; to be left out, but not there: {', '.join(nowhere)}" if nowhere else ""
    return (f"; left out by the plan: {said}" if said else "") + lost


def _told_of_views(expected: Measures) -> str:
    """Their rows are no data: a restore computes them anew, also those that were stale."""
    views = sum(one.kind == KINDS["m"] for one in expected.relations)
    return f"; {views} materialized views were computed anew by the restore, and not compared" if views else ""
