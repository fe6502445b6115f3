"""The demo's bank with backups that were there before the drill: a repository of pgBackRest, and WAL that goes there.

Owns what a company has done long before. The drill only reads the repository.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from drills.clusters import Cluster
from drills.errors import ClusterError
from drills.places import make_folder
from drills.processes import last_words, run_tool
from drills.tools import find_program

STANZA = "bank"
_PACE = "2s"
"""How long a segment of WAL waits until it is archived, full or not."""
_DEADLINE = 600


@dataclass(frozen=True)
class Repository:
    """Backups of a cluster, in its folder."""

    cluster: Cluster

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.cluster.folder / "repository"

    def _command(self, command: str, *more: str) -> list[str]:
        place = self.cluster.folder
        return [
            find_program("pgbackrest", "the package pgbackrest"), command, "--no-config", f"--stanza={STANZA}",
            f"--repo1-path={self.folder}", f"--lock-path={place / 'lock'}", f"--log-path={place / 'tool-log'}",
            f"--pg1-path={self.cluster.data}", "--log-level-console=warn", *more,
        ]  # fmt: skip

    def settings(self) -> dict[str, str]:
        """With which the cluster archives its WAL."""
        push = " ".join(shlex.quote(part) for part in self._command("archive-push", "--compress-type=lz4")).replace(
            "%", "%%"
        )
        return {"archive_mode": "on", "archive_timeout": _PACE, "archive_command": f'{push} "%p"'}

    def take_backup(self) -> None:
        """The first backup, of a cluster that runs.

        Raises:
            ClusterError: it could not be taken.
        """
        for name in ("repository", "lock", "tool-log"):
            make_folder(self.cluster.folder / name)
        reached = [f"--pg1-port={self.cluster.port}", f"--pg1-user={self.cluster.superuser}"]
        for command in (
            self._command("stanza-create", *reached),
            self._command(
                "backup", "--type=full", "--start-fast", "--compress-type=lz4", "--repo1-retention-full=9", *reached
            ),
        ):
            done = run_tool(
                command,
                environment=self.cluster.address().environment() | {"HOME": os.fspath(self.cluster.folder)},
                log=self.cluster.folder / "pgbackrest.log",
                deadline=_DEADLINE,
                account=self.cluster.account,
            )
            if done.code:
                raise ClusterError(f"pgbackrest {command[1]} ended with {done.code}: {last_words(done.said)}")
