"""What every check has in common: an answer, its frame, and the rule that nothing unanswered passes.

Owns the way from a comparison to a `CheckResult`. Guarantees that a check that crashed, compared nothing, or could not
be asked is UNKNOWN with its reason, and that the whole comparison lies beside the record as a CSV.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drills.errors import CheckError
from drills.records import LINES_KEPT, Basis, CheckResult, FileRef, Line, Verdict, file_name, utc_now
from drills.secrets import VAULT

EXPECTED, ACTUAL, DIFFERENCE, VERDICT = "expected", "actual", "difference", "verdict"
NULL = "NULL"
"""How SQL's NULL is written where an empty text is something else."""
_STATEMENTS_SHOWN = 20
_NAMED = 3


@dataclass(frozen=True)
class Answer:
    """What a check found."""

    verdict: Verdict
    reason: str
    expected: str
    actual: str
    difference: str
    frame: pd.DataFrame | None = None
    """Keys, then expected, actual, difference, verdict; all of dtype object, so that no amount becomes a float."""
    keys: tuple[str, ...] = ()
    seconds: float = 0.0
    """Time that was spent in the database."""


@dataclass(frozen=True)
class Question:
    """A check that is about to be asked."""

    name: str
    kind: str
    basis: Basis
    statements: Sequence[str]
    ask: Callable[[], Answer]


def answer(question: Question, folder: Path) -> CheckResult:
    """Ask, and put the comparison as a CSV into the folder `<drill>/reconcile/<round>`.

    Whatever goes wrong is UNKNOWN.
    """
    started, clock = utc_now(), time.monotonic()
    try:
        found = question.ask()
        found = _nothing_compared(found)
        csv = _write(question.name, found, folder)
    except CheckError as error:
        found, csv = _unanswered(error.message), None
    except Exception as error:  # noqa: BLE001 - a check that crashed is UNKNOWN, whatever crashed it
        found, csv = _unanswered(f"the check crashed: {type(error).__name__}: {error}"), None
    lines = _lines(found)
    return CheckResult(
        name=question.name,
        kind=question.kind,
        verdict=found.verdict,
        reason=VAULT.redact(found.reason),
        basis=question.basis,
        expected=found.expected,
        actual=found.actual,
        difference=found.difference,
        sql=_shown(question.statements),
        started=started,
        seconds=round(time.monotonic() - clock + found.seconds, 6),
        compared=0 if found.frame is None else len(found.frame),
        differing=0 if found.frame is None else int((found.frame[VERDICT] != Verdict.PASS).sum()),
        lines=lines,
        csv=csv,
    )


def _nothing_compared(found: Answer) -> Answer:
    """A PASS over nothing is not one."""
    if found.verdict is Verdict.PASS and found.frame is not None and found.frame.empty:
        return Answer(
            Verdict.UNKNOWN,
            "there was nothing to compare",
            found.expected,
            found.actual,
            found.difference,
            found.frame,
            found.keys,
        )
    return found


def _unanswered(reason: str) -> Answer:
    return Answer(Verdict.UNKNOWN, reason, "not measured", "not measured", "not measured")


def join(expected: pd.DataFrame, actual: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Both sides by their keys; `side` says `both`, `left_only` (missing) or `right_only` (unexpected)."""
    return expected.merge(actual, how="outer", on=list(keys), indicator="side")


def frame(rows: Sequence[Sequence[object]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame in which every value stays what it is."""
    return pd.DataFrame([list(row) for row in rows], columns=list(columns), dtype=object)


def rows_of(joined: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame by column."""
    return [{str(name): value for name, value in row.items()} for row in joined.to_dict("records")]


def named(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _write(name: str, found: Answer, folder: Path) -> FileRef | None:
    if found.frame is None:
        return None
    path = folder / f"{file_name(name)}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    shown = found.frame.copy()
    for key in found.keys:
        shown[key] = [NULL if value is None else value for value in shown[key]]
    shown.to_csv(path, index=False, lineterminator="\n")
    return FileRef.of(path, folder.parent.parent)


def _lines(found: Answer) -> tuple[Line, ...]:
    """What differs first, then the rest, as far as a record holds them."""
    if found.frame is None:
        return ()
    passed = found.frame[VERDICT] == Verdict.PASS
    ordered = pd.concat([found.frame[~passed], found.frame[passed]]).head(LINES_KEPT)
    return tuple(
        Line(
            key=" · ".join(NULL if row[key] is None else str(row[key]) for key in found.keys),
            expected=_text(row[EXPECTED]),
            actual=_text(row[ACTUAL]),
            difference=_text(row[DIFFERENCE]),
            verdict=row[VERDICT],
        )
        for row in ordered.to_dict("records")
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _shown(statements: Sequence[str]) -> str:
    more = len(statements) - _STATEMENTS_SHOWN
    return ";\n".join(statements[:_STATEMENTS_SHOWN]) + (
        f";\n-- and {more} more, all in queries.jsonl" if more > 0 else ""
    )
