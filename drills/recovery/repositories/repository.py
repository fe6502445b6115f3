"""What the methods have in common that read a repository of backups: running its tools, and a place of their own.

Owns their contract (`Existing`). Refuses what was laid out of another system than the source. Guarantees that whatever
a tool wants to write while it reads (locks, logs, what it unpacks) goes to a place of the drill's own, and that no tool
writes over what is there.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from drills.errors import GuardError, ToolError
from drills.places import make_folder, server_account
from drills.plans import repository as plan_repository
from drills.processes import ToolRun, run_tool
from drills.records import Backup, Server
from drills.recovery.base import Taken, ToolLog, Workspace, failure_of, judge_log
from drills.recovery.repositories.choosing import Found, as_backup, choose
from drills.recovery.repositories.fetching import command_of, fetch
from drills.tools import Tools


@dataclass(frozen=True)
class Existing(ABC):
    """A physical method whose backups somebody else takes, into a repository that is only read."""

    plan: plan_repository.Pgbackrest | plan_repository.Barman | plan_repository.Walg
    source: Server
    """Whose backups they have to be."""
    tools: Tools
    """PostgreSQL's, of the source's version."""
    place: Path
    """A folder of the drill's own that the servers' account can get to; made when it is needed."""
    logs: Path
    """What the tools say goes here."""

    @abstractmethod
    def pick(self) -> Backup:
        """The backup that the plan asks for: the newest, a named one, or the newest before an instant.

        Raises:
            GuardError: the repository is of another system than the source.
            NoBackupError: there is no such backup, or it is not sound.
            ToolError: the repository cannot be read.
        """

    @abstractmethod
    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Bring the files of this backup into a folder that is not there yet, its tablespaces beside it.

        The folder is the data directory of the copy, and the server account's own. Nothing is started.

        Raises:
            GuardError: the backup is of another system than the source.
            ToolError: it could not be brought, or is not what it was when it was taken.
        """

    def environment(self) -> Mapping[str, str]:
        """What the environment of a server must have that runs the restore command: the repository's secrets.

        Raises:
            SecretError: a reference leads nowhere.
        """
        return {}

    def fetch_wal(self, name: str, to: Path) -> bool:
        """Put a WAL segment or a timeline's history file there; False where the archive has none of this name.

        Raises:
            ToolError: the archive cannot be read.
        """
        return fetch(self._script(), name, to, self.environment(), self.logs / f"{self._tool}-wal.log")

    def restore_command(self) -> str:
        """What the server is to run for each file of WAL: a shell command with %f and %p, which writes to %p alone."""
        return command_of(self._script())

    _tool: ClassVar[str]
    """The program, which its logs are called by."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """What the repository is called in errors."""

    @abstractmethod
    def _script(self) -> Path:
        """The script that fetches WAL (see `fetching.write_script`)."""

    @abstractmethod
    def _weighty(self, said: str) -> str:
        """What a tool said, without that which only sounds alarming."""

    def _surroundings(self) -> Mapping[str, str]:
        """The environment of the tools."""
        return self.environment()

    def _run(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        limit: timedelta | None = None,
        progress: Callable[[], None] | None = None,
        hint: str = "",
    ) -> tuple[ToolRun, ToolLog]:
        """Run a tool, and judge what it said: as the servers' account, which cannot write what it may only read.

        Args:
            arguments: the program first.
            log: of the run.
            limit: the longest that it may take; `restore_timeout` unless given.
            progress: is called while it runs.
            hint: what to do where it fails.

        Raises:
            ToolError: it could not be run to its end, or says itself that it failed.
        """
        done = run_tool(
            arguments,
            environment=self._surroundings(),
            log=log,
            deadline=(limit or self.plan.restore_timeout).total_seconds(),
            account=server_account(),
            progress=progress,
        )
        said, tool = self._weighty(done.said), Path(arguments[0]).name
        judged = judge_log(tool, said, done.code, self.plan.accept_warnings, log)
        if done.code or judged.errors:
            raise failure_of(done, judged, hint)
        return done, judged

    def _choose(self, found: Sequence[Found], done: ToolRun) -> Backup:
        """The record of the one that the plan asks for; `done` has told of them."""
        picked = choose(found, self.plan, self.source, self._where)
        return as_backup(picked, self.plan.method, self._where, done)

    def _laid_out(self, backup: Backup, folder: Path, *runs: ToolRun) -> Backup:
        """The record of a backup that these have brought."""
        told = {
            "commands": (*backup.commands, *(run.arguments for run in runs)),
            "seconds": round(backup.seconds + sum(run.seconds for run in runs), 6),
            "files": count_files(folder, spaces_of(folder)),
        }
        return backup.model_copy(update=told)

    def _unverified(self, judged: ToolLog, why: str) -> ToolLog:
        """What a tool said, and that whether the files are as they were cannot be verified."""
        warning = (
            f"{judged.tool}: warning: the backup has no {why}: whether its files are as they were cannot be verified"
        )
        said = "\n".join((warning, *judged.warnings))
        return judge_log(judged.tool, said, 0, self.plan.accept_warnings, judged.log)


def make_target(folder: Path) -> Path:
    """The data directory of a copy, which must not be there yet, and beside it the folder for its tablespaces.

    Raises:
        ToolError: it is there: whatever is in it, no tool of ours writes over it.
    """
    if os.path.lexists(folder):
        raise ToolError(f"{folder} is there already", hint="a backup is laid out in a new folder only; sweep first")
    make_folder(folder)
    return make_folder(spaces_of(folder))


def spaces_of(folder: Path) -> Path:
    """Where the tablespaces of the copy lie that has its data directory there."""
    return folder.parent / "tablespaces"


def refuse_foreign(folder: Path, source: Server) -> None:
    """What was laid out is of the source; its system identifier comes first in pg_control.

    Raises:
        GuardError: it is of another system.
        ToolError: it has no pg_control.
    """
    try:
        with (folder / "global" / "pg_control").open("rb") as file:
            found = int.from_bytes(file.read(8), sys.byteorder)
    except OSError as error:
        raise ToolError(
            f"what was laid out has no control file: {error.strerror}",
            hint="the backup is not whole: set it aside, and look at the repository's disks",
        ) from None
    if str(found) != source.system_identifier:
        raise GuardError(
            f"the backup is of another system: expected system identifier {source.system_identifier}, got {found}",
            hint=f"name the repository of {source.address} in the plan",
        )


def count_files(*folders: Path) -> int:
    """How many files lie in there."""
    return sum(len(names) for folder in folders for _, _, names in os.walk(folder))


def growth_of(folder: Path, total: int, workspace: Workspace) -> Callable[[], None]:
    """Tells how much of a backup of `total` bytes has come to a folder and what lies beside it, for whoever waits."""

    def tell() -> None:
        done = 0
        for place, _, names in os.walk(folder.parent):
            for name in names:
                with suppress(OSError):  # a tool gives its files their names when they are whole
                    done += Path(place, name).lstat().st_size
        workspace.progress(done, total or None, "bytes")

    return tell
