"""Control totals in files: read to the last cent, or not at all."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fix_control import (
    LARGE,
    a_total,
    ask,
    csv_check,
    error_of,
    excel_check,
    file_check,
    json_check,
    sums_of,
)

from checks.control.records import Writing
from drills.records import Verdict


def test_another_file_than_the_plan_names_is_unknown(tmp_path: Path) -> None:
    check = csv_check(tmp_path, "currency,amount\nEUR,5.00\n")
    expected = hashlib.sha256(b"currency,amount\nEUR,5.00\n").hexdigest()
    (tmp_path / "control.csv").write_text("currency,amount\nEUR,5.01\n")
    got = hashlib.sha256(b"currency,amount\nEUR,5.01\n").hexdigest()
    side = a_total(("EUR", "5.01"))
    result = ask(tmp_path, check, side, side)
    assert result.verdict is Verdict.UNKNOWN
    assert f"expected sha256 {expected}, got {got}" in result.reason
    (tmp_path / "control.csv").unlink()
    assert "cannot be read" in ask(tmp_path, check, side, side).reason


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (f"currency,amount\nEUR,{LARGE}\nUSD,-7\n", {}),
        (f"\ufeffcurrency,amount\r\n\r\nEUR,{LARGE}\r\nUSD,7-\r\n", {}),
        (f'amount;x;currency\n" {LARGE.replace(".", ",")} ";;EUR\n(7);;USD', {"delimiter": ";", "decimal_mark": ","}),
        ("currency\tamount\nEUR\t100.000.000.000.000,01\nUSD\t-7,00\n",
         {"delimiter": "\t", "decimal_mark": ",", "thousands_mark": "."}),
        ("currency,amount\nEUR,100'000'000'000'000.01\nUSD,-7\n", {"thousands_mark": "'"}),
        ("currency,amount\nEUR,100000000000000\nUSD,-8\nEUR,0.01\nUSD,+1\n", {}),
    ],
)  # fmt: skip
def test_a_csv_is_read_to_the_last_cent_as_it_is_written(tmp_path: Path, text: str, given: dict[str, Any]) -> None:
    found = sums_of(csv_check(tmp_path, text, given))
    assert {group: Decimal(value) for group, value in found.items()} == {"EUR": Decimal(LARGE), "USD": Decimal(-7)}


def test_a_csv_may_have_other_names_letters_and_signs(tmp_path: Path) -> None:
    check = csv_check(
        tmp_path,
        "Währung,Saldo\nEUR,-5.00\nNULL,0\n".encode("latin-1"),
        {"encoding": "latin-1", "null": "NULL"},
        control={"amount": "Saldo", "by": {"currency": "Währung"}, "reversed": True},
    )
    assert sums_of(check) == {"EUR": "5.00", None: "0"}


def test_a_control_without_groups_is_one_sum(tmp_path: Path) -> None:
    check = csv_check(tmp_path, "amount\n1.01\n2\n", by={})
    assert sums_of(check) == {"": "3.01"}
    one = a_total(("", "3.01"), by=())
    assert ask(tmp_path, check, one, one).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("currency,amount\nEUR,1.2E+14\n", {}, "an exponent has dropped digits"),
        ("currency,amount\nEUR,1e5\n", {}, "an exponent has dropped digits"),
        ('currency,amount\nEUR,"1,000.00"\n', {}, "is no amount"),
        ('currency,amount\nEUR,"1,00"\n', {"thousands_mark": ","}, "is no amount"),
        ("currency;amount\nEUR;1.000\n", {"delimiter": ";", "decimal_mark": ","}, "is no amount"),
        ("currency,amount\nEUR,\n", {}, "line 2: '' is no amount: it is empty"),
        ("currency,amount\nEUR,-\n", {}, "is no amount"),
        ("currency,amount\nEUR,--1\n", {}, "is no amount"),
        ("currency,amount\nEUR,-(1)\n", {}, "is no amount"),
        ("currency,amount\nEUR,-+1\n", {}, "is no amount"),
        ("currency,amount\nEUR,NaN\n", {}, "is no amount"),
        ("currency,amount\nEUR,5 €\n", {}, "is no amount"),
        ("currency,amount\nEUR,\u0665\n", {}, "is no amount"),
        ("currency,amount\nEUR,5,6\n", {}, "line 2: expected 2 fields, got 3"),
        ("currency,amount\nEUR\n", {}, "expected 2 fields, got 1"),
        ('currency,amount\nEUR,"5\n', {}, "is not CSV"),
        ("ccy,amount\nEUR,5\n", {}, "no column 'currency'; there are: ccy, amount"),
        ("currency,amount,amount\nEUR,5,6\n", {}, "more than one column 'amount'"),
        ("", {}, "no column 'currency'; there are: none"),
        (b"currency,amount\nEUR,5\xff\n", {}, "is not CSV in utf-8"),
        ("currency,amount\nEUR,5\n", {"encoding": "utf-16"}, "no column 'currency'"),
    ],
)
def test_a_csv_that_may_not_be_what_was_meant_is_unknown(
    tmp_path: Path, text: str | bytes, given: dict[str, Any], said: str
) -> None:
    error = error_of(csv_check(tmp_path, text, given))
    assert all(part in error for part in said.split(" … ")), error


@pytest.mark.parametrize("amount", ["0", "-0.01", "12345678901.23", "1234567890123.45", "99999999999999.9", "-7"])
def test_a_number_of_fifteen_digits_survives_excel(tmp_path: Path, amount: str) -> None:
    check = excel_check(tmp_path, ["currency", "amount"], ["EUR", float(amount)], [None, None], ["USD", 7])
    assert {group: Decimal(value) for group, value in sums_of(check).items()} == {
        "EUR": Decimal(amount),
        "USD": Decimal(7),
    }


@pytest.mark.parametrize(
    "amount", [LARGE, "0.30000000000000004", "1234567890123456", "3.3333333333333333E+299", "1E400"]
)
def test_a_binary_number_of_more_digits_is_refused(tmp_path: Path, amount: str) -> None:
    excel_check(tmp_path, ["currency", "amount"], ["EUR", 424242])
    path = tmp_path / "control.xlsx"
    # As Excel itself writes a number: openpyxl, which writes the tests' files, drops digits.
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content.replace(b"<v>424242</v>", f"<v>{amount}</v>".encode()))
    error = error_of(file_check("excel_file", path, {"sheet": "Balances"}))
    assert "row 2" in error
    assert "a binary number is exact up to 15" in error


def test_excel_holds_any_amount_as_a_text(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["Balances of October"],
        [None, "amount", "currency"],
        [None, LARGE.replace(".", ","), "EUR"],
    ]
    assert sums_of(excel_check(tmp_path, *rows, given={"header": 2, "decimal_mark": ","})) == {"EUR": LARGE}


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        ([["currency", "amount"], ["EUR", None]], {}, "row 2: no amount"),
        ([["currency", "amount"], ["EUR", True]], {}, "true is no amount"),
        ([["currency", "amount"], ["EUR", "=1+1"]], {}, "no amount"),
        ([["currency", "amount"], ["EUR", "#REF!"]], {}, "is no amount"),
        ([["currency", "amount"], ["EUR", datetime(2026, 10, 1)]], {}, "the amount is a datetime"),  # noqa: DTZ001
        ([["currency", "amount"], [datetime(2026, 10, 1), 5]], {}, "a group is a datetime"),  # noqa: DTZ001
        ([["currency", "amount"], [1.5, 5]], {}, "a group is a float"),
        ([["currency"], ["EUR", 5]], {}, "no column 'amount'"),
        ([["currency", "amount"], ["EUR", 5]], {"sheet": "Other"}, "no sheet 'Other'"),
        ([["currency", "amount"], ["EUR", 5]], {"header": 9}, "no column 'currency'"),
    ],
)
def test_an_excel_sheet_that_may_not_be_what_was_meant_is_unknown(
    tmp_path: Path, rows: list[list[Any]], given: dict[str, Any], said: str
) -> None:
    assert said in error_of(excel_check(tmp_path, *rows, given=given))


def test_what_is_no_excel_file_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "control.xlsx"
    for content in (b"", b"PK\x03\x04 nothing", b"currency,amount\n"):
        path.write_bytes(content)
        assert "is not an Excel file" in error_of(file_check("excel_file", path, {"sheet": "Balances"}))


def test_numbers_of_json_pass_through_no_float(tmp_path: Path) -> None:
    check = json_check(
        tmp_path,
        f'{{"report": {{"rows": [{{"currency": "EUR", "amount": {LARGE}}}, {{"currency": null, "amount": "-7.00"}},'
        ' {"currency": true, "amount": 1e2}, {"currency": 10, "amount": 123456789012345678901234567890}]}}',
        {"records": "report.rows"},
    )
    found = sums_of(check)
    assert found == {"EUR": LARGE, None: "-7.00", "true": "100", "10": "123456789012345678901234567890"}


@pytest.mark.parametrize(
    ("text", "records", "said"),
    [
        ("[", None, "is not JSON"),
        ("[" * 100_000, None, "is not JSON"),
        ('[{"currency": "EUR", "amount": NaN}]', None, "NaN is no number of JSON"),
        ('[{"currency": "EUR", "amount": 1, "amount": 2}]', None, "a key twice"),
        ('{"currency": "EUR", "amount": 1}', None, "expected a list of records"),
        ('[["EUR", 1]]', None, "expected a list of records"),
        ('{"rows": []}', "report.rows", "no key 'report'"),
        ('[{"currency": "EUR", "amount": 1}, {"amount": 2}]', None, "record 2: a group is"),
        ('[{"currency": "EUR", "amount": 1}, {"currency": "EUR"}]', None, "record 2"),
        ('[{"currency": "EUR", "amount": true}]', None, "true is no amount"),
        ('[{"currency": "EUR", "amount": null}]', None, "no amount"),
        ('[{"currency": {}, "amount": 1}]', None, "a group is a dict"),
    ],
)
def test_json_that_may_not_be_what_was_meant_is_unknown(
    tmp_path: Path, text: str, records: str | None, said: str
) -> None:
    assert said in error_of(json_check(tmp_path, text, {"records": records} if records else {}))


@pytest.mark.parametrize("size", [10**14, 10**20, 10**100])
def test_a_cent_of_any_control_is_read(size: int) -> None:
    writing = Writing(decimal_mark=",", thousands_mark=".")
    assert writing.amount(f"{size},01") != writing.amount(f"{size},02")
    assert str(writing.amount(f"{size:,}".replace(",", ".") + ",01")) == f"{size}.01"
