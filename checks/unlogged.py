"""Unlogged tables and sequences: no physical copy has what they hold, and a crash takes it (CREATE TABLE, UNLOGGED).

Guarantees that what was lost in this way is a FAIL which says so, unless the plan gives it up beforehand; then every
answer that leaves it out names it.
"""

from __future__ import annotations

from dataclasses import replace

from checks.base import VERDICT, Answer, named
from checks.scanning.relations import UNLOGGED
from drills.measures import Measures
from drills.plans.checks import Checks
from drills.records import Verdict


def unlogged_in(measures: Measures) -> frozenset[str]:
    """Tables and sequences, by their names for people."""
    tables = (relation.name for relation in measures.relations if relation.kind == UNLOGGED)
    return frozenset({*tables, *(state.name for state in measures.sequences if state.unlogged)})


def given_up(checks: Checks, expected: Measures) -> frozenset[str]:
    """What the plan does not want compared: all that is unlogged at the source, or nothing."""
    return frozenset() if checks.unlogged else unlogged_in(expected)


def without(measures: Measures, names: frozenset[str]) -> Measures:
    """The same without the rows, contents and values of these. That they are there is compared all the same."""
    counts = tuple(count for count in measures.counts if count.table not in names)
    sequences = tuple(state for state in measures.sequences if state.name not in names)
    held = None if measures.held is None else tuple(one for one in measures.held if one.table not in names)
    return measures.model_copy(update={"counts": counts, "sequences": sequences, "held": held})


def explained(answer: Answer, expected: Measures, left_out: frozenset[str], lost_is: Verdict = Verdict.FAIL) -> Answer:
    """The answer with a word on what it rests on: what differs for being unlogged, or was left out.

    Args:
        answer: table by table, or sequence by sequence.
        expected: all that was measured at the source.
        left_out: what was not compared.
        lost_is: what the answer says of a table that was lost.
    """
    if answer.frame is None:
        return answer
    key = answer.keys[0]
    sequences = {state.name for state in expected.sequences}
    differing = set(answer.frame.loc[answer.frame[VERDICT] == lost_is, key])
    lost = sorted(differing & unlogged_in(expected))
    left = sorted(name for name in left_out if (name in sequences) == (key == "sequence"))
    told = answer.reason
    if lost:
        told += (
            f"; unlogged, so that no physical copy has what was in there, and a crash takes it: {named(lost)}"
            " (the plan may give it up by `checks.unlogged: false`)"
        )
    if left:
        told += f"; unlogged, and given up by the plan: {named(left)}"
    return replace(answer, reason=told)
