"""Recovery of an RDS instance: from a snapshot or to a point in time, as a new instance in staging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from drills.plans import rds as plan_rds
from drills.records import Backup
from drills.recovery.aws.client import Service
from drills.recovery.aws.kinds import INSTANCE, SNAPSHOT, Kind, Seen, name_of
from drills.recovery.aws.managed import Managed, refuse_unlike_plan
from drills.recovery.aws.origin import as_command, make
from drills.recovery.aws.wait import Deadline, Tell, Wanted, available, wait_until


@dataclass(frozen=True)
class Rds(Managed):
    """RestoreDBInstanceFromDBSnapshot and RestoreDBInstanceToPointInTime, as the plan wants them."""

    wish: plan_rds.Rds

    kind: ClassVar[Kind] = INSTANCE
    saved: ClassVar[Kind] = SNAPSHOT

    @property
    def source(self) -> str:
        """Production's identifier."""
        return self.wish.instance

    def _makes(self) -> tuple[Kind, ...]:
        return (INSTANCE,)

    def _make(
        self, service: Service, backup: Backup, drill: str, deadline: Deadline, tell: Tell
    ) -> tuple[Seen, tuple[tuple[str, ...], ...], tuple[str, ...]]:
        name = name_of(drill)
        is_snapshot, told = self._from(backup, "DBSnapshotIdentifier", "SourceDBInstanceIdentifier", "RestoreTime")
        operation = "restore_db_instance_from_db_snapshot" if is_snapshot else "restore_db_instance_to_point_in_time"
        told |= {"DBInstanceIdentifier" if is_snapshot else "TargetDBInstanceIdentifier": name}
        told |= self._staging(drill)
        make(service, INSTANCE, name, drill, lambda: service.ask(operation, **told))
        hint = "raise recovery.restore_timeout: a large snapshot takes its time"
        seen = wait_until(Wanted(service, INSTANCE, name, available(INSTANCE), hint=hint), deadline, tell)
        return seen, (as_command(operation, told),), refuse_unlike_plan(seen, self.wish, name)

    def _endpoint(self, seen: Seen) -> tuple[str, int]:
        return str(seen["Endpoint"]["Address"]), int(seen["Endpoint"]["Port"])

    def _staging(self, drill: str) -> dict[str, Any]:
        network = self.wish.staging
        return {
            **super()._staging(drill),
            "DBSubnetGroupName": network.subnet_group,
            "VpcSecurityGroupIds": list(network.security_groups),
            "DBParameterGroupName": network.parameter_group,
            "PubliclyAccessible": False,
            "MultiAZ": False,
            "DeletionProtection": False,
            "AutoMinorVersionUpgrade": False,
            "CopyTagsToSnapshot": False,
            "EnableIAMDatabaseAuthentication": isinstance(self.wish.login, plan_rds.IamLogin),
            **({"DBInstanceClass": self.wish.instance_class} if self.wish.instance_class else {}),
        }
