"""Sample results of checks and outages, for the records in `fix_record`.

Owns what a copy of four pgbench tables shows: everything right, or a row missing and an amount a cent off.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from drills.records import Basis, FileRef, Verdict
from drills.results import CheckResult, Clock, Line, OutageResult

OPENED = datetime(2026, 6, 30, 22, 9, 0, 118204, tzinfo=UTC)
PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN
TABLES = {"pgbench_accounts": 1000000, "pgbench_branches": 10, "pgbench_history": 48213, "pgbench_tellers": 100}
BALANCES = [f"{Decimal(-1) ** branch * Decimal(branch * 918273 + 1250045) / 100:.2f}" for branch in range(1, 11)]
TABLES_SQL = "SELECT relkind, oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2"
COUNT_SQL = "SELECT count(*) FROM ONLY public.{}"
TOTAL_SQL = """SELECT bid AS branch, count(*), count(abalance / 100.0), sum(abalance / 100.0)
FROM public.pgbench_accounts
GROUP BY 1 ORDER BY 1"""
LEDGER_SQL = """SELECT tid FROM pgbench_tellers AS t
WHERE tbalance <> (SELECT coalesce(sum(delta), 0) FROM pgbench_history AS h WHERE h.tid = t.tid)"""


def file(path: str) -> FileRef:
    return FileRef(path=path, sha256=hashlib.sha256(path.encode()).hexdigest(), size=len(path) * 97)


def check(name: str, at: float, lines: list[Line], **given: Any) -> CheckResult:
    differing = [line for line in lines if line.verdict is not PASS]
    verdict = Verdict.worst(line.verdict for line in lines)
    said = {"reason": "every value is as expected" if verdict is PASS else f"{len(differing)} not as expected"}
    fields: dict[str, Any] = {
        "kind": "counts", "basis": Basis.SNAPSHOT, "expected": "", "actual": "", "difference": "0", "sql": "SELECT 1",
        "seconds": 0.182604, "csv": file(f"reconcile/{at:g}-{name.replace(' ', '-')}.csv"), **said,
    }  # fmt: skip
    return CheckResult(
        name=name, verdict=verdict, started=OPENED + timedelta(seconds=at), compared=len(lines),
        differing=len(differing), lines=(*differing, *(line for line in lines if line.verdict is PASS)),
        **fields | given,
    )  # fmt: skip


def line(key: str, expected: str, actual: str | None, difference: str | None = "0") -> Line:
    return Line(
        key=key, expected=expected, actual=actual, difference=difference, verdict=PASS if expected == actual else FAIL
    )


def asked(at: float, *, damaged: bool = False) -> list[CheckResult]:
    """The five checks of a round; damaged, a row of the history is missing and one branch is a cent off."""
    rows = dict(TABLES)
    sums = list(BALANCES)
    if damaged:
        rows["pgbench_history"] -= 1
        sums[6] = str(Decimal(sums[6]) + Decimal("0.01"))
    counts = [
        line(f"public.{name}", str(held), str(rows[name]), str(rows[name] - held)) for name, held in TABLES.items()
    ]
    totals = [
        line(f"branch={number}", held, sums[number - 1], str(Decimal(sums[number - 1]) - Decimal(held)))
        for number, held in enumerate(BALANCES, start=1)
    ]
    astray = "1" if damaged else "0"
    whole, found = sum(map(Decimal, BALANCES)), sum(map(Decimal, sums))
    return [
        check("tables", at, [line(f"table public.{name}", "there", "there", None) for name in TABLES], kind="tables",
              expected="4 relations", actual="4 relations", difference="0", sql=TABLES_SQL),
        check("row counts", at + 0.2, counts, expected=str(sum(TABLES.values())), actual=str(sum(rows.values())),
              difference=str(sum(rows.values()) - sum(TABLES.values())), sql="\n".join(map(COUNT_SQL.format, TABLES))),
        check("balances by branch", at + 0.5, totals, kind="totals", expected=str(whole), actual=str(found),
              difference=str(found - whole), sql=TOTAL_SQL,
              total=line("total", str(whole), str(found), str(found - whole))),
        check("tellers match the history", at + 0.8, [line("rows returned", "0", astray, astray)], kind="invariant",
              basis=Basis.CONTROL, expected="no rows", actual="1 row" if damaged else "no rows", difference=astray,
              sql=LEDGER_SQL),
        check("books balance", at + 0.9, [line("value", "0.00", "0.00", "0.00")], kind="invariant", basis=Basis.CONTROL,
              expected="0.00", actual="0.00", difference="0.00",
              sql="SELECT sum(bbalance) - 0.00 FROM pgbench_branches"),
    ]  # fmt: skip


def outage(*, lost: int = 0) -> OutageResult:
    return OutageResult(
        name="server killed", kind="kill_server", verdict=FAIL if lost else PASS,
        reason=f"{lost} acknowledged commits are gone" if lost else "every acknowledged commit survived",
        injected=OPENED + timedelta(seconds=21.4), healed=OPENED + timedelta(seconds=23.713302),
        clocks=(
            Clock(name="server down", meaning="the process was gone", seconds=0.004118),
            Clock(name="started again", meaning="the start of the server was ordered", seconds=1.006201),
            Clock(name="first commit", meaning="a commit was acknowledged again", seconds=2.313302),
        ),
        acknowledged=6204, acknowledged_before=3871, in_doubt=2, lost=lost,
        lost_commits=tuple(f"writer 1, commit {3860 + number}" for number in range(lost)), unexpected=0,
        rpo_seconds=0.214 if lost else 0.0, evidence=file("raw/heartbeat-server-killed.log"),
    )  # fmt: skip
