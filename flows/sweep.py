"""Destroying what a drill made, and closing it: the end of every drill, and of killed ones when they are swept.

The journal alone says what there is to destroy; both ways here use the same functions, so what mends a killed drill is
what ended every drill before it. Refuses to touch a drill whose process lives. Guarantees that nothing is called
destroyed that was not looked for afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from drills import events
from drills.addresses import resolve_address
from drills.applications import end_applications, leave_out_unmasked
from drills.errors import ClusterError, DrillbookError, EvidenceError, JournalError
from drills.fold import fold, outstanding, verdict_if_closed
from drills.journal import Journal, read_journal
from drills.locks import Lock, holder
from drills.places import open_place
from drills.record import Record
from drills.records import Problem, Resource, Verdict
from drills.recovery.aws.client import Aws
from drills.recovery.aws.destroy import DELETE_LIMIT, destroy
from drills.recovery.aws.kinds import KINDS, name_of
from drills.remains import destroy_cluster, remove_folder
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.staging import database_name, scratch_name
from drills.units import parse_duration
from flows.runtime import DUMP, JOURNAL, LOCK, RAW, REPOSITORY, RESERVE, STAGING, WAL
from flows.settings import drills_folder
from flows.stages.shared import aws_log
from reports.bundle import TAKEN, publish


def destroy_all(folder: Path, journal: Journal) -> None:
    """Destroy what the journal says is there, newest first. A failure is kept as a problem and the rest goes on."""
    entries = read_journal(folder / JOURNAL).entries
    broken = _end_applications(entries[0].body, journal) if entries else None
    limit = _limit_of(entries[0].body) if entries else DELETE_LIMIT
    for resource in outstanding(entries):
        try:
            _refuse_foreign(resource, folder)
            _destroy(resource, folder, limit)
        except (DrillbookError, OSError, psycopg.Error) as error:
            said: events.Event = _failed(error, f"remove the {resource.kind} {resource.name} by hand, then sweep")
        else:
            said = events.Destroyed(resource=resource)
        try:
            journal.append(said)
        except JournalError as error:
            broken = error  # what is left to destroy may be what makes room for the journal
    if broken is not None:
        raise broken


def _failed(error: Exception, hint: str) -> events.Failed:
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, DrillbookError):
        message, hint = error.message, error.hint or hint
    message, hint = VAULT.redact(message), VAULT.redact(hint)
    return events.Failed(problem=Problem(stage="destroy", verdict=Verdict.UNKNOWN, message=message, hint=hint))


def _end_applications(first: events.Event, journal: Journal) -> JournalError | None:
    """End what smoke checks left running. One that cannot be ended is a problem, and no reason to leave the rest."""
    if not isinstance(first, events.Opened) or not (first.plan.get("checks") or {}).get("smoke"):
        return None
    try:
        end_applications(first.drill)
    except (DrillbookError, OSError) as error:
        try:
            journal.append(_failed(error, "a smoke check of this drill has started it; end it by hand"))
        except JournalError as full:
            return full
    return None


def _refuse_foreign(resource: Resource, folder: Path) -> None:
    """A journal may be forged or copied: only what a drill of this name makes is destroyed.

    Raises:
        ClusterError: it is something else.
    """
    home = folder.parent.parent
    expected = {
        "directory": {str(folder / DUMP), *_places(folder, WAL), *_places(folder, REPOSITORY)},
        "cluster": _places(folder, STAGING),
        "database": {database_name(folder.name), scratch_name(folder.name)},
        **{kind: {name_of(folder.name)} for kind in KINDS},
        "lock": {resource.name} if Path(resource.name).parent == home / "locks" else set(),
    }.get(resource.kind, set())
    if resource.name not in expected:
        raise ClusterError(
            f"the journal names a {resource.kind} that is not this drill's: {resource.name}",
            hint="the journal is another drill's, or somebody else wrote it; look before you remove anything",
        )


def _places(folder: Path, name: str) -> set[str]:
    """Where something of the drill's own may be that the servers' account has to get to."""
    return {str(folder / name), str(open_place(folder / name))}


def _destroy(resource: Resource, folder: Path, limit: timedelta = DELETE_LIMIT) -> None:
    match resource.kind:
        case "cluster" | "directory":
            _keep_log(Path(resource.name), folder)
            destroy_cluster(Path(resource.name))
        case "database" if resource.address in _places(folder, STAGING):
            # The scratch clone in a cluster of the drill's own, which comes next and takes it along.
            _keep_log(Path(resource.address), folder)
            destroy_cluster(Path(resource.address))
        case "database":
            _drop_database(resource)
        case "lock":
            _drop_lock(Path(resource.name), folder.name)
        case kind if kind in KINDS:
            _delete_at_aws(resource, folder, limit)
        case _:
            raise ClusterError(
                f"nobody knows how to destroy a {resource.kind}", hint="this journal was written by another version"
            )


def _limit_of(first: events.Event) -> timedelta:
    """How long the plan gives AWS to delete something."""
    recovery = first.plan.get("recovery") if isinstance(first, events.Opened) else None
    told = recovery.get("delete_timeout") if isinstance(recovery, Mapping) else None
    with suppress(ValueError):  # a journal may be forged; what is said to be there is deleted all the same
        return DELETE_LIMIT if told is None else parse_duration(told)
    return DELETE_LIMIT


def _delete_at_aws(resource: Resource, folder: Path, limit: timedelta) -> None:
    """What AWS answers is evidence, as long as there is a bundle to come."""
    raw = aws_log(folder)
    aws = Aws(folder.name, raw if raw.parent.is_dir() else None)
    destroy(resource.kind, resource.name, resource.address, folder.name, aws, limit=limit)


def _keep_log(cluster: Path, folder: Path) -> None:
    """What the server said is evidence, as long as there is a bundle to come; it never stands in the way of the end."""
    log, raw = cluster / "log", folder / RAW
    if log.exists() and raw.is_dir():
        with suppress(OSError):
            (raw / f"{cluster.name}-server.log").write_text(VAULT.redact(log.read_text(errors="replace")))


def _drop_database(resource: Resource) -> None:
    """Drop a database on a server that is not ours, and look whether it is gone."""
    address = resolve_address(resource.address, resource.password or None)
    with session(address, name="drillbook sweep", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        there = describe(connection, address)
        if there.system_identifier != resource.system_identifier:
            raise ClusterError(
                f"{address} leads to another server than the one that holds {resource.name}: expected system"
                f" identifier {resource.system_identifier}, got {there.system_identifier}",
                hint="point the reference to that server again, then sweep",
            )
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
    for folder in sorted(path for path in root.glob("DR-*") if path.is_dir()):
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
