"""The plan: what a drill is to do, as its YAML file declares it.

Owns the model and every rule between its parts. Refuses unknown keys, wrong types, duplicate names and combinations
that cannot run. Guarantees that whatever passed here can at least be begun. Reading the file, with lines for the
errors, is `drills.planfile`; the reference in docs/plan.md and the JSON Schema are generated from these fields.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from drills.fields import Duration, Name, Text, Title, Tools, server_of
from drills.plans.checks import Checks, InvariantCheck
from drills.plans.given import GivenDump
from drills.plans.negative import NegativeControl
from drills.plans.outages import KillServer
from drills.plans.rds import Aurora, Managed, Rds
from drills.plans.recovery import BaseBackup, Dump, Pages, Point, Stream
from drills.plans.repository import Barman, Pgbackrest, Walg
from drills.plans.section import Section, all_at_once, fault, refuse_twice
from drills.plans.servers import Source, Staging
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
