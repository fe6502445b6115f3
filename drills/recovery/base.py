"""The contracts of recovery methods: back up, restore; destroying is the same for all (see `flows.stages`).

A method is handed what it needs, returns what it did, and keeps everything its tools said in the folder it was given.
It journals nothing and judges nothing but whether it could do its work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drills.addresses import Address
from drills.backup_rows import TableRows
from drills.measures import Scan
from drills.records import Backup, Verdict
from drills.tools import Tools

Progress = Callable[[int, int | None, str], None]
"""How far something is: done, of how many (None where nobody knows), and the unit."""


@dataclass(frozen=True)
class Workspace:
    """Where a method may work and with what."""

    backup: Path
    """The folder of the backup; it does not exist yet."""
    logs: Path
    """What the tools say goes here."""
    tools: Tools
    name: str
    """application_name of the tools' sessions."""
    progress: Progress


@dataclass(frozen=True)
class ToolLog:
    """What a tool said, judged."""

    tool: str
    verdict: Verdict
    reason: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    """Those that the plan does not accept."""
    log: Path


@dataclass(frozen=True)
class Taken:
    """A backup, and what its tools said."""

    backup: Backup
    log: ToolLog


@dataclass(frozen=True)
class Restore:
    """What was run to restore, and what its tools said."""

    commands: tuple[tuple[str, ...], ...]
    seconds: float
    deviations: tuple[str, ...]
    log: ToolLog


class RecoveryMethod(Protocol):
    """Back up, and restore what was backed up."""

    def back_up(self, source: Address, snapshot: str, workspace: Workspace) -> Taken:
        """Take a backup of the source as that snapshot sees it."""
        ...

    def restore(self, backup: Backup, target: Address, *, owned: bool, workspace: Workspace) -> Restore:
        """Load the backup; `owned` says that the whole target server is the drill's."""
        ...


class Physical(Protocol):
    """A method that brings back a data directory and the WAL behind it, rather than statements."""

    def lay_out(self, backup: Backup, folder: Path, workspace: Workspace) -> Taken:
        """Bring the files of this backup into a folder that is not there yet, verified, the server account's own.

        The folder is the data directory of the copy. Nothing is started.

        Raises:
            ToolError: it could not be brought, or is not what it was when it was taken.
        """
        ...

    def fetch_wal(self, name: str, to: Path) -> bool:
        """Put a WAL segment or a timeline's history file there; False where the archive has none of this name.

        Raises:
            ToolError: the archive cannot be read.
        """
        ...

    def restore_command(self) -> str:
        """What the server is to run for each file of WAL: a shell command with %f and %p, which writes to %p alone."""
        ...


class GivesRows(Protocol):
    """A method whose backup can be read table by table, without restoring it."""

    def rows_of(self, scan: Scan, buckets: Sequence[str], *, workspace: Workspace) -> AbstractContextManager[TableRows]:
        """Rows of one table (see `drills.backup_rows.GiveRows`)."""
        ...


_LEVELS = {
    **dict.fromkeys(("error", "fatal", "panic"), Verdict.FAIL),
    **dict.fromkeys(("warning", "warn"), Verdict.UNKNOWN),
    **dict.fromkeys(
        ("notice", "log", "info", "debug", "detail", "hint", "context", "statement", "query"), Verdict.PASS
    ),
}
"""How the client tools (`pg_dump: error: ...`) and the server (`ERROR:  ...`) begin a message, and what it weighs."""
_OPENING = re.compile(
    rf"(?:[\w.-]+: )?(?:\[[^]]*\] )?(?P<level>{'|'.join(_LEVELS)})(?: \[[^]]*\])?:(?: |$)", re.IGNORECASE
)
# PostgreSQL 11 and older write the server's message after their own words; pgBackRest a time and a process before it.
_INSIDE = re.compile(r"\b(?P<level>ERROR|FATAL|PANIC|WARNING|WARN): ")
_ALARMING = re.compile(
    r"\b(?:error|fatal|panic|warning|could not|cannot|can't|failed|failure|fault|aborted|killed|corrupt\w*)\b",
    re.IGNORECASE,
)
_TALLY = "errors ignored on restore"
"""How pg_restore ends when it went past errors; it calls that line a warning."""


def judge_log(tool: str, said: str, code: int, accepted: tuple[str, ...], log: Path) -> ToolLog:
    """The verdict on a tool's run: errors and exit codes FAIL, warnings that nobody accepted are UNKNOWN.

    A line is what it says it is, at its beginning: a table may be called error_log. A line that does not say, and is
    not the tool's own (a library's, a kernel's), counts as a warning when it sounds like one.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    judged = [(line, _judge_line(tool, line)) for line in lines]
    tally = [line for line in lines if _TALLY in line and _OPENING.match(line)]
    errors = [line for line, verdict in judged if verdict is Verdict.FAIL] or tally
    warnings = tuple(
        line
        for line, verdict in judged
        if verdict is Verdict.UNKNOWN
        and line not in tally
        and not any(re.search(pattern, line) for pattern in accepted)
    )
    if errors or code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        reason = f"{tool} {how}: {(errors or lines[-1:] or ['it said nothing'])[0]}"
        return ToolLog(tool, Verdict.FAIL, reason, tuple(errors), warnings, log)
    if warnings:
        return ToolLog(tool, Verdict.UNKNOWN, f"{tool} warned: {warnings[0]}", (), warnings, log)
    return ToolLog(tool, Verdict.PASS, f"{tool} ended with 0 and said nothing to look into", (), (), log)


def _judge_line(tool: str, line: str) -> Verdict:
    found = _OPENING.match(line) or _INSIDE.search(line)
    if found:
        return _LEVELS[found["level"].lower()]
    alarming = not line.startswith(f"{tool}: ") and _ALARMING.search(line)
    return Verdict.UNKNOWN if alarming else Verdict.PASS
