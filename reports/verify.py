"""Verifying a bundle: every digest, the journal's chain, and that the record is what the journal says.

Refuses nothing silently: a file that is missing, changed or not listed, a chain that does not hold, a record or a
verdict that the journal does not give, each is a fault of its own. What is not asked here, because a bundle alone
cannot answer it: who wrote it, and whether its tail was cut before it was sealed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drills import events
from drills.errors import EvidenceError, JournalError
from drills.fold import fold
from drills.journal import Reading, read_journal
from drills.record import Record
from reports.bundle import CHECKS, JOURNAL, RECORD, REPORT, SUMS, seal_of

_PLAN = "plan.yaml"
_IN_EVERY_BUNDLE = (JOURNAL, RECORD, REPORT, CHECKS, _PLAN)
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    files: int
    entries: int
    faults: tuple[str, ...]
    record: Record | None
    sums: str
    """The seal of the bundle (`reports.bundle.seal_of`)."""


def verify(bundle: Path) -> Verified:
    """Look at a bundle; an empty `faults` means that nothing was found.

    Raises:
        EvidenceError: it is not a bundle.
    """
    sums = bundle / SUMS
    if not sums.is_file():
        raise EvidenceError(
            f"{bundle} is not a bundle: it has no {SUMS}", hint="give the folder that holds report.html"
        )
    listed, faults = _listed(sums)
    faults += _digest_faults(bundle, listed)
    reading: Reading | None = None
    record: Record | None = None
    try:
        reading = read_journal(bundle / JOURNAL)
        record = fold(reading)
    except JournalError as error:
        faults.append(error.message)
    if reading is not None and record is not None:
        faults += _record_faults(bundle, reading, record)
    entries = len(reading.entries) if reading else 0
    return Verified(len(listed), entries, tuple(faults), record, seal_of(bundle))


def _listed(sums: Path) -> tuple[dict[str, str], list[str]]:
    listed: dict[str, str] = {}
    faults = []
    for number, line in enumerate(sums.read_text(errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            faults.append(f"{SUMS}:{number}: not a line of sha256sum")
        else:
            listed[match[2]] = match[1]
    faults += [f"{SUMS}: {name} is not listed" for name in _IN_EVERY_BUNDLE if name not in listed]
    return listed, faults


def _digest_faults(bundle: Path, listed: dict[str, str]) -> list[str]:
    faults = []
    for name, digest in listed.items():
        path = bundle / name
        if not path.resolve().is_relative_to(bundle.resolve()) or not path.is_file():
            faults.append(f"{name}: missing")
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            faults.append(f"{name}: changed: expected SHA-256 {digest}, got {found}")
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file() or path.is_symlink()}
    return faults + [f"{name}: not listed in {SUMS}" for name in sorted(there - listed.keys() - {SUMS})]


def _record_faults(bundle: Path, reading: Reading, record: Record) -> Iterator[str]:
    try:
        written = (bundle / RECORD).read_bytes()
    except OSError:
        written = b""
    if written != record.canonical():
        yield f"{RECORD}: not what the journal folds into"
    last = reading.entries[-1].body
    if not isinstance(last, events.Closed):
        yield f"{JOURNAL}: expected the last entry to close the drill, got {last.event!r}"
    elif last.verdict is not record.verdict:
        yield f"{JOURNAL}: closed with {last.verdict}, and its entries give {record.verdict}"
    for reference in _references(record):
        path = bundle / reference[0]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != reference[1]:
            yield f"{reference[0]}: not the file that the journal speaks of"


def _references(record: Record) -> Iterator[tuple[str, str]]:
    """Path and digest of every file that the record names."""
    plan = record.provenance
    yield _PLAN, plan.sha256
    if record.expectations is not None:
        yield record.expectations.path, record.expectations.sha256
    for results in record.checks.values():
        for result in results:
            if result.csv is not None:
                yield result.csv.path, result.csv.sha256
    for outage in record.outages:
        if outage.evidence is not None:
            yield outage.evidence.path, outage.evidence.sha256
