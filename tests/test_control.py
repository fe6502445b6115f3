"""Control totals: the one of three that disagrees is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fix_checks import total_check
from fix_control import (
    BY,
    LARGE,
    OPENED,
    PASSWORD,
    a_total,
    ask,
    csv_check,
    json_check,
)
from pydantic import ValidationError

from checks.control.compare import compare_control, read_control
from checks.totals import compare_totals
from drills.errors import CheckError, PlanError
from drills.planfile import parse_plan
from drills.records import Verdict

# --- which of the three ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "source", "copy", "said"),
    [
        ("5.01", "5.00", "5.00", "the control disagrees with source and copy, which agree: not a loss by the restore"),
        ("5.00", "5.00", "4.99", "the copy disagrees with control and source, which agree"),
        ("5.00", "4.99", "5.00", "the source disagrees with control and copy, which agree"),
        ("5.00", "5.01", "5.02", "control, source and copy are all different"),
        (LARGE, LARGE, "100000000000000.02", "the copy disagrees"),
        (LARGE, "100000000000000.02", "100000000000000.02", "the control disagrees"),
    ],
)
def test_the_one_that_disagrees_is_named(tmp_path: Path, control: str, source: str, copy: str, said: str) -> None:
    check = csv_check(tmp_path, f"currency,amount\nEUR,{control}\nUSD,7\n")
    result = ask(tmp_path, check, a_total(("EUR", source), ("USD", "7.00")), a_total(("EUR", copy), ("USD", "7.00")))
    assert (result.verdict, result.differing, result.compared) == (Verdict.FAIL, 1, 2)
    assert f"in 1 of 2 groups {said}" in result.reason
    assert said in str(result.lines[0].difference)


def test_three_that_agree_pass_with_a_signed_table_and_its_sum(tmp_path: Path) -> None:
    check = csv_check(tmp_path, f"currency,amount\nEUR,{LARGE}\nUSD,-7\n")
    side = a_total(("EUR", LARGE), ("USD", "-7.00"))
    result = ask(tmp_path, check, side, side)
    assert result.verdict is Verdict.PASS
    assert "control, source and copy are equal to the last digit in all 2 groups" in result.reason
    assert check.control is not None
    assert str(tmp_path / "control.csv") in result.reason
    assert result.csv is not None
    assert (tmp_path / result.csv.path).read_text().splitlines() == [
        "currency,expected,source,actual,difference,finding,verdict,line",
        f"EUR,{LARGE},{LARGE},{LARGE},0,all three agree,PASS,group",
        "USD,-7,-7.00,-7.00,0,all three agree,PASS,group",
        "total,99999999999993.01,99999999999993.01,99999999999993.01,0,,PASS,total",
    ]


@pytest.mark.parametrize(
    ("control", "source", "copy", "said"),
    [
        ("EUR,5\n", [("EUR", "5"), ("USD", "7")], [("EUR", "5"), ("USD", "7")], "the control disagrees"),
        ("EUR,5\nUSD,7\n", [("EUR", "5"), ("USD", "7")], [("EUR", "5")], "the copy disagrees"),
        ("EUR,5\nUSD,7\n", [("EUR", "5")], [("EUR", "5")], "the control disagrees"),
        ("EUR,5\nUSD,7\n", [("EUR", "5")], [("EUR", "5"), ("USD", "7")], "the source disagrees"),
        ("eur,5\n", [("EUR", "5")], [("EUR", "5")], "in 2 of 2 groups the control disagrees"),
    ],
)
def test_a_group_that_one_of_them_lacks_is_a_disagreement(
    tmp_path: Path, control: str, source: list[tuple[str, str]], copy: list[tuple[str, str]], said: str
) -> None:
    result = ask(tmp_path, csv_check(tmp_path, f"currency,amount\n{control}"), a_total(*source), a_total(*copy))
    assert (result.verdict, said in result.reason) == (Verdict.FAIL, True)


def test_a_tolerance_lets_the_control_be_off_and_says_so(tmp_path: Path) -> None:
    tolerance = {"within": "0.05", "justification": "the warehouse rounds"}
    check = csv_check(tmp_path, "currency,amount\nEUR,5.05\nUSD,7\n", tolerance=tolerance)
    side = a_total(("EUR", "5.00"), ("USD", "7"))
    result = ask(tmp_path, check, side, side)
    told = "within the tolerance of 0.05: the warehouse rounds"
    assert (result.verdict, result.lines[0].difference) == (Verdict.PASS, f"-0.05, {told}")
    assert f"in 1 of 2 groups the three differ {told}" in result.reason
    beyond = ask(tmp_path, check, a_total(("EUR", "4.99"), ("USD", "7")), a_total(("EUR", "4.99"), ("USD", "7")))
    assert (beyond.verdict, "the control disagrees" in beyond.reason) == (Verdict.FAIL, True)
    assert ask(tmp_path, check, side, a_total(("EUR", "5.00"), ("USD", "7.0"))).verdict is Verdict.PASS
    between = ask(tmp_path, check, side, a_total(("EUR", "4.96"), ("USD", "7")))
    assert (between.verdict, "the copy disagrees" in between.reason) == (Verdict.FAIL, True)


def test_a_tolerance_for_the_control_lets_nothing_pass_between_source_and_copy(tmp_path: Path) -> None:
    tolerance = {"within": "0.05", "justification": "the warehouse rounds"}
    check = csv_check(tmp_path, "currency,amount\nEUR,100.00\n", tolerance=tolerance)
    source, copy = a_total(("EUR", "100.00")), a_total(("EUR", "99.95"))
    lost = ask(tmp_path, check, source, copy)
    assert (lost.verdict, "source and copy differ" in lost.reason) == (Verdict.FAIL, True)
    assert compare_totals(source, copy, 0.0, check).verdict is Verdict.FAIL
    assert compare_totals(source, source, 0.0, check).verdict is Verdict.PASS
    alone = total_check(by=BY, tolerance=tolerance)
    assert compare_totals(source, copy, 0.0, alone).verdict is Verdict.PASS


NULL = ("USD", None)


@pytest.mark.parametrize(
    ("control", "source", "copy", "said"),
    [
        ("EUR,5\n", [NULL], [], "the source disagrees with control and copy"),
        ("EUR,5\n", [], [NULL], "the copy disagrees with control and source"),
        ("EUR,5\n", [NULL], [NULL], "the control disagrees"),
    ],
)
def test_a_group_that_is_not_there_is_no_group_whose_sum_is_null(
    tmp_path: Path, control: str, source: list[tuple[str, str | None]], copy: list[tuple[str, str | None]], said: str
) -> None:
    check, euros = csv_check(tmp_path, f"currency,amount\n{control}"), ("EUR", "5")
    result = ask(tmp_path, check, a_total(euros, *source), a_total(euros, *copy))
    assert (result.verdict, result.differing) == (Verdict.FAIL, 1)
    assert said in result.reason


def test_nothing_to_add_up_proves_nothing(tmp_path: Path) -> None:
    check = csv_check(tmp_path, "currency,amount\n")
    side = a_total(("EUR", "5"))
    result = ask(tmp_path, check, side, side)
    assert (result.verdict, "holds no record" in result.reason) == (Verdict.UNKNOWN, True)
    failed = side.model_copy(update={"rows": (), "error": "no right"})
    for source, copy in ((failed, side), (side, failed)):
        unknown = ask(tmp_path, csv_check(tmp_path, "currency,amount\nEUR,5\n"), source, copy)
        assert (unknown.verdict, "no right" in unknown.reason) == (Verdict.UNKNOWN, True)


def test_a_control_by_other_groups_is_not_compared(tmp_path: Path) -> None:
    check = csv_check(tmp_path, "currency,amount\nEUR,5\n")
    control = read_control(check, OPENED).model_copy(update={"by": ("month",)})
    with pytest.raises(CheckError, match="other groups"):
        compare_control(check, control, a_total(("EUR", "5")), a_total(("EUR", "5")))


# --- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"amount": "a"}, "expected one of"),
        ({"amount": "a", "json_file": {"path": "x"}}, "sha256"),
        ({"amount": "a", "json_file": {"path": "x", "sha256": "F" * 64}}, "hexadecimal"),
        ({"amount": "a", "json_file": {"path": "x", "sha256": "f" * 64}, "query": {"url": "sqlite:///x", "sql": "x"}},
         "got 2"),
        ({"amount": "a", "json_file": {"path": "x", "sha256": "f" * 64}, "by": {"month": "m"}}, "none of the total's"),
        ({"amount": "a", "csv_file": {"path": "x", "sha256": "f" * 64, "decimal_mark": ",", "thousands_mark": ","}},
         "the same as `decimal_mark`"),
    ],
)  # fmt: skip
def test_a_control_that_cannot_be_meant_is_refused(control: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        total_check(by=BY, control=control)


def test_what_is_read_once_is_kept_as_it_was_read(tmp_path: Path) -> None:
    check = json_check(tmp_path, json.dumps([{"currency": "EUR", "amount": "5.00"}, {"currency": "EUR", "amount": 1}]))
    found = read_control(check, OPENED)
    assert (found.name, found.by, found.rows[0].rows, str(found.rows[0].total)) == ("ledger", ("currency",), 2, "6.00")
    assert check.control is not None
    assert found.origin == f"{tmp_path / 'control.json'}, sha256 {check.control.origin.sha256}"  # type: ignore[union-attr]


PLAN_HEAD = """\
version: 1
database: shop
owner: sre
source:
  address: postgresql://reader@db:5432/shop
recovery:
  method: dump
checks:
  totals:
    - name: ledger
      table: ledger
      amount: amount
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("      tolerance:\n        within: 0.05\n", ":13: checks.totals[0].tolerance.justification: missing"),
        ("      tolerance: 0.05\n", ":13: checks.totals[0].tolerance: expected a mapping"),
        (
            "      tolerance:\n        justification: so\n        within: 5 cents\n",
            ":15: checks.totals[0].tolerance.within",
        ),
        (
            "      tolerance:\n        justification: so\n        within: 100%\n",
            ":15: checks.totals[0].tolerance.within: expected less than 100%",
        ),
        ("      sign:\n        column: side\n        positve: [D]\n", "did you mean `positive`?"),
        (
            "      closed:\n        column: at\n        until: soon\n",
            ":15: checks.totals[0].closed.until: expected `end of",
        ),
        (
            f"      control:\n        amount: a\n        query:\n          sql: x\n          url: pg://u:{PASSWORD}@h/d\n",
            ":17: checks.totals[0].control.query.url: the address holds a password",
        ),
        (
            "  ledger:\n    - kind: trial_balance\n      name: books\n",
            ":14: checks.ledger[0]: trial_balance needs `postings`, got none",
        ),
        (
            "  ledger:\n    - kind: trial_balence\n      name: books\n",
            ":14: checks.ledger[0].kind: expected 'trial_balance'",
        ),
    ],
)
def test_a_fault_in_the_plan_is_told_with_its_line_and_without_a_secret(text: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan((PLAN_HEAD + text).encode(), "plan.yaml")
    assert said in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_numbers_of_a_plan_are_read_as_they_stand() -> None:
    text = "      tolerance:\n        within: 0.10\n        justification: rounding\n"
    plan = parse_plan((PLAN_HEAD + text).encode(), "plan.yaml")
    assert plan.checks.totals[0].tolerance is not None
    assert plan.checks.totals[0].tolerance.within == "0.10"
    assert type(plan).model_validate(plan.model_dump(mode="json")) == plan
