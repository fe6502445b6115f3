"""What every check has in common: an answer, its frame, and the rule that nothing unanswered passes.

Owns the way from a comparison to a `CheckResult`. Guarantees that a check that crashed, compared nothing, or could not
be asked is UNKNOWN with its reason, that no PASS stands over a line that is none, and that the whole comparison lies
beside the record as a CSV.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from drills.errors import CheckError, DrillbookError
from drills.records import Basis, FileRef, Verdict, file_name, utc_now
from drills.results import LINES_KEPT, CheckResult, Line
from drills.secrets import VAULT

EXPECTED, ACTUAL, DIFFERENCE, VERDICT = "expected", "actual", "difference", "verdict"
SIDE = "side"
"""Of a row of `join`: `both`, `left_only` (missing) or `right_only` (unexpected)."""
NULL = "NULL"
"""How SQL's NULL is written; a text that reads the same is put in quotes (see `shown`)."""
EXACT = Context(prec=300_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
"""Arithmetic that rounds nothing a numeric can hold (147,455 digits), where Python's own context keeps 28 digits."""
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
    """Time that was spent in the database before the check was asked."""
    foot: Mapping[str, object] = field(default_factory=dict)
    """A line below the frame that adds it up, by the frame's columns: shown and kept, and never counted."""


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
        found = _believed(question.ask())
        lines = _lines(found)
    except DrillbookError as error:
        found, lines = _unanswered(f"{error.message} ({error.hint})" if error.hint else error.message), ()
    except Exception as error:  # noqa: BLE001 - a check that crashed is UNKNOWN, whatever crashed it
        found, lines = _unanswered(f"the check crashed: {type(error).__name__}: {error}"), ()
    found, csv = _keep(question.name, found, folder)
    return CheckResult(
        name=question.name,
        kind=question.kind,
        verdict=found.verdict,
        reason=VAULT.redact(found.reason),
        basis=question.basis,
        expected=found.expected,
        actual=found.actual,
        difference=found.difference,
        sql=_statements(question.statements),
        started=started,
        seconds=round(time.monotonic() - clock + found.seconds, 6),
        compared=0 if found.frame is None else len(found.frame),
        differing=0 if found.frame is None else int((found.frame[VERDICT] != Verdict.PASS).sum()),
        lines=lines,
        total=_line(found, found.foot) if found.foot else None,
        csv=csv,
    )


def _believed(found: Answer) -> Answer:
    """A PASS over nothing is not one, nor is one over a line that did not pass."""
    if found.verdict is not Verdict.PASS:
        return found
    if found.frame is None or found.frame.empty:
        return replace(found, verdict=Verdict.UNKNOWN, reason="there was nothing to compare")
    if Verdict.worst(found.frame[VERDICT]) is not Verdict.PASS:
        raise CheckError("the check contradicts itself: a PASS over lines that are none")
    return found


def _unanswered(reason: str) -> Answer:
    return Answer(Verdict.UNKNOWN, reason, "not measured", "not measured", "not measured")


def join(expected: pd.DataFrame, actual: pd.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of both sides by their keys, which are never None, with `SIDE`; what a side lacks is None.

    Raises:
        CheckError: a key stands twice on one side, so that nobody knows what to hold against what.
    """
    for told, side in (("expected", expected), ("actual", actual)):
        if side.duplicated(list(keys)).any():
            twice = side.loc[side.duplicated(list(keys)), list(keys)].iloc[0].tolist()
            raise CheckError(f"ambiguous: {' · '.join(map(str, twice))} stands more than once among the {told} values")
    lacking = {"both": (), "left_only": set(actual) - set(keys), "right_only": set(expected) - set(keys)}
    joined = expected.merge(actual, how="outer", on=list(keys), indicator=SIDE)
    # pandas fills what a side lacks with a NaN, which is a value of its own in money.
    return [
        {str(name): None if name in lacking[row[SIDE]] else value for name, value in row.items()}
        for row in joined.to_dict("records")
    ]


def frame(rows: Sequence[Sequence[object]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame in which every value stays what it is."""
    return pd.DataFrame([list(row) for row in rows], columns=list(columns), dtype=object)


def named(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def shown(text: str | None) -> str:
    """A text of the database, told apart from NULL: the text NULL is written 'NULL', and that one ''NULL''."""
    if text is None:
        return NULL
    return f"'{text}'" if re.fullmatch(rf"'*{NULL}'*", text) else text


def figure(amount: Decimal | None) -> str:
    """An amount with all its digits."""
    return NULL if amount is None else format(amount, "f")


def _keep(name: str, found: Answer, folder: Path) -> tuple[Answer, FileRef | None]:
    """The comparison as a CSV. Where it cannot be written, what was found stays found, but no PASS."""
    if found.frame is None:
        return found, None
    path = folder / f"{file_name(name)}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        columns = list(found.frame.columns)
        table = [columns, *found.frame.itertuples(index=False)]
        table += [[found.foot[column] for column in columns]] if found.foot else []
        path.write_bytes("".join(",".join(map(_cell, row)) + "\n" for row in table).encode())
        return found, FileRef.of(path, folder.parent.parent)
    except (OSError, ValueError) as error:
        verdict = Verdict.worst([found.verdict, Verdict.UNKNOWN])
        return replace(found, verdict=verdict, reason=f"{found.reason}; its CSV could not be written: {error}"), None


def _cell(value: object) -> str:
    """A field by RFC 4180. Python's writer leaves a lone carriage return bare, and takes None for an empty text."""
    text = "" if value is None else str(value)
    quoted = value == "" or any(mark in text for mark in '",\r\n')
    return '"' + text.replace('"', '""') + '"' if quoted else text


def _lines(found: Answer) -> tuple[Line, ...]:
    """What differs first, then the rest, as far as a record holds them."""
    if found.frame is None:
        return ()
    passed = found.frame[VERDICT] == Verdict.PASS
    ordered = [
        *found.frame[~passed].head(LINES_KEPT).to_dict("records"),
        *found.frame[passed].head(LINES_KEPT).to_dict("records"),
    ]
    return tuple(_line(found, row) for row in ordered[:LINES_KEPT])


def _line(found: Answer, row: Mapping[Any, Any]) -> Line:
    return Line(
        key=" · ".join(str(row[key]) for key in found.keys if row[key] is not None),
        expected=_text(row[EXPECTED]),
        actual=_text(row[ACTUAL]),
        difference=_text(row[DIFFERENCE]),
        verdict=row[VERDICT],
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _statements(statements: Sequence[str]) -> str:
    more = len(statements) - _STATEMENTS_SHOWN
    return ";\n".join(statements[:_STATEMENTS_SHOWN]) + (
        f";\n-- and {more} more, all in queries.jsonl" if more > 0 else ""
    )
