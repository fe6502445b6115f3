"""The drills that were run from this home: found by their journals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drills.errors import DrillbookError, JournalError, RefusedError
from drills.fold import fold
from drills.journal import read_journal
from drills.record import Record
from flows.runtime import JOURNAL
from flows.settings import drills_folder, home
from reports.bundle import published_at


@dataclass(frozen=True)
class Known:
    """One drill. Its record ends with the entry that closed it, as its bundle's does."""

    drill: str
    record: Record
    bundle: Path | None
    """None until it is published."""


@dataclass(frozen=True)
class Unreadable:
    """A drill whose journal cannot be read."""

    drill: str
    error: str


def drills_known() -> list[Known | Unreadable]:
    """All of them, in order of their ids, which is that of their opening."""
    return [_known(folder) for folder in sorted(drills_folder(home()).glob("DR-*")) if folder.is_dir()]


def _known(folder: Path) -> Known | Unreadable:
    try:
        return Known(folder.name, fold(read_journal(folder / JOURNAL)), published_at(folder))
    except JournalError as error:
        return Unreadable(folder.name, error.message)


def drill_like(text: str) -> Known:
    """The one drill whose id holds this text.

    Raises:
        RefusedError: none has it, or several.
    """
    matching = [found for found in drills_known() if text in found.drill]
    if len(matching) != 1:
        raise RefusedError(
            f"expected one drill like {text!r}, found {len(matching)}", hint="`drillbook list` shows their ids"
        )
    found = matching[0]
    if isinstance(found, Unreadable):
        raise DrillbookError(found.error, hint="its journal was changed, or its disk is failing")
    return found


def drill_named(drill: str) -> Record:
    """The record of this drill as it stands on the disk."""
    return fold(read_journal(drills_folder(home()) / drill / JOURNAL))
