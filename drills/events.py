"""What a journal can say: one frozen model per kind of entry.

A reader that meets a kind it does not know refuses the journal; it never guesses.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from drills.commits import Alignment
from drills.records import (
    Backup,
    Copy,
    FileRef,
    Finding,
    Instant,
    Model,
    Outcome,
    Person,
    Provenance,
    Resource,
    Server,
    Snapshot,
    Software,
    Verdict,
)
from drills.results import CheckResult, OutageResult, Problem
from drills.targets import Quarantine, Recovered


class Opened(Model):
    """A drill began."""

    event: Literal["opened"] = "opened"
    drill: str
    plan: dict[str, Any]
    evidence: str
    """The evidence folder as an absolute path: whoever sweeps stands elsewhere."""
    provenance: Provenance
    requester: str
    runner: Person
    software: Software


class StageBegan(Model):
    """A stage began."""

    event: Literal["stage began"] = "stage began"
    stage: str


class StageEnded(Model):
    """A stage ended, well or with an error."""

    event: Literal["stage ended"] = "stage ended"
    stage: str
    error: str = ""


class Guarded(Model):
    """What the guard looked at."""

    event: Literal["guarded"] = "guarded"
    findings: tuple[Finding, ...]
    source: Server | None


class Refused(Model):
    """The drill was refused before any effect."""

    event: Literal["refused"] = "refused"
    message: str
    hint: str


class Intended(Model):
    """About to make this."""

    event: Literal["intended"] = "intended"
    resource: Resource


class Destroyed(Model):
    """This is gone, looked for and not found."""

    event: Literal["destroyed"] = "destroyed"
    resource: Resource


class SnapshotTaken(Model):
    """Backup and expectations share this point in time from here on."""

    event: Literal["snapshot taken"] = "snapshot taken"
    snapshot: Snapshot
    ago: float = 0.0
    """Seconds between the snapshot and this entry."""


class Expected(Model):
    """The expectations are measured and on disk."""

    event: Literal["expected"] = "expected"
    file: FileRef


class BackedUp(Model):
    """The backup is complete."""

    event: Literal["backed up"] = "backed up"
    backup: Backup
    reaches: Instant | None = None
    """As of when the copy will be, where its recovery goes on behind the backup to a point of the plan's; None where
    nobody knows, and where it goes to the snapshot of the drill."""


class LossDeclared(Model):
    """From here on production counts as lost: the recovery clocks start."""

    event: Literal["loss declared"] = "loss declared"


class Accepting(Model):
    """The copy accepts connections."""

    event: Literal["accepting"] = "accepting"


class Replayed(Model):
    """A physical copy has replayed the WAL up to its target."""

    event: Literal["replayed"] = "replayed"
    recovered: Recovered


class Quarantined(Model):
    """A physical copy was asked whether it is in quarantine, and answered rightly."""

    event: Literal["quarantined"] = "quarantined"
    quarantine: Quarantine


class AlignmentProved(Model):
    """The copy said which transactions it holds."""

    event: Literal["alignment proved"] = "alignment proved"
    alignment: Alignment


class Restored(Model):
    """The copy is restored."""

    event: Literal["restored"] = "restored"
    copy_of_it: Copy


class Checked(Model):
    """A check was asked and answered."""

    event: Literal["checked"] = "checked"
    round: str
    result: CheckResult


class FullyRead(Model):
    """Every table of the copy was read once, or named where it could not be."""

    event: Literal["fully read"] = "fully read"
    seconds: float
    tables: int
    bytes: int
    """Of those that were read, without indexes."""
    unread: tuple[str, ...]
    """With one of them, the copy is not fully read."""


class RoundEnded(Model):
    """All checks of a round were asked."""

    event: Literal["round ended"] = "round ended"
    round: str
    verdict: Verdict


class FaultIntended(Model):
    """About to inject this fault."""

    event: Literal["fault intended"] = "fault intended"
    outage: str


class OutageEnded(Model):
    """An outage is over and measured."""

    event: Literal["outage ended"] = "outage ended"
    result: OutageResult


class Failed(Model):
    """An error ended a stage."""

    event: Literal["failed"] = "failed"
    problem: Problem


class Reopened(Model):
    """Another process took over the journal of one that is gone."""

    event: Literal["reopened"] = "reopened"
    torn: bool
    """Whether the line before was torn off in the middle."""
    whole: str
    """SHA-256 of the last line that was not: a torn line has lost its own `prev`, and with it the line before."""


class Interrupted(Model):
    """The drill was stopped before its end."""

    event: Literal["interrupted"] = "interrupted"
    reason: str


class Closed(Model):
    """The drill is over; nothing of it is left but its evidence."""

    event: Literal["closed"] = "closed"
    verdict: Verdict
    outcome: Outcome


class Published(Model):
    """The bundle is in the evidence folder. Stands in the working copy of the journal only."""

    event: Literal["published"] = "published"
    bundle: str
    sums_sha256: str


Event = (
    Opened
    | StageBegan
    | StageEnded
    | Guarded
    | Refused
    | Intended
    | Destroyed
    | SnapshotTaken
    | Expected
    | BackedUp
    | LossDeclared
    | Accepting
    | Replayed
    | Quarantined
    | AlignmentProved
    | Restored
    | Checked
    | FullyRead
    | RoundEnded
    | FaultIntended
    | OutageEnded
    | Failed
    | Reopened
    | Interrupted
    | Closed
    | Published
)


class Entry(Model):
    """One line of the journal."""

    seq: int
    """From 1, without gaps."""
    at: Instant
    elapsed: float | None
    """Monotonic seconds since the opening; None where another process wrote the entry."""
    prev: str
    """SHA-256 of the line before, without its newline."""
    body: Annotated[Event, Field(discriminator="event")]
