"""Answers that are a few lines, each told by its name."""

from __future__ import annotations

from collections.abc import Sequence

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame
from drills.records import Verdict

Told = tuple[str, str, str, str, Verdict]
"""What, expected, actual, difference, verdict."""


def told(what: str, expected: str, actual: str, fault: str | None) -> Told:
    """A line; `fault` says how actual differs, and is None where it does not."""
    return what, expected, actual, fault or "none", Verdict.FAIL if fault else Verdict.PASS


def judged(reason: str, lines: Sequence[Told]) -> Answer:
    """The whole, told by the line that failed first, or else by the first."""
    first = next((line for line in lines if line[-1] is Verdict.FAIL), lines[0])
    table = frame(lines, ["what", EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    return Answer(Verdict.worst(table[VERDICT]), reason, first[1], first[2], first[3], table, ("what",))
