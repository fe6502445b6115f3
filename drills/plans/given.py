"""`method: dump_file`: a dump that somebody else made, as a plan names it.

Owns the words for where it is and what it must be. Refuses what can be only one of a file and a bucket, a digest that
is none, and a time zone that nobody knows.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator

from drills.fields import Period
from drills.plans.recovery import Recovery
from drills.plans.section import fault

Place = Annotated[str, StringConstraints(pattern=r"^(/.*[^/].*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class GivenDump(Recovery):
    """A dump that is there already, in any of pg_dump's formats, restored by pg_restore or psql.

    It is of a time of its own: nothing but closed periods can be compared. Name none but dumps of your own: what stands
    in one is SQL, and SQL can run code as the account of the staging server (a DO block can).
    """

    method: Literal["dump_file"] = Field(description="The recovery method.", examples=["dump_file"])
    path: Place = Field(
        description="The dump: the full path of a file or of the folder of a directory dump, or `s3://bucket/key`; "
        "with a / at its end, what follows the bucket is the prefix of a directory dump. Custom, directory, tar or "
        "plain, found out by content; files may be compressed by gzip. Name none but your own: a dump's SQL can run "
        "code as the account of the staging server.",
        examples=["s3://backups/billing/billing.dump"],
    )
    newest: bool = Field(
        default=False,
        description="Of all dumps whose keys begin like `path`, take the one that was written last. For S3 only. After "
        "`billing/` anything may follow; after `billing-` the rest of a name in this folder, or of that of a directory "
        "dump; after `billing` a dot, a folder, or a separator and a digit. Files beside a dump are passed over: "
        "digests, signatures, logs (`.sha256`, `.md5`, `.asc`, `.sig`, `.log` and the like).",
        examples=[True],
    )
    sha256: Digest | None = Field(
        None,
        description="What `sha256sum` says of the file as it is stored; of a directory dump, the SHA-256 over the "
        "lines that `sha256sum *` prints. Anything else is an error, and nothing is restored.",
        examples=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    )
    database: str | None = Field(
        None,
        min_length=1,
        description="What the dump calls its database, where that is not the name of the source's; a dump that names "
        "another is UNKNOWN. A plain dump made without --create names none: owner, grants and settings of the database "
        "are not in it, and are not compared; with --create they are.",
        examples=["billing_old"],
    )
    max_age: Period | None = Field(
        None,
        description="A dump that is older is a FAIL. A plain one that does not say when it was begun is UNKNOWN, "
        "unless its file is too old already: have it made by pg_dump --verbose, which writes it.",
        examples=["26h"],
    )
    time_zone: str = Field(
        "UTC",
        description="The time zone of the machine that ran pg_dump. An archive says when it was begun by that "
        "machine's clock, and does not say in which zone.",
        examples=["Europe/Berlin"],
    )

    @property
    def aligned(self) -> bool:
        """It is of a time of its own."""
        return False

    @property
    def programs(self) -> tuple[str, ...]:
        """What loads a plain one, too."""
        return (*super().programs, "psql")

    @model_validator(mode="after")
    def _place_can_be_meant(self) -> Self:
        if self.newest and not self.path.startswith("s3://"):
            raise fault("newest with a path on this machine: it is for S3 only", "newest")
        if self.newest and self.sha256 is not None:
            raise fault("sha256 with newest: the next dump has another digest", "sha256")
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise fault("expected a time zone such as Europe/Berlin", "time_zone") from None
        return self
