"""Totals compared: nothing rounded, nothing mistaken for something else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fix_checks import Make, making, total_check
from fix_postgres import run_sql
from fix_totals import put_total, statement_of
from pydantic import ValidationError

from checks.base import Answer, Question, answer
from checks.totals import compare_totals
from drills.clusters import Cluster
from drills.errors import CheckError
from drills.measures import Total, TotalRow
from drills.plan import TotalCheck
from drills.plans.sums import Closing
from drills.records import Basis, Verdict
from drills.results import CheckResult

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


def compared(expected: Total, actual: Total, check: TotalCheck | None = None) -> Answer:
    """Both sides as they come back from disk."""
    expected, actual = (Total.model_validate_json(side.canonical()) for side in (expected, actual))
    return compare_totals(expected, actual, 0.0, check)


def put(expected: Total, actual: Total, folder: Path, check: TotalCheck | None = None) -> CheckResult:
    question = Question("ledger", "totals", Basis.SNAPSHOT, [], lambda: compared(expected, actual, check))
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
        "currency,expected,actual,difference,rows_expected,rows_actual,amounts_expected,amounts_actual,verdict,line",
        "001,10.00,,the group is missing,3,,3,,FAIL,group",
        "NA,,9.10,the group is unexpected,,2,,1,FAIL,group",
        "nan,7,7,0,7,7,7,7,PASS,group",
        "total,17.00,16.10,-0.90,10,9,10,8,FAIL,total",
    ]


@pytest.mark.parametrize("label", ["side", "expected", "verdict", "rows_actual", "group", "key 0", "line"])
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


# --- the line that adds up ------------------------------------------------------------------------------------------


def test_the_line_that_adds_up_is_marked_and_counts_as_no_group(tmp_path: Path) -> None:
    wanted, there = total(("total", 1, 1, "-5.00"), ("USD", 1, 1, "7.25")), total(("total", 1, 1, "-5.00"))
    result = put(wanted, there, tmp_path)
    assert (result.compared, result.differing, len(result.lines)) == (2, 1, 2)
    assert result.total is not None
    assert (result.total.key, result.total.expected, result.total.actual, result.total.difference) == (
        "total",
        "2.25",
        "-5.00",
        "-7.25",
    )
    assert result.csv is not None
    lines = (tmp_path / result.csv.path).read_text().splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines] == ["line", "group", "group", "total"]


@pytest.mark.parametrize("size", [10**14, 10**15, 10**30])
def test_a_cent_on_a_hundred_trillion_is_seen(size: int) -> None:
    one, other = ((f"{size}.{cents}", ("USD", 1, 1, f"{size}.00")) for cents in ("00", "01"))
    for wanted, there, difference in ((one, other, "0.01"), (other, one, "-0.01")):
        result = compared(total(("EUR", 1, 1, wanted[0]), wanted[1]), total(("EUR", 1, 1, there[0]), there[1]))
        assert (result.verdict, result.difference) == (Verdict.FAIL, difference)
        assert result.foot["difference"] == difference


@pytest.mark.parametrize("seed", range(20))
def test_a_cent_moved_in_any_group_is_seen_however_large_the_sums(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    cents = [chance.randint(-(10**17), 10**17) for _ in range(50)]
    moved = list(cents)
    moved[chance.randrange(50)] += chance.choice([-1, 1])
    wanted, there = (
        total(*((str(number), 1, 1, f"{Decimal(amount).scaleb(-2):f}") for number, amount in enumerate(side)))
        for side in (cents, moved)
    )
    assert compared(wanted, wanted).verdict is Verdict.PASS
    found = compared(wanted, there)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "1 of 50 groups differ")
    assert abs(Decimal(found.difference)) == Decimal("0.01")


# --- tolerance ------------------------------------------------------------------------------------------------------


def tolerating(within: str) -> TotalCheck:
    return total_check(tolerance={"within": within, "justification": "lines are rounded"})


@pytest.mark.parametrize(
    ("within", "wanted", "there", "verdict"),
    [
        ("0.05", "10.00", "10.05", Verdict.PASS),
        ("0.05", "10.00", "9.95", Verdict.PASS),
        ("0.05", "10.00", "10.0500000001", Verdict.FAIL),
        ("1%", "-200", "-198", Verdict.PASS),
        ("1%", "-200", "-197.99", Verdict.FAIL),
        ("1%", "0", "0.01", Verdict.FAIL),
        ("0.000000000000000000000000000001%", "1" + "0" * 32, "1" + "0" * 31 + "1", Verdict.PASS),
        ("0.000000000000000000000000000001%", "1" + "0" * 31, "1" + "0" * 30 + "1", Verdict.FAIL),
        ("99%", "NaN", "1", Verdict.FAIL),
        ("99%", "Infinity", "1", Verdict.FAIL),
        ("99%", None, "1", Verdict.FAIL),
        ("1000000", "1", None, Verdict.FAIL),
    ],
)
def test_a_difference_passes_up_to_the_tolerance_and_not_beyond(
    within: str, wanted: str | None, there: str | None, verdict: Verdict
) -> None:
    sound = ("USD", 1, 1, "7")
    result = compared(total(("EUR", 1, 1, wanted), sound), total(("EUR", 1, 1, there), sound), tolerating(within))
    assert result.verdict is verdict


def test_what_a_tolerance_lets_pass_is_never_called_equal(tmp_path: Path) -> None:
    wanted, there = total(("EUR", 1, 1, "10.00"), ("USD", 1, 1, "7")), total(("EUR", 1, 1, "10.01"), ("USD", 1, 1, "7"))
    result = put(wanted, there, tmp_path, tolerating("0.05"))
    told = "within the tolerance of 0.05: lines are rounded"
    assert (result.verdict, result.difference) == (Verdict.PASS, "0.01")
    assert result.reason == f"1 of 2 groups differ {told}; the others are equal to the last digit"
    assert [line.difference for line in result.lines] == [f"0.01, {told}", "0"]
    every = put(total(("EUR", 1, 1, "10.00")), total(("EUR", 1, 1, "10.01")), tmp_path, tolerating("0.05"))
    assert every.reason == f"all 1 groups differ {told}"
    assert "equal" in put(wanted, wanted, tmp_path, tolerating("0.05")).reason


def test_a_tolerance_is_for_sums_and_not_for_rows_or_groups() -> None:
    wanted, check = total(("EUR", 2, 2, "10.00"), ("USD", 1, 1, "1")), tolerating("100")
    assert compared(wanted, total(("EUR", 1, 1, "9.99"), ("USD", 1, 1, "1")), check).verdict is Verdict.FAIL
    assert compared(wanted, total(("EUR", 2, 2, "10.00")), check).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "tolerance",
    [
        {"within": "0.05"},
        {"within": "0.05", "justification": " "},
        *(
            {"within": text, "justification": "so"}
            for text in ("0", "0%", "-1", "1e3", "NaN", "5 %", "", "a cent", "100%", "100.00%", "250%")
        ),
    ],
)
def test_a_tolerance_without_its_reason_or_its_size_is_refused(tolerance: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        total_check(tolerance=tolerance)


# --- sign and period, as a server counts them -----------------------------------------------------------------------

JOURNAL = """
CREATE TYPE side AS ENUM ('debit', 'credit');
CREATE TABLE journal (id int PRIMARY KEY, side char(2), kind side, amount numeric, small int, cash money, ratio float8,
    on_day date, at_local timestamp, at_instant timestamptz, at_text text);
INSERT INTO journal VALUES
    (1, 'D', 'debit', 100.10, 7, 7, 7, '2026-10-31', '2026-10-31 23:59:59.999999', '2026-10-31 22:59:59.999999Z', 'x'),
    (2, 'C', 'credit', 40.05, 2, 2, 2, '2026-11-01', '2026-11-01 00:00:00', '2026-10-31 23:00:00Z', 'y');
"""
SIDED = {"column": "side", "positive": ["D"], "negative": ["C"]}
END = "2026-11-01T00:00:00+01:00"


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as makes:
        yield makes


def journal_check(**given: Any) -> TotalCheck:
    return total_check(**({"table": "journal"} | given))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "140.15"),
        ({"sign": SIDED}, "60.05"),
        (
            {"sign": {"column": "kind -- the side", "positive": ["debit", "it's"], "negative": ["credit", "\\"]}},
            "60.05",
        ),
        ({"sign": {"column": "side", "positive": ["C"], "negative": ["D"]}, "amount": "amount -- ours"}, "-60.05"),
        ({"sign": {"reversed": True}}, "-140.15"),
        ({"sign": SIDED, "amount": "small"}, "5"),
        ({"sign": SIDED, "amount": "cash"}, "5.00"),
        ({"sign": {"reversed": True}, "amount": "cash"}, "-9.00"),
        ({"sign": SIDED, "amount": "small + -2 * 1", "where": "id = 1 -- only"}, "5"),
    ],
)
def test_sides_become_signs_and_types_stay(make: Make, given: dict[str, Any], found: str) -> None:
    (row,) = put_total(make(JOURNAL), journal_check(**given)).rows
    assert (str(row.total), row.amounts) == (found, row.rows)


def test_a_sign_does_not_hide_a_binary_float(make: Make) -> None:
    with pytest.raises(AssertionError, match="double precision"):
        put_total(make(JOURNAL), journal_check(amount="ratio", sign=SIDED))


@pytest.mark.parametrize("side", ["'X'", "NULL", "''", "'d'"])
def test_a_side_that_the_plan_does_not_know_proves_nothing(make: Make, tmp_path: Path, side: str) -> None:
    database, check = make(JOURNAL), journal_check(sign=SIDED)
    sound = put_total(database, check)
    assert put(sound, sound, tmp_path, check).verdict is Verdict.PASS
    run_sql(database.owner, f"INSERT INTO journal (id, side, amount) VALUES (3, {side}, 5)")
    found = put_total(database, check)
    result = put(found, found, tmp_path, check)
    assert (result.verdict, "1 rows of the snapshot" in result.reason) == (Verdict.UNKNOWN, True)
    assert put(sound, found, tmp_path, check).verdict is Verdict.FAIL


@pytest.mark.parametrize("column", ["on_day", "at_local", "at_instant", "at_instant -- when"])
def test_a_period_ends_at_one_instant_for_every_type(make: Make, column: str) -> None:
    check = journal_check(closed={"column": column, "until": END, "time_zone": "Europe/Berlin"})
    (row,) = put_total(make(JOURNAL), check.settled(datetime(2027, 1, 1, tzinfo=UTC))).rows
    assert (row.rows, str(row.total)) == (1, "100.10")
    assert "'2026-11-01 00:00:00+01:00'" in statement_of(check)


def test_a_period_is_not_compared_letter_by_letter(make: Make) -> None:
    with pytest.raises(CheckError, match="isfinite"):
        put_total(make(JOURNAL), journal_check(closed={"column": "at_text", "until": END}))


@pytest.mark.parametrize(
    ("until", "zone", "ends"),
    [
        ("end of previous day", "UTC", "2026-02-28T00:00:00+00:00"),
        ("end of previous month", "UTC", "2026-02-01T00:00:00+00:00"),
        ("end of previous quarter", "UTC", "2026-01-01T00:00:00+00:00"),
        ("end of previous year", "UTC", "2026-01-01T00:00:00+00:00"),
        ("end of previous month", "Pacific/Auckland", "2026-03-01T00:00:00+13:00"),
        ("end of previous month", "America/New_York", "2026-02-01T00:00:00-05:00"),
        (END, "UTC", "2026-10-31T23:00:00+00:00"),
    ],
)
def test_a_period_is_fixed_by_the_opening(until: str, zone: str, ends: str) -> None:
    closed = Closing(column="at", until=until, time_zone=zone)
    opened = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    assert closed.settled(opened).until == ends
    assert closed.settled(opened).settled(opened + timedelta(days=400)).until == ends


@pytest.mark.parametrize("month", range(1, 13))
def test_a_quarter_begins_in_january_april_july_and_october(month: int) -> None:
    closed = Closing(column="at", until="end of previous quarter")
    assert closed.ends(datetime(2026, month, 28, tzinfo=UTC)).month == {0: 1, 1: 4, 2: 7, 3: 10}[(month - 1) // 3]


def test_a_period_that_was_not_fixed_is_not_measured(make: Make) -> None:
    check = journal_check(closed={"column": "on_day", "until": "end of previous month"})
    with pytest.raises(CheckError, match="was not fixed"):
        put_total(make(JOURNAL), check)


def test_sides_measured_over_other_periods_are_not_compared() -> None:
    with pytest.raises(CheckError, match="another period"):
        compared(SOUND.model_copy(update={"closed": "2026-11-01 00:00:00+00:00"}), SOUND)


@pytest.mark.parametrize(
    "given",
    [
        {"sign": {}},
        {"sign": {"column": "side"}},
        {"sign": {"column": "side", "positive": ["D"]}},
        {"sign": {"column": "side", "positive": ["D"], "negative": ["C", "D"]}},
        {"sign": SIDED | {"reversed": True}},
        {"sign": {"positive": ["D"], "negative": ["C"]}},
        {"closed": {"column": "at", "until": "yesterday"}},
        {"closed": {"column": "at", "until": "2026-11-01T00:00:00"}},
        {"closed": {"column": "at", "until": END, "time_zone": "Mars/Olympus"}},
        {"closed": {"column": "at", "until": END, "time_zone": "../etc/passwd"}},
    ],
)
def test_conventions_that_cannot_be_meant_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        journal_check(**given)
