"""What a choice among backups is made from, and what comes of it; how something is made at AWS once, and once only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from drills.errors import AwsError
from drills.plans import rds as plan_rds
from drills.recovery.aws.client import Aws, Service
from drills.recovery.aws.kinds import Kind, Seen, existing, is_tagged, look
from drills.recovery.aws.wait import Deadline, Tell


@dataclass(frozen=True)
class Origin:
    """Production at AWS, and the kinds of things that it is and is saved as."""

    kind: Kind
    saved: Kind
    name: str
    seen: Seen

    @property
    def arn(self) -> str:
        """Its ARN."""
        return str(self.seen[self.kind.own_arn])

    @property
    def resource_id(self) -> str:
        """What AWS gives to one instance or cluster for life; a name may be used again."""
        return str(self.seen.get(self.kind.resource_id) or "")


@dataclass(frozen=True)
class Chosen:
    """What was chosen."""

    arn: str
    """Of the snapshot; for a point in time that of production."""
    label: str
    taken: datetime | None
    """The newest that may be in it; None where nobody can say."""
    size: int
    """Bytes that were allocated to production then: AWS seldom says what a snapshot takes."""
    asked: tuple[tuple[str, ...], ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """What may be newer and was not chosen, by the reason."""


@dataclass(frozen=True)
class Choosing:
    """What a choice is made with."""

    wish: plan_rds.Managed
    aws: Aws
    origin: Origin
    drill: str
    deadline: Deadline
    tell: Tell

    def service(self) -> Service:
        """RDS where the backup is."""
        return self.aws.service("rds", self.wish.staging_region)


def origin_of(wish: plan_rds.Managed, aws: Aws, kind: Kind, saved: Kind, name: str) -> Origin:
    """Production as AWS describes it.

    Raises:
        AwsError: there is none of this name, or it is no PostgreSQL.
    """
    seen = existing(aws.service("rds", wish.region), kind, name)
    if "postgres" not in str(seen.get("Engine")):
        raise AwsError(
            f"the {kind.called} {name} runs {seen.get('Engine')}, expected PostgreSQL", hint="mend the name in the plan"
        )
    return Origin(kind, saved, name, seen)


def make(service: Service, kind: Kind, name: str, drill: str, ask: Callable[[], object]) -> None:
    """Make something of this name; what is there already is taken for it where it carries the drill's tag.

    A request whose answer was lost is sent again by botocore, and the second answer says that it exists.

    Raises:
        AwsError: it could not be made, or somebody else's has the name.
    """
    try:
        ask()
    except AwsError as error:
        if "AlreadyExists" not in error.code:
            raise
        seen = look(service, kind, name)
        if seen is None or not is_tagged(seen, drill):
            raise AwsError(
                f"there is a {kind.called} {name} already, and it is not this drill's",
                hint="see whose it is; delete it by hand if it is nobody's",
                code=error.code,
            ) from None


def as_command(operation: str, parameters: dict[str, Any]) -> tuple[str, ...]:
    """A request as evidence shows it. No secret is among the parameters of a backup or a restore."""
    return ("boto3", "rds", operation, *(f"{key}={value}" for key, value in parameters.items() if key != "Tags"))
