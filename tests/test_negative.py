"""The negative control: it passes where every damage was caught, and never where one was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from fix_checks import quiet
from fix_damages import Books, books_kept, checks_of, controlled, measured_books
from fix_postgres import run_sql

from checks import digests
from checks.damages import DAMAGES
from checks.negative import negative_control
from checks.planting import Damage, plant, survey
from checks.relations import Column
from drills.errors import CheckError
from drills.measures import Expectations
from drills.plan_negative import CHOSEN, NegativeControl
from drills.records import CheckResult, Verdict
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
    first = result.lines[0]
    assert first.key == "one cent · content"
    assert (first.expected, first.difference) == ("caught", "none")
    assert first.actual == "caught: books.account: other content than expected"
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

    monkeypatch.setattr("checks.scans.row_digest", blind)
    expected = measured_books(books.address, checks_of())
    result = controlled(books, tmp_path, "one cent", "trailing space", "lost row", "dropped index", expected=expected)
    assert result.verdict is Verdict.UNKNOWN
    assert lines(result, Verdict.UNKNOWN) == ["one cent"]
    assert lines(result, Verdict.PASS) == ["trailing space", "lost row", "dropped index"]
    assert "3 of 4 damages were caught" in result.reason
    assert "not caught: one cent (all 1 tables hold the same rows, in every column)" in result.reason


def test_a_clone_that_does_not_pass_undamaged_proves_nothing(books: Books, tmp_path: Path) -> None:
    expected = with_counts(books.expected, "books.account", digest="0")
    result = controlled(books, tmp_path, "one cent", "lost row", "dropped index", expected=expected)
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, ["one cent"])
    assert "the clone does not pass undamaged: FAIL: books.account: other content than expected" in result.reason


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
    assert result.reason.endswith("nothing was planted and caught for row counts")


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
    monkeypatch.setattr("checks.negative.DAMAGES", {**DAMAGES, "lost row": lost})
    result = controlled(books, tmp_path, "one cent", "lost row", "emptied table", "dropped index")
    assert (result.verdict, lines(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, ["lost row"])


def test_the_same_database_is_damaged_in_the_same_place(books: Books) -> None:
    rows = {count.table: count.rows or 0 for count in books.expected.measures.counts}
    for name, damage in DAMAGES.items():
        places = set()
        for _ in range(2):
            with books.opening(Access.READ_WRITE)() as connection, connection.transaction(force_rollback=True):
                places.add(plant(damage, survey(connection, books.subject().log, rows, checks_of())))
        assert len(places) == 1, name
