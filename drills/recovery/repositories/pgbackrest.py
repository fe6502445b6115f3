"""Recovery from a repository of pgBackRest that is there already.

Guarantees that the repository is only read: of pgBackRest's commands `info`, `restore` and `archive-get` are used, all
with locks and logs in the drill's own place; nothing is expired, checked or pushed. pgBackRest compares the SHA-1 of
every file with the backup's manifest while it restores it, and ends with an error when one differs. A configuration of
production's says where the repository is, and no more: what it says of restoring (where links and tablespaces go, which
databases are left out, on which machine the server runs) is put back.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drills.errors import ToolError
from drills.places import make_folder
from drills.plans import repository as plan_repository
from drills.records import Backup
from drills.recovery.base import Taken, Workspace
from drills.recovery.repositories.choosing import Found
from drills.recovery.repositories.fetching import NOT_THERE, write_script
from drills.recovery.repositories.repository import (
    Existing,
    growth_of,
    make_target,
    refuse_foreign,
)
from drills.recovery.repositories.standin import make_stand_in, place_control
from drills.secrets import VAULT
from drills.tools import find_program
from drills.wal import UNREADABLE

_TELLING = re.compile(
    r"\bP\d+ +(?:(?:INFO|DETAIL|DEBUG|TRACE): |WARN: .* link '.*' will be restored (?:as a file|in a directory) at)"
)
"""Lines that say how far it is: one of them tells of restores that were aborted, and means others. Links are ours."""
_ABSENT = {1, 3}
"""Status codes of `info`: no folder of the stanza, no data in it (pgBackRest, info command)."""
_NO_BACKUP = 2
_HERE = ("--reset-pg1-host",)
"""On this machine, wherever production runs."""
_WHOLE_AND_INSIDE = (
    *_HERE,
    "--type=none",
    "--no-delta",
    "--no-link-all",
    *(
        f"--reset-{option}"
        for option in ("link-map", "tablespace-map", "db-include", "db-exclude", "archive-mode", "recovery-option")
    ),
)
"""What a configuration may say otherwise, and so put files outside of the drill's folder, or leave some out."""
_WEB_IDENTITY = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""Who a machine in Kubernetes is for AWS, which pgBackRest asks its environment alone (repo-s3-key-type=web-id)."""
_SHOWN = 400
"""Characters of an error that are told."""


@dataclass(frozen=True)
class Pgbackrest(Existing):
    """pgBackRest as the plan wants it."""

    plan: plan_repository.Pgbackrest

    _tool = "pgbackrest"

    def pick(self) -> Backup:
        """The backup that the plan asks for; see `Existing`."""
        asked, limit = [*self._command("info", "warn"), "--output=json"], self.plan.backup_timeout
        done, _ = self._run(asked, self.logs / "pgbackrest-info.log", limit=limit)
        return self._choose(self._found(done.said), done)

    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Restore the backup into this folder, every file verified on the way; see `Existing`."""
        spaces = make_target(folder)
        done, judged = self._run(
            [
                *self._command("restore", "info"),
                f"--pg1-path={folder}",
                f"--set={backup.label}",
                *_WHOLE_AND_INSIDE,
                f"--process-max={self.plan.jobs}",
                f"--tablespace-map-all={spaces}",
                # A restore clears it away, and on production's machine that is where its archiving keeps count.
                f"--spool-path={make_folder(self.place / 'spool')}",
            ],
            workspace.logs / "pgbackrest-restore.log",
            progress=growth_of(folder, backup.size, workspace),
        )
        refuse_foreign(folder, self.source)
        if not self._stand_in.exists():
            place_control(self._stand_in, (folder / "global" / "pg_control").read_bytes())
        return Taken(self._laid_out(backup, folder, done), judged)

    def environment(self) -> Mapping[str, str]:
        """The secrets of the repository, for pgBackRest and for a server that runs it; see `Existing`."""
        own = {name: os.environ[name] for name in _WEB_IDENTITY if name in os.environ}
        return own | {
            f"PGBACKREST_{option.upper().replace('-', '_')}": VAULT.resolve(reference)
            for option, reference in self.plan.secrets.items()
        }

    @property
    def _stand_in(self) -> Path:
        return self.place / "system"

    @property
    def _where(self) -> str:
        at = self.plan.repo_path or f"repo{self.plan.repo} of {self.plan.config}"
        return f"the stanza {self.plan.stanza} in {at}"

    def _weighty(self, said: str) -> str:
        return "\n".join(line for line in said.splitlines() if not _TELLING.search(line) and line[:2] != "[{")

    def _command(self, command: str, level: str) -> list[str]:
        """The command with what it needs to find the repository, and to write nowhere but in the drill's place."""
        plan = self.plan
        if plan.config is None:
            config = "--no-config"
        else:
            config = f"--config{'-path' if Path(plan.config).is_dir() else ''}={plan.config}"
        return [
            find_program("pgbackrest", "the package pgbackrest"),
            command,
            config,
            f"--stanza={plan.stanza}",
            f"--repo={plan.repo}",
            *([f"--repo{plan.repo}-path={plan.repo_path}"] if plan.repo_path else []),
            f"--lock-path={make_folder(make_folder(self.place) / 'lock')}",
            f"--log-path={make_folder(self.place / 'log')}",
            "--log-level-file=off",
            "--log-level-stderr=off",
            f"--log-level-console={level}",
        ]

    def _script(self) -> Path:
        """The script that fetches WAL. pgBackRest asks whose WAL it is, so there is a stand-in for the source."""
        command = [*self._command("archive-get", "warn"), "--no-archive-async", *_HERE, f"--pg1-path={self._stand_in}"]
        if not self._stand_in.exists():
            make_stand_in(self._stand_in, self.source.system_identifier, self.tools, self.logs / "pgbackrest-wal.log")
        return write_script(
            self.place,
            self._where,
            f'{shlex.join(command)} "$name" "$to" >&2\n'
            f"case $? in 0) exit 0 ;; {NOT_THERE}) exit {NOT_THERE} ;; *) exit {UNREADABLE} ;; esac",
        )

    def _found(self, said: str) -> list[Found]:
        stanza = self._stanza(said)
        systems = {(db["repo-key"], db["id"]): str(db["system-id"]) for db in stanza["db"]}
        return [
            Found(
                label=one["label"],
                system_identifier=systems[one["database"]["repo-key"], one["database"]["id"]],
                taken=datetime.fromtimestamp(one["timestamp"]["stop"], UTC),
                start_lsn=(one.get("lsn") or {}).get("start") or "",
                stop_lsn=(one.get("lsn") or {}).get("stop") or "",
                timeline=int((one["archive"]["stop"] or "0")[:8], 16),
                size=one["info"]["size"],
                fault="pages whose checksum was wrong when it was taken" if one.get("error") else "",
            )
            for one in stanza["backup"]
        ]

    def _stanza(self, said: str) -> dict[str, Any]:
        """What `info` says of the stanza."""
        # What went wrong is told with the line ends that it had.
        decoder = json.JSONDecoder(strict=False)
        try:
            ((stanza,), _) = decoder.raw_decode(said, said.index("[{"))
            codes = {repo["status"]["code"]: repo["status"]["message"] for repo in stanza["repo"]}
        except (ValueError, LookupError, TypeError) as error:
            raise ToolError(
                f"pgbackrest info said nothing that can be read: {error}", hint="raw/pgbackrest-info.log has all of it"
            ) from None
        if codes.keys() & _ABSENT:
            raise ToolError(
                f"{self._where} is not there: {'; '.join(codes.values())}",
                hint="mend recovery.stanza, or say where its repository is by recovery.repo_path or recovery.config",
            )
        if codes.keys() - {0, _NO_BACKUP}:
            # A file that was opened with the wrong key is told in full.
            reasons = re.sub(r"[^ -~]+", " ", "; ".join(codes.values()))[:_SHOWN]
            raise ToolError(
                f"{self._where} cannot be read: {reasons}",
                hint="the account that servers run as must be able to read it, with the secrets of the repository",
            )
        return dict(stanza)
