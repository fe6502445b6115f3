"""The negative control: it passes where every damage was caught, and never where one was not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fix_checks import a_log, expectations, quiet
from fix_damages import Books, books_kept, checks_of, controlled, measured_books
from fix_postgres import run_sql

from checks.measure import Scope, Wish, measure
from checks.negative.control import negative_control
from checks.negative.damages import DAMAGES
from checks.negative.hurry import Hurried
from checks.negative.planting import Damage, plant, survey
from checks.scanning import digests
from checks.scanning.relations import Column
from checks.sharing import Advance
from checks.suite import Subject, run_checks
from drills.errors import CheckError
from drills.measures import Expectations
from drills.plans.checks import Checks
from drills.plans.negative import CHOSEN, NegativeControl
from drills.records import Verdict, utc_now
from drills.results import CheckResult
from drills.sessions import Access

_CATALOGUE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_depend),
       (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_index WHERE NOT indisready OR NOT indisvalid)
"""


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    with books_kept(18) as kept:
        yield kept


def lines(result: CheckResult, verdict: Verdict) -> list[str]:
    return [line.key.split(" · ")[0] for line in result.lines if line.verdict is verdict]


def with_counts(expected: Expectations, table: str, **changes: object) -> Expectations:
    counts = [count.model_copy(update=changes if count.table == table else {}) for count in expected.measures.counts]
    return expected.model_copy(update={"measures": expected.measures.model_copy(update={"counts": tuple(counts)})})


def test_it_passes_where_every_damage_was_caught_and_lists_each(books: Books, tmp_path: Path) -> None:
    result = controlled(books, tmp_path)
    assert (result.verdict, result.name, result.kind) == (Verdict.PASS, "negative control", "negative_control")
    assert result.reason == f"{len(CHOSEN)} of {len(CHOSEN)} damages were caught by the checks that claim them"
    assert lines(result, Verdict.PASS) == list(CHOSEN)
    assert [line.key for line in result.lines if "total" in line.key] == [
        "amount lost from a total · totals: postings by account"
    ]
    first = result.lines[0]
    assert first.key == "one cent · content"
    assert (first.expected, first.difference) == ("caught", "none")
    assert str(first.actual).startswith("caught: books.account: other content than expected")
    assert result.csv is not None
    rows = (tmp_path / result.csv.path).read_text()
    assert "UPDATE ONLY" in rows


def test_what_it_damaged_is_as_it_was_before(books: Books, tmp_path: Path) -> None:
    before = run_sql(books.address, _CATALOGUE), measured_books(books.address, checks_of()).measures
    assert controlled(books, tmp_path, "lost row", "dropped index", "sequence behind", "index that misses a row").lines
    after = run_sql(books.address, _CATALOGUE), measured_books(books.address, checks_of()).measures
    assert before[0] == after[0]
    assert before[1].model_copy(update={"queries": ()}) == after[1].model_copy(update={"queries": ()})


def test_a_check_that_is_blind_makes_it_unknown_and_the_damage_is_named(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digests.row_digest

    def blind(columns: Sequence[Column], salt: str = "row") -> str:
        return digest([column for column in columns if column.base != "numeric"], salt)

    monkeypatch.setattr("checks.scanning.scans.row_digest", blind)
    expected = measured_books(books.address, checks_of())
    result = controlled(books, tmp_path, "one cent", "trailing space", "lost row", "dropped index", expected=expected)
    assert result.verdict is Verdict.UNKNOWN
    assert lines(result, Verdict.UNKNOWN) == ["one cent"]
    assert lines(result, Verdict.PASS) == ["trailing space", "lost row", "dropped index"]
    assert "3 of 4 damages were caught" in result.reason
    assert "not caught: one cent (all 1 tables hold the same rows, in every column" in result.reason


def test_a_clone_that_does_not_pass_undamaged_proves_nothing(books: Books, tmp_path: Path) -> None:
    expected = with_counts(books.expected, "books.account", digest="0")
    result = controlled(books, tmp_path, "one cent", "lost row", "dropped index", expected=expected)
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, ["one cent"])
    assert "the clone does not pass undamaged: FAIL: books.account: other content than expected" in result.reason


def test_a_clone_that_passes_nowhere_is_told_once(books: Books, tmp_path: Path) -> None:
    expected = with_counts(books.expected, "books.account", digest="0")
    result = controlled(books, tmp_path, "one cent", "trailing space", "lost row", expected=expected)
    same = "one cent, trailing space (the clone does not pass undamaged: FAIL: books.account: other content than"
    assert (result.verdict, same in result.reason) == (Verdict.UNKNOWN, True)
    result = controlled(books, tmp_path, "one cent", "trailing space", expected=expected)
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, ["one cent", "trailing space"])
    assert result.reason.startswith("the control could not begin: the clone does not pass undamaged, as ")
    assert "FAIL" not in result.reason
    assert "FAIL: books.account: other content" in str(result.lines[0].actual)


def test_a_copy_of_another_time_is_damaged_without_its_rows_being_counted(books: Books, tmp_path: Path) -> None:
    rule = {"name": "every visit has a time", "sql": "SELECT FROM books.visit WHERE at IS NULL"}
    checks = checks_of(row_counts=False, content={"compare": False}, sequences=False, invariants=[rule])
    wish = Wish.of(checks, utc_now(), held=True)
    expected = expectations(measure(books.opening(Access.READ_ONLY), wish, Scope(), a_log(), quiet))
    assert [count.table for count in expected.measures.counts] == ["books.posting"]
    damages = ("amount lost from a total", "amount lost from a ledger rule", "emptied tables under an invariant")
    result = controlled(books, tmp_path, "dropped index", *damages, checks=checks, expected=expected)
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.PASS, ["dropped index", *damages])
    assert "some rows of books.visit in the snapshot, none in the copy" in str(result.lines[-1].actual)


def test_without_a_place_for_any_damage_it_is_unknown(books: Books, tmp_path: Path) -> None:
    measures = books.expected.measures.model_copy(update={"counts": ()})
    expected = books.expected.model_copy(update={"measures": measures})
    result = controlled(books, tmp_path, "one cent", "lost row", "dropped index", expected=expected)
    assert result.verdict is Verdict.UNKNOWN
    assert "nothing was planted and caught for content, row counts" in result.reason
    assert "not applicable, since this database has no place for it: one cent, lost row" in result.reason


def test_a_control_that_planted_nothing_for_a_check_of_the_plan_is_unknown(books: Books, tmp_path: Path) -> None:
    result = controlled(books, tmp_path, "one cent", "dropped index")
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.UNKNOWN, ["one cent", "dropped index"])
    assert "; nothing was planted and caught for row counts; " in result.reason
    untested = "row counts, tables, sequences, totals, ledger, invariant, amcheck"
    assert set(result.reason.rsplit("names no damage for it: ", 1)[1].split(", ")) == set(untested.split(", "))


def test_a_check_that_the_plan_does_not_ask_for_needs_no_proof(books: Books, tmp_path: Path) -> None:
    checks = checks_of(structure=False, sequences=False, content={"compare": False}, totals=[], ledger=[])
    expected = measured_books(books.address, checks)
    result = controlled(books, tmp_path, "lost row", "one cent", "dropped index", checks=checks, expected=expected)
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.PASS, ["lost row"])
    assert "not applicable, since the plan does not ask for content: one cent" in result.reason
    assert "not applicable, since the plan does not ask for structure: dropped index" in result.reason


def test_grants_that_were_not_restored_are_not_damaged(books: Books, tmp_path: Path) -> None:
    few = ("one cent", "lost row", "dropped index", "unexpected grant", "another owner")
    result = controlled(books, tmp_path, *few, subject=books.subject(owners=False))
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.PASS, ["one cent", "lost row", "dropped index"])
    assert "since owners and grants were not restored: unexpected grant, another owner" in result.reason


def test_a_table_that_the_plan_leaves_out_is_not_damaged(books: Books, tmp_path: Path) -> None:
    out = [{"table": "books.account", "reason": "rebuilt"}, {"table": "books.heir", "reason": "rebuilt"}]
    checks = checks_of(content={"leave_out": out})
    result = controlled(books, tmp_path, "one cent", "lost row", "dropped index", checks=checks)
    assert result.verdict is Verdict.PASS
    assert result.lines[0].actual is not None
    assert "books.posting" in result.lines[0].actual


def test_what_is_not_reached_within_the_limit_is_unknown(books: Books, tmp_path: Path) -> None:
    wish = NegativeControl(limit=timedelta(milliseconds=1))
    folder = tmp_path / "reconcile" / "control"
    result = negative_control(wish, checks_of(), books.expected, books.subject(), folder, quiet)
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, list(CHOSEN))
    assert "not reached within the limit of the plan" in result.reason


def test_a_damage_whose_places_cannot_be_looked_for_is_unknown(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_site: object) -> Iterator[object]:
        raise CheckError("places: syntax error")

    lost = Damage("a row is lost", "row counts", broken)  # type: ignore[arg-type]
    monkeypatch.setattr("checks.negative.control.DAMAGES", {**DAMAGES, "lost row": lost})
    result = controlled(books, tmp_path, "one cent", "lost row", "emptied table", "dropped index")
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, ["lost row"])


def test_the_same_database_is_damaged_in_the_same_place(books: Books) -> None:
    rows = books.expected.measures.filled
    for name, damage in DAMAGES.items():
        places = set()
        for _ in range(2):
            with books.opening(Access.READ_WRITE)() as connection, connection.transaction(force_rollback=True):
                places.add(plant(damage, survey(connection, books.subject().log, rows, checks_of())))
        assert len(places) == 1, name


FEW = ("one cent", "lost row", "dropped index")
NOWHERE: dict[str, tuple[str, dict[str, Any]]] = {
    "totals": ("amount lost from a total", {"name": "T", "table": "books.parent", "amount": "a::numeric"}),
    "ledger": (
        "amount lost from a ledger rule",
        {"kind": "trial_balance", "name": "L", "postings": {"table": "books.parent", "amount": "a::numeric"}},
    ),
    "invariants": ("emptied tables under an invariant", {"name": "I", "sql": "SELECT a FROM books.parent WHERE a < 0"}),
}


def asking(books: Books, folder: Path, *damages: str, **changes: object) -> CheckResult:
    """The control of a plan with other checks than the books have."""
    checks = checks_of(**changes)
    return controlled(books, folder, *damages, checks=checks, expected=measured_books(books.address, checks))


@pytest.mark.parametrize("key", NOWHERE)
def test_a_check_of_the_plan_whose_damage_has_no_place_is_not_proven(books: Books, tmp_path: Path, key: str) -> None:
    damage, check = NOWHERE[key]
    result = asking(books, tmp_path, *FEW, damage, **{key: [check]})
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, [])
    assert (
        f"nothing was planted and caught for {key.removesuffix('s') if key == 'invariants' else key};" in result.reason
    )
    assert f"this database has no place for it: {damage} of {check['name']}" in result.reason


OVER_TABLES: dict[str, dict[str, Any]] = {
    "view": {"table": "books.positive", "amount": "amount", "by": {"account": "account"}},
    "view of sums": {"table": "(SELECT sum(amount) AS s FROM books.posting) x", "amount": "s"},
    "join": {"table": "books.posting p JOIN books.account a ON a.id = p.account -- both", "amount": "p.amount"},
    "materialized view": {"table": "books.daily", "amount": "sum"},
    "tolerated": {
        "table": "(SELECT sum(amount) AS s FROM books.posting) x", "amount": "s",
        "tolerance": {"within": "5000", "justification": "rounding"},
    },
}  # fmt: skip


@pytest.mark.parametrize("over", OVER_TABLES)
def test_a_total_over_something_else_than_a_table_is_put_to_the_test_below_it(
    books: Books, tmp_path: Path, over: str
) -> None:
    total = {"name": over, **OVER_TABLES[over]}
    result = asking(books, tmp_path, *FEW, "amount lost from a total", totals=[total])
    assert result.verdict is Verdict.PASS, result.reason
    assert lines(result, Verdict.PASS) == [*FEW, "amount lost from a total"]


def test_a_ledger_rule_over_a_view_is_put_to_the_test_below_it(books: Books, tmp_path: Path) -> None:
    rule = {
        "kind": "subledger_equals_control", "name": "views",
        "subledger": {"table": "books.positive", "amount": "amount"},
        "control_account": {"table": "(SELECT * FROM books.positive) v", "amount": "amount"},
    }  # fmt: skip
    result = asking(books, tmp_path, *FEW, "amount lost from a ledger rule", ledger=[rule])
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.PASS, []), result.reason


def test_every_total_is_put_to_the_test_and_those_beyond_five_are_named(books: Books, tmp_path: Path) -> None:
    totals = [{"name": f"total {n}", "table": "books.posting", "amount": f"amount * {n}"} for n in range(1, 8)]
    result = asking(books, tmp_path, *FEW, "amount lost from a total", totals=totals)
    assert result.verdict is Verdict.PASS
    keys = [line.key for line in result.lines if "total" in line.key]
    assert keys == [f"amount lost from a total · totals: total {n}" for n in range(1, 6)]
    assert "since there are more than 5 of totals: total 6, total 7" in result.reason


def test_a_total_over_a_table_that_is_left_out_is_put_to_the_test(books: Books, tmp_path: Path) -> None:
    content = {"leave_out": [{"table": "books.posting", "reason": "rebuilt"}]}
    books_kept_by = ("amount lost from a total", "amount lost from a ledger rule", "emptied tables under an invariant")
    result = asking(books, tmp_path, *FEW, *books_kept_by, content=content)
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.PASS, [*FEW, *books_kept_by]), result.reason


def test_an_invariant_that_crashes_over_emptied_tables_caught_nothing(books: Books, tmp_path: Path) -> None:
    sound = {"name": "none is without a day", "sql": "SELECT id FROM books.posting WHERE posted IS NULL"}
    # Its name begins as the reason of an invariant does that saw that its tables were emptied.
    crashing = {"name": "nothing to look at", "sql": "SELECT 1 / count(*) FROM books.posting", "expect": 0}
    result = asking(books, tmp_path, *FEW, "emptied tables under an invariant", invariants=[crashing, sound])
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (
        Verdict.UNKNOWN, ["emptied tables under an invariant"],
    )  # fmt: skip
    assert "division by zero" in result.reason
    assert result.lines[0].key.endswith("invariant: nothing to look at")


def test_large_objects_that_the_plan_leaves_out_are_not_damaged(books: Books, tmp_path: Path) -> None:
    few = (*FEW, "large object byte", "lost large object")
    assert lines(controlled(books, tmp_path, *few), Verdict.PASS) == list(few)
    checks = checks_of(content={"leave_out": [{"table": "large objects", "reason": "kept elsewhere"}]})
    result = controlled(books, tmp_path, *few, checks=checks)
    assert (result.verdict, lines(result, Verdict.PASS)) == (Verdict.PASS, list(FEW))
    assert "this database has no place for it: large object byte, lost large object" in result.reason


def test_figures_of_production_stay_in_the_folder_of_the_drill(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []

    def noting(wish: Checks, expected: Expectations, subject: Subject, folder: Path, advance: Advance) -> object:
        places.append(folder)
        return run_checks(wish, expected, subject, folder, advance)

    monkeypatch.setattr("checks.negative.control.run_checks", noting)
    assert controlled(books, tmp_path, *FEW).verdict is Verdict.PASS
    folder = tmp_path / "reconcile" / "control"
    assert len(places) == 2 * len(FEW)
    assert all(folder in place.parents for place in places)
    assert [path.suffix for path in folder.iterdir()] == [".csv"]


def test_what_was_found_stays_found_when_the_time_is_over(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    real = time.monotonic
    monkeypatch.setattr("checks.negative.hurry.time", SimpleNamespace(monotonic=lambda: real() + ahead))

    def slow(*_: object, **__: object) -> None:
        nonlocal ahead
        ahead += 3600

    wish = NegativeControl.model_validate({"damages": FEW, "limit": "10min"})
    folder = tmp_path / "reconcile" / "control"
    result = negative_control(wish, checks_of(), books.expected, books.subject(), folder, slow)
    assert (lines(result, Verdict.PASS), lines(result, Verdict.UNKNOWN)) == (
        ["one cent"],
        ["lost row", "dropped index"],
    )
    assert result.verdict is Verdict.UNKNOWN
    assert "not caught: lost row, dropped index (not reached within the limit of the plan)" in result.reason


def test_what_was_found_stays_found_when_a_question_cannot_be_asked(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(wish: Checks, *rest: Any) -> object:
        if wish.row_counts:
            raise CheckError("relations: canceling statement due to statement timeout")
        return run_checks(wish, *rest)

    monkeypatch.setattr("checks.negative.control.run_checks", broken)
    result = controlled(books, tmp_path, *FEW)
    assert (lines(result, Verdict.PASS), lines(result, Verdict.UNKNOWN)) == (
        ["one cent", "dropped index"],
        ["lost row"],
    )
    assert "not put to the test: relations: canceling statement due to statement timeout" in result.reason


def test_no_statement_runs_beyond_the_limit_of_all(books: Books) -> None:
    log, begun = a_log(), time.monotonic()
    hurried = Hurried.of(log, 1.0)
    with books.opening(Access.READ_ONLY)() as connection:
        assert hurried.ask(connection, "first", "SELECT 1 FROM pg_sleep(0.6)") == [(1,)]
        with pytest.raises(CheckError, match="statement timeout"):
            hurried.ask(connection, "second", "SELECT 1 FROM pg_sleep(0.9)")
        assert time.monotonic() - begun < 1.4
        with pytest.raises(CheckError, match="not reached within the limit"):
            hurried.ask(connection, "third", "SELECT 1")
    assert [query.name for query in log.queries] == ["first", "second"]
