"""Recovery from backups that AWS keeps: what RDS and Aurora do alike.

Refuses a copy that is not where the plan put it. Guarantees that the copy is not publicly accessible, not protected
from deletion, tagged with its drill and an expiry, and closed to production's master password before anybody connects.
It journals nothing: whoever calls says what is about to be made (`backup_resources`, `copy_resources`) before it is.
Deleting is `drills.recovery.aws.destroy`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from drills.errors import AwsError
from drills.plans import rds as plan_rds
from drills.records import Backup, Finding, Resource, Verdict, utc_now
from drills.recovery.aws.access import Reach, get_in, rotate_password
from drills.recovery.aws.client import Aws, Service
from drills.recovery.aws.guard import judge_bundle, judge_staging
from drills.recovery.aws.kinds import Kind, Place, Seen, name_of, resource_of, tags_of
from drills.recovery.aws.origin import Choosing, Origin, origin_of
from drills.recovery.aws.pick import choose
from drills.recovery.aws.wait import POLL, Deadline, Tell
from drills.recovery.base import Restore, Taken, ToolLog

_TOOL = "AWS"
_UNTOLD = "it is a copy, and the snapshot that it was made of is gone, which alone knew"


@dataclass(frozen=True)
class Restored:
    """A copy that let us in."""

    reach: Reach
    """`reach.address()` for every new connection."""
    done: Restore


@dataclass(frozen=True)
class Managed(ABC):
    """A database that AWS runs and backs up."""

    wish: plan_rds.Rds | plan_rds.Aurora
    aws: Aws
    raw: Path
    """Where the answers of AWS are kept: `raw/aws.jsonl`."""
    poll: float = field(default=POLL, kw_only=True)
    """Seconds between two looks."""

    kind: ClassVar[Kind]
    saved: ClassVar[Kind]

    @property
    @abstractmethod
    def source(self) -> str:
        """Production's identifier."""

    def judge(self) -> list[Finding]:
        """The guard's findings; nothing is changed. Without the bundle AWS is not even asked.

        Raises:
            AwsError: AWS cannot be asked, or does not know production.
        """
        bundle = judge_bundle(self.wish)
        if bundle.verdict is Verdict.FAIL:
            return [bundle]
        return [bundle, *judge_staging(self.wish, self._origin(), self.aws)]

    def backup_resources(self, drill: str) -> tuple[Resource, ...]:
        """What `pick` is about to make: for the journal."""
        if not isinstance(self.wish.backup, plan_rds.TakeSnapshot):
            return ()
        account = self.aws.account(self.wish.region)
        return (resource_of(self.saved, name_of(drill), self.wish.region, account),)

    def copy_resources(self, drill: str) -> tuple[Resource, ...]:
        """What `restore` is about to make: for the journal, in this order."""
        account = self.aws.account(self.wish.staging_region)
        return tuple(resource_of(kind, name_of(drill), self.wish.staging_region, account) for kind in self._makes())

    def pick(self, drill: str, tell: Tell) -> Taken:
        """Take a snapshot, or find the one that the plan wants, however old it is.

        Raises:
            AwsError: there is none, it cannot be used, or it took too long.
            EvidenceError: what AWS answered could not be kept.
        """
        deadline = Deadline(self.wish.backup_timeout, self.poll)
        chosen = choose(Choosing(self.wish, self.aws, self._origin(), drill, deadline, tell))
        self.aws.refuse_gaps()
        backup = Backup(
            method=self.wish.method,
            path=chosen.arn,
            size=chosen.size,
            files=0,
            digest="",
            commands=chosen.asked,
            seconds=round(deadline.passed, 6),
            label=chosen.label,
            taken=chosen.taken,
            details={**chosen.passed_over, **({} if chosen.taken else {"taken": _UNTOLD})},
        )
        return Taken(backup, self._log(f"{chosen.label} was there and complete"))

    def restore(self, backup: Backup, drill: str, database: str, tell: Tell) -> Restored:
        """Make the copy, shut production's master password out, and connect once.

        Raises:
            AwsError: there is no copy, or not the one that the plan wants.
            ConnectError: it does not let us in.
            EvidenceError: what AWS answered could not be kept.
        """
        deadline = Deadline(self.wish.restore_timeout, self.poll)
        service = self.aws.service("rds", self.wish.staging_region)
        seen, commands, deviations = self._make(service, backup, drill, deadline, tell)
        password = rotate_password(service, self.kind, name_of(drill), deadline, tell)
        host, port = self._endpoint(seen)
        reach = Reach(self.wish, service, host, port, str(seen["MasterUsername"]), database, password)
        get_in(reach, f"drillbook/{drill}", deadline, tell)
        self.aws.refuse_gaps()
        done = Restore(
            commands=commands,
            seconds=round(deadline.passed, 6),
            deviations=(*deviations, *reach.deviations),
            log=self._log("the copy became available, and let us in"),
        )
        return Restored(reach, done)

    @abstractmethod
    def _makes(self) -> tuple[Kind, ...]:
        """What a restore makes, in its order."""

    @abstractmethod
    def _make(
        self, service: Service, backup: Backup, drill: str, deadline: Deadline, tell: Tell
    ) -> tuple[Seen, tuple[tuple[str, ...], ...], tuple[str, ...]]:
        """The copy as AWS describes it once it is available, what was asked, and the deviations."""

    @abstractmethod
    def _endpoint(self, seen: Seen) -> tuple[str, int]:
        """Host and port."""

    def _origin(self) -> Origin:
        return origin_of(self.wish, self.aws, self.kind, self.saved, self.source)

    def _log(self, good: str) -> ToolLog:
        """What AWS calls an error is raised."""
        return ToolLog(_TOOL, Verdict.PASS, good, (), (), self.raw)

    def _staging(self, drill: str) -> dict[str, Any]:
        """What every request that makes a part of the copy says."""
        return {"Tags": tags_of(drill, self.wish.expires_after, utc_now())}

    def _from(self, backup: Backup, snapshot: str, source: str, point: str) -> tuple[bool, dict[str, Any]]:
        """Whether it is a snapshot that is restored, and what says so; the names are those of the request."""
        place = Place.of(backup.path)
        if place.kind != self.saved.arn:
            return False, {source: place.name, point: datetime.fromisoformat(backup.label)}
        ours = self.aws.account(self.wish.staging_region)
        return True, {snapshot: place.name if place.account == ours.id else backup.path}


def refuse_unlike_plan(seen: Seen, wish: plan_rds.Managed, name: str) -> tuple[str, ...]:
    """Ask the instance of a copy whether it is what was asked for, before anybody connects; gives the deviations.

    Raises:
        AwsError: it is open to the public, or not in staging.
    """
    network = wish.staging
    groups = {str(one["VpcSecurityGroupId"]) for one in seen.get("VpcSecurityGroups") or []}
    parameters = {
        str(one["DBParameterGroupName"]): str(one.get("ParameterApplyStatus"))
        for one in seen.get("DBParameterGroups") or []
    }
    answers = {
        "PubliclyAccessible": (False, bool(seen.get("PubliclyAccessible"))),
        "DeletionProtection": (False, bool(seen.get("DeletionProtection"))),
        "DBSubnetGroupName": (
            network.subnet_group.lower(),
            str((seen.get("DBSubnetGroup") or {}).get("DBSubnetGroupName")).lower(),
        ),
        "VpcSecurityGroups": (sorted(network.security_groups), sorted(groups)),
        "DBParameterGroups": ([network.parameter_group], sorted(parameters)),
    }
    for what, (expected, got) in answers.items():
        if expected != got:
            raise AwsError(
                f"the copy {name} is not where the plan puts it: expected {what} {expected}, got {got}",
                hint="somebody changed it, or AWS did not do what it was asked; the drill deletes it",
            )
    pending = [f"{group} ({status})" for group, status in parameters.items() if status != "in-sync"]
    return (f"not all parameters of staging are in force on the copy: {', '.join(pending)}",) if pending else ()
