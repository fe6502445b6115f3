"""The manifest of a base backup: what it says of its WAL and its files (PostgreSQL, Backup Manifest Format)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from drills.errors import ToolError

MANIFEST = "backup_manifest"


@dataclass(frozen=True)
class History:
    """What a manifest says of its backup."""

    start: str
    end: str
    timeline: int
    size: int
    files: int


def read_history(manifest: Path) -> History:
    """The backup that this manifest lies beside.

    Raises:
        ToolError: there is none, or it says nothing of WAL.
    """
    try:
        told = json.loads(manifest.read_bytes())
        ranges, files = told["WAL-Ranges"], told["Files"]
        first, last = ranges[0], ranges[-1]
        size = sum(file["Size"] for file in files)
        return History(first["Start-LSN"], last["End-LSN"], last["Timeline"], size, len(files))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ToolError(f"the manifest of the base backup cannot be read: {error}") from None
