"""The part of a plan that recovers from a repository of backups which somebody else takes.

Owns `method: pgbackrest`, `method: barman` and `method: walg`. Refuses two ways of saying which backup is meant, and a
secret that is not a reference. Whether the repository is there, and of the source, is asked by `drills.recovery`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from drills.fields import Moment, Period, Reference
from drills.plans.recovery import Pages
from drills.plans.section import fault

FullPath = Annotated[str, StringConstraints(pattern=r"^/.+$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,254}$")]
"""What a repository calls a backup, a stanza or a server; nothing that a tool could take for an option."""
RepositoryOption = Annotated[str, StringConstraints(pattern=r"^repo[0-9]{1,3}-[a-z0-9-]+$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]


class Repository(Pages):
    """What the methods have in common whose backups lie in a repository. The repository is only read."""

    backup: Label | None = Field(
        None,
        description="The backup, by the name that the repository has for it; the newest unless given. A repository "
        "that was read and does not hold it, or not whole, is a FAIL; one that cannot be read is UNKNOWN.",
        examples=["20261121-010002F"],
    )
    before: Moment | None = Field(
        None,
        description="The newest backup that was complete before this instant, which is written with its time zone. "
        "Where the oldest is younger that is a FAIL, as it is where no backup leads to the point of `to`.",
        examples=["2026-11-21T00:00:00Z"],
    )
    max_age: Period | None = Field(
        None,
        description="The longest time between the completion of the backup and the drill's beginning; older is a FAIL.",
        examples=["26h"],
    )

    @model_validator(mode="after")
    def _one_backup(self) -> Self:
        if self.backup is not None and self.before is not None:
            raise fault("`backup` and `before`: expected one of them", "before")
        return self


class Pgbackrest(Repository):
    """A backup out of a repository of pgBackRest."""

    method: Literal["pgbackrest"] = Field(description="The recovery method.", examples=["pgbackrest"])
    stanza: Label = Field(description="What the repository calls the source.", examples=["billing"])
    config: FullPath | None = Field(
        None,
        description="A configuration file of pgBackRest, or the folder of several, that says where the repository is. "
        "Of what it says of locks, logs and queues nothing is used. For `repo1-s3-key-type=web-id`, AWS_ROLE_ARN and "
        "AWS_WEB_IDENTITY_TOKEN_FILE are handed on from the drill's environment.",
        examples=["/etc/pgbackrest/pgbackrest.conf"],
    )
    repo_path: FullPath | None = Field(
        None, description="The repository's folder on this machine; `config` unless given.", examples=["/srv/backrest"]
    )
    repo: int = Field(
        1, ge=1, le=256, description="Which of several repositories, by its number in the configuration.", examples=[2]
    )
    secrets: dict[RepositoryOption, Reference] = Field(
        default_factory=dict,
        description="Options of the repository that are secrets, as references.",
        examples=[{"repo1-cipher-pass": "env:BACKREST_CIPHER"}],
    )

    @model_validator(mode="after")
    def _repository_is_told(self) -> Self:
        if self.config is None and self.repo_path is None:
            raise fault("says not where the repository is: give `config`, `repo_path` or both")
        return self


class Barman(Repository):
    """A backup out of a repository of Barman on this machine."""

    method: Literal["barman"] = Field(description="The recovery method.", examples=["barman"])
    server: Label = Field(description="What Barman calls the source.", examples=["billing"])
    config: FullPath = Field(
        "/etc/barman.conf",
        description="Barman's configuration file, read for where its backups are and how they are packed. Barman "
        "itself never sees it: it is run with one of the drill's own. An incremental backup is put together in the "
        "drill's folder; an encrypted one is refused.",
        examples=["/etc/barman.conf"],
    )


class Walg(Repository):
    """A backup out of a storage of WAL-G."""

    method: Literal["walg"] = Field(description="The recovery method.", examples=["walg"])
    config: FullPath = Field(
        description="WAL-G's configuration file, which says where the storage is.", examples=["/etc/wal-g.json"]
    )
    secrets: dict[Variable, Reference] = Field(
        default_factory=dict,
        description="Settings of WAL-G that are secrets, as references; they are handed over by environment.",
        examples=[{"WALG_LIBSODIUM_KEY": "env:WALG_KEY"}],
    )
