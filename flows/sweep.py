"""Destroying what a drill made, and closing it: the end of every drill, and of killed ones when they are swept.

The journal alone says what there is to destroy; both ways here use the same functions, so what mends a killed drill is
what ended every drill before it. Refuses to touch a drill whose process lives. Guarantees that nothing is called
destroyed that was not looked for afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from drills import events
from drills.addresses import resolve_address
from drills.errors import ClusterError, DrillbookError, JournalError
from drills.fold import fold, outstanding, verdict_if_closed
from drills.journal import Journal, read_journal
from drills.locks import Lock, holder
from drills.records import Problem, Record, Resource, Verdict
from drills.remains import destroy_cluster, remove_folder
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, session
from flows.runtime import JOURNAL, LOCK, RESERVE
from flows.settings import drills_folder
from reports.bundle import publish

_EVIDENCE = ("raw", "reconcile", "expectations.json", "queries.jsonl", "plan.yaml")
"""What a drill's folder holds besides its journal; it is in the bundle once that is published."""


def destroy_all(folder: Path, journal: Journal) -> None:
    """Destroy what the journal says is there, newest first. A failure is kept as a problem and the rest goes on."""
    for resource in outstanding(read_journal(folder / JOURNAL).entries):
        try:
            _destroy(resource, folder)
        except (DrillbookError, OSError, psycopg.Error) as error:
            message = VAULT.redact(
                error.message if isinstance(error, DrillbookError) else f"{type(error).__name__}: {error}"
            )
            hint = (
                error.hint
                if isinstance(error, DrillbookError)
                else f"remove the {resource.kind} {resource.name} by hand, then sweep"
            )
            problem = Problem(stage="destroy", verdict=Verdict.UNKNOWN, message=message, hint=VAULT.redact(hint))
            journal.append(events.Failed(problem=problem))
        else:
            journal.append(events.Destroyed(resource=resource))


def _destroy(resource: Resource, folder: Path) -> None:
    match resource.kind:
        case "cluster" | "directory":
            _keep_log(Path(resource.name), folder)
            destroy_cluster(Path(resource.name))
        case "database":
            _drop_database(resource)
        case "lock":
            _drop_lock(Path(resource.name), folder.name)
        case _:
            raise ClusterError(
                f"nobody knows how to destroy a {resource.kind}", hint="this journal was written by another version"
            )


def _keep_log(cluster: Path, folder: Path) -> None:
    """What the server said is evidence."""
    log = cluster / "log"
    if log.exists():
        target = folder / "raw" / f"{cluster.name}-server.log"
        target.write_text(VAULT.redact(log.read_text(errors="replace")))


def _drop_database(resource: Resource) -> None:
    """Drop a database on a server that is not ours, and look whether it is gone."""
    address = resolve_address(resource.address, resource.password or None)
    with session(address, name="drillbook sweep", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(resource.name)))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (resource.name,)).fetchone() is not None:
            raise ClusterError(
                f"the database {resource.name} on {address} is still there", hint="drop it by hand, then sweep again"
            )


def _drop_lock(path: Path, drill: str) -> None:
    """Remove a lock file that nobody holds any more. One that another drill holds is that drill's."""
    lock = Lock.take(path, drill)
    if lock is not None:
        lock.release()


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
    bundle, sums = publish(folder, record)
    journal.append(events.Published(bundle=str(bundle), sums_sha256=sums))
    _tidy(folder)
    return record


def _tidy(folder: Path) -> None:
    """What is in the bundle is not kept twice."""
    for name in _EVIDENCE:
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
    for folder in sorted(path for path in root.glob("DR-*") if path.is_dir()):
        if _is_done(folder):
            continue
        lock = Lock.take(folder / LOCK, "sweep")
        if lock is None:
            yield Swept(folder.name, "is running", None)
            continue
        try:
            yield _sweep_one(folder)
        except (DrillbookError, OSError) as error:
            yield Swept(folder.name, "could not be closed", None, VAULT.redact(str(error)))
        finally:
            lock.release()
    yield from _sweep_demos(home)


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
            return Swept(folder.name, "was cleared of what it had left", None)
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
            if folder:
                destroy_cluster(Path(folder))
        except ClusterError as error:
            yield Swept(mark.stem, "could not be removed", None, str(error))
        else:
            lock.release()
            yield Swept(mark.stem, "a demo's production server, is removed", None)
