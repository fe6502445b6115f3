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

from drills.addresses import Address
from drills.backup_rows import TableRows
from drills.errors import ToolError
from drills.measures import Scan
from drills.plans import given as plan_given
from drills.processes import last_words, run_tool
from drills.records import CLOCKS_APART, Backup, Verdict
from drills.recovery.base import Restore, Taken, ToolLog, Workspace
from drills.recovery.dumps.files import Form
from drills.recovery.dumps.given_files import Found, Search, place_of
from drills.recovery.dumps.given_load import Loading
from drills.recovery.dumps.members import lacking, try_packed
from drills.recovery.dumps.rows import read_rows

_CREATED = re.compile(r"^; Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?: (\S+))?", re.MULTILINE)
_STARTED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?: (.+))?")
_DATABASE = re.compile(r"^;     dbname: (.*)$", re.MULTILINE)
_ROWS = re.compile(r"^(\d+); \d+ \d+ TABLE DATA ", re.MULTILINE)
_LISTING = 600.0


@dataclass(frozen=True)
class GivenDump:
    """A dump that is there already."""

    plan: plan_given.GivenDump
    database: str
    """What the copy is called on a server of the drill's own, whatever the dump calls it."""

    def pick(self, workspace: Workspace) -> Taken:
        """The dump that the plan names, looked through; one from S3 is brought into the workspace.

        Raises:
            NoBackupError: there is none.
            ToolError: it cannot be read, is not the plan's, or none that may be restored.
        """
        begun = time.monotonic()
        workspace.backup.mkdir(parents=True)
        found = Search(self.plan, workspace).find()
        listed = (
            _listing(found, self.plan.time_zone, workspace)
            if found.looked.form is not Form.PLAIN and not found.looked.problem
            else None
        )
        database = listed.database if listed else found.looked.database
        made, according, least = self._age(found, listed)
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
            perhaps_older=least,
            details={
                "format": found.looked.form.value + (", gzip" if found.looked.zipped else ""),
                "database": database,
                "taken": according,
                "file": str(found.place),
                "inner sha256": found.looked.inner,
                **({"not looked through": unread} if (unread := _unread(found)) else {}),
                **found.details,
            },
        )
        problem = found.looked.problem or (listed.problem if listed else "")
        doubts = self._doubts(found, database, None if least else made)
        if found.looked.form is Form.DIRECTORY and not problem:
            limit = self.plan.backup_timeout.total_seconds()
            problem, unsure = try_packed(found.place, found.looked.members, workspace.logs / "packed.log", limit)
            doubts = (*doubts, unsure) if unsure else doubts
        return Taken(backup, self._judge(problem, doubts, workspace))

    def _judge(self, problem: str, doubts: tuple[str, ...], workspace: Workspace) -> ToolLog:
        log = workspace.logs / "dump.log"
        log.touch()
        if problem:
            return ToolLog("dump", Verdict.FAIL, f"the dump is not whole: {problem}", (problem,), (), log)
        if doubts:
            return ToolLog("dump", Verdict.UNKNOWN, "; ".join(doubts), (), doubts, log)
        return ToolLog("dump", Verdict.PASS, "the dump is whole, as far as can be seen from it", (), (), log)

    def _doubts(self, found: Found, database: str, made: datetime | None) -> tuple[str, ...]:
        """Whether it is the dump that is meant, and its clock the one that is meant."""
        doubts = []
        expected = self.plan.database or self.database
        if database not in {"", expected}:
            doubts.append(
                f"the dump is one of the database {database}: expected {expected}; "
                "where that is meant, name it in recovery.database"
            )
        if made is not None and (made - found.modified).total_seconds() > CLOCKS_APART:
            doubts.append(
                f"the dump was begun ({made:%F %T} UTC) after it was written ({found.modified:%F %T} UTC): "
                "recovery.time_zone is not that of the machine that made it, or a clock is wrong"
            )
        return tuple(doubts)

    def restore(self, backup: Backup, target: Address, *, owned: bool, workspace: Workspace) -> Restore:
        """Load the dump. See `drills.recovery.dumps.dump`; a plain dump ends at its first error.

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

    def _age(self, found: Found, listed: _Listed | None) -> tuple[datetime, str, bool]:
        """When it was made, who says so, and whether it may have been made long before."""
        if listed is not None and listed.created is not None:
            return listed.created, f"begun, by the header of the archive, in time zone {self.plan.time_zone}", False
        if started := _STARTED.fullmatch(found.looked.started):
            at = _instant(started[1], started[2], self.plan.time_zone)
            return at, f"begun, by the dump's own words ({started[0]})", False
        return found.modified, "written or copied last, by the time of the file: the dump was begun before", True


@dataclass(frozen=True)
class _Listed:
    created: datetime | None
    database: str
    problem: str
    commands: tuple[tuple[str, ...], ...]


def _instant(text: str, abbreviation: str | None, time_zone: str) -> datetime:
    """What a clock of that zone showed; its abbreviation tells the two hours apart when summer ends."""
    local = datetime.fromisoformat(text)
    if abbreviation in {"UTC", "GMT"}:
        return local.replace(tzinfo=UTC)
    first = local.replace(tzinfo=ZoneInfo(time_zone))
    second = first.replace(fold=1)
    return (second if second.tzname() == abbreviation != first.tzname() else first).astimezone(UTC)


def _unread(found: Found) -> str:
    """Of a folder, what nobody but pg_restore can read here."""
    unread = sum(member.unread for member in found.looked.members)
    return f"the ends of the rows in {unread} files in lz4 or zstd" if unread else ""


def _listing(found: Found, time_zone: str, workspace: Workspace) -> _Listed:
    """What the archive says of itself, and whether what it lists is in it, as far as can be seen."""
    file = workspace.logs / "dump.toc"
    arguments = [workspace.tools.program("pg_restore"), "--list", f"--file={file}", str(found.place)]
    # The archive holds local time and whether it was summer: read in another zone, it comes out an hour off.
    log = workspace.logs / "pg_restore-list.log"
    done = run_tool(arguments, environment={"TZ": time_zone}, log=log, deadline=_LISTING)
    if done.code:
        said = last_words(done.said)
        return _Listed(None, "", f"its table of contents cannot be read: {said}", (done.arguments,))
    text = file.read_text("utf-8", "surrogateescape")
    created, database = _CREATED.search(text), _DATABASE.search(text)
    lack = "" if found.looked.form is Form.CUSTOM else lacking(_ROWS.findall(text), found.looked.members)
    at = _instant(created[1], created[2], time_zone) if created else None
    return _Listed(at, database[1] if database else "", lack, (done.arguments,))
