"""Whole drills of RDS and Aurora: AWS as moto's server plays it, the data side a local server by `connect_via`."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_aws import ELSEWHERE, MASTER, Cloud, recovery, refusal
from fix_postgres import QUICK, SHOP, Database, end_cluster, new_cluster, new_database, run_sql, write_plan
from test_basebackup import CLOSED
from test_drill import nothing_is_left, result_of, run_drill
from test_killed import killed, swept

from drills.addresses import Address
from drills.clusters import Cluster
from drills.plan import Plan
from drills.record import Record
from drills.records import Basis, Outcome, Verdict
from drills.recovery.aws.access import Reach
from drills.recovery.aws.kinds import name_of
from drills.recovery.aws.quarantine import Jobs, judge_jobs
from drills.recovery.aws.wait import Deadline
from drills.results import Objective
from flows.runtime import Drill
from flows.sweep import sweep
from reports.bundle import bundle_path

METHODS = pytest.mark.parametrize("method", ["rds", "aurora"])


@dataclass(frozen=True)
class Scene:
    """Production at AWS, its data on one server, and what stands for the copy on another."""

    cloud: Cloud
    shop: Database
    copy: Address

    def plan(self, method: str = "rds", recovers: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
        """A plan for it."""
        via = {"address": self.shop.url(self.copy), "password": "env:COPY_PASSWORD"}
        told = {"connect_via": via} | (recovers or {})
        wish = recovery(self.cloud, "unused", method, **told).model_dump(mode="json", exclude_defaults=True)
        quick: dict[str, Any] = {"checks": CLOSED, "negative_control": {"enabled": False}}
        return self.shop.plan(recovery=wish, **(quick | changes))

    def nothing_is_left(self, home: Path, record: Record) -> None:
        """Here and at AWS."""
        assert self.cloud.left() == set()
        assert {"billing", "ledger-1"} <= {*self.cloud.moto().databases}
        nothing_is_left(home, record)


def stand_in(cluster: Cluster, shop: Database) -> Address:
    """The same data under the same name."""
    run_sql(cluster.address(), f"CREATE DATABASE {shop.name}")
    run_sql(cluster.address(shop.name), SHOP)
    return cluster.address(shop.name)


@pytest.fixture
def scene(cloud: Cloud, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """All of it, with a copy that was not there before, and a drill that looks again at once."""
    staging.stop()
    staging.start(QUICK)
    monkeypatch.setenv("COPY_PASSWORD", staging.password)
    monkeypatch.setattr("boto3.Session", lambda: cloud.session)
    monkeypatch.setattr(Deadline, "pause", lambda _self: time.sleep(0.01))
    yield Scene(cloud, shop, stand_in(staging, shop))
    run_sql(staging.address(), f"DROP DATABASE {shop.name} WITH (FORCE)")


def objective(record: Record, name: str) -> Objective:
    """By its name."""
    return next(one for one in record.objectives if one.name == name)


def clocks(record: Record) -> dict[str, float | None]:
    """By their names."""
    return {clock.name: clock.seconds for clock in record.clocks}


@METHODS
def test_a_sound_copy_passes_is_read_in_full_and_nothing_is_left(home: Path, scene: Scene, method: str) -> None:
    secrets = [MASTER, scene.copy.password, scene.shop.reader.password]

    def note(drill: Drill) -> None:
        moto, name = scene.cloud.moto(), name_of(drill.id)
        thing = moto.clusters[name] if method == "aurora" else moto.databases[name]
        secrets.append(thing._master_user_password)

    objectives = {"rto": "5min", "rpo": "5min"}
    plan = scene.plan(method, negative_control={"enabled": True}, objectives=objectives)
    record = run_drill(home, plan, {"check": note})
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert result_of(record, "closed invoices").basis is Basis.CLOSED_PERIOD
    assert result_of(record, "every table was read").reason.startswith("3 tables, ")
    told = clocks(record)
    assert (told["checks passed"] or 0) < (told["fully read"] or 0)
    assert objective(record, "RTO").measured_seconds == told["fully read"]
    assert record.backup is not None
    assert record.backup.taken is not None
    kinds = {"rds": ["snapshot", "instance"], "aurora": ["cluster_snapshot", "cluster", "instance"]}
    assert [one.kind for one in record.made] == ["lock", *(f"rds_{kind}" for kind in kinds[method])]
    assert len({*secrets}) == 4
    for path in bundle_path(record).rglob("*"):
        text = path.read_bytes() if path.is_file() else b""
        assert not [secret for secret in secrets if secret.encode() in text], path
    answers = (bundle_path(record) / "raw" / "aws.jsonl").read_text().splitlines()
    operations = [json.loads(line)["operation"] for line in answers]
    assert {"DescribeDBSubnetGroups", "DeleteDBInstance"} < {*operations}
    scene.nothing_is_left(home, record)


def test_throttling_on_the_way_is_waited_for(home: Path, scene: Scene) -> None:
    for operation in ("CreateDBSnapshot", "DescribeDBInstances", "DeleteDBInstance"):
        scene.cloud.fault(operation, lambda: refusal("Throttling", "Rate exceeded"), times=2)
    record = run_drill(home, scene.plan())
    assert record.reasons == ()
    answers = (bundle_path(record) / "raw" / "aws.jsonl").read_text().splitlines()
    assert max(json.loads(line)["attempt"] for line in answers) == 3
    scene.nothing_is_left(home, record)


def growing(scene: Scene, then: Callable[[str], None]) -> None:
    """The copy stays in the making; `then` is called from its second look on."""
    looks = [0]

    def step(operation: str) -> None:
        moto = scene.cloud.moto()
        for name in scene.cloud.left() & {*moto.databases}:
            if operation == "DescribeDBInstances":
                moto.databases[name].status = "creating"
                looks[0] += 1
                if looks[0] > 1:
                    then(name)

    scene.cloud.faults.append(step)


@METHODS
def test_an_instance_that_somebody_else_deleted_is_no_copy(home: Path, scene: Scene, method: str) -> None:
    growing(scene, lambda name: scene.cloud.moto().databases.pop(name) and None)
    record = run_drill(home, scene.plan(method))
    assert record.verdict is Verdict.FAIL
    assert "is gone: somebody else deleted it" in " ".join(record.reasons)
    assert "CloudTrail" in " ".join(problem.hint for problem in record.problems)
    scene.nothing_is_left(home, record)


@METHODS
def test_a_wait_that_times_out_still_deletes(home: Path, scene: Scene, method: str) -> None:
    growing(scene, lambda _name: None)
    record = run_drill(home, scene.plan(method, {"restore_timeout": "1s"}))
    assert record.verdict is Verdict.FAIL
    assert "did not become available within 1 s" in " ".join(record.reasons)
    scene.nothing_is_left(home, record)


@METHODS
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(2, marks=pytest.mark.thorough),
        3,
        "restored",
        pytest.param("fully read", marks=pytest.mark.thorough),
        pytest.param("destroyed", marks=pytest.mark.thorough),
    ],
)
def test_killed_it_is_swept_and_nothing_is_left_at_aws(
    home: Path, scene: Scene, method: str, moment: str | int
) -> None:
    seen: list[str] = []

    def when(_seq: int, event: Any) -> bool:
        seen.append(event.event)
        return event.event == moment or (event.event == "intended" and seen.count("intended") == moment)

    assert killed(home, write_plan(home, scene.plan(method)), when)
    if moment in {"restored", "fully read"}:
        assert scene.cloud.left()
    record = swept(home)
    assert record.outcome is Outcome.INTERRUPTED
    scene.nothing_is_left(home, record)


def test_a_token_that_expires_during_the_restore_is_no_pass(home: Path, scene: Scene) -> None:
    expired = refusal("ExpiredToken", "The security token included in the request is expired", 403)
    scene.cloud.fault("RestoreDBInstanceFromDBSnapshot", lambda: expired)
    record = run_drill(home, scene.plan())
    assert record.verdict is not Verdict.PASS
    assert "renew the credentials" in " ".join(problem.hint for problem in record.problems)
    scene.nothing_is_left(home, record)


def test_what_an_expired_token_leaves_behind_is_named_and_swept_with_a_new_one(home: Path, scene: Scene) -> None:
    expired = refusal("ExpiredToken", "The security token included in the request is expired", 403)

    def expire(_drill: Drill) -> None:
        for operation in ("DeleteDBInstance", "DeleteDBSnapshot"):
            scene.cloud.fault(operation, lambda: expired, times=100)

    record = run_drill(home, scene.plan(), {"check": expire})
    assert record.verdict is Verdict.UNKNOWN
    assert {resource.kind for resource in record.left} == {"rds_instance", "rds_snapshot"}
    assert len(scene.cloud.left()) == 1
    scene.cloud.faults.clear()
    assert [(one.what, one.error) for one in sweep(home)] == [("was cleared of what it had left", "")]
    assert scene.cloud.left() == set()


def test_a_way_that_leads_to_production_is_refused_before_anything_is_asked(home: Path, scene: Scene) -> None:
    # The same server by another name.
    address = scene.shop.url(scene.shop.reader).replace("127.0.0.1", "localhost")
    record = run_drill(home, scene.plan("rds", {"connect_via": {"address": address, "password": "env:SHOP_PASSWORD"}}))
    assert record.verdict is Verdict.FAIL
    assert "the copy's address leads to production" in " ".join(record.reasons)
    assert {result.kind for results in record.checks.values() for result in results} == {"tool_log"}
    scene.nothing_is_left(home, record)


def is_refused(record: Record, said: str) -> None:
    """Before anything was asked of it."""
    assert record.verdict is Verdict.FAIL
    assert said in " ".join(record.reasons)
    assert "mend connect_via" in " ".join(problem.hint for problem in record.problems)
    assert {result.kind for results in record.checks.values() for result in results} == {"tool_log"}


def test_a_replica_of_production_is_refused_before_anything_is_asked(
    home: Path, cloud: Cloud, cluster: Cluster, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the identifier of its primary, and was started on its own."""
    shop = new_database(cluster, SHOP)
    for key, value in shop.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("COPY_PASSWORD", cluster.password)
    cluster.stop()
    replica = replace(cluster, folder=cluster.folder.with_name("replica"), port=0)
    shutil.copytree(cluster.folder, replica.folder)
    (replica.data / "standby.signal").touch()
    if cluster.account is not None:
        for path in (replica.folder, *replica.folder.rglob("*")):
            os.chown(path, cluster.account.uid, cluster.account.gid)
    cluster.start(QUICK)
    replica.start(QUICK)
    there = Scene(cloud, shop, replica.address(shop.name))
    record = run_drill(home, there.plan(negative_control={"enabled": True}))
    replica.destroy()
    is_refused(record, "the copy's address leads to a replica")
    scene.nothing_is_left(home, record)


@pytest.mark.parametrize("when", ["restored", "before"])
def test_a_server_that_was_there_before_the_drill_is_refused(
    home: Path, scene: Scene, staging: Cluster, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Where clocks need no allowance; the one that is started when AWS is asked for it passes."""
    monkeypatch.setattr("drills.recovery.aws.apart.CLOCKS_APART", 0)

    def start(operation: str) -> None:
        if when == "restored" and operation == "RestoreDBInstanceFromDBSnapshot":
            staging.stop()
            staging.start(QUICK)

    scene.cloud.faults.append(start)
    record = run_drill(home, scene.plan())
    if when == "restored":
        assert record.reasons == ()
    else:
        is_refused(record, "the copy's address leads to a server that was there before")
    scene.nothing_is_left(home, record)


def test_a_staging_that_is_productions_own_is_refused_and_nothing_is_made(home: Path, scene: Scene) -> None:
    network = scene.plan()["recovery"]["staging"] | {"subnet_group": "production"}
    network["security_groups"] = tuple(network["security_groups"])
    record = run_drill(home, scene.plan("rds", {"staging": network}))
    assert record.outcome is Outcome.REFUSED
    assert "production is the subnet group of production's" in record.problems[0].message
    assert not [name for name in scene.cloud.asked if name.startswith(("Create", "Restore", "Delete"))][3:]
    assert scene.cloud.left() == set()


@pytest.mark.parametrize(("age", "verdict"), [(2, Verdict.FAIL), (0, Verdict.PASS)])
def test_a_backup_that_is_too_old_is_a_fail(home: Path, scene: Scene, age: int, verdict: Verdict) -> None:
    snapshot = scene.cloud.moto().create_db_snapshot("billing", "kept")
    snapshot.original_snapshot_create_time -= timedelta(hours=age)
    recovers = {"backup": {"kind": "snapshot", "name": "kept", "max_age": "1h"}}
    record = run_drill(home, scene.plan("rds", recovers))
    assert record.verdict is verdict
    assert result_of(record, "age of the backup").verdict is verdict
    # Once, and as the verdict of nothing else.
    assert [
        reason for reason in record.reasons if not reason.startswith("FAIL: age of the backup, after restore: 2 h ")
    ] == []
    assert "kept" in scene.cloud.moto().database_snapshots
    scene.nothing_is_left(home, record)


def test_that_aws_keeps_no_backup_as_asked_for_is_a_fail(home: Path, scene: Scene) -> None:
    record = run_drill(home, scene.plan("rds", {"backup": {"kind": "snapshot", "name": "unheard-of"}}))
    assert record.verdict is Verdict.FAIL
    assert (record.problems[0].stage, record.problems[0].verdict) == ("backup", Verdict.FAIL)
    assert "there is no snapshot unheard-of" in record.problems[0].message
    scene.nothing_is_left(home, record)


def kept(scene: Scene, age: timedelta) -> dict[str, Any]:
    """A snapshot that was there, of this age."""
    scene.cloud.moto().create_db_snapshot("billing", "kept").original_snapshot_create_time -= age
    return {"kind": "snapshot", "name": "kept"}


@pytest.mark.parametrize("max_age", [None, "1h"])
def test_a_backup_that_is_dated_in_the_future_passes_nothing(home: Path, scene: Scene, max_age: str | None) -> None:
    backup = kept(scene, timedelta(hours=-2)) | ({"max_age": max_age} if max_age else {})
    record = run_drill(home, scene.plan("rds", {"backup": backup}, objectives={"rpo": "1d"}))
    age = result_of(record, "age of the backup")
    assert (age.verdict, "a clock is wrong" in age.reason) == (Verdict.FAIL if max_age else Verdict.UNKNOWN, True)
    rpo = objective(record, "RPO")
    assert (rpo.verdict, (rpo.measured_seconds or 0) < -7000) == (Verdict.UNKNOWN, True)
    assert {"a clock is wrong" in reason for reason in record.reasons} == {True}
    assert record.verdict is age.verdict


def test_an_age_is_told_where_the_plan_limits_none_and_a_snapshot_of_the_drill_s_own_has_none(
    home: Path, scene: Scene
) -> None:
    record = run_drill(home, scene.plan("rds", {"backup": kept(scene, timedelta(days=9))}))
    assert record.reasons == ()
    age = result_of(record, "age of the backup")
    assert (age.verdict, age.reason.startswith("9 d ")) == (Verdict.PASS, True)
    taken = run_drill(home, scene.plan("rds"))
    assert "age of the backup" not in {result.name for result in taken.checks["after restore"]}


@pytest.mark.parametrize("max_age", [None, "26h"])
def test_an_age_that_nobody_knows_is_unknown_where_the_plan_asks_for_it(
    home: Path, scene: Scene, max_age: str | None
) -> None:
    """The copy of a cluster's snapshot, whose original is gone."""
    moto, there = scene.cloud.moto(), scene.cloud.moto(ELSEWHERE)
    copied = moto.create_db_cluster_snapshot("ledger", "copied")
    copied.source_db_cluster_snapshot_arn = copied.arn.replace(":copied", ":gone")
    there.cluster_snapshots["copied"] = moto.cluster_snapshots.pop("copied")
    copied.backend = there
    backup = {"kind": "copy", "region": ELSEWHERE} | ({"max_age": max_age} if max_age else {})
    record = run_drill(home, scene.plan("aurora", {"backup": backup}))
    if max_age is None:
        assert record.reasons == ()
    else:
        (reason,) = record.reasons
        assert reason.startswith(
            "UNKNOWN: age of the backup, after restore: nobody says when it was taken: it is a copy,"
        )
    assert scene.cloud.left(ELSEWHERE) == set()


def test_a_table_that_cannot_be_read_leaves_the_copy_not_fully_read(home: Path, scene: Scene) -> None:
    reader = f"{scene.shop.name}_copier"
    run_sql(scene.copy, f"CREATE ROLE {reader} LOGIN PASSWORD 'copier-password'")
    run_sql(scene.copy, f"GRANT pg_read_all_data TO {reader}; ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    via = scene.shop.url(Address({**scene.copy.parts, "user": reader}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPIER", "copier-password")
        record = run_drill(home, scene.plan("rds", {"connect_via": {"address": via, "password": "env:COPIER"}}))
    run_sql(scene.copy, f"DROP ROLE {reader}")
    found = result_of(record, "every table was read")
    assert (found.verdict, clocks(record)["fully read"]) == (Verdict.UNKNOWN, None)
    assert "1 of 3 tables were not read: note: " in found.reason
    # What this role may not see of the settings is no pass either.
    assert result_of(record, "scheduled jobs of the copy").verdict is Verdict.UNKNOWN
    assert record.verdict is not Verdict.PASS


def test_a_plan_may_say_that_not_every_table_is_read(home: Path, scene: Scene) -> None:
    record = run_drill(home, scene.plan("rds", {"full_read": False}))
    assert record.reasons == ()
    assert "fully read" not in clocks(record)


def test_every_connection_has_an_address_of_its_own(home: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tokens of IAM want it: here a password is good until the next one is made."""
    user, made = f"{scene.shop.name}_rotated", [0]
    run_sql(scene.copy, f"CREATE ROLE {user} LOGIN SUPERUSER")

    def rotated(_reach: Reach) -> Address:
        made[0] += 1
        run_sql(scene.copy, f"ALTER ROLE {user} PASSWORD 'rotated-{made[0]}'")
        return Address({**scene.copy.parts, "user": user}, f"rotated-{made[0]}")

    monkeypatch.setattr(Reach, "address", rotated)
    record = run_drill(home, scene.plan("rds", {"jobs": 1}, negative_control={"enabled": True}))
    run_sql(scene.copy, f"DROP ROLE {user}")
    assert record.reasons == ()
    assert made[0] > 5


def test_a_copy_that_takes_part_in_replication_is_a_fail(
    home: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the parameter group of staging lets it."""
    monkeypatch.setattr("drills.clusters.QUARANTINE", {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""})
    cluster = new_cluster(QUICK)
    copy = stand_in(cluster, scene.shop)
    slot = "CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = 's')"
    run_sql(copy, f"CREATE SUBSCRIPTION follows {slot}")
    run_sql(copy, "ALTER SUBSCRIPTION follows ENABLE")
    monkeypatch.setenv("COPY_PASSWORD", cluster.password)
    record = run_drill(home, Scene(scene.cloud, scene.shop, copy).plan())
    end_cluster(cluster)
    found = result_of(record, "subscriptions of the copy")
    assert (found.verdict, record.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert "set max_logical_replication_workers to 0" in found.reason
    # Every minute that it goes on may take more away from production.
    assert [problem.stage for problem in record.problems] == ["restore"]
    assert {one.kind for one in record.checks["after restore"]}.isdisjoint({"total", "full_read"})
    nothing_is_left(home, record)


@pytest.mark.parametrize(
    ("jobs", "verdict"),
    [
        (Jobs("pg_stat_statements", None), Verdict.PASS),
        (Jobs("", 3), Verdict.PASS),
        (Jobs("pg_cron,pg_stat_statements", 0), Verdict.PASS),
        (Jobs("pg_cron", 3), Verdict.FAIL),
        (Jobs("pg_cron", None), Verdict.UNKNOWN),
        (Jobs(None, None), Verdict.UNKNOWN),
    ],
)
def test_jobs_that_would_run_on_the_copy_are_found(jobs: Jobs, verdict: Verdict) -> None:
    finding = judge_jobs(jobs)
    assert finding.verdict is verdict
    assert ("leave pg_cron out" in finding.hint) == (verdict is not Verdict.PASS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"staging": {"address": "postgresql://u@h/d"}}, "its network is recovery.staging"),
        ({"staging": {"disk_limit": "1GB"}}, "its network is recovery.staging"),
        ({"outages": ({"kind": "kill_server", "name": "killed"},)}, "the server is not ours to kill"),
        ({"checks": CLOSED | {"totals": ()}}, "expected a total with a closing rule"),
        ({"checks": CLOSED | {"row_counts": True}}, "the copy is of another time"),
    ],
)
@METHODS
def test_what_cannot_be_with_a_copy_of_aws_is_refused_by_the_plan(
    scene: Scene, method: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Plan.model_validate(scene.plan(method, **changes))


def test_a_way_to_the_copy_that_is_the_sources_own_address_is_refused_by_the_plan(scene: Scene) -> None:
    via = {"address": scene.shop.url(scene.shop.reader), "password": "env:SHOP_PASSWORD"}
    with pytest.raises(ValueError, match=r"the server is that of source\.address"):
        Plan.model_validate(scene.plan("rds", {"connect_via": via}))
