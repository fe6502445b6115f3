"""Recovery from a storage of WAL-G, where its program is on the path.

Guarantees that the storage is only read: of WAL-G's commands it runs `backup-list`, `st cat`, `backup-fetch` and
`wal-fetch`. WAL-G would restore tablespaces where production has them; each is told a place in the drill's folder, and
where that cannot be found out nothing is restored. WAL-G keeps no digest of the files that it restores, so what was
laid out cannot be verified; that is a warning, which the plan may accept.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drills.errors import ToolError
from drills.places import make_folder
from drills.plans import repository as plan_repository
from drills.processes import ToolRun
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
from drills.secrets import VAULT
from drills.tools import find_program
from drills.wal import UNREADABLE

_MISSING = 74
"""EX_IOERR, which wal-fetch ends with when the storage has no such file (WAL-G 2.0, pull request 1195)."""
_NO_BACKUPS = "No backups found"
_PREFIX = "base_"
_READABLE = "can the account that servers run as read the storage, with the plan's secrets?"


@dataclass(frozen=True)
class Walg(Existing):
    """WAL-G as the plan wants it."""

    plan: plan_repository.Walg

    _tool = "wal-g"

    def pick(self) -> Backup:
        """The backup that the plan asks for; see `Existing`."""
        done = self._ask([*self._command("backup-list"), "--json", "--detail"])
        return self._choose(read_list(done.said), done)

    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Restore the backup into this folder, its tablespaces beside it; see `Existing`.

        Raises:
            GuardError: it is of another system than the source.
            ToolError: it could not be restored, or it cannot be told where its tablespaces would go.
        """
        told = self._ask([*self._command("st"), "cat", f"basebackups_005/{backup.label}_backup_stop_sentinel.json"])
        spec = map_spaces(told.said, folder, make_target(folder))
        options = []
        if spec is not None:
            file = make_folder(self.place) / "restore-spec.json"
            file.write_text(json.dumps(spec))
            options = [f"--restore-spec={file}"]
        done, judged = self._run(
            [*self._command("backup-fetch"), str(folder), backup.label, *options],
            workspace.logs / "wal-g-fetch.log",
            progress=growth_of(folder, backup.size, workspace),
            hint=_READABLE,
        )
        refuse_foreign(folder, self.source)
        return Taken(self._laid_out(backup, folder, done), self._unverified(judged, "digests"))

    def environment(self) -> Mapping[str, str]:
        """The secrets of the storage, for WAL-G and for a server that runs it; see `Existing`."""
        return {name: VAULT.resolve(reference) for name, reference in self.plan.secrets.items()}

    @property
    def _where(self) -> str:
        return f"the storage of {self.plan.config}"

    def _command(self, command: str) -> list[str]:
        return [find_program("wal-g", "WAL-G, built for PostgreSQL,"), f"--config={self.plan.config}", command]

    def _surroundings(self) -> Mapping[str, str]:
        """What it wants to write to a home goes to the drill's place."""
        own = {"HOME": str(make_folder(self.place)), "WALG_DOWNLOAD_CONCURRENCY": str(self.plan.jobs)}
        return {**self.environment(), **own}

    def _weighty(self, said: str) -> str:
        """Without what only tells how far it is, and without what it was asked for."""
        return "\n".join(line for line in said.splitlines() if not line.startswith(("INFO: ", "DEBUG: ", "[", "{")))

    def _ask(self, arguments: Sequence[str]) -> ToolRun:
        return self._run(arguments, self.logs / "wal-g-list.log", hint=_READABLE)[0]

    def _script(self) -> Path:
        """The script that fetches WAL, one file at a time: with more, WAL-G leaves programs that fetch in advance."""
        command = shlex.join(self._command("wal-fetch"))
        return write_script(
            make_folder(self.place),
            self._where,
            f"export WALG_DOWNLOAD_CONCURRENCY=1 HOME={shlex.quote(str(self.place))}\n"
            # Where production has it fetch in advance, it looks first, and takes away what it finds.
            f"export WALG_PREFETCH_DIR={shlex.quote(str(self.place / 'prefetch'))}\n"
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
