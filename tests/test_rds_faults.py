"""Whole drills of RDS and Aurora where AWS will not, or not yet: none passes, each says what to do, nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fix_aws import refusal
from test_drill import run_drill
from test_managed_drill import METHODS, Scene, scene

from drills.record import Record
from drills.records import Verdict

# A fixture, which pytest finds by its name in this module.
__all__ = ["scene"]


def hints(record: Record) -> str:
    """What it says is to be done."""
    return " ".join(problem.hint for problem in record.problems)


@pytest.mark.parametrize(
    ("method", "operation", "code"),
    [
        ("rds", "RestoreDBInstanceFromDBSnapshot", "InstanceQuotaExceeded"),
        ("rds", "RestoreDBInstanceFromDBSnapshot", "StorageQuotaExceeded"),
        ("aurora", "RestoreDBClusterFromSnapshot", "DBClusterQuotaExceededFault"),
        ("aurora", "CreateDBInstance", "InstanceQuotaExceeded"),
        ("rds", "CreateDBSnapshot", "SnapshotQuotaExceeded"),
        ("aurora", "CreateDBClusterSnapshot", "SnapshotQuotaExceeded"),
    ],
)
def test_a_quota_that_is_used_up_is_no_pass(home: Path, scene: Scene, method: str, operation: str, code: str) -> None:
    scene.cloud.fault(operation, lambda: refusal(code, "You have reached the quota"))
    record = run_drill(home, scene.plan(method))
    assert record.verdict is not Verdict.PASS
    assert f"AWS did not do {operation}: You have reached the quota ({code})" in " ".join(record.reasons)
    assert "have the quota raised" in hints(record)
    scene.nothing_is_left(home, record)


def growing(scene: Scene, method: str, states: list[str], **wish: str) -> dict[str, Any]:
    """A snapshot that was begun before the drill, and is in these states when AWS is asked; and the wish for it."""
    moto = scene.cloud.moto()
    made = (
        moto.create_db_cluster_snapshot("ledger", "kept")
        if method == "aurora"
        else moto.create_db_snapshot("billing", "kept")
    )
    operation = "DescribeDBClusterSnapshots" if method == "aurora" else "DescribeDBSnapshots"
    scene.cloud.states(operation, lambda: made, states)
    return {"backup": {"kind": "snapshot", "name": "kept"} | wish}


@METHODS
def test_a_snapshot_that_is_still_being_created_is_refused_where_the_plan_says_so(
    home: Path, scene: Scene, method: str
) -> None:
    record = run_drill(home, scene.plan(method, growing(scene, method, ["creating"], while_creating="refuse")))
    assert record.verdict is not Verdict.PASS
    assert "kept is still creating, and the plan does not wait for it" in " ".join(record.reasons)
    assert "set backup.while_creating to wait" in hints(record)
    assert not [name for name in scene.cloud.asked if name.startswith("Restore")]
    scene.nothing_is_left(home, record)


@METHODS
def test_a_snapshot_that_is_still_being_created_is_waited_for(home: Path, scene: Scene, method: str) -> None:
    record = run_drill(home, scene.plan(method, growing(scene, method, ["creating"] * 4 + ["available"])))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    scene.nothing_is_left(home, record)


@METHODS
def test_a_snapshot_that_is_never_complete_is_no_pass(home: Path, scene: Scene, method: str) -> None:
    wish = growing(scene, method, ["creating"])
    record = run_drill(home, scene.plan(method, wish | {"backup_timeout": "1s"}))
    assert record.verdict is not Verdict.PASS
    assert "kept did not become available within 1 s" in " ".join(record.reasons)
    assert "raise recovery.backup_timeout" in hints(record)
    scene.nothing_is_left(home, record)
