"""The part of a plan that says which of the backups at AWS is restored.

Owns the kinds of them. Refuses an instant without a time zone: nobody could say which one was meant.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from drills.fields import Period
from drills.plans.section import Section

Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")]
SnapshotName = Annotated[str, Field(pattern=r"^[A-Za-z0-9:._/-]{1,400}$")]


def _when(value: object) -> object:
    """An instant as a plan writes it; YAML has no type for one that is taken as it stands."""
    if not isinstance(value, str) or value == "latest":
        return value
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError("expected `latest`, or an instant with its time zone such as 2026-11-21T22:09:00Z")
    return at


When = Annotated[
    datetime | Literal["latest"],
    BeforeValidator(_when),
    PlainSerializer(lambda at: at if isinstance(at, str) else at.isoformat(), str),
    WithJsonSchema({"type": "string"}),
]


class _MayBeGrowing(Section):
    max_age: Period | None = Field(
        None, description="The oldest that it may be when the drill picks it; older is a FAIL.", examples=["26h"]
    )
    while_creating: Literal["wait", "refuse"] = Field(
        "wait",
        description="What to do when the backup in question is still being created: wait for it, at most "
        "`backup_timeout`, or refuse the drill.",
        examples=["refuse"],
    )


class TakeSnapshot(Section):
    """A manual snapshot that the drill takes, and deletes at the end."""

    kind: Literal["take"] = Field(description="Take a manual snapshot now.", examples=["take"])


class NewestAutomated(_MayBeGrowing):
    """The newest of the snapshots that RDS takes by itself."""

    kind: Literal["automated"] = Field(description="The newest automated snapshot.", examples=["automated"])


class NamedSnapshot(_MayBeGrowing):
    """One snapshot by its name."""

    kind: Literal["snapshot"] = Field(description="A snapshot by name.", examples=["snapshot"])
    name: SnapshotName = Field(
        description="Its identifier, or its ARN where another account shares it.", examples=["before-migration-42"]
    )


class NewestRecoveryPoint(_MayBeGrowing):
    """The newest whole recovery point of AWS Backup in one vault, continuous ones left aside."""

    kind: Literal["recovery_point"] = Field(
        description="The newest recovery point of AWS Backup that can be restored. The record names younger ones that "
        "cannot, such as partial ones.",
        examples=["recovery_point"],
    )
    vault: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{2,50}$")] = Field(
        description="The backup vault.", examples=["production-daily"]
    )


class CopyElsewhere(_MayBeGrowing):
    """The newest copy of a snapshot in another region; it is restored there, and staging must be there."""

    kind: Literal["copy"] = Field(
        description="The newest copy in another region: that with the newest data, whenever it was copied. The record "
        "names those of a cluster that may be newer, but whose original is gone, which alone knew how old they are.",
        examples=["copy"],
    )
    region: Region = Field(description="The region of the copy, and of staging.", examples=["eu-west-1"])


class PointInTime(Section):
    """A point in time, out of the continuous backup of RDS."""

    kind: Literal["time"] = Field(description="A point in time.", examples=["time"])
    at: When = Field(
        description="An instant with its time zone, in quotes; or `latest`, the newest that AWS can restore to.",
        examples=["2026-11-21T22:09:00Z"],
    )


Source = Annotated[
    TakeSnapshot | NewestAutomated | NamedSnapshot | NewestRecoveryPoint | CopyElsewhere | PointInTime,
    Field(discriminator="kind"),
]
