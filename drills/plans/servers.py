"""The part of a plan that says where production and staging are, and how much production may be asked to bear."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from drills.fields import Address, Period, Reference, Size
from drills.plans.section import Section, fault


class Load(Section):
    """How busy production may be while it is measured. Looked at between statements, also before the backup begins."""

    max_active: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="The most sessions of others that may be active; above it, measuring waits.",
        examples=[50],
    )
    max_lag: Period | None = Field(
        None,
        description="The furthest that a standby may be behind, or the source itself where it is one.",
        examples=["30s"],
    )
    patience: Period = Field(
        timedelta(minutes=10), description="The longest wait; past it the drill ends as UNKNOWN.", examples=["1h"]
    )

    @model_validator(mode="after")
    def _something_is_limited(self) -> Self:
        if self.max_active is None and self.max_lag is None:
            raise fault("says nothing: give `max_active`, `max_lag` or both")
        return self


class Source(Section):
    """The production database. It is only read."""

    address: Address = Field(
        description="Where production is, without a password: `postgresql://role@host:port/database`, or a reference "
        "to such an address.",
        examples=["postgresql://drillbook@db.internal:5432/billing"],
    )
    password: Reference | None = Field(
        None, description="Reference to the role's password.", examples=["env:BILLING_PASSWORD"]
    )
    writable_role: Literal["refuse", "warn"] = Field(
        "refuse",
        description="What to do when the role could write to the source: refuse the drill, or go on and put a warning "
        "into the record.",
        examples=["refuse"],
    )
    statement_timeout: Period = Field(
        timedelta(minutes=30), description="The longest that one statement may run on the source.", examples=["30min"]
    )
    lock_timeout: Period = Field(
        timedelta(seconds=5), description="The longest wait for a lock on the source.", examples=["5s"]
    )
    load: Load | None = Field(
        None, description="How busy production may be; not looked at unless given. Needs pg_read_all_stats."
    )


class Staging(Section):
    """Where the copy is restored. Without an address the drill makes a server of its own and destroys it."""

    address: Address | None = Field(
        None,
        description="A staging server that is there already. The drill makes a database of its own name on it and "
        "drops it at the end. Never production: the guard compares system identifiers.",
        examples=["postgresql://drill@staging.internal:5432/postgres"],
    )
    password: Reference | None = Field(
        None, description="Reference to the staging role's password.", examples=["env:STAGING_PASSWORD"]
    )
    disk_limit: Size | None = Field(
        None,
        description="The most that backup and copy may take on this machine, where the file system has more to give. "
        "Only for a server that the drill makes.",
        examples=["200GB"],
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.address is None and self.password is not None:
            raise fault("password without address: the drill makes its own server and needs none", "password")
        if self.address is not None and self.disk_limit is not None:
            raise fault("disk_limit with address: it speaks of a server that the drill makes", "disk_limit")
        return self
