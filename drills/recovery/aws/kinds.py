"""The four things of RDS that a drill makes or looks at, and where one of them is.

Owns how each is made, described, changed, deleted, and called in the journal. Guarantees that a thing which AWS does
not know is told apart from every other error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from drills.errors import AwsError, ClusterError
from drills.records import Resource
from drills.recovery.aws.client import Account, Service
from drills.staging import database_name

DRILL_TAG = "drillbook:drill"
EXPIRY_TAG = "drillbook:expires"
PURPOSE_TAG = "drillbook:purpose"

Seen = dict[str, Any]
"""One of these things, as AWS describes it."""

_ENDING = frozenset({"deleting", "failed", "stopped", "stopping", "inaccessible-encryption-credentials"})


@dataclass(frozen=True)
class Kind:
    """A kind of thing, and boto3's words for it."""

    name: str
    """In the journal."""
    called: str
    """By people."""
    arn: str
    """What stands before the name in its ARN."""
    describe: str
    listed: str
    identifier: str
    status: str
    own_arn: str
    resource_id: str
    """Of an instance or cluster, for its whole life: a name may be used again. A snapshot says of which it is."""
    delete: str
    delete_with: Mapping[str, bool]
    unknown: frozenset[str]
    """Codes that say: there is none of this name."""
    hopeless: frozenset[str]
    """States from which nothing becomes available by itself."""
    events: str
    """Its type in RDS's list of events."""
    busy: frozenset[str]
    """Codes that say: not in this state."""
    create: str = ""
    """Empty for what is made by restoring alone."""
    modify: str = ""
    """Empty for what is never changed."""

    def state(self, seen: Seen) -> str:
        """Its state, in AWS's words."""
        return str(seen.get(self.status) or "without a state")


INSTANCE = Kind(
    name="rds_instance",
    called="instance",
    arn="db",
    describe="describe_db_instances",
    listed="DBInstances",
    identifier="DBInstanceIdentifier",
    status="DBInstanceStatus",
    own_arn="DBInstanceArn",
    resource_id="DbiResourceId",
    delete="delete_db_instance",
    # Otherwise the copy's own automated backups, production's data, would outlive it.
    delete_with=MappingProxyType({"SkipFinalSnapshot": True, "DeleteAutomatedBackups": True}),
    unknown=frozenset({"DBInstanceNotFound", "DBInstanceNotFoundFault"}),
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
    hopeless=_ENDING
    | {
        "inaccessible-encryption-credentials-recoverable", "incompatible-create", "incompatible-credentials",
        "incompatible-network", "incompatible-option-group", "incompatible-parameters", "incompatible-restore",
        "insufficient-capacity", "restore-error", "storage-full",
    },
    events="db-instance",
    busy=frozenset({"InvalidDBInstanceState", "InvalidDBInstanceStateFault", "InvalidDBClusterStateFault"}),
    create="create_db_instance",
    modify="modify_db_instance",
)  # fmt: skip
CLUSTER = Kind(
    name="rds_cluster",
    called="cluster",
    arn="cluster",
    describe="describe_db_clusters",
    listed="DBClusters",
    identifier="DBClusterIdentifier",
    status="Status",
    own_arn="DBClusterArn",
    resource_id="DbClusterResourceId",
    delete="delete_db_cluster",
    delete_with=MappingProxyType({"SkipFinalSnapshot": True, "DeleteAutomatedBackups": True}),
    unknown=frozenset({"DBClusterNotFoundFault", "DBClusterNotFound"}),
    # https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/accessing-monitoring.html
    hopeless=_ENDING | {"cloning-failed", "inaccessible-encryption-credentials-recoverable", "migration-failed"},
    events="db-cluster",
    busy=frozenset({"InvalidDBClusterStateFault", "InvalidDBInstanceState"}),
    modify="modify_db_cluster",
)
SNAPSHOT = Kind(
    name="rds_snapshot",
    called="snapshot",
    arn="snapshot",
    describe="describe_db_snapshots",
    listed="DBSnapshots",
    identifier="DBSnapshotIdentifier",
    status="Status",
    own_arn="DBSnapshotArn",
    resource_id="DbiResourceId",
    delete="delete_db_snapshot",
    delete_with=MappingProxyType({}),
    unknown=frozenset({"DBSnapshotNotFound", "DBSnapshotNotFoundFault"}),
    hopeless=_ENDING,
    events="db-snapshot",
    busy=frozenset({"InvalidDBSnapshotState"}),
    create="create_db_snapshot",
)
CLUSTER_SNAPSHOT = Kind(
    name="rds_cluster_snapshot",
    called="cluster snapshot",
    arn="cluster-snapshot",
    describe="describe_db_cluster_snapshots",
    listed="DBClusterSnapshots",
    identifier="DBClusterSnapshotIdentifier",
    status="Status",
    own_arn="DBClusterSnapshotArn",
    resource_id="DbClusterResourceId",
    delete="delete_db_cluster_snapshot",
    delete_with=MappingProxyType({}),
    unknown=frozenset({"DBClusterSnapshotNotFoundFault", "DBClusterSnapshotNotFound"}),
    hopeless=_ENDING,
    events="db-cluster-snapshot",
    busy=frozenset({"InvalidDBClusterSnapshotStateFault"}),
    create="create_db_cluster_snapshot",
)
KINDS: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for kind in (INSTANCE, CLUSTER, SNAPSHOT, CLUSTER_SNAPSHOT)}
)


@dataclass(frozen=True)
class Place:
    """What an ARN says: where a thing is, and which."""

    partition: str
    region: str
    account: str
    kind: str
    name: str

    @classmethod
    def of(cls, arn: str) -> Place:
        """Read an ARN of RDS. The name of a snapshot may have a colon of its own (`rds:...`, `awsbackup:...`).

        Raises:
            ClusterError: it is none.
        """
        parts = arn.split(":", 6)
        if len(parts) != 7 or parts[0] != "arn" or parts[2] != "rds":  # noqa: PLR2004 - the parts of an ARN
            raise ClusterError(f"not an ARN of RDS: {arn!r}", hint="the journal was written by another version")
        return cls(*parts[1:2], *parts[3:])


def resource_of(kind: Kind, name: str, region: str, account: Account) -> Resource:
    """What goes into the journal before it is made; its ARN says in which account and region to look for it."""
    arn = f"arn:{account.partition}:rds:{region}:{account.id}:{kind.arn}:{name}"
    return Resource(kind=kind.name, name=name, address=arn)


def name_of(drill: str) -> str:
    """What a drill calls everything that it makes at AWS; 63 letters, digits and single hyphens at most."""
    return "-".join(part for part in database_name(drill).replace("_", "-").split("-") if part)


def tags_of(drill: str, lives: timedelta, now: datetime) -> list[dict[str, str]]:
    """Whose a thing is, and from when on anybody may remove it."""
    expires = (now + lives).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    told = {DRILL_TAG: drill, EXPIRY_TAG: expires, PURPOSE_TAG: "recovery drill - a copy of production"}
    return [{"Key": key, "Value": value} for key, value in told.items()]


def is_tagged(seen: Seen, drill: str) -> bool:
    """Whether this drill made it."""
    return {"Key": DRILL_TAG, "Value": drill} in (seen.get("TagList") or [])


def look(service: Service, kind: Kind, name: str) -> Seen | None:
    """The thing of this name; None where there is none.

    Raises:
        AwsError: AWS did not say.
    """
    try:
        found = service.ask(kind.describe, **{kind.identifier: name}, **_kind_of_snapshot(name))[kind.listed]
    except AwsError as error:
        if error.code in kind.unknown:
            return None
        raise
    return found[0] if found else None


def _kind_of_snapshot(name: str) -> dict[str, object]:
    """What AWS wants to be told beside the names of those that were not taken by hand here; no other name has a colon.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBSnapshots.html
    """
    if name.startswith("arn:"):
        return {"IncludeShared": True}
    head, colon, _ = name.partition(":")
    return {"SnapshotType": {"rds": "automated"}.get(head, head)} if colon else {}


def existing(service: Service, kind: Kind, name: str) -> Seen:
    """The same, where there has to be one.

    Raises:
        AwsError: there is none, or AWS did not say.
    """
    seen = look(service, kind, name)
    if seen is None:
        raise AwsError(
            f"there is no {kind.called} {name} in {service.region}", hint="check its name, `region`, and the account"
        )
    return seen
