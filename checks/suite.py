"""All checks of a plan, put to one copy: the round that a drill runs after the restore and after every outage.

Programs may write to the copy, so they have a round of their own, after everything that is compared or cloned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from checks.asking import Log, OpenSession
from checks.base import Answer, Question, answer
from checks.content import compare_content
from checks.control.compare import compare_control
from checks.emptied import ASKED, compare_held, tables_summed
from checks.integrity import integrity_questions
from checks.invariants import ask_invariant
from checks.ledger import judge, parts
from checks.locating.locate import Locator
from checks.measure import Scope, Wish, measure
from checks.row_counts import compare_row_counts, emptied
from checks.sequences import compare_sequences
from checks.sharing import Advance
from checks.smoke import program_questions, smoke_questions
from checks.structure.compare import compare_structure
from checks.tables import compare_tables
from checks.totals import compare_totals
from checks.totals_sql import total_statement
from checks.unlogged import explained, given_up, without
from drills.backup_rows import GiveRows
from drills.errors import CheckError
from drills.measures import Expectations, Measures, Total
from drills.planned import EMPTIED
from drills.plans.checks import Checks, InvariantCheck
from drills.plans.totals import LedgerCheck, TotalCheck, control_name
from drills.probes import Probe
from drills.records import Basis, Verdict
from drills.results import CheckResult


@dataclass(frozen=True)
class Subject:
    """The copy, as checks get to it."""

    open_session: OpenSession
    """Gives sessions that may not write."""
    open_writing: OpenSession
    """Gives sessions that may; what checks write in them is rolled back."""
    log: Log
    opened: datetime
    """When the drill was opened, which fixes the end of every period."""
    jobs: int = 1
    probe: Probe | None = None
    """Runs programs against it; None where nobody tries to work with it."""
    owners: bool = True
    """Whether owners and grants were restored."""
    database: bool = True
    """Whether the backup makes its database, with its owner, grants and settings."""
    physical: bool = False
    """Whether it is made of production's own pages."""
    only: frozenset[str] | None = None
    """The tables whose content is asked for, by their names for people; None for all."""
    give_rows: GiveRows | None = None
    """Gives the rows of the backup, so that those which differ are found; None where nobody looks for them."""


def run_checks(
    wish: Checks, expected: Expectations, subject: Subject, folder: Path, advance: Advance
) -> Iterator[CheckResult]:
    """One result after the other, but for programs; the CSVs go to `folder`.

    Raises:
        CheckError: the copy's catalogue cannot be read.
        ConnectError: the copy cannot be reached.
    """
    scope = Scope(subject.jobs, pieces=True, like=expected.measures, only=subject.only)
    asked = Wish.of(wish, subject.opened, held=expected.measures.held is not None)
    actual = measure(subject.open_session, asked, scope, subject.log, advance)
    round_ = _Round(wish, expected, actual, subject)
    for question in round_.questions(advance):
        yield answer(question, folder)


def try_programs(wish: Checks, probe: Probe, folder: Path) -> Iterator[CheckResult]:
    """The round of the programs, which may write to the copy: the last one. One result after the other."""
    for question in program_questions(wish.smoke, probe):
        yield answer(question, folder)


@dataclass(frozen=True)
class _Round:
    """What is asked in one round, and of what."""

    wish: Checks
    expected: Expectations
    actual: Measures
    subject: Subject

    def questions(self, advance: Advance) -> Iterator[Question]:
        """In the order of the report: what is compared first, whether people could work with it last."""
        wish, before, subject = self.wish, self.expected.measures, self.subject
        yield from self._of_tables()
        if wish.sequences:
            ask = partial(compare_sequences, *self._held, subject.open_session, subject.log)
            yield self._measured("sequences", "sequences", self._explained(partial(ask, from_wal=subject.physical)))
        for total in wish.totals:
            yield from self._of_total(total.settled(subject.opened))
        for ledger in wish.ledger:
            texts = [total_statement(part.settled(subject.opened)) for part in parts(ledger)]
            yield Question(ledger.name, "ledger", Basis.CONTROL, texts, partial(self._ledger, ledger))
        lost = emptied(before, self.actual)
        for invariant in wish.invariants:
            ask_it = partial(self._invariant, invariant, lost)
            yield Question(invariant.name, "invariant", Basis.CONTROL, [invariant.sql], ask_it)
        yield from integrity_questions(
            subject.open_writing,
            subject.log,
            advance,
            amcheck=wish.amcheck,
            checksums=wish.checksums and subject.physical,
            only=subject.only,
        )
        if wish.smoke and subject.probe is not None:
            yield from smoke_questions(wish.smoke, subject.open_session, subject.log, lost)

    def _of_tables(self) -> Iterator[Question]:
        wish, (before, after) = self.wish, self._held
        if wish.tables:
            yield self._measured("tables", "relations", partial(compare_tables, before, after))
        if wish.row_counts:
            count = self._explained(partial(compare_row_counts, before, after))
            yield self._measured("row counts", "rows of ", count)
        if wish.content.compare:
            compare = self._explained(partial(compare_content, before, after, wish.content))
            yield self._measured("content", "content of ", compare)
            if self.subject.give_rows is not None:
                locator = Locator(self.subject.open_writing, self.subject.log, self.subject.give_rows)
                yield from locator.questions(before, after, wish.content)
        if self.expected.measures.held is not None:
            yield self._measured(EMPTIED, ASKED, self._explained(self._emptied, Verdict.UNKNOWN))
        if wish.structure:
            yield self._measured("structure", "structure", self._structure)

    @property
    def _held(self) -> tuple[Measures, Measures]:
        """What both sides hold, as far as the plan wants it compared."""
        gone = given_up(self.wish, self.expected.measures)
        return without(self.expected.measures, gone), without(self.actual, gone)

    def _explained(self, ask: Callable[[], Answer], lost: Verdict = Verdict.FAIL) -> Callable[[], Answer]:
        """With a word on unlogged tables, where there are any; `lost` is what the answer says of those lost."""
        before = self.expected.measures
        return lambda: explained(ask(), before, given_up(self.wish, before), lost)

    def _emptied(self) -> Answer:
        wish = Wish.of(self.wish, self.subject.opened)
        with self.subject.open_session() as connection:
            summed = tables_summed(connection, wish.totals, self.subject.log)
        return compare_held(*self._held, self.wish.may_be_empty, summed)

    def _structure(self) -> Answer:
        for where, side in (("at the source", self.expected.measures), ("in the copy", self.actual)):
            if side.structure_error:
                raise CheckError(f"not read {where}: {side.structure_error}")
        subject = self.subject
        return compare_structure(
            self.expected.measures,
            self.actual,
            owners=subject.owners,
            database=subject.database,
            held=subject.physical,
        )

    def _measured(self, name: str, asked: str, ask: Callable[[], Answer]) -> Question:
        """A comparison of what was measured, with the statements that measured it."""
        texts = [query.sql.strip() for query in self.actual.queries if query.name.startswith(asked)]
        return Question(name, name.replace(" ", "_"), self.expected.basis, sorted(dict.fromkeys(texts)), ask)

    def _of_total(self, check: TotalCheck) -> Iterator[Question]:
        texts = [total_statement(check)]
        yield Question(check.name, "totals", self.expected.basis, texts, partial(self._total, check))
        if check.control is not None:
            yield Question(control_name(check), "control", Basis.CONTROL, texts, partial(self._control, check))

    def _total(self, check: TotalCheck) -> Answer:
        seconds = sum(query.seconds for query in self.actual.queries if query.name == check.name)
        wanted, there = (_of(side, check.name) for side in (self.expected.measures, self.actual))
        return compare_totals(wanted, there, seconds, check)

    def _control(self, check: TotalCheck) -> Answer:
        control = next((found for found in self.expected.controls if found.name == check.name), None)
        if control is None:
            raise CheckError("the control was not read")
        return compare_control(
            check, control, *(_of(side, check.name) for side in (self.expected.measures, self.actual))
        )

    def _ledger(self, check: LedgerCheck) -> Answer:
        names = [part.name for part in parts(check)]
        seconds = sum(query.seconds for query in self.actual.queries if query.name in names)
        before, after = ({name: _of(side, name) for name in names} for side in (self.expected.measures, self.actual))
        return judge(check, before, after, seconds)

    def _invariant(self, check: InvariantCheck, lost: dict[str, int | None]) -> Answer:
        with self.subject.open_session() as connection:
            return ask_invariant(check, connection, self.subject.log, lost)


def _of(measures: Measures, name: str) -> Total:
    found = next((total for total in measures.totals if total.name == name), None)
    if found is None:
        raise CheckError(f"{name} was not measured")
    return found


def on_tables(subject: Subject, names: Sequence[str]) -> Subject:
    """The same copy, with only these tables looked into, and no row looked for."""
    return replace(subject, only=frozenset(names), give_rows=None)
