"""Recovery of an Aurora cluster: from a snapshot or to a point in time, as a new cluster with one instance in staging.

A clone (`copy-on-write`) is refused by not being offered: it shares production's storage, and proves nothing about
a backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from drills.errors import AwsError
from drills.plans import rds as plan_rds
from drills.records import Backup
from drills.recovery.aws.client import Service
from drills.recovery.aws.kinds import CLUSTER, CLUSTER_SNAPSHOT, INSTANCE, Kind, Seen, existing, name_of
from drills.recovery.aws.managed import Managed, refuse_unlike_plan
from drills.recovery.aws.origin import as_command, make
from drills.recovery.aws.wait import Deadline, Tell, Wanted, available, wait_until

_ENGINE = "aurora-postgresql"
_HINT = "raise recovery.restore_timeout: a large cluster takes its time"


@dataclass(frozen=True)
class Aurora(Managed):
    """RestoreDBClusterFromSnapshot and RestoreDBClusterToPointInTime, then CreateDBInstance, as the plan wants them."""

    wish: plan_rds.Aurora

    kind: ClassVar[Kind] = CLUSTER
    saved: ClassVar[Kind] = CLUSTER_SNAPSHOT

    @property
    def source(self) -> str:
        """Production's identifier."""
        return self.wish.cluster

    def _makes(self) -> tuple[Kind, ...]:
        return CLUSTER, INSTANCE

    def _make(
        self, service: Service, backup: Backup, drill: str, deadline: Deadline, tell: Tell
    ) -> tuple[Seen, tuple[tuple[str, ...], ...], tuple[str, ...]]:
        name = name_of(drill)
        is_snapshot, told = self._from(backup, "SnapshotIdentifier", "SourceDBClusterIdentifier", "RestoreToTime")
        operation = "restore_db_cluster_from_snapshot" if is_snapshot else "restore_db_cluster_to_point_in_time"
        told |= {"DBClusterIdentifier": name, **self._staging(drill)}
        told |= {"Engine": _ENGINE} if is_snapshot else {"RestoreType": "full-copy"}
        make(service, CLUSTER, name, drill, lambda: service.ask(operation, **told))
        wait_until(Wanted(service, CLUSTER, name, available(CLUSTER), hint=_HINT), deadline, tell)
        member = self._member(drill)
        make(service, INSTANCE, name, drill, lambda: service.ask(INSTANCE.create, **member))
        seen = wait_until(Wanted(service, INSTANCE, name, available(INSTANCE), hint=_HINT), deadline, tell)
        cluster = existing(service, CLUSTER, name)
        self._refuse_unlike_plan(cluster, name)
        # Of its network an instance has what its cluster has.
        network = {key: cluster.get(key) for key in ("VpcSecurityGroups", "DeletionProtection")}
        network["DBSubnetGroup"] = {"DBSubnetGroupName": cluster.get("DBSubnetGroup")}
        deviations = refuse_unlike_plan({**seen, **network}, self.wish, name)
        return cluster, (as_command(operation, told), as_command(INSTANCE.create, member)), deviations

    def _endpoint(self, seen: Seen) -> tuple[str, int]:
        """Of the writer."""
        return str(seen["Endpoint"]), int(seen["Port"])

    def _refuse_unlike_plan(self, cluster: Seen, name: str) -> None:
        group, expected = cluster.get("DBClusterParameterGroup"), self.wish.cluster_parameter_group
        if group != expected or cluster.get("DeletionProtection"):
            raise AwsError(
                f"the copy {name} is not what the plan asks for: expected cluster parameter group {expected} and no"
                f" protection from deletion, got {group} and {cluster.get('DeletionProtection')}",
                hint="somebody changed it, or AWS did not do what it was asked; the drill deletes it",
            )

    def _staging(self, drill: str) -> dict[str, Any]:
        network, capacity = self.wish.staging, self.wish.capacity
        scaling = {"MinCapacity": float(capacity.min), "MaxCapacity": float(capacity.max)} if capacity else {}
        return {
            **super()._staging(drill),
            "DBSubnetGroupName": network.subnet_group,
            "VpcSecurityGroupIds": list(network.security_groups),
            "DBClusterParameterGroupName": self.wish.cluster_parameter_group,
            "DeletionProtection": False,
            "CopyTagsToSnapshot": False,
            "EnableIAMDatabaseAuthentication": isinstance(self.wish.login, plan_rds.IamLogin),
            **({"ServerlessV2ScalingConfiguration": scaling} if scaling else {}),
        }

    def _member(self, drill: str) -> dict[str, Any]:
        """The one instance. Subnets and security groups are its cluster's."""
        return {
            **super()._staging(drill),
            "DBInstanceIdentifier": name_of(drill),
            "DBClusterIdentifier": name_of(drill),
            "DBInstanceClass": self.wish.instance_class,
            "DBParameterGroupName": self.wish.staging.parameter_group,
            "Engine": _ENGINE,
            "PubliclyAccessible": False,
            "AutoMinorVersionUpgrade": False,
        }
