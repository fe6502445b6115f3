"""What all recovery methods have in common: where they work, what they give back, and how their tools are judged.

A method is handed what it needs, returns what it did, and keeps everything its tools said in the folder it was given.
It journals nothing and judges nothing but whether it could do its work; destroying is the same for all (see
`flows.destroying`). Some take a backup, some pick one that is there (of repositories:
`repositories.repository.Existing`; at AWS: `aws.managed.Managed`). What every one of them promises to a drill is held
by one suite, tests/test_contract.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ToolError
from drills.processes import ToolRun, last_words
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
    database: bool = True
    """Whether the backup made its database, with its owner, grants and settings."""


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


def failure_of(done: ToolRun, log: ToolLog, hint: str = "") -> ToolError:
    """The error of a tool that failed: the first that it calls one, or else its last words."""
    said = log.errors[0] if log.errors else last_words(done.said)
    told = hint or f"all it said is in raw/{log.log.name} of the bundle"
    return ToolError(f"{log.tool} ended with {done.code}: {said}", hint=told)


def _judge_line(tool: str, line: str) -> Verdict:
    found = _OPENING.match(line) or _INSIDE.search(line)
    if found:
        return _LEVELS[found["level"].lower()]
    alarming = not line.startswith(f"{tool}: ") and _ALARMING.search(line)
    return Verdict.UNKNOWN if alarming else Verdict.PASS
