"""The part of a plan that recovers from backups that AWS keeps: of an RDS instance, or of an Aurora cluster.

Owns `method: rds` and `method: aurora`. Refuses a copy that would have no network of staging's own, an instant without
a time zone, and a password in the address of a port forward. What of it AWS would refuse is asked of AWS by the guard
(see `drills.recovery.aws.guard`).
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from drills.fields import Address, Period, Reference
from drills.plans.rds_backup import (
    CopyElsewhere,
    NamedSnapshot,
    NewestAutomated,
    NewestRecoveryPoint,
    PointInTime,
    Region,
    Source,
    TakeSnapshot,
)
from drills.plans.recovery import Recovery
from drills.plans.section import Section, fault

__all__ = [
    "Aurora",
    "CopyElsewhere",
    "IamLogin",
    "Managed",
    "NamedSnapshot",
    "NewestAutomated",
    "NewestRecoveryPoint",
    "PointInTime",
    "Rds",
    "TakeSnapshot",
]

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z](-?[A-Za-z0-9]){0,62}$")]
"""What RDS takes for the name of an instance or a cluster."""
Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,254}$")]
SecurityGroup = Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,32}$")]
InstanceClass = Annotated[str, Field(pattern=r"^db\.[a-z0-9.-]+$")]
FullPath = Annotated[str, Field(pattern=r"^/.*[^/]$")]


def _units(value: object) -> object:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


Units = Annotated[Decimal, BeforeValidator(_units), WithJsonSchema({"type": "number"})]


class Network(Section):
    """Where the copy is put. None of it may be production's own; the guard compares."""

    subnet_group: Group = Field(description="DB subnet group of staging.", examples=["drillbook-staging"])
    security_groups: tuple[SecurityGroup, ...] = Field(
        description="VPC security groups of staging. They should let nothing out.",
        examples=[["sg-0a1b2c3d4e5f60718"]],
    )
    parameter_group: Group = Field(
        description="DB parameter group of staging: for Aurora that of the instance. With one of its own, nothing that "
        "production preloads, such as pg_cron, runs on the copy.",
        examples=["drillbook-postgres16"],
    )

    @model_validator(mode="after")
    def _groups_are_given(self) -> Self:
        if not self.security_groups:
            raise fault("expected one or more: without one AWS takes the default of the VPC", "security_groups")
        return self


class PasswordLogin(Section):
    """As the master user, with a random password that is set on the copy alone."""

    kind: Literal["password"] = Field(description="By a password of the copy's own.", examples=["password"])


class IamLogin(Section):
    """By tokens of IAM, fifteen minutes each; a new one is made for every connection."""

    kind: Literal["iam"] = Field(description="By a token of IAM.", examples=["iam"])
    user: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="A role of the database that has been granted rds_iam, and so has no password any more: not that "
        "of `source`. It needs pg_read_all_data and pg_read_all_settings as well; see `login` for what it takes more.",
        examples=["drillbook_copy"],
    )


class Via(Section):
    """The way to the copy where there is no direct one: a bastion or a port forward."""

    address: Address = Field(
        description="What to connect to instead of the copy's endpoint, without a password. Unless it sets sslmode, "
        "TLS is verified against the name of the endpoint, through the forward. With `sslmode=verify-full` it is "
        "verified against the host of this address. Either way by `ca_bundle`, unless it sets sslrootcert.",
        examples=["postgresql://drillbook@127.0.0.1:6432/billing"],
    )
    password: Reference | None = Field(
        None,
        description="Reference to a password, where neither the one that the drill sets nor a token is to be used.",
        examples=["env:BASTION_PASSWORD"],
    )


class Managed(Recovery):
    """What RDS and Aurora have in common."""

    region: Region = Field(description="The region of production.", examples=["eu-central-1"])
    account: Annotated[str, Field(pattern=r"^[0-9]{12}$")] | None = Field(
        None, description="The AWS account that the credentials must be of.", examples=["123456789012"]
    )
    backup: Source = Field(
        description="Which backup is restored. That AWS was asked and keeps none that gives it is a FAIL; that it "
        "could not be asked is UNKNOWN."
    )
    staging: Network = Field(description="Where the copy is put.")
    login: PasswordLogin | IamLogin = Field(
        default_factory=lambda: PasswordLogin(kind="password"),
        discriminator="kind",
        description="How the drill logs in to the copy. Nobody is a superuser there: amcheck and the negative control "
        "are UNKNOWN unless the role may add extensions and make databases, as the master user may, and owns the "
        "database or was granted its owner at the source. Where that is not to be, say `checks.amcheck: false` and "
        "`negative_control: {enabled: false}`.",
    )
    ca_bundle: FullPath = Field(
        description="File of the RDS certificate authorities (`global-bundle.pem`), which the copy's certificate is "
        "verified against. It must be there: nothing is downloaded.",
        examples=["/etc/ssl/rds/global-bundle.pem"],
    )
    connect_via: Via | None = Field(None, description="The way to the copy, where there is no direct one.")
    connect_timeout: Period = Field(
        timedelta(minutes=5),
        description="How long a copy that is available may refuse to let us in.",
        examples=["10min"],
    )
    delete_timeout: Period = Field(
        timedelta(hours=1), description="The longest wait until something that was deleted is gone.", examples=["2h"]
    )
    full_read: bool = Field(
        default=True,
        description="Whether every table of the copy is read once after its first checks: AWS brings a block when it is"
        " first asked for, so a copy is not all there before. What could not be read makes the drill UNKNOWN.",
        examples=[False],
    )
    expires_after: Period = Field(
        timedelta(days=2),
        description="After how long whatever the drill makes may be removed by anybody: a tag says the instant.",
        examples=["1d"],
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if isinstance(self.backup, CopyElsewhere) and self.backup.region == self.region:
            raise fault("the region of production: a copy in another region is meant", "backup", "region")
        return self

    @property
    def physical(self) -> bool:
        """It is made of production's own pages, but nobody sees its files."""
        return False

    @property
    def aligned(self) -> bool:
        """Where a snapshot of AWS's stands between two commits, nobody can say."""
        return False

    @property
    def programs(self) -> tuple[str, ...]:
        """None of PostgreSQL's: AWS does it all."""
        return ()

    @property
    def reads_all(self) -> bool:
        """Where the plan does not say otherwise."""
        return self.full_read

    @property
    def takes(self) -> bool:
        """Whether the drill takes the backup by itself."""
        return isinstance(self.backup, TakeSnapshot)

    @property
    def max_age(self) -> timedelta | None:
        """The oldest that the backup may be; None where any age will do."""
        return None if isinstance(self.backup, TakeSnapshot | PointInTime) else self.backup.max_age

    @property
    def staging_region(self) -> str:
        """Where the copy is restored."""
        return self.backup.region if isinstance(self.backup, CopyElsewhere) else self.region


class Rds(Managed):
    """A snapshot or a point in time of an RDS instance, restored as a new instance."""

    method: Literal["rds"] = Field(description="The recovery method.", examples=["rds"])
    instance: Identifier = Field(description="Identifier of production's instance.", examples=["billing-prod"])
    instance_class: InstanceClass | None = Field(
        None, description="Class of the new instance; production's unless given.", examples=["db.m6g.large"]
    )


class Capacity(Section):
    """Of Aurora Serverless v2, in Aurora capacity units."""

    min: Annotated[Units, Field(ge=0, le=256)] = Field(description="The least.", examples=[0.5])
    max: Annotated[Units, Field(ge=1, le=256)] = Field(description="The most.", examples=[8])


class Aurora(Managed):
    """A snapshot or a point in time of an Aurora cluster, restored as a new cluster with one instance."""

    method: Literal["aurora"] = Field(description="The recovery method.", examples=["aurora"])
    cluster: Identifier = Field(description="Identifier of production's cluster.", examples=["billing-prod"])
    instance_class: InstanceClass = Field(
        description="Class of the one instance of the new cluster.", examples=["db.r6g.large"]
    )
    cluster_parameter_group: Group = Field(
        description="DB cluster parameter group of staging.", examples=["drillbook-aurora-postgresql16"]
    )
    capacity: Capacity | None = Field(None, description="Where the class is `db.serverless`: how small and large.")

    @model_validator(mode="after")
    def _capacity_belongs_to_serverless(self) -> Self:
        if (self.instance_class == "db.serverless") != (self.capacity is not None):
            raise fault("belongs to instance_class `db.serverless`, and is needed there", "capacity")
        return self
