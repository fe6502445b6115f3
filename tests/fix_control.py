"""Controls as other systems would hold them, and what is read from them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
from fix_checks import total_check

from checks.base import Question, answer
from checks.control.compare import compare_control, read_control
from drills.measures import ControlTotals, Total, TotalRow
from drills.plan import TotalCheck
from drills.records import Basis
from drills.results import CheckResult

OPENED = datetime(2026, 11, 15, 12, tzinfo=UTC)
PASSWORD = "planted!pw/with@marks"
BY = {"currency": "currency"}
LARGE = "100000000000000.01"
"""Seventeen digits, which no binary double holds."""


def a_total(*rows: tuple[str | None, str | None], by: tuple[str, ...] = ("currency",)) -> Total:
    return Total(
        name="ledger",
        by=by,
        rows=tuple(
            TotalRow(group=(group,) * len(by), rows=1, amounts=int(value is not None), total=value and Decimal(value))
            for group, value in rows
        ),
    )


def checking(kind: str, given: dict[str, Any], **more: Any) -> TotalCheck:
    control = {kind: given, "amount": "amount", **more.pop("control", {})}
    return total_check(**({"by": BY} | more), control=control)


def file_check(kind: str, path: Path, given: dict[str, Any] | None = None, **more: Any) -> TotalCheck:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return checking(kind, {"path": str(path), "sha256": digest, **(given or {})}, **more)


def csv_check(folder: Path, text: str | bytes, given: dict[str, Any] | None = None, **more: Any) -> TotalCheck:
    path = folder / "control.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return file_check("csv_file", path, given, **more)


def json_check(folder: Path, text: str, given: dict[str, Any] | None = None, **more: Any) -> TotalCheck:
    path = folder / "control.json"
    path.write_text(text)
    return file_check("json_file", path, given, **more)


def excel_check(folder: Path, *rows: list[Any], **more: Any) -> TotalCheck:
    path, book = folder / "control.xlsx", openpyxl.Workbook()
    book.create_sheet("Balances")
    for row in rows:
        book["Balances"].append(row)
    book.save(path)
    return file_check("excel_file", path, {"sheet": "Balances"} | more.pop("given", {}), **more)


def sums_of(check: TotalCheck) -> dict[str | None, str]:
    """Groups and sums as the control has them, after a way through JSON."""
    found = read_control(check, OPENED)
    assert found.error == ""
    again = ControlTotals.model_validate_json(found.canonical())
    return {row.group[0] if row.group else "": format(row.total or Decimal(0), "f") for row in again.rows}


def error_of(check: TotalCheck) -> str:
    found = read_control(check, OPENED)
    assert (found.rows, bool(found.error)) == ((), True)
    return found.error


def ask(folder: Path, check: TotalCheck, source: Total, copy: Total) -> CheckResult:
    control = ControlTotals.model_validate_json(read_control(check, OPENED).canonical())
    question = Question("c", "control", Basis.CONTROL, [], lambda: compare_control(check, control, source, copy))
    return answer(question, folder / "reconcile" / "round")
