"""The corpus: every damage of the catalogue is caught by the check that claims it; a sound copy passes all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_checks import quiet
from fix_damages import Books, books_kept, checks_of, controlled
from fix_structure import BINARIES

from checks.negative.claims import claimed
from checks.negative.damages import DAMAGES
from checks.suite import run_checks
from drills.plans import negative as plan_negative
from drills.records import Verdict

CLAIMS = {"content", "row counts", "tables", "structure", "sequences", "amcheck", "totals", "ledger", "invariant"}
NAMED = {
    "totals": "postings by account", "ledger": "books balance", "invariant": "every posting has a day",
}  # fmt: skip
NEEDS_ICU = "other text of equal collation"


@pytest.fixture(scope="module", params=sorted(BINARIES, reverse=True), ids=lambda major: f"PostgreSQL {major}")
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    if not BINARIES[request.param].exists():
        pytest.skip(f"PostgreSQL {request.param} is not in {BINARIES[request.param]}")
    with books_kept(request.param) as kept:
        yield kept


def test_the_corpus_has_at_least_forty_damages_and_every_kind_of_check_claims_one() -> None:
    claims = Counter(damage.claimed_by for damage in DAMAGES.values())
    assert claims.total() >= 40
    assert set(claims) == CLAIMS
    assert {DAMAGES[name].claimed_by for name in plan_negative.CHOSEN} == CLAIMS


def test_a_plan_names_just_the_damages_that_can_be_planted() -> None:
    assert sorted(plan_negative.DAMAGES) == sorted(DAMAGES)
    assert set(plan_negative.CHOSEN) <= set(DAMAGES)


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_a_claim_leaves_of_a_plan_the_one_check_that_makes_it(claim: str) -> None:
    left = claimed(claim, checks_of())
    assert left is not None
    asked = {
        "content": left.content.compare and claim not in {"totals", "ledger"}, "row counts": left.row_counts,
        "tables": left.tables, "structure": left.structure, "sequences": left.sequences, "amcheck": left.amcheck,
        "totals": left.totals, "ledger": left.ledger, "invariant": left.invariants,
    }  # fmt: skip
    assert [name for name, there in asked.items() if there] == [claim]
    assert (left.smoke, left.checksums) == ((), False)


def test_a_sound_copy_passes_every_check(books: Books, tmp_path: Path) -> None:
    results = list(run_checks(checks_of(), books.expected, books.subject(), tmp_path / "reconcile" / "r", quiet))
    assert {result.name: result.reason for result in results if result.verdict is not Verdict.PASS} == {}
    assert {result.kind.replace("_", " ") for result in results} == CLAIMS


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_caught_by_the_check_that_claims_it(books: Books, name: str, tmp_path: Path) -> None:
    if name == NEEDS_ICU and not books.icu:
        pytest.skip("this server was built without ICU, whose collations alone hold different texts for equal")
    found = controlled(books, tmp_path, name)
    claim = DAMAGES[name].claimed_by
    of_the_plan = f": {NAMED[claim]}" if claim in NAMED else ""
    assert [(line.key, line.verdict) for line in found.lines] == [(f"{name} · {claim}{of_the_plan}", Verdict.PASS)], (
        found.reason
    )
