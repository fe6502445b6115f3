"""Recovery from a storage of WAL-G, where its program is on the path.

Guarantees that the storage is only read: of WAL-G's commands it runs `backup-list`, `st cat`, `backup-fetch` and
`wal-fetch`. WAL-G would restore tablespaces where production has them; each is told a place in the drill's folder, and
where that cannot be found out nothing is restored. WAL-G keeps no digest of the files that it restores, so what was
laid out cannot be verified; that is a warning, which the plan may accept.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drills.errors import ToolError
from drills.plans import repository as plan_repository
from drills.processes import ToolRun
from drills.records import Backup, Server
from drills.recovery.base import Taken, Workspace, judge_log
from drills.recovery.repositories.fetching import NOT_THERE, UNREADABLE, command_of, fetch, write_script
from drills.recovery.repositories.repository import (
    Found,
    as_backup,
    choose,
    count_files,
    find_program,
    growth_of,
    make_folder,
    make_target,
    refuse_failure,
    refuse_foreign,
    run_reader,
)
from drills.secrets import VAULT
from drills.tools import Tools

_MISSING = 74
"""EX_IOERR, which wal-fetch ends with when the storage has no such file (WAL-G 2.0, pull request 1195)."""
_NO_BACKUPS = "No backups found"
_PREFIX = "base_"
_UNVERIFIED = "wal-g: warning: the backup has no digests: whether its files are as they were cannot be verified"


@dataclass(frozen=True)
class Walg:
    """WAL-G as the plan wants it."""

    plan: plan_repository.Walg
    source: Server
    tools: Tools
    """PostgreSQL's, of the source's version."""
    place: Path
    """A folder of the drill's own that the servers' account can get to; made when it is needed."""
    logs: Path
    """What the tools say goes here."""

    def pick(self) -> Backup:
        """The backup that the plan asks for.

        Raises:
            GuardError: the storage is of another system than the source.
            ToolError: there is no such backup, or the storage cannot be read.
        """
        done = self._run([*self._command("backup-list"), "--json", "--detail"], "list")
        picked = choose(read_list(done.said), self.plan, self.source, self._where)
        return as_backup(picked, "walg", self._where, done)

    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Restore the backup into this folder, its tablespaces beside it.

        Raises:
            GuardError: it is of another system than the source.
            ToolError: it could not be restored, or it cannot be told where its tablespaces would go.
        """
        told = self._run(
            [*self._command("st"), "cat", f"basebackups_005/{backup.label}_backup_stop_sentinel.json"], "list"
        )
        spaces = make_target(folder)
        spec = map_spaces(told.said, folder, spaces)
        options = []
        if spec is not None:
            file = make_folder(self.place) / "restore-spec.json"
            file.write_text(json.dumps(spec))
            options = [f"--restore-spec={file}"]
        fetching = [*self._command("backup-fetch"), str(folder), backup.label, *options]
        done = self._run(fetching, "fetch", growth_of(folder, backup.size, workspace))
        refuse_foreign(folder, self.source)
        log = workspace.logs / "wal-g-fetch.log"
        judged = judge_log("wal-g", f"{_UNVERIFIED}\n{_weighty(done.said)}", 0, self.plan.accept_warnings, log)
        update = {
            "commands": (*backup.commands, done.arguments),
            "seconds": round(backup.seconds + done.seconds, 6),
            "files": count_files(folder, spaces),
        }
        return Taken(backup.model_copy(update=update), judged)

    def fetch_wal(self, name: str, to: Path) -> bool:
        """Put a WAL segment or a timeline's history there; False where the storage has none of this name.

        Raises:
            ToolError: the storage cannot be read.
        """
        return fetch(self._script(), name, to, self.environment(), self.logs / "wal-g-wal.log")

    def restore_command(self) -> str:
        """What the server is to run for each file of WAL; its environment must have what `environment` says."""
        return command_of(self._script())

    def environment(self) -> Mapping[str, str]:
        """The secrets of the storage, for WAL-G and for a server that runs it.

        Raises:
            SecretError: a reference leads nowhere.
        """
        return {name: VAULT.resolve(reference) for name, reference in self.plan.secrets.items()}

    @property
    def _where(self) -> str:
        return f"the storage of {self.plan.config}"

    def _command(self, command: str) -> list[str]:
        return [find_program("wal-g", "WAL-G, built for PostgreSQL,"), f"--config={self.plan.config}", command]

    def _run(self, arguments: Sequence[str], what: str, progress: Callable[[], None] | None = None) -> ToolRun:
        """Run it; what it wants to write to a home goes to the drill's place."""
        log = self.logs / f"wal-g-{what}.log"
        where = {"HOME": str(make_folder(self.place)), "WALG_DOWNLOAD_CONCURRENCY": str(self.plan.jobs)}
        done = run_reader(
            arguments,
            environment={**self.environment(), **where},
            log=log,
            deadline=self.plan.restore_timeout,
            progress=progress,
        )
        judged = judge_log("wal-g", _weighty(done.said), done.code, self.plan.accept_warnings, log)
        refuse_failure(done, judged, "can the account that servers run as read the storage, with the plan's secrets?")
        return done

    def _script(self) -> Path:
        """The script that fetches WAL, one file at a time: with more, WAL-G leaves programs that fetch in advance."""
        command = shlex.join(self._command("wal-fetch"))
        return write_script(
            make_folder(self.place),
            self._where,
            f"export WALG_DOWNLOAD_CONCURRENCY=1 HOME={shlex.quote(str(self.place))}\n"
            f'{command} "$name" "$to" >&2\n'
            f"case $? in 0) exit 0 ;; {_MISSING}) exit {NOT_THERE} ;; *) exit {UNREADABLE} ;; esac",
        )


def read_list(said: str) -> list[Found]:
    """The backups that `backup-list --json --detail` tells of.

    Raises:
        ToolError: it cannot be read.
    """
    if _NO_BACKUPS in said:
        return []
    try:
        entries = _read_json(said, "[")
        return [_found(entry) for entry in entries]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ToolError(
            f"wal-g backup-list said nothing that can be read: {error}", hint="raw/wal-g-list.log has all of it"
        ) from None


def _found(entry: Mapping[str, Any]) -> Found:
    label = str(entry.get("backup_name") or entry["name"])
    identifier = entry.get("system_identifier")
    return Found(
        label=label,
        system_identifier=str(identifier) if identifier else "",
        taken=datetime.fromisoformat(str(entry["finish_time"])).astimezone(UTC),
        start_lsn=_lsn(entry["start_lsn"]),
        stop_lsn=_lsn(entry["finish_lsn"]),
        timeline=int(entry.get("timeline") or int(label.removeprefix(_PREFIX)[:8], 16)),
        size=int(entry["uncompressed_size"]),
    )


def _lsn(told: int | str) -> str:
    """As PostgreSQL writes it; versions of WAL-G write a number."""
    return f"{told >> 32:X}/{told & 0xFFFFFFFF:X}" if isinstance(told, int) else told


def map_spaces(sentinel: str, folder: Path, spaces: Path) -> dict[str, Any] | None:
    """WAL-G's restore specification that puts each tablespace beside the copy; None where the backup has none.

    Raises:
        ToolError: the backup does not say which it has.
    """
    try:
        told = _read_json(sentinel, "{")["Spec"] or {}
        oids = [str(oid) for oid in told.get("tablespaces") or ()]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ToolError(
            f"the backup does not say which tablespaces it has: {error}",
            hint="without that they would be restored where production has them; look at raw/wal-g-list.log",
        ) from None
    if not oids:
        return None
    places = {oid: {"loc": str(spaces / oid), "link": f"pg_tblspc/{oid}"} for oid in oids}
    return {"base_prefix": str(folder), "tablespaces": oids, **places}


def _read_json(said: str, opening: str) -> Any:  # noqa: ANN401 - whatever it holds
    """The first JSON in a text that begins a line with this."""
    at = said.index(opening) if said.startswith(opening) else said.index(f"\n{opening}") + 1
    return json.JSONDecoder().raw_decode(said, at)[0]


def _weighty(said: str) -> str:
    """Without what only tells how far it is, and without what it was asked for."""
    return "\n".join(line for line in said.splitlines() if not line.startswith(("INFO: ", "DEBUG: ", "[", "{")))
