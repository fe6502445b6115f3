"""Rules that books keep: on sound books, on books that were wrong before, and on a copy that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fix_checks import Make, making
from fix_postgres import Database, run_sql
from fix_totals import put_total
from pydantic import ValidationError

from checks.base import Question, answer
from checks.ledger import judge, parts
from drills.clusters import Cluster
from drills.errors import CheckError
from drills.measures import Total, TotalRow
from drills.plans.checks import Checks
from drills.plans.totals import LedgerCheck
from drills.records import Basis, Verdict
from drills.results import CheckResult

BOOKS = """
CREATE TABLE posting (id int PRIMARY KEY, entry int, currency text, account int, side char(1), amount numeric(20,2),
    debit numeric(20,2), credit numeric(20,2));
INSERT INTO posting VALUES
    (1, 1, 'EUR', 1200, 'D', 100000000000000.01, 100000000000000.01, NULL),
    (2, 1, 'EUR', 4000, 'C', 100000000000000.01, NULL, 100000000000000.01),
    (3, 2, 'USD', 1200, 'D', 7.50, 7.50, 0), (4, 2, 'USD', 1000, 'C', 7.50, 0, 7.50),
    (5, 3, 'EUR', 1200, 'C', 0.01, NULL, 0.01), (6, 3, 'EUR', 1000, 'D', 0.01, 0.01, NULL);
CREATE TABLE item (id int PRIMARY KEY, currency text, open numeric(20,2));
INSERT INTO item VALUES (1, 'EUR', 100000000000000.00), (2, 'USD', 7), (3, 'USD', 0.50), (4, 'GBP', 0);
CREATE TABLE balance (account int, period text, opening numeric(20,2), movement numeric(20,2), closing numeric(20,2));
INSERT INTO balance VALUES (1, '2026-09', 0, 10.10, 10.10), (1, '2026-10', 10.10, -3.05, 7.05),
    (2, '2026-10', 5, -5, 0);
"""
SIGN = {"column": "side", "positive": ["D"], "negative": ["C"]}
BY = {"currency": "currency"}


def table(amount: str, name: str = "posting", **given: Any) -> dict[str, Any]:
    return {"table": name, "amount": amount, "by": BY} | given


def balances(amount: str) -> dict[str, Any]:
    return table(amount, "balance", by={"account": "account", "period": "period"})


RULES: Mapping[str, dict[str, Any]] = {
    "trial balance by sides": {"kind": "trial_balance", "postings": table("amount", sign=SIGN)},
    "trial balance signed": {
        "kind": "trial_balance",
        "postings": table("coalesce(debit, 0) - coalesce(credit, 0)", by={"entry": "entry"}),
    },
    "debits and credits by columns": {
        "kind": "debits_equal_credits",
        "debits": table("debit"),
        "credits": table("credit"),
    },
    "debits and credits by sides": {"kind": "debits_equal_credits", "postings": table("amount", sign=SIGN)},
    "sub-ledger": {
        "kind": "subledger_equals_control",
        "subledger": table("open", "item"),
        "control_account": table("amount", where="account = 1200 -- receivables", sign=SIGN),
    },
    "roll-forward": {
        "kind": "roll_forward",
        "opening": balances("opening"),
        "movement": balances("movement"),
        "closing": balances("closing"),
    },
}
DAMAGES = {
    "trial balance by sides": "UPDATE posting SET amount = amount + 0.01 WHERE id = 1",
    "trial balance signed": "UPDATE posting SET debit = debit + 0.01 WHERE id = 1",
    "debits and credits by columns": "UPDATE posting SET credit = credit - 0.01 WHERE id = 2",
    "debits and credits by sides": "UPDATE posting SET side = 'C' WHERE id = 6",
    "sub-ledger": "DELETE FROM item WHERE id = 3",
    "roll-forward": "UPDATE balance SET closing = closing + 0.01 WHERE account = 1 AND period = '2026-10'",
}

NO_ROWS = "DELETE FROM posting; DELETE FROM item; DELETE FROM balance"
NO_AMOUNTS = """
UPDATE posting SET amount = NULL, debit = NULL, credit = NULL;
UPDATE item SET open = NULL;
UPDATE balance SET opening = NULL, movement = NULL, closing = NULL;
"""


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as makes:
        yield makes


def ledger_check(rule: str, **given: Any) -> LedgerCheck:
    return LedgerCheck.model_validate({"name": "books", **RULES[rule], **given})


def measured(database: Database, check: LedgerCheck) -> dict[str, Total]:
    return {part.name: put_total(database, part) for part in parts(check)}


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., CheckResult]:
    def asked(check: LedgerCheck, expected: Mapping[str, Total], actual: Mapping[str, Total]) -> CheckResult:
        question = Question("books", check.kind, Basis.CONTROL, [], lambda: judge(check, expected, actual, 0.5))
        return answer(question, tmp_path / "reconcile" / "round")

    return asked


Ask = Callable[[LedgerCheck, Mapping[str, Total], Mapping[str, Total]], CheckResult]


@pytest.mark.parametrize("rule", RULES)
def test_sound_books_pass_and_damaged_ones_fail_only_in_the_copy(make: Make, ask: Ask, rule: str) -> None:
    database, check = make(BOOKS), ledger_check(rule)
    before = measured(database, check)
    sound = ask(check, before, measured(database, check))
    assert (sound.verdict, sound.differing, sound.difference) == (Verdict.PASS, 0, "0")
    assert sound.reason.endswith("groups, as at the source")
    run_sql(database.owner, DAMAGES[rule])
    damaged = ask(check, before, measured(database, check))
    assert (damaged.verdict, damaged.differing) == (Verdict.FAIL, 1)
    assert "out of balance only in the copy" in damaged.reason
    assert str(damaged.lines[0].difference).lstrip("-").startswith(("0.01, ", "0.02, ", "0.50, "))


@pytest.mark.parametrize("rule", RULES)
def test_books_that_were_wrong_before_the_backup_are_told_apart(make: Make, ask: Ask, rule: str) -> None:
    database, check = make(BOOKS + DAMAGES[rule]), ledger_check(rule)
    before = measured(database, check)
    found = ask(check, before, before)
    assert found.verdict is Verdict.FAIL
    assert "already so at the source: the books were out of balance before the backup" in found.reason
    assert "only in the copy" not in found.reason


@pytest.mark.parametrize("rule", RULES)
def test_a_copy_in_balance_over_lost_rows_does_not_pass(make: Make, ask: Ask, rule: str) -> None:
    database, check = make(BOOKS), ledger_check(rule)
    before = measured(database, check)
    run_sql(
        database.owner,
        "DELETE FROM posting WHERE currency = 'USD'; DELETE FROM item WHERE currency = 'USD';"
        "DELETE FROM balance WHERE account = 2",
    )
    found = ask(check, before, measured(database, check))
    assert (found.verdict, found.differing) == (Verdict.FAIL, 1)
    assert "in balance over other rows or sums than in the source's snapshot" in found.reason


@pytest.mark.parametrize("rule", RULES)
def test_a_copy_that_is_in_balance_where_the_source_was_not_does_not_pass(make: Make, ask: Ask, rule: str) -> None:
    sound, wrong, check = make(BOOKS), make(BOOKS + DAMAGES[rule]), ledger_check(rule)
    found = ask(check, measured(wrong, check), measured(sound, check))
    assert found.verdict is Verdict.FAIL
    assert "out of balance at the source and not in the copy" in found.reason


def test_a_copy_out_of_balance_otherwise_than_the_source_says_so(make: Make, ask: Ask) -> None:
    check = ledger_check("trial balance by sides")
    wrong = make(BOOKS + DAMAGES["trial balance by sides"])
    before = measured(wrong, check)
    run_sql(wrong.owner, DAMAGES["trial balance by sides"])
    found = ask(check, before, measured(wrong, check))
    assert (found.verdict, found.difference) == (Verdict.FAIL, "0.02")
    assert "otherwise than at the source" in found.reason


@pytest.mark.parametrize(
    ("rule", "emptied"),
    # Where the plan's own coalesce() makes zeros of NULL, there are amounts.
    [*((rule, NO_ROWS) for rule in RULES), *((rule, NO_AMOUNTS) for rule in RULES if rule != "trial balance signed")],
)
def test_books_without_an_amount_prove_nothing(make: Make, ask: Ask, rule: str, emptied: str) -> None:
    database, check = make(BOOKS), ledger_check(rule)
    sound = measured(database, check)
    run_sql(database.owner, emptied)
    nothing = measured(database, check)
    assert ask(check, nothing, nothing).verdict is Verdict.UNKNOWN
    assert ask(check, sound, nothing).verdict is Verdict.FAIL


@pytest.mark.parametrize("rule", ["debits and credits by sides", "trial balance by sides"])
@pytest.mark.parametrize("side", ["NULL", "'X'"])
def test_a_posting_on_neither_side_proves_nothing(make: Make, ask: Ask, rule: str, side: str) -> None:
    database, check = make(BOOKS), ledger_check(rule)
    run_sql(database.owner, f"INSERT INTO posting (id, currency, side, amount) VALUES (9, 'EUR', {side}, 5)")
    found = ask(check, measured(database, check), measured(database, check))
    assert (found.verdict, "neither positive nor negative" in found.reason) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize("amount", ["'NaN'", "'Infinity'"])
def test_what_is_no_number_is_in_no_balance(make: Make, ask: Ask, amount: str) -> None:
    database, check = (
        make("CREATE TABLE t (debit numeric, credit numeric)"),
        LedgerCheck.model_validate(
            {
                "kind": "debits_equal_credits",
                "name": "books",
                "debits": {"table": "t", "amount": "debit"},
                "credits": {"table": "t", "amount": "credit"},
            }
        ),
    )
    run_sql(database.owner, f"INSERT INTO t VALUES ({amount}, {amount})")
    found = ask(check, measured(database, check), measured(database, check))
    assert (found.verdict, "not a number" in str(found.lines[0].difference)) == (Verdict.FAIL, True)


def test_the_books_are_added_up_below_and_kept(make: Make, ask: Ask, tmp_path: Path) -> None:
    database, check = make(BOOKS), ledger_check("debits and credits by columns")
    found = ask(check, measured(database, check), measured(database, check))
    assert found.csv is not None
    assert (tmp_path / found.csv.path).read_text().splitlines() == [
        "currency,expected,actual,difference,source_difference,finding,verdict,line",
        "EUR,100000000000000.02,100000000000000.02,0,0,in balance,PASS,group",
        "USD,7.50,7.50,0,0,in balance,PASS,group",
        "total,100000000000007.52,100000000000007.52,0,,,PASS,total",
    ]
    assert (found.seconds >= 0.5, found.compared) == (True, 2)


@pytest.mark.parametrize("size", [10**14, 10**30])
def test_a_cent_of_any_sum_is_seen(ask: Ask, size: int) -> None:
    check = ledger_check("debits and credits by columns")

    def books(credit: Decimal) -> dict[str, Total]:
        amounts = zip(parts(check), (Decimal(f"{size}.00"), credit), strict=True)
        made = {part.name: TotalRow(group=("EUR",), rows=1, amounts=1, total=amount) for part, amount in amounts}
        return {name: Total(name=name, by=("currency",), rows=(row,)) for name, row in made.items()}

    sound, damaged = books(Decimal(f"{size}.00")), books(Decimal(f"{size}.01"))
    assert ask(check, sound, sound).verdict is Verdict.PASS
    found = ask(check, sound, damaged)
    assert (found.verdict, found.difference) == (Verdict.FAIL, "0.01")


def test_a_part_that_was_not_measured_is_unknown(make: Make, ask: Ask) -> None:
    check = ledger_check("sub-ledger")
    sound = measured(make(BOOKS), check)
    broken = sound | {
        "books: subledger": sound["books: subledger"].model_copy(update={"rows": (), "error": "no right"})
    }
    for expected, actual in ((broken, sound), (sound, broken)):
        found = ask(check, expected, actual)
        assert (found.verdict, "no right" in found.reason) == (Verdict.UNKNOWN, True)
    with pytest.raises(CheckError, match="not measured: books: control account"):
        judge(check, sound, {"books: subledger": sound["books: subledger"]}, 0.0)


def test_a_group_that_stands_twice_is_ambiguous(make: Make, ask: Ask) -> None:
    check = ledger_check("sub-ledger")
    sound = measured(make(BOOKS), check)
    total = sound["books: subledger"]
    edited = sound | {"books: subledger": total.model_copy(update={"rows": (*total.rows, total.rows[0])})}
    assert ask(check, edited, edited).verdict is Verdict.UNKNOWN


POSTINGS = {"table": "t", "amount": "a"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "trial_balance"}, "needs `postings`, got none"),
        ({"kind": "trial_balance", "postings": POSTINGS, "debits": POSTINGS}, "got `postings`, `debits`"),
        ({"kind": "roll_forward", "opening": POSTINGS, "closing": POSTINGS}, "`opening` and `movement` and `closing`"),
        ({"kind": "debits_equal_credits", "debits": POSTINGS}, "`debits` and `credits`, or `postings`"),
        ({"kind": "debits_equal_credits", "postings": POSTINGS}, "needs a `sign` with `column`"),
        ({"kind": "debits_equal_credits", "postings": POSTINGS | {"sign": {"reversed": True}}}, "needs a `sign`"),
        (
            {"kind": "debits_equal_credits", "debits": POSTINGS, "credits": POSTINGS | {"by": {"entry": "entry"}}},
            "expected the groups of `debits`",
        ),
    ],
)
def test_a_rule_without_what_it_is_made_of_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LedgerCheck.model_validate({"name": "books", **given})


@pytest.mark.parametrize("name", ["books", "books: postings", "BOOKS: Postings"])
def test_no_total_may_be_called_like_a_part_of_a_rule(name: str) -> None:
    rule = {"kind": "trial_balance", "name": "books", "postings": POSTINGS}
    with pytest.raises(ValidationError, match="duplicate name of a check"):
        Checks.model_validate({"ledger": (rule,), "totals": ({"name": name, "table": "t", "amount": "a"},)})


def test_the_longest_name_still_names_its_parts() -> None:
    check = ledger_check("sub-ledger", name="x" * 70)
    assert [part.name.removeprefix("x" * 70) for part in parts(check)] == [": subledger", ": control account"]
