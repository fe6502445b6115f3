"""Who is shown how far a drill is.

Guarantees that whatever goes wrong while something is shown, the drill goes on.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol


class Progress(Protocol):
    """Somebody who is shown how far a drill is."""

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        ...

    def stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """The stage is this far, and was last at this; `total` is None where nobody knows it."""
        ...

    def ended(self, name: str, error: str) -> None:
        """A stage ended, with an error or without."""
        ...


class Shielded:
    """Progress that cannot harm: whatever goes wrong while something is shown, the drill goes on."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        with suppress(Exception):
            self._shown.opened(drill)

    def stage(self, name: str) -> None:
        """A stage begins."""
        with suppress(Exception):
            self._shown.stage(name)

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """The stage is this far."""
        with suppress(Exception):
            self._shown.advance(done, total, unit, about)

    def ended(self, name: str, error: str) -> None:
        """A stage ended."""
        with suppress(Exception):
            self._shown.ended(name, error)


class Silent:
    """Nobody looks."""

    def opened(self, drill: str) -> None:
        """Nothing is shown."""

    def stage(self, name: str) -> None:
        """Nothing is shown."""

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """Nothing is shown."""

    def ended(self, name: str, error: str) -> None:
        """Nothing is shown."""
