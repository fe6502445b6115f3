"""Tables: everything that the snapshot has is in the copy, and nothing else."""

from __future__ import annotations

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, join, named, rows_of
from drills.records import Measures, Verdict

_KEYS = ("name", "kind")


def compare_tables(expected: Measures, actual: Measures) -> Answer:
    """Tables, partitioned and foreign tables, views and materialized views, by name and kind."""
    left = frame([(relation.name, relation.kind) for relation in expected.relations], _KEYS)
    right = frame([(relation.name, relation.kind) for relation in actual.relations], _KEYS)
    rows = [_judge(row) for row in rows_of(join(left, right, _KEYS))]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    missing = [str(row[0]) for row in rows if row[4] == "missing"]
    unexpected = [str(row[0]) for row in rows if row[4] == "unexpected"]
    verdict = Verdict.worst(found[VERDICT])
    told = [f"{word}: {named(names)}" for word, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return Answer(
        verdict,
        "; ".join(told) or f"all {len(found)} are there and nothing else is"
        if len(found)
        else "the snapshot has no tables",
        expected=f"{len(expected.relations)} tables and views",
        actual=f"{len(actual.relations)} tables and views",
        difference=f"{len(missing)} missing, {len(unexpected)} unexpected",
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name == "relations"),
    )


def _judge(row: dict[str, object]) -> tuple[object, ...]:
    there = {
        "left_only": ("there", "absent", "missing", Verdict.FAIL),
        "right_only": ("absent", "there", "unexpected", Verdict.FAIL),
    }
    return row["name"], row["kind"], *there.get(str(row["side"]), ("there", "there", "none", Verdict.PASS))
