"""How old a backup is that was there, and whether it is young enough: one rule for every method.

Refuses to take a backup for young of which nobody knows when it was taken, one dated in the future, and one that may be
older than what tells its age.
"""

from __future__ import annotations

from datetime import datetime

from drills.records import CLOCKS_APART, Backup, Finding, Verdict
from drills.units import human

_NAME = "the backup is young enough"


def judge_age(backup: Backup, limit: float | None, now: datetime) -> Finding:
    """Whether a backup is young enough.

    Args:
        backup: it says when it was taken, and in its details (`taken`) who says so.
        limit: the oldest that it may be, in seconds; None where any known age will do.
        now: the instant that its age is counted to.
    """
    who = backup.details.get("taken", "")
    if backup.taken is None:
        found = f"nobody says when it was taken{': ' if who else ''}{who}"
        return Finding(name=_NAME, verdict=Verdict.UNKNOWN, found=found)
    age = (now - backup.taken).total_seconds()
    taken = f"{backup.taken:%F %T} UTC, {who or 'as it says'}"
    if age < -CLOCKS_APART:
        verdict = Verdict.UNKNOWN if limit is None else Verdict.FAIL
        found = f"dated {human(round(-age, 3))} ahead of this machine's clock: {taken}"
        hint = "a clock is wrong: that of this machine, or of whoever took the backup"
        return Finding(name=_NAME, verdict=verdict, found=found, hint=hint)
    found = f"{human(round(max(age, 0.0), 3))} old: {taken}"
    if limit is None:
        return Finding(name=_NAME, verdict=Verdict.PASS, found=f"{found}; the plan sets no max_age")
    if age > limit:
        hint = "look at what makes the backups: the newest is older than max_age"
        return Finding(name=_NAME, verdict=Verdict.FAIL, found=f"{found}; at most {human(limit)}", hint=hint)
    if backup.perhaps_older:
        return Finding(
            name=_NAME,
            verdict=Verdict.UNKNOWN,
            found=f"at least {found}; nothing in it says when it was begun, and a copy of an old file is a new file",
            hint="have plain dumps made by pg_dump --verbose, which writes when it began, or have custom ones made",
        )
    return Finding(name=_NAME, verdict=Verdict.PASS, found=found)
