"""Tables: everything that the snapshot has is in the copy, and nothing else."""

from __future__ import annotations

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, SIDE, VERDICT, Answer, frame, join, named
from drills.measures import Measures
from drills.records import Verdict

_KEYS = ("name", "kind")
_PLAIN = "table"


def compare_tables(expected: Measures, actual: Measures) -> Answer:
    """Tables, partitioned and foreign tables, views and materialized views, by name and kind."""
    left = frame([(relation.name, relation.kind) for relation in expected.relations], _KEYS)
    right = frame([(relation.name, relation.kind) for relation in actual.relations], _KEYS)
    rows = [_judge(row) for row in join(left, right, _KEYS)]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    missing, unexpected = _those(rows, "missing"), _those(rows, "unexpected")
    told = [f"{word}: {named(names)}" for word, names in (("missing", missing), ("unexpected", unexpected)) if names]
    fine = f"all {len(found)} are there and nothing else is" if rows else "the snapshot has no tables"
    return Answer(
        Verdict.worst(found[VERDICT]),
        "; ".join(told) or fine,
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
        "both": ("there", "there", "none", Verdict.PASS),
    }
    return row["name"], row["kind"], *there[str(row[SIDE])]


def _those(rows: list[tuple[object, ...]], difference: str) -> list[str]:
    """Their names, with the kind where it is not the usual one: a view may be missing where a table is unexpected."""
    return [
        f"{name}" if kind == _PLAIN else f"{name} ({kind})" for name, kind, _, _, told, _ in rows if told == difference
    ]
