"""The contract of a recovery method: back up, restore; destroying is the same for all (see `flows.stages`).

A method is handed what it needs, returns what it did, and keeps everything its tools said in the folder it was given.
It journals nothing and judges nothing but whether it could do its work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from drills.addresses import Address
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


_ERROR = re.compile(
    r"^(?:\w+: )?(?:error|fatal|detail)?:? ?.*\b(?:error|FATAL|PANIC|could not|errors ignored)\b", re.IGNORECASE
)
_WARNING = re.compile(r"\bwarning\b", re.IGNORECASE)


def judge_log(tool: str, said: str, code: int, accepted: tuple[str, ...], log: Path) -> ToolLog:
    """The verdict on a tool's run: errors and exit codes FAIL, warnings that nobody accepted are UNKNOWN."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    warnings = [line for line in lines if _WARNING.search(line)]
    errors = [line for line in lines if line not in warnings and _ERROR.search(line)]
    # pg_restore ends by counting the errors it went past, and calls that line a warning.
    ignored = [line for line in warnings if "errors ignored on restore" in line]
    errors += ignored
    open_warnings = [
        line for line in warnings if line not in ignored and not any(re.search(pattern, line) for pattern in accepted)
    ]
    if errors or code:
        reason = f"{tool} ended with {code}: {(errors or ['it said nothing'])[0]}"
        return ToolLog(tool, Verdict.FAIL, reason, tuple(errors), tuple(open_warnings), log)
    if open_warnings:
        reason = f"{tool} warned: {open_warnings[0]}"
        return ToolLog(tool, Verdict.UNKNOWN, reason, (), tuple(open_warnings), log)
    return ToolLog(tool, Verdict.PASS, f"{tool} ended with 0 and said nothing to look into", (), (), log)
