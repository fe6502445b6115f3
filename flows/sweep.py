"""Closing drills: the end of every drill, and of killed ones when they are swept.

Refuses to touch a drill whose process lives. Guarantees that a drill which was swept has a bundle, and that its folder
keeps everything until the bundle stands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drills import events
from drills.applications import leave_out_unmasked
from drills.errors import ClusterError, DrillbookError, EvidenceError, JournalError
from drills.fold import fold, outstanding, verdict_if_closed
from drills.journal import Journal, read_journal
from drills.locks import Lock, holder
from drills.places import half_copies, open_place
from drills.record import Record
from drills.remains import destroy_cluster, remove_folder
from drills.secrets import VAULT
from flows.destroying import destroy_all
from flows.runtime import JOURNAL, LOCK, OPENING, RAW, RESERVE
from flows.settings import drills_folder
from reports.bundle import TAKEN, publish


def close(folder: Path, journal: Journal) -> Record:
    """Close the drill, write its bundle, and empty its folder but for the journal.

    Raises:
        EvidenceError: the bundle could not be written; the drill's folder keeps everything, and a sweep tries again.
    """
    reading = read_journal(folder / JOURNAL)
    if not any(isinstance(entry.body, events.Closed) for entry in reading.entries):
        verdict, outcome = verdict_if_closed(reading)
        journal.append(events.Closed(verdict=verdict, outcome=outcome))
        reading = read_journal(folder / JOURNAL)
    record = fold(reading)
    try:
        leave_out_unmasked(folder / RAW)
    except OSError as error:
        raise EvidenceError(
            f"what a program said cannot be left out of the bundle: {error.strerror or error}",
            hint=f"the evidence is kept in {folder}; mend the cause, then run `drillbook sweep`",
        ) from error
    bundle, sums = publish(folder, record)
    journal.append(events.Published(bundle=str(bundle), sums_sha256=sums))
    _tidy(folder)
    return record


def _tidy(folder: Path) -> None:
    """What is in the bundle is not kept twice."""
    for name in TAKEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Swept:
    """What a sweep did to one drill."""

    drill: str
    what: str
    record: Record | None
    error: str = ""


def sweep(home: Path) -> Iterator[Swept]:
    """Destroy what killed drills left behind, and close them. Drills that are running are left alone."""
    root = drills_folder(home)
    begun = [*root.glob("DR-*"), *root.glob(f"{OPENING}DR-*"), *half_copies()]
    for folder in sorted(path for path in begun if path.is_dir()):
        try:
            if not _is_done(folder):
                yield _sweep_locked(folder)
        except FileNotFoundError:
            continue  # another sweep was quicker
        except (DrillbookError, OSError) as error:
            yield Swept(folder.name, "could not be closed", None, VAULT.redact(str(error)))
    yield from _sweep_demos(home)


def _sweep_locked(folder: Path) -> Swept:
    if folder.lstat().st_uid != os.geteuid():
        raise ClusterError(f"{folder} belongs to another user", hint="they have to sweep it themselves")
    lock = Lock.take(folder / LOCK, "sweep")
    if lock is None:
        return Swept(folder.name, "is running", None)
    try:
        return _sweep_one(folder)
    finally:
        lock.release()


def _is_done(folder: Path) -> bool:
    """Closed, published, nothing of it left, and nothing in its folder but the journal."""
    if [path.name for path in folder.iterdir()] != [JOURNAL]:
        return False
    try:
        entries = read_journal(folder / JOURNAL).entries
    except JournalError:
        return False
    return any(isinstance(entry.body, events.Published) for entry in entries) and not outstanding(entries)


def _sweep_one(folder: Path) -> Swept:
    path = folder / JOURNAL
    if not path.exists() or b"\n" not in path.read_bytes():
        # Killed before its first entry was whole: it intended nothing, so there is nothing to look for.
        remove_folder(folder)
        return Swept(folder.name, "had not begun; removed", None)
    opened = read_journal(path).entries[0].body
    if not isinstance(opened, events.Opened) or opened.drill != folder.name:
        raise JournalError(f"{path} is the journal of another drill", hint="a copy of a drill's folder is not swept")
    (folder / RESERVE).unlink(missing_ok=True)
    journal = Journal.reopen(path)
    try:
        entries = read_journal(path).entries
        closed = any(isinstance(entry.body, events.Closed) for entry in entries)
        if not closed:
            journal.append(events.Interrupted(reason="its process was gone before it had ended"))
        destroy_all(folder, journal)
        if any(isinstance(entry.body, events.Published) for entry in entries):
            _tidy(folder)
            left = outstanding(read_journal(path).entries)
            still = "; ".join(f"{resource.kind} {resource.name} is still there" for resource in left)
            return Swept(folder.name, "was not cleared" if left else "was cleared of what it had left", None, still)
        record = close(folder, journal)
        return Swept(folder.name, "closed", record)
    finally:
        journal.close()


def _sweep_demos(home: Path) -> Iterator[Swept]:
    """Production servers of demos whose process is gone."""
    for mark in sorted((home / "demo").glob("production-*.lock")):
        folder = holder(mark)
        lock = Lock.take(mark, folder)
        if lock is None:
            continue
        try:
            if folder in {str(mark.with_suffix("")), str(open_place(mark.with_suffix("")))}:
                destroy_cluster(Path(folder))
        except (DrillbookError, OSError) as error:
            yield Swept(mark.stem, "could not be removed", None, str(error))
        else:
            lock.release()
            yield Swept(mark.stem, "a demo's production server, is removed", None)
