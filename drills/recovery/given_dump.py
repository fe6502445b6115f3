"""Recovery from a dump that somebody else made: custom, directory, tar or plain, compressed by gzip or not.

Owns picking it, on this machine or in S3, and restoring it by pg_restore or psql. Refuses one whose digest is not the
plan's, and a plain one that gives psql orders, before anything is restored. Guarantees that what is restored is what
was picked, and that one which is cut short is a FAIL, also where the tool that loads it ends with 0.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from drills import plan_given
from drills.addresses import Address
from drills.backup_rows import TableRows
from drills.errors import ToolError
from drills.measures import Scan
from drills.processes import run_tool
from drills.records import Backup, Finding, Verdict
from drills.recovery.base import Restore, Taken, ToolLog, Workspace
from drills.recovery.dump_files import Form
from drills.recovery.dump_rows import read_rows
from drills.recovery.given_files import Found, Search, place_of
from drills.recovery.given_load import Loading

_CREATED = re.compile(r"^; Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_DATABASE = re.compile(r"^;     dbname: (.*)$", re.MULTILINE)
_ROWS = re.compile(r"^(\d+); \d+ \d+ TABLE DATA ", re.MULTILINE)
_LISTING = 600.0
_CLOCKS_APART = 120
"""Seconds that the clocks of two machines may differ."""


@dataclass(frozen=True)
class GivenDump:
    """A dump that is there already."""

    plan: plan_given.GivenDump
    database: str
    """What the copy is called on a server of the drill's own, whatever the dump calls it."""

    def pick(self, workspace: Workspace) -> Taken:
        """The dump that the plan names, looked through; one from S3 is brought into the workspace.

        Raises:
            ToolError: there is none, or it is not the plan's, or none that may be restored.
        """
        begun = time.monotonic()
        workspace.backup.mkdir(parents=True)
        found = Search(self.plan, workspace).find()
        listed = (
            _listing(found, workspace) if found.looked.form is not Form.PLAIN and not found.looked.problem else None
        )
        problem = found.looked.problem or (listed.problem if listed else "")
        made, according = self._age(found, listed)
        backup = Backup(
            method=self.plan.method,
            path=found.shown,
            size=found.looked.size,
            files=found.files,
            digest=found.looked.digest,
            commands=listed.commands if listed else (),
            seconds=round(time.monotonic() - begun, 6),
            label=found.label,
            taken=made,
            details={
                "format": found.looked.form.value + (", gzip" if found.looked.zipped else ""),
                "database": listed.database if listed else found.looked.database,
                "taken": according,
                "file": str(found.place),
                "inner sha256": found.looked.inner,
                **found.details,
            },
        )
        log = workspace.logs / "dump.log"
        log.touch()
        if problem:
            return Taken(
                backup, ToolLog("dump", Verdict.FAIL, f"the dump is not whole: {problem}", (problem,), (), log)
            )
        if made is not None and (made - found.modified).total_seconds() > _CLOCKS_APART:
            warning = f"the dump was begun ({made:%F %T} UTC) after it was written ({found.modified:%F %T} UTC)"
            said = f"{warning}: recovery.time_zone is not that of the machine that made it, or a clock is wrong"
            return Taken(backup, ToolLog("dump", Verdict.UNKNOWN, said, (), (warning,), log))
        return Taken(
            backup, ToolLog("dump", Verdict.PASS, "the dump is whole, as far as can be seen from it", (), (), log)
        )

    def restore(self, backup: Backup, target: Address, *, owned: bool, workspace: Workspace) -> Restore:
        """Load the dump. See `drills.recovery.dump`; a plain dump ends at its first error.

        After a failed COPY psql would take its rows for statements.

        Raises:
            ToolError: the dump is not what was picked, or the tool could not be run to its end.
        """
        loading = Loading(self.plan, self.database, backup, target, owned, workspace)
        return loading.plain() if backup.details["format"].startswith(Form.PLAIN) else loading.archive()

    def rows_of(
        self, scan: Scan, _buckets: Sequence[str], *, workspace: Workspace
    ) -> AbstractContextManager[TableRows]:
        """All rows of this table, streamed out of an archive that `pick` has found (see `drills.backup_rows.GiveRows`).

        Raises:
            ToolError: it is a plain dump, whose rows cannot be had one table at a time.
        """
        place = place_of(self.plan, workspace)
        if place is None:
            raise ToolError("a plain dump gives no rows of one table", hint="have dumps made in custom format")
        return read_rows(
            replace(workspace, backup=place), scan.namespace, scan.name, self.plan.restore_timeout.total_seconds()
        )

    def _age(self, found: Found, listed: _Listed | None) -> tuple[datetime | None, str]:
        """When it was made, and who says so."""
        if listed is not None and listed.created is not None:
            at = listed.created.replace(tzinfo=ZoneInfo(self.plan.time_zone)).astimezone(UTC)
            return at, f"begun, by the header of the archive, in time zone {self.plan.time_zone}"
        return found.modified, "written or copied last, by the time of the file: the dump was begun before"


@dataclass(frozen=True)
class _Listed:
    created: datetime | None
    database: str
    problem: str
    commands: tuple[tuple[str, ...], ...]


def judge_age(backup: Backup, limit: float | None, now: datetime) -> Finding:
    """Whether a backup is young enough; `limit` in seconds."""
    name = "the backup is young enough"
    if backup.taken is None:
        return Finding(name=name, verdict=Verdict.UNKNOWN, found="nobody says when it was taken")
    age = (now - backup.taken).total_seconds()
    found = f"{age / 3600:.1f} h old: {backup.taken:%F %T} UTC, {backup.details.get('taken', 'as it says')}"
    if limit is None:
        return Finding(name=name, verdict=Verdict.PASS, found=f"{found}; the plan sets no max_age")
    if age > limit or age < -_CLOCKS_APART:
        hint = "look at what makes the backups: the newest is older than max_age" if age > limit else "a clock is wrong"
        return Finding(name=name, verdict=Verdict.FAIL, found=f"{found}; at most {limit / 3600:.1f} h", hint=hint)
    return Finding(name=name, verdict=Verdict.PASS, found=found)


def _listing(found: Found, workspace: Workspace) -> _Listed:
    """What the archive says of itself, and whether what it lists is in it, as far as can be seen."""
    file = workspace.logs / "dump.toc"
    arguments = [workspace.tools.program("pg_restore"), "--list", f"--file={file}", str(found.place)]
    done = run_tool(arguments, environment={}, log=workspace.logs / "pg_restore-list.log", deadline=_LISTING)
    if done.code:
        said = (done.said.strip().splitlines() or ["it said nothing"])[-1]
        return _Listed(None, "", f"its table of contents cannot be read: {said}", (done.arguments,))
    text = file.read_text("utf-8", "surrogateescape")
    created, database = _CREATED.search(text), _DATABASE.search(text)
    lacking = ""
    if found.looked.form is Form.TAR:
        gone = [f"{entry}.dat" for entry in _ROWS.findall(text) if f"{entry}.dat" not in found.looked.members]
        lacking = f"{len(gone)} of its files are missing, {gone[0]} among them" if gone else ""
    if found.looked.form is Form.DIRECTORY:
        there = {path.name.partition(".dat")[0] for path in found.place.iterdir()}
        gone = [entry for entry in _ROWS.findall(text) if entry not in there]
        lacking = f"{len(gone)} of its files are missing, {gone[0]}.dat among them" if gone else ""
    at = datetime.fromisoformat(created[1]) if created else None
    return _Listed(at, database[1] if database else "", lacking, (done.arguments,))
