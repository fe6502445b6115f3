"""Recovery from a repository of Barman that is on this machine.

Barman writes to its own home even while it reads: locks, a log, a copy of each compressed segment that it unpacks; and
`barman recover` files the WAL that has come in, which moves it. So Barman is never run with production's configuration,
but with one of the drill's own that leads to the same backups, and for everything else to the drill's place: WAL is
seen there through links, one for each file that is asked for. Production's hooks are not run. Guarantees that the
repository is only read, by the account that servers run as.

pg_verifybackup compares what was laid out with the backup's manifest. A backup without one (of the rsync method, unless
`barman generate-manifest` was run) cannot be verified; that is a warning, which the plan may accept.
"""

from __future__ import annotations

import ast
import getpass
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from drills.errors import ToolError
from drills.guard import judge_room, measure_room, refuse_if_any
from drills.places import make_folder, server_account, server_tools
from drills.plans import repository as plan_repository
from drills.processes import ToolRun
from drills.records import Backup
from drills.recovery.base import Taken, ToolLog, Workspace
from drills.recovery.repositories.barman_home import LINKED, Home, chain_of, read_home
from drills.recovery.repositories.choosing import Found
from drills.recovery.repositories.fetching import NOT_THERE, write_script
from drills.recovery.repositories.repository import (
    Existing,
    growth_of,
    make_target,
    refuse_foreign,
)
from drills.tools import find_program
from drills.wal import UNREADABLE

_MANIFEST = "backup_manifest"
_DONE = "DONE"
_RUNNING = {"EMPTY", "STARTED", "SYNCING", "WAITING_FOR_WALS"}
_REVIEW = re.compile(
    r"\s*(WARNING|IMPORTANT|WARNING: 'get-wal' is in the specified 'recovery_options'\."
    r"|postgresql\.(auto\.)?conf line .*|These settings have been modified to prevent|data losses"
    r"|You are required to review the following options.*|WARNING: recovery_staging_path and local_staging_path, .*)"
)
"""Barman's remarks on production's settings, none of which is in force in a copy, and on names that it has changed."""
_CHANGED = ("postgresql.conf", "postgresql.conf.origin", "postgresql.auto.conf.origin", ".barman-recover.info")
"""What Barman changes or adds while it restores; no copy of ours reads them."""


@dataclass(frozen=True)
class Barman(Existing):
    """Barman as the plan wants it."""

    plan: plan_repository.Barman

    _tool = "barman"

    def pick(self) -> Backup:
        """The backup that the plan asks for; see `Existing`."""
        find_program("barman", "the package barman")
        infos = self._home().read_backups()
        read = ToolRun(("read", str(self._home().bases)), 0, 0.0, "")
        picked = self._choose([_found(label, info) for label, info in infos.items()], read)
        if "encryption" in infos[picked.label]:
            raise ToolError(
                f"the backup {picked.label} in {self._where} is encrypted: expected one that can be read without a key",
                hint="a drill of Barman's encrypted backups is not supported; name another one by recovery.backup",
            )
        return picked

    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Restore the backup into this folder, its tablespaces beside it, and verify it; see `Existing`."""
        spaces = make_target(folder)
        infos = self._home().read_backups()
        names, chain = _tablespaces(infos.get(backup.label, {})), chain_of(backup.label, infos)
        staging = make_folder(make_folder(self.place) / "staging")
        if chain:  # it is put together there, of all that it is made of
            refuse_if_any([judge_room(measure_room(staging, backup.size * 2, None))])
        # What is put together gets new checksums (pg_combinebackup), so what it is made of is looked at first.
        links = [self._compare(self._home().bases / link / "data", _MANIFEST, workspace) for link in chain]
        done, judged = self._run(
            [
                *self._command("recover"),
                "--get-wal",  # else it would copy all WAL since the backup into the copy
                f"--jobs={self.plan.jobs}",
                f"--recovery-staging-path={staging}",
                # Where an incremental backup is put together; Barman before 3.11 knows neither that nor the option.
                *([f"--local-staging-path={staging}"] if chain else []),
                *[f"--tablespace={name}:{spaces / oid}" for name, oid in names],
                self.plan.server,
                backup.label,
                str(folder),
            ],
            workspace.logs / "barman-recover.log",
            progress=growth_of(folder, backup.size, workspace),
            hint="is the backup readable by the account that servers run as? See raw/barman-recover.log",
        )
        refuse_foreign(folder, self.source)
        runs, judged = self._verify(backup, folder, workspace, judged)
        return Taken(self._laid_out(backup, folder, *links, done, *runs), judged)

    def _verify(
        self, backup: Backup, folder: Path, workspace: Workspace, judged: ToolLog
    ) -> tuple[list[ToolRun], ToolLog]:
        """Every file of the copy against the backup's manifest; Barman has taken that along under another name."""
        manifest = f"{_MANIFEST}.{backup.label}"
        if not (folder / manifest).exists():
            return [], self._unverified(judged, "manifest")
        return [self._compare(folder, manifest, workspace, *_CHANGED, manifest)], judged

    def _compare(self, folder: Path, manifest: str, workspace: Workspace, *ignored: str) -> ToolRun:
        """Every file in there against this manifest."""
        options = ["--quiet", "--no-parse-wal", f"--manifest-path={folder / manifest}"]
        program = server_tools(workspace.tools).program("pg_verifybackup")
        done, _ = self._run(
            [program, *options, *(f"--ignore={name}" for name in ignored), str(folder)],
            workspace.logs / "pg_verifybackup.log",
            hint="set this backup aside, and look at the disks of the repository",
        )
        return done

    @property
    def _where(self) -> str:
        return f"the server {self.plan.server} of {self.plan.config}"

    def _home(self) -> Home:
        return read_home(Path(self.plan.config), self.plan.server)

    def _surroundings(self) -> Mapping[str, str]:
        """Barman needs no secret."""
        return {"TMPDIR": str(make_folder(self.place / "tmp"))}

    def _weighty(self, said: str) -> str:
        return "\n".join(line for line in said.splitlines() if not _REVIEW.fullmatch(line.rstrip()))

    def _command(self, command: str) -> list[str]:
        """The command, with a configuration of the drill's own."""
        account = server_account()
        place = make_folder(make_folder(self.place) / command)
        for name in (*LINKED, "lock"):
            make_folder(place / name)
        text = self._home().own_config(place, account.name if account else getpass.getuser())
        config, log = place / "barman.conf", place / "barman.log"
        if not config.exists() or config.read_text() != text:
            config.write_text(text)
        log.touch()
        if account is not None:
            os.chown(log, account.uid, account.gid)
        return [find_program("barman", "the package barman"), f"--config={config}", "--color=never", command]

    def _script(self) -> Path:
        """The script that fetches WAL: it links what Barman needs to see, and has Barman unpack it.

        What has come in is linked first: if Barman files it in the meantime, it is where it is looked for next.
        """
        home, command = self._home(), self._command("get-wal")
        own = self.place / "get-wal"
        wals = shlex.quote(str(home.folder("wals")))
        links = "".join(
            f"link {shlex.quote(str(home.folder(name)))}/{part} {shlex.quote(str(own / name))}/{part}\n"
            for name, part in (("incoming", '"$name"'), ("streaming", '"$name"'), ("wals", '"$part"'))
        )
        return write_script(
            self.place,
            self._where,
            f"if [ ! -r {wals} ] || [ ! -x {wals} ]; then echo cannot read {wals} >&2; exit {UNREADABLE}; fi\n"
            f'link() {{ [ ! -e "$1" ] || [ -e "$2" ] || ln -sf "$1" "$2" >&2 || exit {UNREADABLE}; }}\n'
            'case $name in *.history) part=$name ;; *) part=${name%"${name#????????????????}"} ;; esac\n'
            f"{links}"
            # What is nowhere, Barman need not be asked for: it takes half a second to say so.
            f"cd {shlex.quote(str(own))} || exit {UNREADABLE}\n"
            '[ -e "incoming/$name" ] || [ -e "streaming/$name" ] || [ -e "wals/$name" ] || [ -e "wals/$part/$name" ] ||'
            f" exit {NOT_THERE}\n"
            f"export TMPDIR={shlex.quote(str(make_folder(self.place / 'tmp')))}\n"
            f'said=$({shlex.join(command)} {shlex.quote(self.plan.server)} "$name" 2>&1 >"$to") && exit 0\n'
            'rm -f "$to"\nprintf "%s\\n" "$said" >&2\n'
            f'case $said in *"not found in server"*) exit {NOT_THERE} ;; *) exit {UNREADABLE} ;; esac',
        )


def _found(label: str, info: dict[str, str]) -> Found:
    status = info.get("status", "")
    running = status in _RUNNING or (status == _DONE and "end_time" not in info)
    fault = "" if running or status == _DONE else f"its status is {status}: {info.get('error') or 'no reason'}"
    return Found(
        label=label,
        system_identifier=info.get("systemid", ""),
        taken=None if running else _ended(label, info),
        start_lsn=info.get("begin_xlog", ""),
        stop_lsn=info.get("end_xlog", ""),
        timeline=int(info.get("timeline", "0")),
        size=int(info.get("size", "0")),
        fault=fault,
    )


def _ended(label: str, info: dict[str, str]) -> datetime:
    """When it ended. Barman does not say when one failed, so when it began; each is called by that."""
    told = info.get("end_time") or info.get("begin_time") or label
    try:
        return datetime.fromisoformat(told).astimezone(UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)  # one of which nothing is known is not older than any other


def _tablespaces(info: dict[str, str]) -> list[tuple[str, str]]:
    """Names of a backup's tablespaces and their oids, as Python writes them. Lists of files are called by the names."""
    try:
        found = [(str(name), str(int(oid))) for name, oid, *_ in ast.literal_eval(info.get("tablespaces", "[]"))]
    except (ValueError, SyntaxError, LookupError, TypeError):
        raise ToolError(
            f"the tablespaces of the backup cannot be read: {info['tablespaces']!r}",
            hint="look at its backup.info; `barman show-backup` should list them",
        ) from None
    for name, _ in found:
        if ":" in name or "/" in name:
            raise ToolError(
                f"Barman cannot be told where to restore the tablespace {name!r}: expected a name without : and /",
                hint="ALTER TABLESPACE ... RENAME TO a name without them, and take a new backup",
            )
    return found
