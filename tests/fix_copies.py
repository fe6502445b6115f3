"""Sample backups, recoveries and quarantines, for the records in `fix_record`.

Owns what a base backup and the copy made of it say of themselves, and what is known of a dump that somebody else made.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from fix_results import OPENED, PASS, TABLES, check, line

from drills.commits import Alignment
from drills.planned import AGE, ALIGNMENT, EMPTIED
from drills.records import Backup, Basis
from drills.results import CheckResult
from drills.targets import Answer, Quarantine, Recovered

PAGES = Backup(
    method="basebackup", path="/var/lib/drillbook/staging/data", size=46435113, files=1282,
    digest=hashlib.sha256(b"manifest").hexdigest(), seconds=2.179,
    commands=(("pg_basebackup", "--format=plain"), ("pg_verifybackup", "--quiet")),
    start_lsn="0/30001E0", stop_lsn="0/35BDB10", timeline=1,
)  # fmt: skip
GIVEN = Backup(
    method="dump_file", path="s3://backups/billing/billing.dump", size=9120331, files=1,
    digest=hashlib.sha256(b"given").hexdigest(), commands=(("pg_restore", "--list"),), seconds=1.2,
    label="billing.dump", taken=OPENED - timedelta(hours=9),
    details={"format": "custom, gzip", "version id": "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY", "inner sha256": ""},
)  # fmt: skip
RECOVERED = Recovered(
    timeline=2, end_lsn="0/5A3F2A0", next_xid=48925, reason="before LSN 0/5A3F2A0", segments=3, seconds=0.271738
)
PROOF = Alignment(
    snapshot="48922:48922:", noted="0/5A3F2C8", start="0/30001E0", timeline=1, target="0/5A3F2A0", inclusive=False,
    seen=20690, behind=29, first_behind="48924 at 0/5A3F2A0", replayed="0/5A3F2A0", next_xid=48925, hidden_asked=29,
    hidden={"aborted": 3, "never": 26}, seen_asked=1000, seen_answers={"committed": 1000}, verdict=PASS,
    reason="replay ended at 0/5A3F2A0; 1029 transactions are what the snapshot sees of them", sql="SELECT status",
)  # fmt: skip
HELD = Quarantine(
    asked=OPENED + timedelta(seconds=17.2),
    answers=tuple(
        Answer(question=question, expected=answer, actual=answer)
        for question, answer in {
            "archive_mode": "off by command line",
            "primary_conninfo": " by command line",
            "is it in recovery": "false",
            "replication slots": "",
        }.items()
    ),
)


def proved(at: float) -> CheckResult:
    """The alignment as a check."""
    return check(ALIGNMENT, at, [line("transactions", "1029", "1029")], kind=ALIGNMENT, basis=Basis.WAL)


def young(at: float) -> CheckResult:
    """The age of a backup that was there as a check."""
    return check(AGE, at, [line("age", "at most 26 h", "at most 26 h", None)], kind="backup_age", basis=Basis.NONE)


def holding(at: float) -> CheckResult:
    """That no table lost all its rows as a check."""
    lines = [line(f"public.{name}", "rows", "rows", None) for name in TABLES]
    return check(EMPTIED, at, lines, kind="emptied_tables", basis=Basis.CLOSED_PERIOD)


def physical_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """The same plan with a base backup."""
    checks = plan["checks"] | {"checksums": False}
    return plan | {"recovery": {"method": "basebackup", "jobs": 4}, "checks": checks}


def closed_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """The same plan with a dump that somebody else made: nothing but closed periods can be compared."""
    closed = {"column": "entered", "until": "end of previous month"}
    checks = plan["checks"] | {"row_counts": False, "totals": [plan["checks"]["totals"][0] | {"closed": closed}]}
    given = {"method": "dump_file", "path": GIVEN.path, "max_age": "26h"}
    return plan | {"recovery": given, "checks": checks, "objectives": {"rto": "30s", "rpo": "1d"}}
