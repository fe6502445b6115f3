"""Recovery of an Aurora cluster: cluster, then instance; deleted the other way round."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fix_aws import DRILL, ELSEWHERE, MASTER, NAME, REGION, Cloud, quiet, recovery, refusal
from fix_postgres import Database
from pydantic import ValidationError

from drills.errors import AwsError, NoBackupError
from drills.records import Verdict, utc_now
from drills.recovery.age import judge_age
from drills.recovery.aws.aurora import Aurora
from drills.sessions import STAGING_LIMITS, Access, session


def method_of(cloud: Cloud, shop: Database, **changes: object) -> Aurora:
    """The method, quick to look again."""
    return Aurora(recovery(cloud, shop.url(shop.reader), "aurora", **changes), cloud.aws(), cloud.raw, poll=0.01)


def test_a_snapshot_is_taken_restored_read_and_deleted(cloud: Cloud, shop: Database) -> None:
    """The whole life of it."""
    method = method_of(cloud, shop)
    assert {finding.verdict for finding in method.judge()} == {Verdict.PASS}
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    assert [one.kind for one in made] == ["rds_cluster_snapshot", "rds_cluster", "rds_instance"]
    restored = method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    with session(restored.reach.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (500,)
    moto = cloud.moto()
    assert (NAME in moto.databases, NAME in moto.clusters, NAME in moto.cluster_snapshots) == (True, True, True)
    assert moto.clusters[NAME].db_subnet_group_name == "staging"
    assert moto.clusters[NAME]._master_user_password == restored.reach.password != MASTER
    assert restored.reach.endpoint == moto.clusters[NAME].endpoint
    assert restored.reach.password not in cloud.raw.read_text()
    cloud.asked.clear()
    cloud.destroy(made)
    deletions = [name for name in cloud.asked if name.startswith("Delete")]
    assert deletions == ["DeleteDBInstance", "DeleteDBCluster", "DeleteDBClusterSnapshot"]
    assert cloud.left() == set()
    assert "ledger" in moto.clusters
    cloud.destroy(made)


def test_a_point_in_time_is_a_full_copy_and_no_clone(cloud: Cloud, shop: Database) -> None:
    """A clone shares production's storage."""
    moto = cloud.moto()
    moto.clusters["ledger"].earliest_restorable_time -= timedelta(days=7)
    method = method_of(cloud, shop, backup={"kind": "time", "at": "latest"})
    picked = method.pick(DRILL, quiet).backup
    method.restore(picked, DRILL, shop.name, quiet)
    answers = [json.loads(line) for line in cloud.raw.read_text().splitlines()]
    asked = next(one["parameters"] for one in answers if one["operation"] == "RestoreDBClusterToPointInTime")
    assert (asked["RestoreType"], asked["RestoreToTime"]) == ("full-copy", picked.label)
    with pytest.raises(NoBackupError, match="AWS can restore ledger from"):
        method_of(cloud, shop, backup={"kind": "time", "at": "2020-01-01T00:00:00Z"}).pick(DRILL, quiet)


def test_a_quota_for_the_instance_leaves_no_cluster_behind(cloud: Cloud, shop: Database) -> None:
    """The cluster was made already."""
    method = method_of(cloud, shop)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    picked = method.pick(DRILL, quiet).backup
    cloud.fault("CreateDBInstance", lambda: refusal("InstanceQuotaExceeded", "40 instances are enough"))
    with pytest.raises(AwsError, match="AWS did not do CreateDBInstance: 40 instances are enough"):
        method.restore(picked, DRILL, shop.name, quiet)
    assert cloud.left() == {NAME}
    cloud.destroy(made)
    assert cloud.left() == set()


def test_a_copy_of_a_copy_is_as_old_as_its_data(cloud: Cloud, shop: Database) -> None:
    """A cluster's snapshot keeps the time of the copy alone; the original knows better, and may be gone."""
    moto, there = cloud.moto(), cloud.moto(ELSEWHERE)
    original = moto.create_db_cluster_snapshot("ledger", "original")
    copied = moto.create_db_cluster_snapshot("ledger", "copied")
    del moto.cluster_snapshots["copied"]
    there.cluster_snapshots["copied"] = copied
    copied.backend = there
    copied.source_db_cluster_snapshot_arn = original.arn
    original.created -= timedelta(hours=30)
    wish = {"kind": "copy", "region": ELSEWHERE, "max_age": timedelta(hours=26)}
    backup = method_of(cloud, shop, backup=wish).pick(DRILL, quiet).backup
    assert (backup.label, backup.taken) == ("copied", original.created.replace(tzinfo=UTC))
    assert judge_age(backup, 26 * 3600, utc_now()).verdict is Verdict.FAIL
    del moto.cluster_snapshots["original"]
    backup = method_of(cloud, shop, backup=wish).pick(DRILL, quiet).backup
    found = judge_age(backup, 26 * 3600, utc_now())
    assert (backup.taken, found.verdict) == (None, Verdict.UNKNOWN)
    assert "the snapshot that it was made of is gone" in found.found


def test_the_newest_copy_is_the_one_with_the_newest_data(cloud: Cloud, shop: Database) -> None:
    """One that was copied later may be of an older snapshot; one that nobody can date is named, and taken alone."""
    moto, there = cloud.moto(), cloud.moto(ELSEWHERE)

    def copy(name: str, hours_old: int, copied: int) -> None:
        original = moto.create_db_cluster_snapshot("ledger", f"original-{name}")
        one = moto.create_db_cluster_snapshot("ledger", name)
        there.cluster_snapshots[name] = moto.cluster_snapshots.pop(name)
        one.backend, one.source_db_cluster_snapshot_arn = there, original.arn
        original.created -= timedelta(hours=hours_old)
        one.created -= timedelta(hours=copied)

    copy("old-copied-late", 30, 0)
    copy("new", 5, 4)
    copy("undated", 40, 1)
    copy("undated-before", 50, 49)
    del moto.cluster_snapshots["original-undated"], moto.cluster_snapshots["original-undated-before"]
    method = method_of(cloud, shop, backup={"kind": "copy", "region": ELSEWHERE})
    backup = method.pick(DRILL, quiet).backup
    assert backup.label == "new"
    assert backup.details == {"passed over, of unknown age": "undated"}
    for name in ("old-copied-late", "new"):
        del there.cluster_snapshots[name]
    backup = method.pick(DRILL, quiet).backup
    assert (backup.label, [*backup.details]) == ("undated", ["taken"])


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"cluster_parameter_group": "production-cluster"}, "production-cluster is production's own"),
        ({"cluster_parameter_group": "none"}, "there is no parameter group none in eu-central-1"),
        ({"staging": "production"}, "production is the subnet group of production's cluster ledger"),
    ],
)
def test_a_staging_that_is_productions_own_is_refused(
    cloud: Cloud, shop: Database, changes: dict[str, Any], bad: str
) -> None:
    """Each part that an instance of RDS does not have."""
    if "staging" in changes:
        network = recovery(cloud, shop.url(shop.reader), "aurora").staging.model_dump()
        changes = {"staging": network | {"subnet_group": "production"}}
    findings = method_of(cloud, shop, **changes).judge()
    assert [finding.found for finding in findings if finding.verdict is Verdict.FAIL] == [bad]


def test_a_serverless_cluster_is_told_its_capacity(cloud: Cloud, shop: Database) -> None:
    """And the plan must say it."""
    capacity = {"min": Decimal("0.5"), "max": 4}
    method = method_of(cloud, shop, instance_class="db.serverless", capacity=capacity)
    method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    answers = [json.loads(line) for line in cloud.raw.read_text().splitlines()]
    asked = next(one["parameters"] for one in answers if one["operation"] == "RestoreDBClusterFromSnapshot")
    assert asked["ServerlessV2ScalingConfiguration"] == {"MinCapacity": 0.5, "MaxCapacity": 4}
    assert cloud.client(region=REGION).describe_db_instances(DBInstanceIdentifier=NAME)
    with pytest.raises(ValidationError, match="needed there"):
        method_of(cloud, shop, instance_class="db.serverless")
