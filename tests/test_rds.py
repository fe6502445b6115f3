"""Recovery of an RDS instance: what is picked, what is made, how waits end, and that nothing is left at AWS."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import pytest
from fix_aws import ACCOUNT, DRILL, ELSEWHERE, MASTER, NAME, REGION, Cloud, quiet, rds_method, recovery, refusal
from fix_postgres import Database

from drills.errors import AwsError, ClusterError, NoBackupError
from drills.records import Verdict, utc_now
from drills.recovery.age import judge_age
from drills.recovery.aws.destroy import destroy
from drills.sessions import STAGING_LIMITS, Access, session


def backed_up(cloud: Cloud, name: str, kind: str = "automated", region: str = REGION) -> Any:
    """A snapshot of production that is there already; the first of them is the oldest."""
    moto = cloud.moto()
    made = moto.create_db_snapshot("billing", name, snapshot_type=kind)
    if region != REGION:
        cloud.moto(region).database_snapshots[name] = moto.database_snapshots.pop(name)
        made.backend = cloud.moto(region)
        made.source_region = REGION
    return made


# --- from beginning to end ------------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_restored_read_and_deleted(cloud: Cloud, shop: Database) -> None:
    """The whole life of it."""
    method = rds_method(cloud, shop)
    assert {finding.verdict for finding in method.judge()} == {Verdict.PASS}
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    taken = method.pick(DRILL, quiet)
    restored = method.restore(taken.backup, DRILL, shop.name, quiet)
    assert cloud.left() == {NAME}
    assert {resource.name for resource in made} == {NAME}
    with session(restored.reach.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (500,)
    copy = cloud.client().describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"][0]
    assert copy["DBSubnetGroup"]["DBSubnetGroupName"] == "staging"
    assert [one["VpcSecurityGroupId"] for one in copy["VpcSecurityGroups"]] == [cloud.groups[f"staging {REGION}"]]
    assert (copy["PubliclyAccessible"], copy["DeletionProtection"], copy["MultiAZ"]) == (False, False, False)
    tags = {tag["Key"]: tag["Value"] for tag in copy["TagList"]}
    assert tags["drillbook:drill"] == DRILL
    assert tags["drillbook:expires"].endswith("Z")
    assert taken.backup.path == f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:{NAME}"
    assert taken.log.verdict is restored.done.log.verdict is Verdict.PASS
    assert restored.done.deviations == (
        "the certificate of the copy was not verified: connect_via says sslmode=disable",
    )
    cloud.destroy(made)
    assert cloud.left() == set()
    assert "billing" in cloud.moto().databases
    cloud.destroy(made)  # again: nothing is there, and nothing is wrong


def test_the_copy_has_another_master_password_and_no_answer_that_is_kept_shows_it(cloud: Cloud, shop: Database) -> None:
    """The old one is production's."""
    method = rds_method(cloud, shop)
    restored = method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    there = cloud.moto().databases[NAME]._master_user_password
    assert there == restored.reach.password != MASTER
    kept = cloud.raw.read_text()
    assert there not in kept
    assert there not in repr(restored)
    answers = [json.loads(line) for line in kept.splitlines()]
    modified = [answer for answer in answers if answer["operation"] == "ModifyDBInstance"]
    assert modified[0]["parameters"]["MasterUserPassword"] == "[secret]"
    assert {answer["status"] for answer in answers} == {200}
    assert "<DBInstanceIdentifier>" in modified[0]["body"]
    assert "drillbook/" in method.aws.service("rds", REGION)._client.meta.config.user_agent_extra


# --- what is picked -------------------------------------------------------------------------------------------------


def test_the_newest_automated_snapshot_is_picked(cloud: Cloud, shop: Database) -> None:
    """And one of a person is not."""
    backed_up(cloud, "rds:older")
    newer = backed_up(cloud, "rds:newer")
    backed_up(cloud, "by-hand", "manual")
    picked = rds_method(cloud, shop, backup={"kind": "automated"}).pick(DRILL, quiet).backup
    assert (picked.label, picked.taken) == ("rds:newer", newer.created.replace(tzinfo=UTC))
    assert cloud.left() == set()


def test_without_an_automated_snapshot_there_is_an_error(cloud: Cloud, shop: Database) -> None:
    """Not a snapshot of another kind."""
    backed_up(cloud, "by-hand", "manual")
    for name in [name for name, one in cloud.moto().database_snapshots.items() if one.snapshot_type == "automated"]:
        del cloud.moto().database_snapshots[name]  # moto takes one when an instance is made
    with pytest.raises(NoBackupError, match="there is no automated snapshot of billing in eu-central-1"):
        rds_method(cloud, shop, backup={"kind": "automated"}).pick(DRILL, quiet)


def test_a_snapshot_of_another_life_of_that_name_is_left_aside(cloud: Cloud, shop: Database) -> None:
    """Somebody deleted the instance once, and made one of the same name."""
    backed_up(cloud, "rds:this-one")
    backed_up(cloud, "rds:of-another").dbi_resource_id = "db-ANOTHER"
    assert rds_method(cloud, shop, backup={"kind": "automated"}).pick(DRILL, quiet).backup.label == "rds:this-one"


def test_a_named_snapshot_is_picked_and_one_of_another_instance_refused(cloud: Cloud, shop: Database) -> None:
    """By its name."""
    backed_up(cloud, "before-42", "manual")
    named = {"kind": "snapshot", "name": "before-42"}
    assert rds_method(cloud, shop, backup=named).pick(DRILL, quiet).backup.label == "before-42"
    cloud.moto().database_snapshots["before-42"].db_instance_identifier = "other"
    with pytest.raises(AwsError, match="before-42 is of other, expected one of billing"):
        rds_method(cloud, shop, backup=named).pick(DRILL, quiet)
    with pytest.raises(NoBackupError, match="there is no snapshot none in eu-central-1"):
        rds_method(cloud, shop, backup={"kind": "snapshot", "name": "none"}).pick(DRILL, quiet)


def test_a_copy_in_another_region_is_restored_there_and_deleted_there(cloud: Cloud, shop: Database) -> None:
    """The loss of a region."""
    backed_up(cloud, "copied", "manual", ELSEWHERE)
    backed_up(cloud, "of-another-region", "manual", ELSEWHERE).source_region = "us-east-1"
    method = rds_method(cloud, shop, backup={"kind": "copy", "region": ELSEWHERE})
    assert [finding for finding in method.judge() if finding.verdict is not Verdict.PASS] == []
    picked = method.pick(DRILL, quiet).backup
    assert picked.label == "copied"
    made = method.copy_resources(DRILL)
    method.restore(picked, DRILL, shop.name, quiet)
    assert (cloud.left(REGION), cloud.left(ELSEWHERE)) == (set(), {NAME})
    cloud.destroy(made)
    assert cloud.left(ELSEWHERE) == set()


def recovery_points(*points: dict[str, object]) -> tuple[int, bytes]:
    """AWS Backup's answer; moto has vaults, and nothing in them."""
    return 200, json.dumps({"RecoveryPoints": list(points)}).encode()


def test_the_newest_recovery_point_of_a_vault_is_restored(cloud: Cloud, shop: Database) -> None:
    """By the snapshot that is behind it."""
    backed_up(cloud, "awsbackup:job-2", "awsbackup")
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:awsbackup:job-"
    points = [
        {"RecoveryPointArn": f"{arn}1", "Status": "COMPLETED", "CreationDate": 1_700_000_000},
        {"RecoveryPointArn": f"{arn}2", "Status": "COMPLETED", "CreationDate": 1_800_000_000},
        {"RecoveryPointArn": f"{arn}3", "Status": "EXPIRED", "CreationDate": 1_900_000_000},
        {"RecoveryPointArn": f"{arn}0", "Status": "PARTIAL", "CreationDate": 1_600_000_000},
        {
            "RecoveryPointArn": f"arn:aws:rds:{REGION}:{ACCOUNT}:auto-backup:ab-1",
            "Status": "COMPLETED",
            "CreationDate": 1_900_000_000,
        },
    ]
    cloud.fault("ListRecoveryPointsByBackupVault", lambda: recovery_points(*points))
    method = rds_method(cloud, shop, backup={"kind": "recovery_point", "vault": "daily"})
    picked = method.pick(DRILL, quiet).backup
    assert picked.label == "awsbackup:job-2"
    assert picked.details == {"passed over, not complete": "awsbackup:job-3 (EXPIRED)"}
    # Moto restores only the kinds of snapshots that it knows of, and this is none of them.
    cloud.moto().database_snapshots["awsbackup:job-2"].snapshot_type = "manual"
    method.restore(picked, DRILL, shop.name, quiet)
    assert cloud.left() == {NAME}


def test_a_newest_recovery_point_that_is_not_whole_is_not_passed_over_for_an_older_one(
    cloud: Cloud, shop: Database
) -> None:
    backed_up(cloud, "awsbackup:job-2", "awsbackup")
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:awsbackup:job-"
    points = [
        {"RecoveryPointArn": f"{arn}2", "Status": "COMPLETED", "CreationDate": 1_800_000_000},
        {"RecoveryPointArn": f"{arn}3", "Status": "PARTIAL", "CreationDate": 1_900_000_000},
    ]
    cloud.fault("ListRecoveryPointsByBackupVault", lambda: recovery_points(*points))
    with pytest.raises(NoBackupError, match=r"is not whole: awsbackup:job-3 \(PARTIAL\)"):
        rds_method(cloud, shop, backup={"kind": "recovery_point", "vault": "daily"}).pick(DRILL, quiet)


def test_an_empty_vault_is_an_error(cloud: Cloud, shop: Database) -> None:
    """Nobody backs it up, or not to the end."""
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:awsbackup:job-1"
    broken = {"RecoveryPointArn": arn, "Status": "PARTIAL", "CreationDate": 1_700_000_000}
    for points, said in (((), "of billing\n"), ((broken,), "of billing, but such as are PARTIAL\n")):
        cloud.fault("ListRecoveryPointsByBackupVault", partial(recovery_points, *points))
        with pytest.raises(NoBackupError, match=f"the vault daily holds no recovery point {said}"):
            rds_method(cloud, shop, backup={"kind": "recovery_point", "vault": "daily"}).pick(DRILL, quiet)


def test_a_point_in_time_is_restored(cloud: Cloud, shop: Database) -> None:
    """The newest, which the evidence names."""
    method = rds_method(cloud, shop, backup={"kind": "time", "at": "latest"})
    picked = method.pick(DRILL, quiet).backup
    assert picked.path.endswith(":db:billing")
    assert picked.taken is not None
    assert picked.taken.microsecond == 0
    method.restore(picked, DRILL, shop.name, quiet)
    assert cloud.left() == {NAME}
    answers = [json.loads(line) for line in cloud.raw.read_text().splitlines()]
    asked = next(answer for answer in answers if answer["operation"] == "RestoreDBInstanceToPointInTime")
    assert asked["parameters"]["RestoreTime"] == picked.label


@pytest.mark.parametrize("at", ["2100-01-01T00:00:00Z", "2020-01-01T00:00:00+01:00"])
def test_an_instant_that_aws_cannot_restore_to_is_refused(cloud: Cloud, shop: Database, at: str) -> None:
    """After the end, and before the beginning."""
    backups = (
        "<DescribeDBInstanceAutomatedBackupsResponse><DescribeDBInstanceAutomatedBackupsResult>"
        "<DBInstanceAutomatedBackups><DBInstanceAutomatedBackup><DbiResourceId>{}</DbiResourceId><RestoreWindow>"
        "<EarliestTime>2026-01-01T00:00:00Z</EarliestTime></RestoreWindow></DBInstanceAutomatedBackup>"
        "</DBInstanceAutomatedBackups></DescribeDBInstanceAutomatedBackupsResult>"
        "</DescribeDBInstanceAutomatedBackupsResponse>"
    ).format(cloud.moto().databases["billing"].dbi_resource_id)
    cloud.fault("DescribeDBInstanceAutomatedBackups", lambda: (200, backups.encode()))
    with pytest.raises(NoBackupError, match=r"AWS can restore billing from 2026-01-01 .* to .*, expected 2"):
        rds_method(cloud, shop, backup={"kind": "time", "at": at}).pick(DRILL, quiet)


def test_a_backup_is_as_old_as_its_data(cloud: Cloud, shop: Database) -> None:
    """Copied again and again, its own time stays young."""
    cloud.moto().database_snapshots.clear()  # moto takes one when an instance is made
    one = backed_up(cloud, "rds:one")
    method = rds_method(cloud, shop, backup={"kind": "automated", "max_age": timedelta(hours=26)})
    assert method.wish.max_age == timedelta(hours=26)
    assert method.pick(DRILL, quiet).backup.taken == one.created.replace(tzinfo=UTC)
    one.original_snapshot_create_time -= timedelta(hours=27)
    taken = method.pick(DRILL, quiet)
    assert (taken.backup.taken, taken.log.verdict) == (
        one.original_snapshot_create_time.replace(tzinfo=UTC),
        Verdict.PASS,
    )
    assert judge_age(taken.backup, 26 * 3600, utc_now()).verdict is Verdict.FAIL


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_snapshot_that_is_being_created_is_waited_for_or_refused(cloud: Cloud, shop: Database) -> None:
    """As the plan says."""
    one = backed_up(cloud, "rds:one")
    shown: list[str] = []
    cloud.states("DescribeDBSnapshots", lambda: one, ["creating"] * 4 + ["available"])
    rds_method(cloud, shop, backup={"kind": "automated"}).pick(DRILL, lambda *told: shown.append(told[3]))
    assert shown == ["snapshot creating"] * 2 + ["snapshot available"]
    one.status = "creating"
    with pytest.raises(AwsError, match="rds:one is still creating, and the plan does not wait for it"):
        rds_method(cloud, shop, backup={"kind": "automated", "while_creating": "refuse"}).pick(DRILL, quiet)


def test_every_state_on_the_way_is_waited_for_and_shown(cloud: Cloud, shop: Database) -> None:
    """Of the copy."""
    method = rds_method(cloud, shop)
    picked = method.pick(DRILL, quiet).backup
    states = ["creating", "backing-up", "modifying", "available"]
    cloud.states("DescribeDBInstances", lambda: cloud.moto().databases[NAME], states)
    shown: list[str] = []
    method.restore(picked, DRILL, shop.name, lambda *told: shown.append(told[3]))
    assert list(dict.fromkeys(shown)) == [f"instance {state}" for state in states]


def test_a_password_that_is_still_pending_is_waited_for(cloud: Cloud, shop: Database) -> None:
    """Available alone does not say that it is applied."""
    method = rds_method(cloud, shop)
    picked = method.pick(DRILL, quiet).backup
    pending = [{}, {}, {"MasterUserPassword": "****"}, {"MasterUserPassword": "****"}, {}]
    thing = lambda: cloud.moto().databases[NAME]  # noqa: E731 - one line
    cloud.states("DescribeDBInstances", thing, pending, "pending_modified_values")  # type: ignore[arg-type]
    method.restore(picked, DRILL, shop.name, quiet)
    assert cloud.asked[cloud.asked.index("ModifyDBInstance") :].count("DescribeDBInstances") == 3


@pytest.mark.parametrize(
    "state", ["failed", "incompatible-network", "storage-full", "incompatible-restore", "deleting"]
)
def test_a_state_that_cannot_end_well_ends_the_wait_at_once(cloud: Cloud, shop: Database, state: str) -> None:
    """And says what AWS said."""
    method = rds_method(cloud, shop)
    picked, made = method.pick(DRILL, quiet).backup, method.copy_resources(DRILL)
    thing = lambda: cloud.moto().databases[NAME]  # noqa: E731 - one line
    cloud.states("DescribeDBInstances", thing, ["creating", state])
    events = (
        "<DescribeEventsResponse><DescribeEventsResult><Events><Event><Message>no free address in subnet-1</Message>"
        "</Event></Events></DescribeEventsResult></DescribeEventsResponse>"
    )
    cloud.fault("DescribeEvents", lambda: (200, events.encode()))
    with pytest.raises(AwsError, match=f"is {state} and will not become available .*: no free address in subnet-1"):
        method.restore(picked, DRILL, shop.name, quiet)
    cloud.moto().databases[NAME].status = "available"
    cloud.destroy((*method.backup_resources(DRILL), *made))
    assert cloud.left() == set()


def test_a_wait_that_times_out_still_deletes(cloud: Cloud, shop: Database) -> None:
    """By what the journal says."""
    method = rds_method(cloud, shop, restore_timeout=timedelta(milliseconds=200))
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    picked = method.pick(DRILL, quiet).backup
    thing = lambda: cloud.moto().databases[NAME]  # noqa: E731 - one line
    cloud.states("DescribeDBInstances", thing, ["creating"])
    with pytest.raises(AwsError, match="did not become available within 0 s: it is creating\nHINT: raise recovery"):
        method.restore(picked, DRILL, shop.name, quiet)
    assert cloud.left() == {NAME}
    cloud.destroy(made)
    assert cloud.left() == set()


def test_an_instance_that_somebody_else_deletes_is_told_as_that(cloud: Cloud, shop: Database) -> None:
    """Not as a wait that was too long."""
    method = rds_method(cloud, shop)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    picked = method.pick(DRILL, quiet).backup
    thing = lambda: cloud.moto().databases[NAME]  # noqa: E731 - one line
    cloud.states("DescribeDBInstances", thing, ["creating"])
    looks = [0]

    def delete(name: str) -> None:
        looks[0] += name == "DescribeDBInstances"
        if looks[0] == 3:
            cloud.moto().databases.pop(NAME, None)

    cloud.faults.append(delete)
    with pytest.raises(AwsError, match=f"{NAME} is gone: somebody else deleted it, it was creating before"):
        method.restore(picked, DRILL, shop.name, quiet)
    cloud.faults.clear()
    cloud.destroy(made)
    assert cloud.left() == set()


# --- when AWS says no -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "code", "hint"),
    [
        ("RestoreDBInstanceFromDBSnapshot", "InstanceQuotaExceeded", "have the quota raised"),
        ("RestoreDBInstanceFromDBSnapshot", "InsufficientDBInstanceCapacity", "choose another instance_class"),
        ("RestoreDBInstanceFromDBSnapshot", "ExpiredToken", "renew the credentials"),
        ("ModifyDBInstance", "ExpiredToken", "renew the credentials"),
        ("RestoreDBInstanceFromDBSnapshot", "AccessDenied", "allow it in the IAM policy"),
    ],
)
def test_what_aws_refuses_is_explained_and_nothing_is_left(
    cloud: Cloud, shop: Database, operation: str, code: str, hint: str
) -> None:
    """A quota, an expired token, a permission."""
    method = rds_method(cloud, shop)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    picked = method.pick(DRILL, quiet).backup
    cloud.fault(operation, lambda: refusal(code, "it cannot be", 403))
    with pytest.raises(AwsError, match=rf"AWS did not do {operation}: it cannot be \({code}\)\nHINT: .*{hint}"):
        method.restore(picked, DRILL, shop.name, quiet)
    cloud.destroy(made)
    assert cloud.left() == set()


def test_a_request_that_was_sent_twice_makes_one_copy(cloud: Cloud, shop: Database) -> None:
    """The first answer got lost; the second says that it exists."""
    method = rds_method(cloud, shop)
    picked = method.pick(DRILL, quiet).backup
    service = cloud.aws().service("rds", REGION)
    tagged = [{"Key": "drillbook:drill", "Value": DRILL}]
    service.ask(
        "restore_db_instance_from_db_snapshot",
        DBInstanceIdentifier=NAME,
        DBSnapshotIdentifier=NAME,
        DBSubnetGroupName="staging",
        VpcSecurityGroupIds=[cloud.groups[f"staging {REGION}"]],
        DBParameterGroupName="staging-instance",
        PubliclyAccessible=False,
        DeletionProtection=False,
        Tags=tagged,
    )
    method.restore(picked, DRILL, shop.name, quiet)
    cloud.moto().databases[NAME].tags = []
    with pytest.raises(AwsError, match=f"there is a instance {NAME} already, and it is not this drill's"):
        method.restore(picked, DRILL, shop.name, quiet)


def test_a_copy_that_is_public_after_all_is_refused_before_anybody_connects(cloud: Cloud, shop: Database) -> None:
    """Or in another network."""
    cloud.moto().databases["billing"].publicly_accessible = True  # and moto makes the copy like that
    method = rds_method(cloud, shop)
    picked = method.pick(DRILL, quiet).backup
    with pytest.raises(AwsError, match="expected PubliclyAccessible False, got True"):
        method.restore(picked, DRILL, shop.name, quiet)
    assert "ModifyDBInstance" not in cloud.asked


# --- deleting -------------------------------------------------------------------------------------------------------


def test_deletion_waits_until_aws_knows_it_no_more(cloud: Cloud, shop: Database) -> None:
    """What is being deleted is not yet gone."""
    method = rds_method(cloud, shop)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    cloud.asked.clear()
    # Moto forgets at once; AWS goes on to show it as deleting, and refuses a second deletion.
    copy = cloud.moto().databases[NAME]
    shows = iter(["deleting", "deleting", None])

    def linger(name: str) -> None:
        if name == "DescribeDBInstances" and "DeleteDBInstance" in cloud.asked:
            state = next(shows)
            cloud.moto().databases.pop(NAME, None)
            if state:
                copy.status = state
                cloud.moto().databases[NAME] = copy

    cloud.faults.append(linger)
    cloud.destroy(made)
    assert cloud.left() == set()
    assert (cloud.asked.count("DeleteDBInstance"), cloud.asked.count("DescribeDBInstances")) == (1, 4)


def test_what_is_busy_is_deleted_a_little_later(cloud: Cloud, shop: Database) -> None:
    """AWS refuses while a backup of it is being made."""
    method = rds_method(cloud, shop)
    made = method.backup_resources(DRILL)
    method.pick(DRILL, quiet)
    cloud.fault("DeleteDBSnapshot", lambda: refusal("InvalidDBSnapshotState", "it is creating"), times=3)
    cloud.destroy(made)
    assert cloud.left() == set()


def test_a_copy_that_somebody_protected_is_deleted_all_the_same(cloud: Cloud, shop: Database) -> None:
    """It carries the drill's tag."""
    method = rds_method(cloud, shop)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    cloud.moto().databases[NAME].deletion_protection = True
    cloud.destroy(made)
    assert cloud.left() == set()


def test_what_does_not_go_away_is_told(cloud: Cloud, shop: Database) -> None:
    """Rather than called deleted."""
    method = rds_method(cloud, shop)
    method.pick(DRILL, quiet)
    one = method.backup_resources(DRILL)[0]
    cloud.fault("DeleteDBSnapshot", lambda: refusal("InvalidDBSnapshotState", "it is busy"), times=10_000)
    limit = timedelta(milliseconds=100)
    with pytest.raises(AwsError, match=f"the snapshot {NAME} is still there after 0 s: it is available"):
        destroy(one.kind, one.name, one.address, DRILL, cloud.aws(), limit=limit, poll=0.01)


def test_what_is_not_tagged_or_elsewhere_is_left_alone(cloud: Cloud, shop: Database) -> None:
    """A journal may be forged."""
    method = rds_method(cloud, shop)
    one = method.copy_resources(DRILL)[0]
    production = one.address.replace(NAME, "billing")
    with pytest.raises(ClusterError, match="billing does not carry the tag of DR-"):
        destroy(one.kind, "billing", production, DRILL, cloud.aws(), poll=0.01)
    with pytest.raises(ClusterError, match="is in account 999999999999, and the credentials are of 123456789012"):
        destroy(one.kind, one.name, one.address.replace(ACCOUNT, "9" * 12), DRILL, cloud.aws(), poll=0.01)
    with pytest.raises(ClusterError, match="not an ARN of RDS"):
        destroy(one.kind, one.name, "rubbish", DRILL, cloud.aws(), poll=0.01)
    assert "DeleteDBInstance" not in cloud.asked


# --- the guard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("staging", "bad"),
    [
        ({"subnet_group": "production"}, "production is the subnet group of production's instance billing"),
        ({"subnet_group": "mixed"}, "mixed shares subnets with production: subnet-"),
        ({"subnet_group": "none"}, "there is no subnet group none in eu-central-1"),
        ({"security_groups": ("production",)}, "production has them too: sg-"),
        ({"parameter_group": "production-instance"}, "production-instance is production's own"),
        ({"parameter_group": "none"}, "there is no parameter group none in eu-central-1"),
    ],
)
def test_a_staging_that_is_productions_own_is_refused(
    cloud: Cloud, shop: Database, staging: dict[str, Any], bad: str
) -> None:
    """Each part of it."""
    subnets = [one["SubnetId"] for one in cloud.client("ec2").describe_subnets()["Subnets"]]
    with suppress(cloud.client().exceptions.DBSubnetGroupAlreadyExistsFault):
        cloud.client().create_db_subnet_group(
            DBSubnetGroupName="mixed", DBSubnetGroupDescription="mixed", SubnetIds=subnets[1:]
        )
    if "security_groups" in staging:
        staging = {"security_groups": (cloud.groups[f"production {REGION}"],)}
    network = recovery(cloud, shop.url(shop.reader)).staging.model_dump() | staging
    findings = rds_method(cloud, shop, staging=network).judge()
    found = [finding.found for finding in findings if finding.verdict is Verdict.FAIL]
    assert len(found) == 1
    assert found[0].startswith(bad)


def test_another_account_is_refused(cloud: Cloud, shop: Database) -> None:
    """The credentials of another day."""
    findings = rds_method(cloud, shop, account="1" * 12).judge()
    (found,) = [finding.found for finding in findings if finding.verdict is Verdict.FAIL]
    assert found.startswith(f"expected account 111111111111, got {ACCOUNT}")


def test_a_bundle_that_is_not_there_or_none_is_refused_before_aws_is_asked(cloud: Cloud, shop: Database) -> None:
    def refused(path: str) -> list[str]:
        findings = rds_method(cloud, shop, instance="unheard-of", ca_bundle=path).judge()
        assert not cloud.raw.exists()
        return [finding.found for finding in findings if finding.verdict is Verdict.FAIL]

    assert refused("/none/bundle.pem") == ["/none/bundle.pem cannot be read: No such file or directory"]
    made_up = cloud.raw.with_name("empty.pem")
    made_up.write_text("nothing")
    assert refused(str(made_up)) == [f"{made_up} holds no certificate"]


def test_another_engine_is_refused(cloud: Cloud, shop: Database) -> None:
    """This program speaks PostgreSQL."""
    cloud.moto().databases["billing"].engine = "mysql"
    with pytest.raises(AwsError, match="the instance billing runs mysql, expected PostgreSQL"):
        rds_method(cloud, shop).judge()
