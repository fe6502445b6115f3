"""The negative control: damages planted on purpose, each of which the check that claims it has to catch.

Each is planted in a transaction on a scratch clone of the copy, put before the very code that judged the copy as far as
it looks at that place, and rolled back; beforehand the same question is put to the clone as it is. Guarantees that a
damage which was not caught and a clone that does not pass are UNKNOWN (and see `checks.negative.proven`); that nothing
runs beyond the limit of the plan; and that what was found stays found, whatever goes wrong with the next damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from checks.base import Answer, Question, answer
from checks.invariants import refused_emptied
from checks.negative.claims import claimed, settled
from checks.negative.damages import DAMAGES
from checks.negative.hurry import OVER, Hurried
from checks.negative.planting import Planting, Site, plant, survey
from checks.negative.proven import MOST, NAMED_BY_PLAN, UNCLEAN, Planted, proven
from checks.sharing import Advance
from checks.structure.access import DATABASE_SETTINGS, OWNED
from checks.structure.compare import read_structure
from checks.suite import Subject, on_tables, run_checks
from checks.unlogged import given_up
from drills.errors import CheckError, DrillbookError
from drills.measures import NEGATIVE_CONTROL, Expectations, Item
from drills.plans.checks import Checks, LeftOut
from drills.plans.negative import NegativeControl
from drills.records import Basis, Verdict
from drills.results import CheckResult
from drills.secrets import VAULT

_FOREIGN = "foreign table"


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
    ask = _Control(wish, settled(checks, subject.opened), expected, subject, advance, folder).answer
    return answer(Question(NEGATIVE_CONTROL, "negative_control", Basis.NONE, [], ask), folder)


def no_control(error: DrillbookError, folder: Path) -> CheckResult:
    """The answer where there is no scratch clone to damage."""

    def ask() -> Answer:
        raise error

    return answer(Question(NEGATIVE_CONTROL, "negative_control", Basis.NONE, [], ask), folder)


@dataclass(frozen=True)
class _Control:
    """One run of it."""

    wish: NegativeControl
    checks: Checks
    expected: Expectations
    subject: Subject
    advance: Advance
    folder: Path
    _clean: dict[tuple[str, str, frozenset[str]], str] = field(default_factory=dict)
    """Why a question does not pass on the clone as it is, by claim, name and tables; empty where it does."""

    def answer(self) -> Answer:
        """Every damage, one after the other, in one session; what was found stays found, whatever comes after it."""
        log = Hurried.of(self.subject.log, self.wish.limit.total_seconds())
        lines: list[Planted] = []
        with self.subject.open_writing() as connection:
            try:
                held = replace(self, subject=replace(self.subject, log=log)).holding(connection)
                site = survey(connection, log, self._rows(), self.checks)
            except DrillbookError as error:
                return proven(self.wish, self.checks, [Planted(name, _told(error, log)) for name in self.wish.damages])
            for place, name in enumerate(self.wish.damages, 1):
                lines += [held.put(name, *target, log) for target in self._targets(name, site)]
                self.advance(place, len(self.wish.damages), "damages")
        return proven(self.wish, self.checks, lines)

    def _targets(self, name: str, site: Site) -> list[tuple[Site, str]]:
        """Each check of the plan that claims it, with the place cut down to what this one asks."""
        key = NAMED_BY_PLAN.get(DAMAGES[name].claimed_by, "")
        if not key or not getattr(self.checks, key):
            return [(site, "")]
        # A total sees into a table whose content is not compared.
        rows = self.expected.measures.filled
        return [
            (replace(site, rows=rows, checks=self.checks.model_copy(update={key: (check,)})), check.name)
            for check in getattr(self.checks, key)[:MOST]
        ]

    def put(self, name: str, site: Site, check: str, log: Hurried) -> Planted:
        """Put one check to the test; where that cannot be done, the line says why."""
        try:
            log.refuse_late()
            found = self.one(name, site)
            if not found.caught and found.planted:
                log.refuse_late()  # a statement that was cut off catches nothing
        except (DrillbookError, psycopg.Error, OSError) as error:
            found = Planted(name, _told(error, log))
        return replace(found, check=check)

    def holding(self, connection: psycopg.Connection) -> _Control:
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

    def _rows(self) -> dict[str, int | None]:
        """Of the tables that every check of the plan sees into."""
        content = self.checks.content
        unseen = {one.table for one in content.leave_out} | given_up(self.checks, self.expected.measures)
        unseen |= {count.table for count in self.expected.measures.counts if count.error and content.compare}
        return {table: rows for table, rows in self.expected.measures.filled.items() if table not in unseen}

    def one(self, name: str, site: Site) -> Planted:
        """Plant it, look, and roll back."""
        damage = DAMAGES[name]
        wish = claimed(damage.claimed_by, self.checks)
        if wish is None:
            return Planted(name, f"the plan does not ask for {damage.claimed_by}", planted=False)
        if damage.of_owners and not self.subject.owners:
            return Planted(name, "owners and grants were not restored", planted=False)
        try:
            with site.connection.transaction(force_rollback=True):
                planting = plant(damage, site)
        except CheckError as error:
            return Planted(name, f"no place could be looked for: {error.message}")
        if planting is None:
            return Planted(name, "this database has no place for it", planted=False)
        if told := self._not_clean(damage.claimed_by, wish, planting):
            return Planted(name, f"{UNCLEAN}: {told}", planting.where)
        with site.connection.transaction(force_rollback=True):
            if plant(replace(damage, find=lambda _: iter([planting])), site) is None:
                raise CheckError(f"{name} was planted in {planting.where}, and a second time it was not")
            results = self._asked(damage.claimed_by, wish, planting)
        found = {result.verdict for result in results}
        caught = Verdict.FAIL in found or (damage.claimed_by == "invariant" and _seen_empty(results))
        said = "; ".join(
            result.reason for result in results if (result.verdict is Verdict.FAIL) == (Verdict.FAIL in found)
        )
        return Planted(name, said or "nothing was asked", planting.where, planting.statements, caught)

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
        counts = tuple(one for one in measures.counts if one.table in planting.tables)
        held = measures.held and tuple(one for one in measures.held if one.table in planting.tables)
        expected = _with(self.expected, counts=counts, held=held)
        # Its CSVs hold figures of production: they stay in the drill's own folder, for as long as they are made.
        self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="damage-", dir=self.folder, ignore_cleanup_errors=True) as place:
            folder = Path(place) / "reconcile" / "damage"
            subject = on_tables(self.subject, sorted(planting.tables))
            results = list(run_checks(wish, expected, subject, folder, lambda *_: None))
        return [result for result in results if result.kind == claim.replace(" ", "_")]


def _seen_empty(results: Sequence[CheckResult]) -> bool:
    """Whether an invariant saw that its tables were emptied; one that crashed saw nothing."""
    return bool(results) and all(refused_emptied(result.reason) for result in results)


def _told(error: Exception, log: Hurried) -> str:
    """Why a check was not put to the test."""
    said = error.message if isinstance(error, DrillbookError) else VAULT.redact(str(error)).strip()
    if said == OVER:
        return OVER
    return f"{OVER if log.late else 'not put to the test'}: {said or type(error).__name__}"


def _beside(item: Item) -> bool:
    """Whether it belongs to the database as a whole, which a clone does not bring along."""
    return item.kind in {"subscription", DATABASE_SETTINGS} or (item.kind, item.name) == (OWNED, "this database")


def _with(expected: Expectations, **changes: object) -> Expectations:
    return expected.model_copy(update={"measures": expected.measures.model_copy(update=changes)})
