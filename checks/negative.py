"""The negative control: damages planted on purpose, each of which the check that claims it has to catch.

Each is planted in a transaction on a scratch clone of the copy, put before the very code that judged the copy as far as
it looks at that place, and rolled back; beforehand the same question is put to the clone as it is. Guarantees
that a damage which was not caught, a clone that does not pass, and a control that planted nothing for a check of the
plan are UNKNOWN; and that what this database has no place for, or the plan no check, is said to be so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, Question, answer, frame, named
from checks.catalogue_access import DATABASE_SETTINGS, OWNED
from checks.claims import claimed, settled
from checks.damages import DAMAGES
from checks.planting import Planting, Site, plant, survey
from checks.sharing import Advance
from checks.structure import read_structure
from checks.suite import Subject, on_tables, run_checks
from drills.errors import CheckError, DrillbookError
from drills.measures import NEGATIVE_CONTROL, Expectations, Item
from drills.plan_checks import Checks, LeftOut
from drills.plan_negative import NegativeControl
from drills.records import Basis, CheckResult, Verdict

_CAUGHT = "caught"
_NEEDED = ("content", "row counts", "structure")
"""Whichever of these a plan asks for has to have caught something, or nobody knows whether it can."""
_FOREIGN = "foreign table"
_COLUMNS = ["damage", "check", EXPECTED, ACTUAL, DIFFERENCE, "place", "statements", VERDICT]


def negative_control(
    wish: NegativeControl, checks: Checks, expected: Expectations, subject: Subject, folder: Path, advance: Advance
) -> CheckResult:
    """Plant what the plan names in a scratch clone, and see whether it is caught.

    Args:
        wish: what to plant.
        checks: of the plan.
        expected: what the copy had to show.
        subject: the scratch clone. Nobody else is at it; it may be left in any state.
        folder: where the CSV goes, as in `answer`.
        advance: told after each damage; what it raises ends the control.
    """
    ask = _Control(wish, settled(checks, subject.opened), expected, subject, advance).answer
    return answer(Question(NEGATIVE_CONTROL, "negative_control", Basis.NONE, [], ask), folder)


def no_control(error: DrillbookError, folder: Path) -> CheckResult:
    """The answer where there is no scratch clone to damage."""

    def ask() -> Answer:
        raise error

    return answer(Question(NEGATIVE_CONTROL, "negative_control", Basis.NONE, [], ask), folder)


@dataclass(frozen=True)
class _Line:
    """What came of one damage."""

    damage: str
    said: str
    place: str = ""
    statements: Sequence[str] = ()
    caught: bool = False
    planted: bool = True

    @property
    def row(self) -> tuple[object, ...]:
        """As it stands in the frame."""
        actual = f"{_CAUGHT}: {self.said}" if self.caught else f"not {_CAUGHT}: {self.said}"
        difference, verdict = ("none", Verdict.PASS) if self.caught else (f"not {_CAUGHT}", Verdict.UNKNOWN)
        claim, statements = DAMAGES[self.damage].claimed_by, ";\n".join(self.statements)
        return self.damage, claim, _CAUGHT, actual, difference, self.place, statements, verdict


@dataclass(frozen=True)
class _Control:
    """One run of it."""

    wish: NegativeControl
    checks: Checks
    expected: Expectations
    subject: Subject
    advance: Advance
    _clean: dict[tuple[str, str, frozenset[str]], str] = field(default_factory=dict)
    """Why a question does not pass on the clone as it is, by claim, name and tables; empty where it does."""

    def answer(self) -> Answer:
        """Every damage, one after the other, in one session."""
        until = time.monotonic() + self.wish.limit.total_seconds()
        lines = []
        with self.subject.open_writing() as connection:
            _time_left(connection, until)
            held = self._holding(connection)
            site = survey(connection, self.subject.log, self._rows(), self.checks)
            for place, name in enumerate(self.wish.damages, 1):
                if not _time_left(connection, until):
                    lines.append(_Line(name, "not reached within the limit of the plan"))
                    continue
                lines.append(held.one(name, site))
                self.advance(place, len(self.wish.damages), "damages")
        return self._judged(lines)

    def _holding(self, connection: psycopg.Connection) -> _Control:
        """The same, with all questions put in this session; what stands beside a clone's database is as it is here."""

        @contextmanager
        def held() -> Iterator[psycopg.Connection]:
            yield connection

        subject = replace(self.subject, open_session=held, open_writing=held, jobs=1, probe=None)
        expected = self.expected
        if self.checks.structure:
            here = [item for item in read_structure(connection, self.subject.log) if _beside(item)]
            items = [item for item in expected.measures.structure if not _beside(item)]
            expected = _with(expected, structure=tuple(sorted([*items, *here], key=lambda one: (one.kind, one.name))))
        return replace(self, subject=subject, expected=expected)

    def _rows(self) -> dict[str, int]:
        """Of the tables that every check of the plan sees into."""
        content = self.checks.content
        unseen = {one.table for one in content.leave_out}
        unseen |= {count.table for count in self.expected.measures.counts if count.error and content.compare}
        counts = [count for count in self.expected.measures.counts if count.table not in unseen]
        return {count.table: count.rows for count in counts if count.rows}

    def one(self, name: str, site: Site) -> _Line:
        """Plant it, look, and roll back."""
        damage = DAMAGES[name]
        wish = claimed(damage.claimed_by, self.checks)
        if wish is None:
            return _Line(name, f"the plan does not ask for {damage.claimed_by}", planted=False)
        if damage.of_owners and not self.subject.owners:
            return _Line(name, "owners and grants were not restored", planted=False)
        try:
            with site.connection.transaction(force_rollback=True):
                planting = plant(damage, site)
        except CheckError as error:
            return _Line(name, f"no place could be looked for: {error.message}")
        if planting is None:
            return _Line(name, "this database has no place for it", planted=False)
        if told := self._not_clean(damage.claimed_by, wish, planting):
            return _Line(name, f"the clone does not pass undamaged: {told}", planting.where)
        with site.connection.transaction(force_rollback=True):
            if plant(replace(damage, find=lambda _: iter([planting])), site) is None:
                raise CheckError(f"{name} was planted in {planting.where}, and a second time it was not")
            results = self._asked(damage.claimed_by, wish, planting)
        found = {result.verdict for result in results}
        caught = Verdict.PASS not in found if damage.claimed_by == "invariant" else Verdict.FAIL in found
        said = "; ".join(
            result.reason for result in results if (result.verdict is Verdict.FAIL) == (Verdict.FAIL in found)
        )
        return _Line(name, said or "nothing was asked", planting.where, planting.statements, caught and bool(found))

    def _not_clean(self, claim: str, wish: Checks, planting: Planting) -> str:
        key = claim, planting.check, planting.tables
        if key not in self._clean:
            results = self._asked(claim, wish, planting)
            wrong = [f"{result.verdict}: {result.reason}" for result in results if result.verdict is not Verdict.PASS]
            self._clean[key] = "; ".join(wrong) if results else "nothing was asked"
        return self._clean[key]

    def _asked(self, claim: str, wish: Checks, planting: Planting) -> list[CheckResult]:
        """The check that claims it, put to the place where the damage is."""
        named_only = {
            key: tuple(check for check in getattr(wish, key) if check.name == planting.check)
            for key in ("totals", "ledger", "invariants")
            if planting.check
        }
        foreign = [one.name for one in self.expected.measures.relations if one.kind == _FOREIGN]
        left = tuple(LeftOut(table=name, reason="no backup holds its rows") for name in foreign)
        content = wish.content.model_copy(update={"leave_out": (*wish.content.leave_out, *left)})
        wish = wish.model_copy(update={**named_only, "content": content})
        measures = self.expected.measures
        expected = _with(self.expected, counts=tuple(one for one in measures.counts if one.table in planting.tables))
        with TemporaryDirectory(prefix="drillbook-") as place:
            folder = Path(place) / "reconcile" / "damage"
            subject = on_tables(self.subject, sorted(planting.tables))
            results = list(run_checks(wish, expected, subject, folder, lambda *_: None))
        return [result for result in results if result.kind == claim.replace(" ", "_")]

    def _judged(self, lines: Sequence[_Line]) -> Answer:
        planted = [line for line in lines if line.planted]
        caught = [line for line in planted if line.caught]
        missed = [line for line in planted if not line.caught]
        proven = {DAMAGES[line.damage].claimed_by for line in caught}
        unproven = [claim for claim in _NEEDED if claim not in proven and claimed(claim, self.checks) is not None]
        told = [f"{len(caught)} of {len(planted)} damages were caught by the checks that claim them"]
        told += [f"not caught: {named([f'{line.damage} ({line.said})' for line in missed])}"] if missed else []
        told += [f"nothing was planted and caught for {', '.join(unproven)}"] if unproven else []
        told += _absent(lines)
        verdict = Verdict.PASS if caught and not missed and not unproven else Verdict.UNKNOWN
        return Answer(
            verdict,
            "; ".join(told),
            expected=f"{len(planted)} of {len(planted)} caught",
            actual=f"{len(caught)} of {len(planted)} caught",
            difference=f"{len(missed)} not caught" if missed else "none",
            frame=frame([line.row for line in planted], _COLUMNS),
            keys=("damage", "check"),
        )


def _time_left(connection: psycopg.Connection, until: float) -> bool:
    """Whether there is any; no statement runs beyond it."""
    left = int((until - time.monotonic()) * 1000)
    if left > 0:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(left),))
    return left > 0


def _absent(lines: Sequence[_Line]) -> Iterator[str]:
    """What was not planted, by the reason."""
    reasons = dict.fromkeys(line.said for line in lines if not line.planted)
    for reason in reasons:
        names = [line.damage for line in lines if not line.planted and line.said == reason]
        yield f"not applicable, since {reason}: {', '.join(names)}"


def _beside(item: Item) -> bool:
    """Whether it belongs to the database as a whole, which a clone does not bring along."""
    return item.kind in {"subscription", DATABASE_SETTINGS} or (item.kind, item.name) == (OWNED, "this database")


def _with(expected: Expectations, **changes: object) -> Expectations:
    return expected.model_copy(update={"measures": expected.measures.model_copy(update=changes)})
