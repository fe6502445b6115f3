"""Every error that this program raises on purpose.

DrillbookError
├── RefusedError         the drill may not begin; nothing has been touched
│   ├── PlanError        the plan is not one that can run (file, line)
│   ├── GuardError       the guard found a reason to stop
│   └── SecretError      a reference to a secret leads nowhere
├── ConnectError         a server could not be reached or did not let us in
├── LoadError            production is too busy to be measured, or its load cannot be seen
├── ToolError            a PostgreSQL tool could not be found, failed, or took too long
├── ClusterError         a server of ours did not start, stop or go away
├── NoBackupError        what keeps the backups was read, and none of them gives what the plan asks for: a FAIL
├── AwsError             AWS refused something, did not answer, or did something else
├── CheckError           a check could not be asked
├── JournalError         the journal is broken or cannot be written
├── EvidenceError        a bundle is not what its digests say, or cannot be written
└── UnforeseenError      something broke that nobody thought of; the drill is UNKNOWN

A message is lowercase, names what was expected and what came, and has no full stop; `hint` says what to do.
No message carries a secret: whoever raises redacts first (see `drills.secrets`).
"""

from __future__ import annotations


class DrillbookError(Exception):
    """The root: a message for a person, and a hint that says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}" if self.hint else self.message


class RefusedError(DrillbookError):
    """The drill may not begin. Nothing has been created, locked or read."""


class PlanError(RefusedError):
    """The plan cannot run; the message begins with file and line."""


class GuardError(RefusedError):
    """The guard found a reason not to begin."""


class SecretError(RefusedError):
    """A reference to a secret leads nowhere."""


class ConnectError(DrillbookError):
    """A server could not be reached, or did not let us in."""


class LoadError(DrillbookError):
    """Production is too busy to be measured, or its load cannot be seen."""


class ToolError(DrillbookError):
    """One of PostgreSQL's own tools could not be found, failed, or took too long."""


class ClusterError(DrillbookError):
    """A server of ours did not start, did not stop, or did not go away."""


class NoBackupError(DrillbookError):
    """What keeps the backups was read, and none of them gives what the plan asks for.

    A finding about the control itself, and so a FAIL. What cannot be read is another error, and UNKNOWN.
    """


class AwsError(DrillbookError):
    """AWS refused something, did not answer, or did something else than it was asked."""

    def __init__(self, message: str, *, hint: str = "", code: str = "", transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        """As AWS names the error; empty where it is ours."""
        self.transient = transient
        """Whether the same question may be answered a little later."""


class CheckError(DrillbookError):
    """A check could not be asked; its verdict is UNKNOWN."""


class JournalError(DrillbookError):
    """The journal is broken or cannot be written."""


class EvidenceError(DrillbookError):
    """A bundle is not what its digests say, or cannot be written."""


class UnforeseenError(DrillbookError):
    """Something broke that nobody thought of. The message is redacted; the cause is not chained."""
