"""The plan: what a drill is to do, as its YAML file declares it.

Owns the model and every rule between its parts. Refuses unknown keys, wrong types, duplicate names and combinations
that cannot run. Guarantees that whatever passed here can at least be begun. Reading the file, with lines for the
errors, is `drills.planfile`; the reference in docs/plan.md and the JSON Schema are generated from these fields.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from drills.fields import Address, Duration, Name, Period, Reference, Size, Text, Title, Tools, server_of
from drills.plans.checks import Checks, InvariantCheck
from drills.plans.given import GivenDump
from drills.plans.negative import NegativeControl
from drills.plans.rds import Aurora, Managed, Rds
from drills.plans.recovery import BaseBackup, Dump, Pages, Point, Stream
from drills.plans.repository import Barman, Pgbackrest, Walg
from drills.plans.section import Section, all_at_once, fault, refuse_twice
from drills.plans.totals import TotalCheck
from drills.units import parse_duration, parse_size, show_duration

__all__ = [
    "Aurora",
    "Barman",
    "BaseBackup",
    "Checks",
    "Dump",
    "Evidence",
    "GivenDump",
    "InvariantCheck",
    "KillServer",
    "Managed",
    "Objectives",
    "Pages",
    "Pgbackrest",
    "Plan",
    "Point",
    "Rds",
    "Source",
    "Staging",
    "Stream",
    "TotalCheck",
    "Walg",
    "parse_duration",
    "parse_size",
    "show_duration",
]


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


class KillServer(Section):
    """SIGKILL to the whole server of the copy, under a heartbeat writer; then it is started again."""

    kind: Literal["kill_server"] = Field(description="The kind of fault.", examples=["kill_server"])
    name: Title = Field(description="What the outage is called in the report.", examples=["server killed"])
    writers: int = Field(
        2, ge=1, le=32, description="Heartbeat writers, each committing one row at a time.", examples=[4]
    )
    steady: Period = Field(
        timedelta(seconds=2), description="How long the heartbeat beats before the fault.", examples=["10s"]
    )
    down: Duration = Field(
        timedelta(seconds=1),
        description="How long the server is left down before it is started again.",
        examples=["30s"],
    )
    limit: Period = Field(
        timedelta(minutes=5),
        description="The longest wait for recovery; past it the outage is a FAIL.",
        examples=["5min"],
    )
    rto: Duration | None = Field(
        None, description="From the fault to the first commit that is acknowledged again.", examples=["1min"]
    )
    rpo: Duration = Field(
        timedelta(0),
        description="The oldest acknowledged commit that may be lost, by its age at the fault.",
        examples=["0s"],
    )


class Objectives(Section):
    """The targets that the measured times are held against."""

    rto: Duration | None = Field(
        None,
        description="From the declared loss to a restored copy whose checks have passed; at AWS also until every table "
        "of it has been read once, where `recovery.full_read` asks for that.",
        examples=["4h"],
    )
    rpo: Duration | None = Field(
        None, description="Age of the backup's snapshot at the declared loss.", examples=["15min"]
    )


class Evidence(Section):
    """Where the bundle goes."""

    folder: Text = Field(
        "evidence",
        description="The evidence folder, relative to the working directory. A bundle lands in "
        "`<folder>/<database>/<year>Q<n>/<drill id>/`.",
        examples=["/srv/evidence"],
    )


Method = Dump | Stream | GivenDump | BaseBackup | Pgbackrest | Barman | Walg | Rds | Aurora
"""The recovery methods."""


class Plan(Section):
    """A drill, declared."""

    version: Literal[1] = Field(description="Version of this format.", examples=[1])
    database: Name = Field(
        description="The name that the evidence is filed under: lowercase letters, digits, - and _.",
        examples=["billing"],
    )
    owner: Title = Field(description="Who answers for this database's recovery.", examples=["payments-sre"])
    requester: Title | None = Field(
        None,
        description="Who asks for the drill, when the command line does not say.",
        examples=["controls@example.com"],
    )
    controls: tuple[Title, ...] = Field(
        (), description="Ids of the controls that this drill evidences.", examples=[["SOC2-A1.3", "DORA-12.6"]]
    )
    source: Source = Field(description="The production database.")
    recovery: Method = Field(discriminator="method", description="How it is brought back.")
    staging: Staging = Field(default_factory=Staging, description="Where the copy is restored.")
    checks: Checks = Field(default_factory=Checks, description="What the copy must prove.")
    negative_control: NegativeControl = Field(
        default_factory=NegativeControl, description="How the checks themselves are put to the test."
    )
    outages: tuple[KillServer, ...] = Field((), description="Faults to inject into the copy, in order.")
    objectives: Objectives = Field(default_factory=Objectives, description="The targets.")
    evidence: Evidence = Field(default_factory=Evidence, description="Where the bundle goes.")
    tools: Tools = Field(
        "auto",
        description="PostgreSQL's own tools: `auto` (those of the source's major version: the embedded ones for a "
        "source on this machine, the system's otherwise), `embedded`, or a folder such as "
        "`/usr/lib/postgresql/16/bin`.",
        examples=["/usr/lib/postgresql/16/bin"],
    )

    @model_validator(mode="after")
    def _empty_tables_need_no_excuse(self) -> Self:
        if self.recovery.aligned and self.checks.may_be_empty:
            said = "it is for a copy of another time; this one stands at the drill's own snapshot: leave it out"
            raise fault(said, "checks", "may_be_empty")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        places = [(outage.name, ("outages", index, "name")) for index, outage in enumerate(self.outages)]
        for name, at in places:
            if name.casefold() == "restore":
                raise fault(f"{name!r} is no name for an outage: the checks after it are told by that name", *at)
        refuse_twice("an outage", places)
        if not self.recovery.aligned:
            self._refuse_what_changes()
        if isinstance(self.recovery, Stream):
            self._refuse_to_measure_recovery()
        if isinstance(self.recovery, Managed):
            self._refuse_what_aws_does(self.recovery)
        if self.staging.address is None:
            return self
        if self.recovery.physical:
            said = f"method {self.recovery.method} brings back a whole server, which the drill makes by itself"
            raise fault(said, "staging", "address")
        if self.outages:
            raise fault("kill_server with staging.address: only a server that the drill made may be killed", "outages")
        if server_of(self.staging.address) == server_of(self.source.address):
            raise fault("the server is that of source.address: staging is never production", "staging", "address")
        return self

    def _refuse_to_measure_recovery(self) -> None:
        """What production itself feeds is no recovery of it."""
        for key in ("rto", "rpo"):
            if getattr(self.objectives, key) is not None:
                said = "method stream reads production while the copy is loaded: nothing is recovered from a backup"
                raise fault(said, "objectives", key)

    def _refuse_what_aws_does(self, recovery: Rds | Aurora) -> None:
        """The server of such a copy is AWS's to make and to run."""
        for key in ("address", "disk_limit"):
            if getattr(self.staging, key) is not None:
                said = f"method {recovery.method} brings back an instance of its own; its network is recovery.staging"
                raise fault(said, "staging", key)
        if self.outages:
            raise fault(f"kill_server with method {recovery.method}: the server is not ours to kill", "outages")
        via = recovery.connect_via
        if via is not None and server_of(via.address) == server_of(self.source.address):
            said = "the server is that of source.address: expected the way to the copy"
            raise fault(said, "recovery", "connect_via", "address")

    def _refuse_what_changes(self) -> None:
        """A copy of another time is held against what closed periods hold, and nothing else that the source has."""
        checks, faults = self.checks, []
        comparing = {
            ("row_counts",): (checks.row_counts, "row_counts: false"),
            ("content", "compare"): (checks.content.compare, "content: {compare: false}"),
            ("sequences",): (checks.sequences, "sequences: false"),
        }
        asked = {at: line for at, (wanted, line) in comparing.items() if wanted}
        hint = "\n  ".join(["in the plan write:", "checks:", *(f"  {line}" for line in asked.values())])
        for at in asked:
            said = "the copy is of another time than the source is measured at: expected this to be off"
            faults.append(fault(said, "checks", *at, hint=hint))
        for index, total in enumerate(checks.totals):
            if total.closed is None:
                said = "expected a closing rule, since the copy is of another time than the source is measured at"
                faults.append(fault(said, "checks", "totals", index, "closed"))
        if not checks.totals:
            said = "expected a total with a closing rule: nothing else shows what came back"
            faults.append(fault(said, "checks", "totals"))
        if faults:
            raise all_at_once(faults)
