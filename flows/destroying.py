"""Destroying what a drill made, each kind of thing in its own way.

The journal alone says what there is to destroy; every drill ends by this, and what mends a killed one is the same.
Refuses what is not the drill's own, whatever a journal says. Guarantees that nothing is called destroyed that was not
looked for afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from drills import events
from drills.addresses import resolve_address
from drills.applications import end_applications
from drills.errors import ClusterError, DrillbookError, JournalError
from drills.fold import outstanding
from drills.journal import Journal, read_journal
from drills.locks import Lock
from drills.places import open_place
from drills.records import Resource, Verdict
from drills.recovery.aws.client import Aws
from drills.recovery.aws.destroy import DELETE_LIMIT, destroy
from drills.recovery.aws.kinds import KINDS, name_of
from drills.remains import destroy_cluster
from drills.results import Problem
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.staging import database_name, scratch_name
from drills.units import parse_duration
from flows.runtime import DUMP, JOURNAL, RAW, REPOSITORY, STAGING, WAL
from flows.stages.shared import aws_log


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
