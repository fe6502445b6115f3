"""Expectations: what the copy must show, measured inside the snapshot that the backup holds.

Guarantees that what is compared later was measured here and nowhere else: the file is canonical JSON, its digest goes
to the journal, and reading it back refuses other bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from drills.errors import CheckError
from drills.measures import Expectations, Measures
from drills.records import Basis, FileRef, Snapshot

FILE = "expectations.json"


def expect(snapshot: Snapshot, settings: dict[str, str], measures: Measures) -> Expectations:
    """What was measured in the snapshot, as what must come back."""
    return Expectations(basis=Basis.SNAPSHOT, snapshot=snapshot, settings=settings, measures=measures)


def write_expectations(expectations: Expectations, folder: Path) -> FileRef:
    """Put them into the folder."""
    path = folder / FILE
    path.write_bytes(expectations.canonical())
    return FileRef.of(path, folder)


def read_expectations(folder: Path, reference: FileRef) -> Expectations:
    """The expectations as they were written.

    Raises:
        CheckError: the file is gone, or is not what was written.
    """
    try:
        content = (folder / reference.path).read_bytes()
    except OSError as error:
        raise CheckError(f"{reference.path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != reference.sha256:
        raise CheckError(
            f"{reference.path} was changed after it was written: expected digest {reference.sha256}, got {found}",
            hint="expected values are measured, never edited; run the drill again",
        )
    try:
        return Expectations.model_validate_json(content)
    except ValidationError as error:
        raise CheckError(f"{reference.path} holds no expectations: {error.error_count()} faults") from None
