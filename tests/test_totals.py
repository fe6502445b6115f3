"""Totals compared: nothing rounded, nothing mistaken for something else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from checks.base import Answer, Question, answer
from checks.totals import compare_totals
from drills.errors import CheckError
from drills.measures import Total, TotalRow
from drills.records import Basis, CheckResult, Verdict

Row = tuple[str | None, int, int, str | None]
"""Group, rows, amounts, sum."""


def total(*rows: Row, by: tuple[str, ...] = ("currency",), error: str = "") -> Total:
    return Total(
        name="ledger",
        by=by,
        error=error,
        rows=tuple(
            TotalRow(
                group=(group,) * len(by), rows=count, amounts=amounts, total=None if value is None else Decimal(value)
            )
            for group, count, amounts, value in rows
        ),
    )


def compared(expected: Total, actual: Total) -> Answer:
    """Both sides as they come back from disk."""
    return compare_totals(
        Total.model_validate_json(expected.canonical()), Total.model_validate_json(actual.canonical()), 0.0
    )


def put(expected: Total, actual: Total, folder: Path) -> CheckResult:
    question = Question("ledger", "totals", Basis.SNAPSHOT, [], lambda: compared(expected, actual))
    return answer(question, folder / "reconcile" / "round")


SOUND = total(("EUR", 3, 3, "10.00"), ("USD", 2, 1, "-4.55"), ("XXX", 2, 0, None))
CENTS = "123456789012345678901234567890"
"""Thirty digits; Python's own context keeps 28."""


@pytest.mark.parametrize(
    "side",
    [
        SOUND,
        total(("a", 1, 1, "NaN"), ("b", 1, 1, "Infinity"), ("c", 1, 1, "-Infinity")),
        total((None, 1, 1, "1"), ("NULL", 1, 1, "2"), ("'NULL'", 1, 1, "3"), ("nan", 1, 1, "4"), ("", 1, 1, "5")),
        total(("a", 1, 1, f"{CENTS}.01"), ("b", 1, 1, "1" + "0" * 1000 + ".01")),
        total(("all", 1, 1, "1e100"), by=()),
    ],
)
def test_equal_totals_pass_to_the_last_digit(side: Total) -> None:
    result = compared(side, side)
    assert (result.verdict, result.difference) == (Verdict.PASS, "0")


def test_groups_stand_in_the_order_in_which_people_count() -> None:
    groups = ["10", "9", "b", "1" * 5000, "2026-01", "01", "a"]
    side = total(*((group, 1, 1, "1") for group in groups))
    found = compared(side, side).frame
    assert found is not None
    assert found["currency"].tolist() == ["01", "9", "10", "1" * 5000, "2026-01", "a", "b"]


def test_the_scale_of_a_number_and_the_sign_of_zero_are_no_difference() -> None:
    wanted, there = total(("a", 1, 1, "1.50"), ("b", 1, 1, "-0.00")), total(("a", 1, 1, "1.5"), ("b", 1, 1, "0"))
    assert compared(wanted, there).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("wanted", "there", "difference"),
    [
        ("10.00", "10.01", "0.01"),
        ("10.00", "9.99", "-0.01"),
        (f"{CENTS}.01", f"{CENTS}.02", "0.01"),
        (f"{CENTS}.01", f"-{CENTS}.01", "-246913578024691357802469135780.02"),
        ("1e100", "1", "-" + "9" * 100),
        ("1" + "0" * 1000, "1" + "0" * 999 + "1", "1"),
        ("0", None, "not a number"),
        (None, "0", "not a number"),
        ("NaN", "1", "not a number"),
        ("1", "NaN", "not a number"),
        ("Infinity", "-Infinity", "not a number"),
    ],
)
def test_another_sum_fails_and_its_difference_is_exact(
    tmp_path: Path, wanted: str | None, there: str | None, difference: str
) -> None:
    result = put(total(("a", 1, 1, wanted)), total(("a", 1, 1, there)), tmp_path)
    assert result.verdict is Verdict.FAIL
    assert (result.difference, result.lines[0].difference) == (difference, difference)
    assert result.csv is not None
    assert difference in (tmp_path / result.csv.path).read_text()


def test_opposite_infinities_in_two_groups_do_not_hide_a_difference() -> None:
    endless = [("a", 1, 1, "Infinity"), ("b", 1, 1, "-Infinity")]
    result = compared(total(*endless, ("c", 1, 1, "1")), total(*endless, ("c", 1, 1, "2")))
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("there", "difference"),
    [(("EUR", 4, 3, "10.00"), "0, +1 rows"), (("EUR", 3, 2, "10.00"), "0, -1 amounts")],
)
def test_an_equal_sum_over_other_rows_fails(there: Row, difference: str) -> None:
    result = compared(total(("EUR", 3, 3, "10.00")), total(there))
    assert result.verdict is Verdict.FAIL
    assert result.frame is not None
    assert result.frame["difference"].tolist() == [difference]


def test_a_pair_swapped_across_groups_fails_although_the_whole_is_equal() -> None:
    result = compared(total(("EUR", 1, 1, "5"), ("USD", 1, 1, "7")), total(("EUR", 1, 1, "7"), ("USD", 1, 1, "5")))
    assert (result.verdict, result.difference, result.reason) == (Verdict.FAIL, "0", "2 of 2 groups differ")


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (None, "NULL"),
        ("", None),
        ("nan", None),
        ("NULL", "'NULL'"),
        ("a", "A"),
        ("1", "1.0"),
        ("001", "1"),
        ("x", "x "),
    ],
)
def test_groups_that_look_alike_are_not_the_same(tmp_path: Path, wanted: str | None, there: str | None) -> None:
    result = put(total((wanted, 1, 1, "5")), total((there, 1, 1, "5")), tmp_path)
    assert (result.verdict, result.differing) == (Verdict.FAIL, 2)
    assert {line.difference for line in result.lines} == {"the group is missing", "the group is unexpected"}
    assert len({line.key for line in result.lines}) == 2


def test_a_missing_and_an_unexpected_group_fail_with_their_counts_as_integers(tmp_path: Path) -> None:
    wanted = total(("001", 3, 3, "10.00"), ("nan", 7, 7, "7"))
    there = total(("nan", 7, 7, "7"), ("NA", 2, 1, "9.10"))
    result = put(wanted, there, tmp_path)
    assert (result.verdict, result.differing, result.compared) == (Verdict.FAIL, 2, 3)
    assert result.csv is not None
    assert (tmp_path / result.csv.path).read_text().splitlines() == [
        "currency,expected,actual,difference,rows_expected,rows_actual,amounts_expected,amounts_actual,verdict",
        "001,10.00,,the group is missing,3,,3,,FAIL",
        "NA,,9.10,the group is unexpected,,2,,1,FAIL",
        "nan,7,7,0,7,7,7,7,PASS",
    ]


@pytest.mark.parametrize("label", ["side", "expected", "verdict", "rows_actual", "group", "key 0", "difference"])
def test_a_group_may_be_called_like_a_column_of_ours(tmp_path: Path, label: str) -> None:
    by = (label, f"{label} (group)")
    sound, damaged = total(("EUR", 1, 1, "5"), by=by), total(("EUR", 1, 1, "6"), by=by)
    assert put(sound, sound, tmp_path).verdict is Verdict.PASS
    result = put(sound, damaged, tmp_path)
    assert (result.verdict, result.lines[0].key, result.lines[0].expected) == (Verdict.FAIL, "EUR · EUR", "5")
    assert result.csv is not None
    header = (tmp_path / result.csv.path).read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)


@pytest.mark.parametrize("side", [total(("a", 2, 0, None)), total(), total(("all", 0, 0, None), by=())])
def test_totals_without_an_amount_prove_nothing(tmp_path: Path, side: Total) -> None:
    assert put(side, side, tmp_path).verdict is Verdict.UNKNOWN
    assert put(side, total(("a", 2, 1, "0"), by=side.by), tmp_path).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("expected", "actual", "where"),
    [(total(error="no right"), SOUND, "in the source's snapshot"), (SOUND, total(error="no right"), "in the copy")],
)
def test_a_side_that_was_not_measured_is_unknown(tmp_path: Path, expected: Total, actual: Total, where: str) -> None:
    result = put(expected, actual, tmp_path)
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, f"not measured {where}: no right")


def test_sides_grouped_differently_are_not_compared() -> None:
    with pytest.raises(CheckError, match="by other groups"):
        compared(SOUND, total(("EUR", 1, 1, "5"), by=("month",)))
