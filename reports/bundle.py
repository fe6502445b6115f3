"""The bundle: the folder of evidence that a drill leaves.

    <evidence folder>/<database>/<year>Q<n>/<drill id>/
      report.html        for people
      drill.json         the record, canonical JSON
      checks.csv         one line a check
      journal.jsonl      as written, to the entry that closed it
      plan.yaml          the bytes that ran
      expectations.json  queries.jsonl  reconcile/**  raw/**
      SHA256SUMS         of all of these

Guarantees that a bundle appears whole or not at all, is on disk before its path is given, and is never overwritten.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from drills.errors import EvidenceError
from drills.events import Published
from drills.journal import read_journal
from drills.record import Record
from reports.html import render

SUMS = "SHA256SUMS"
JOURNAL, RECORD, CHECKS, REPORT = "journal.jsonl", "drill.json", "checks.csv", "report.html"
TAKEN = ("plan.yaml", "expectations.json", "queries.jsonl", "reconcile", "raw")
"""What a drill's folder holds besides its journal."""
_COLUMNS = (
    "round",
    "name",
    "kind",
    "verdict",
    "reason",
    "basis",
    "expected",
    "actual",
    "difference",
    "compared",
    "differing",
    "seconds",
    "started_utc",
    "sql",
    "csv",
)


def bundle_path(record: Record) -> Path:
    """Where the bundle of this drill belongs: by database, quarter of its opening, and id."""
    opened = record.opened
    quarter = f"{opened.year}Q{(opened.month + 2) // 3}"
    return Path(record.evidence) / str(record.plan["database"]) / quarter / record.drill


def publish(folder: Path, record: Record) -> tuple[Path, str]:
    """Write the bundle of a closed drill from its working folder; gives its path and the digest of its SHA256SUMS.

    Raises:
        EvidenceError: it cannot be written, or another one is there.
    """
    target = bundle_path(record)
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fill(partial, folder, record)
        sums = _seal(partial)
        if target.exists():
            return target, _same_bundle(target, partial, sums)
        partial.rename(target)
        for above in (target.parent, target.parent.parent, Path(record.evidence)):
            _sync(above)
    except OSError as error:
        raise EvidenceError(
            f"the bundle {target} cannot be written: {error.strerror or error}",
            hint=f"the evidence is kept in {folder}; mend the cause, then run `drillbook sweep`",
        ) from error
    return target, sums


def _fill(partial: Path, folder: Path, record: Record) -> None:
    for name in TAKEN:
        source = folder / name
        if source.is_dir():
            shutil.copytree(source, partial / name, copy_function=shutil.copyfile)
        elif source.exists():
            shutil.copyfile(source, partial / name)
    for directory in (path for path in partial.rglob("*") if path.is_dir()):
        directory.chmod(
            partial.stat().st_mode
        )  # closed while the drill ran; whoever may read the bundle may read it all
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (partial / JOURNAL).write_bytes(b"".join(lines[: record.entries]))
    (partial / RECORD).write_bytes(record.canonical())
    (partial / REPORT).write_text(render(record), encoding="utf-8")
    with (partial / CHECKS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_rows(record))


def _rows(record: Record) -> Iterator[list[str]]:
    for name, results in record.checks.items():
        for result in results:
            told = result.model_dump(mode="json") | {
                "round": name,
                "started_utc": result.model_dump(mode="json")["started"],
                "csv": result.csv.path if result.csv else "",
            }
            yield [str(told[column]) for column in _COLUMNS]


def _seal(partial: Path) -> str:
    """Digest every file, make them read only, and put all of it on disk."""
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(partial).as_posix()}\n")
    sums = partial / SUMS
    sums.write_text("".join(lines))
    for path in [*files, sums]:
        path.chmod(path.stat().st_mode & ~0o222)
        _sync(path)
    for directory in [path for path in partial.rglob("*") if path.is_dir()]:
        _sync(directory)
    _sync(partial)
    return seal_of(partial)


def seal_of(bundle: Path) -> str:
    """SHA-256 of SHA256SUMS: whoever rewrites a file and that list is seen by this alone, kept elsewhere."""
    return hashlib.sha256((bundle / SUMS).read_bytes()).hexdigest()


def _same_bundle(target: Path, partial: Path, sums: str) -> str:
    """A bundle that was published by a process that died before it could say so."""
    found = seal_of(target)
    shutil.rmtree(partial)
    if found != sums:
        raise EvidenceError(
            f"another bundle is at {target}: expected digest {sums}, got {found}",
            hint="evidence is never overwritten; look at both",
        )
    return sums


def published_at(folder: Path) -> Path | None:
    """Where the bundle of this working folder's drill is; None when it has none yet."""
    for entry in reversed(read_journal(folder / JOURNAL).entries):
        if isinstance(entry.body, Published):
            return Path(entry.body.bundle)
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
