"""What it takes to try a copy as its users would, and what that gives.

`drills.applications` does it; whoever asks needs these words only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int | None
    """Its exit code, negative for a signal; None where it had not ended at its limit and was stopped."""
    seconds: float
    said: str
    """Standard output and error, redacted."""


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP."""

    status: int
    text: str
    """The first megabyte of its body."""


@dataclass(frozen=True)
class NoReply:
    """Why there was no answer."""

    reason: str


class Served(Protocol):
    """An application that runs on the copy."""

    @property
    def port(self) -> int:
        """Of 127.0.0.1, where it was told to answer."""

    def ended(self) -> int | None:
        """Its exit code, where it has ended."""

    def said(self) -> str:
        """What it has said so far, redacted."""


class Probe(Protocol):
    """Whoever can run programs against the copy."""

    def run(self, name: str, arguments: Sequence[str], limit: float) -> Ran:
        """Run a command to its end, for so many seconds at most; nothing of it is left afterwards.

        Raises:
            CheckError: there is no such program.
            ToolError: it could not be started, or cannot be stopped.
        """

    def serving(self, name: str, arguments: Sequence[str]) -> AbstractContextManager[Served]:
        """An application that runs for as long as this context lasts; nothing of it is left afterwards.

        Raises:
            CheckError: there is no such program.
            ToolError: it could not be started, or cannot be stopped.
        """

    def get(self, url: str, limit: float) -> Reply | NoReply:
        """One GET, answered in full within so many seconds."""
