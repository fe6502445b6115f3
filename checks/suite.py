"""All checks of a plan, put to one copy: the round that a drill runs after the restore and after every outage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from checks.asking import Log, OpenSession
from checks.base import Answer, Question, answer
from checks.invariants import ask_invariant
from checks.measure import measure, total_statement
from checks.row_counts import compare_row_counts, emptied
from checks.sharing import Advance
from checks.tables import compare_tables
from checks.totals import compare_totals
from drills.errors import CheckError
from drills.measures import Measures, Total
from drills.plan import Checks, InvariantCheck, TotalCheck
from drills.records import Basis, CheckResult


def run_checks(
    wish: Checks, expected: Measures, open_session: OpenSession, *, jobs: int, log: Log, folder: Path, advance: Advance
) -> Iterator[CheckResult]:
    """One result after the other; the CSVs go to `folder`.

    Raises:
        CheckError: the copy's catalogue cannot be read.
        ConnectError: the copy cannot be reached.
    """
    actual = measure(open_session, wish.totals, jobs, log, advance)
    for question in _questions(wish, expected, actual, open_session, log):
        yield answer(question, folder)


def _questions(
    wish: Checks, expected: Measures, actual: Measures, open_session: OpenSession, log: Log
) -> Iterator[Question]:
    if wish.tables:
        texts = [query.sql.strip() for query in actual.queries if query.name == "relations"]
        yield Question("tables", "tables", Basis.SNAPSHOT, texts, lambda: compare_tables(expected, actual))
    if wish.row_counts:
        texts = [query.sql for query in actual.queries if query.name.startswith("rows of ")]
        yield Question(
            "row counts", "row_counts", Basis.SNAPSHOT, sorted(texts), lambda: compare_row_counts(expected, actual)
        )
    for check in wish.totals:
        yield Question(check.name, "totals", Basis.SNAPSHOT, [total_statement(check)], _total(check, expected, actual))
    for invariant in wish.invariants:
        yield Question(
            invariant.name,
            "invariant",
            Basis.CONTROL,
            [invariant.sql],
            _invariant(invariant, open_session, log, emptied(expected, actual)),
        )


def _total(check: TotalCheck, expected: Measures, actual: Measures) -> Callable[[], Answer]:
    def ask() -> Answer:
        seconds = sum(query.seconds for query in actual.queries if query.name == check.name)
        return compare_totals(_of(expected, check, "expected"), _of(actual, check, "measured"), seconds)

    return ask


def _of(measures: Measures, check: TotalCheck, told: str) -> Total:
    found = next((total for total in measures.totals if total.name == check.name), None)
    if found is None:
        raise CheckError(f"nothing of this name was {told}")
    return found


def _invariant(
    check: InvariantCheck, open_session: OpenSession, log: Log, lost: Mapping[str, int]
) -> Callable[[], Answer]:
    def ask() -> Answer:
        with open_session() as connection:
            return ask_invariant(check, connection, log, lost)

    return ask
