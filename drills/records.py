"""The records that a drill leaves: frozen, strict, and the same in memory as on disk.

Owns the word lists (verdict, basis, outcome) and the models that cross a file. Refuses unknown keys. Guarantees that a
record written is the record read: money stays `Decimal` (text in JSON), instants are aware UTC, durations are seconds
from the monotonic clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import rfc8785
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer


def utc_now() -> datetime:
    """This instant, aware and in UTC."""
    return datetime.now(UTC)


CLOCKS_APART = 120
"""Seconds that the clocks of two machines may differ."""


def file_name(title: str) -> str:
    """A name for a file of what a person called `title`.

    Two titles may read the same without their punctuation; a few digits of their digest keep them apart.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"{readable}-{hashlib.sha256(title.encode()).hexdigest()[:6]}".lstrip("-")


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Instant = Annotated[
    AwareDatetime,
    AfterValidator(_utc),
    PlainSerializer(lambda at: at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"), str),
]
# PostgreSQL's numeric knows NaN and infinity; a table that holds them must be reported, not refused.
Money = Annotated[Decimal, Field(allow_inf_nan=True), PlainSerializer(lambda amount: format(amount, "f"), str)]


class Model(BaseModel):
    """Frozen, and strict about its keys: evidence must round-trip, and a typo must be an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def canonical(self) -> bytes:
        """This record as canonical JSON (RFC 8785): one text for one content, so that digests are comparable."""
        return rfc8785.dumps(self.model_dump(mode="json"))


class Verdict(StrEnum):
    """What was found. FAIL outranks UNKNOWN, UNKNOWN outranks PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def worst(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """The verdict over several. Over none it is UNKNOWN: who asked nothing has learnt nothing."""
        found = set(verdicts)
        for verdict in (cls.FAIL, cls.UNKNOWN, cls.PASS):
            if verdict in found:
                return verdict
        return cls.UNKNOWN


class Basis(StrEnum):
    """Where an expected value comes from."""

    SNAPSHOT = "snapshot"
    WAL = "wal"
    CLOSED_PERIOD = "closed-period"
    CONTROL = "control"
    NONE = "none"


class Outcome(StrEnum):
    """How a drill ended, whatever it found."""

    FINISHED = "finished"
    BROKEN_OFF = "broken off"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


class FileRef(Model):
    """A file of the bundle, by its path inside it."""

    path: str
    sha256: str
    size: int

    @classmethod
    def of(cls, file: Path, root: Path) -> Self:
        """The reference to a file that is there, by its path below `root`."""
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(path=file.relative_to(root).as_posix(), sha256=digest, size=file.stat().st_size)


class Person(Model):
    """Who started the drill: the account on the machine, and the machine."""

    account: str
    host: str
    scheduler: str = ""
    """Id of the Prefect flow run, where there was one."""


class Provenance(Model):
    """Where the plan came from."""

    path: str
    sha256: str
    """Of the file's bytes."""
    commit: str = ""
    """The newest commit that touched the plan; empty outside version control."""
    author: str = ""
    committed: Instant | None = None
    dirty: bool | None = None
    """Whether the work tree had changes that were not committed; None outside version control."""


class Software(Model):
    """What ran: name to version, this program included."""

    versions: dict[str, str]


class Finding(Model):
    """One thing that the guard looked at."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


class Server(Model):
    """A PostgreSQL server as it describes itself. No secret is in here."""

    address: str
    """`user@host:port/database`"""
    system_identifier: str
    version: str
    """As `server_version` says."""
    major: int
    database: str
    role: str
    size: int
    """Bytes of the database, as pg_database_size says."""


class Snapshot(Model):
    """The point in time that backup and expectations share."""

    name: str
    """As exported by pg_export_snapshot()."""
    taken: Instant
    """By the server's clock (clock_timestamp())."""
    wal_lsn: str
    xmin_xmax: str
    """pg_current_snapshot()"""


class Surroundings(Model):
    """What a database needs around it and no dump of it holds; read while production still counts as there."""

    roles: tuple[str, ...]
    """Who owns things and may use them."""
    superusers: tuple[str, ...] = ()
    """Those of them who may do everything: some things nobody else may own."""
    tablespaces: tuple[str, ...]
    """Besides the two that every cluster has."""
    encoding: str
    collate: str
    ctype: str
    provider: str = "c"
    """As pg_database.datlocprovider says: b is builtin, c is libc, i is ICU."""
    locale: str = ""
    """The provider's own; libc has none besides `collate` and `ctype`."""
    icu_rules: str = ""


class Backup(Model):
    """What the recovery method took, or picked among those that were there."""

    method: str
    path: str
    """A folder or file; of a backup elsewhere, what its repository calls it."""
    size: int
    """Bytes on disk."""
    files: int
    digest: str
    """SHA-256 over the sorted `sha256  name` lines of its files, as `sha256sum` prints them; of a base backup that of
    its manifest. Empty where it is verified by the tool that keeps it."""
    commands: tuple[tuple[str, ...], ...]
    """Argument vectors as run."""
    seconds: float
    surroundings: Surroundings | None = None
    label: str = ""
    """What the tool that made it calls it."""
    taken: Instant | None = None
    """When it was complete; None where it was taken from the snapshot of the drill."""
    perhaps_older: bool = False
    """Nobody says when it was taken: `taken` is the time of its file, and a copy of an old file is a new file."""
    start_lsn: str = ""
    """Of a physical backup: where replay has to begin."""
    stop_lsn: str = ""
    """Of a physical backup: where it becomes consistent."""
    timeline: int = 0
    details: dict[str, str] = {}
    """What else is known of it, by name, such as the version of an object in S3."""


class Copy(Model):
    """The restored database."""

    server: Server
    made: bool
    """True where the drill made the server, false where it was given one."""
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    deviations: tuple[str, ...] = ()
    """What was left out on purpose, such as owners on a server that is not ours."""


class Resource(Model):
    """Something that a drill made and has to destroy."""

    kind: str
    """`directory`, `cluster`, `database` or `lock`; at AWS `rds_instance`, `rds_cluster`, `rds_snapshot` or
    `rds_cluster_snapshot`."""
    name: str
    """The path, or the name of the database; at AWS the identifier."""
    address: str = ""
    """Where the database is: an address or a reference to one, never a secret; at AWS the ARN."""
    password: str = ""
    """The reference, never the secret."""
    system_identifier: str = ""
    """Of the server that the database is on: an address may lead elsewhere by the time it is dropped."""
