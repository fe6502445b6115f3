"""The first stage: every reason not to begin, before anything is made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import psycopg

from checks.asking import Log
from checks.preparing import statements_of, unprepared
from drills import events, guard
from drills.addresses import Address, resolve_address
from drills.likeness.beforehand import judge_own, judge_staging
from drills.likeness.facts import look_at_likeness
from drills.locks import Lock, holder
from drills.plan import BaseBackup, Dump, Managed, Point, Stream
from drills.readable import judge_reading
from drills.records import (
    Finding,
    Server,
    Verdict,
    file_name,
)
from drills.recovery.aws.apart import which_server
from drills.recovery.pages.standbys import judge_sender, judge_standbys
from drills.sessions import (
    STAGING_LIMITS,
    Access,
    describe,
    measure_cluster,
    only_row,
    session,
)
from drills.tools import choose_tools
from drills.wal import HERE, parse_lsn
from flows.runtime import Drill, given
from flows.stages.managed import managed_of
from flows.stages.shared import source_limits, staging_place

_MEND = "mend them in the plan, or let the drill's role read what they name; they are put under the search path public"
_LOOK = "the drill goes on, since they may be taken when their checks are asked; where they are not, that is UNKNOWN"


def look(drill: Drill) -> Server:
    """Every reason not to begin. Nothing is made before this has passed.

    Raises:
        RefusedError: there is one.
        ConnectError: source or staging cannot be reached.
    """
    plan = drill.plan
    with drill.stage("guard", None):
        source = resolve_address(plan.source.address, plan.source.password)
        staging = resolve_address(plan.staging.address, plan.staging.password) if plan.staging.address else None
        with session(source, name=drill.name, access=Access.READ_ONLY, limits=source_limits(drill)) as connection:
            server = describe(connection, source)
            findings = [
                guard.judge_role(guard.ways_to_write(connection), plan.source.writable_role),
                judge_reading(connection, whole=isinstance(plan.recovery, Dump | Stream)),
                guard.judge_solitude(drill.id, guard.other_drills(connection)),
                *([guard.judge_primary(connection)] if plan.recovery.physical else []),
                *_look_at_sender(drill, server, source, connection),
                *_look_at_statements(drill, server, connection),
            ]
            drill.likeness, drill.production = look_at_likeness(connection), which_server(connection)
            size = measure_cluster(connection) if plan.recovery.physical else server.size
        if isinstance(plan.recovery, Managed):
            findings += managed_of(drill, plan.recovery).judge()
        else:
            findings += _look_at_staging(drill, server, staging)
            findings += [*_look_at_tools(drill, server, source, staging), *_look_at_room(drill, server, size)]
        findings.append(guard.judge_evidence(Path(plan.evidence.folder)))
        findings.append(_hold_database(drill, server, findings))
        drill.say(events.Guarded(findings=tuple(findings), source=server))
        guard.refuse_if_any(findings)
        drill.source, drill.staging, drill.source_server = source, staging, server
        drill.begun = True
    return server


def _look_at_sender(drill: Drill, server: Server, source: Address, connection: psycopg.Connection) -> list[Finding]:
    """Where a base backup will come from, and whether production would wait for who receives its WAL."""
    wish = drill.plan.recovery
    if not isinstance(wish, BaseBackup):
        return []
    sender = resolve_address(wish.address, wish.password) if wish.address else source
    findings = [judge_sender(sender, server, drill.name), judge_standbys(connection, drill.name)]
    return findings if wish.to is None else [*findings, _judge_point(wish.to, drill.opened, connection)]


def _judge_point(to: Point, opened: datetime, connection: psycopg.Connection) -> Finding:
    """Whether a backup that is still to be taken can lead there: recovery only goes forward."""
    (here,) = only_row(connection.execute("SELECT " + HERE).fetchone())
    past = (to.time is not None and to.time <= opened) or (
        to.lsn is not None and parse_lsn(to.lsn) <= parse_lsn(str(here))
    )
    return Finding(
        name="the point of recovery lies ahead",
        verdict=Verdict.FAIL if past else Verdict.PASS,
        found=f"{' '.join(to.chosen)}; the source is at {here}",
        hint="the drill takes this backup itself: leave `to` out, or recover from a repository that has an older one"
        if past
        else "",
    )


def _look_at_statements(drill: Drill, server: Server, connection: psycopg.Connection) -> list[Finding]:
    """Whether the source takes the statements of the plan, where it has any: a slip would be told after the restore."""
    statements = list(statements_of(drill.plan.checks, drill.opened))
    if not statements:
        return []
    log = Log(server.role, f"{server.system_identifier}/{server.database}")
    found = unprepared(statements, connection, log, copy_of_now=drill.plan.recovery.aligned)
    name, certain = "statements of the plan can be prepared", [one for one in found if one.certain]
    if not found:
        return [Finding(name=name, verdict=Verdict.PASS, found=f"all {len(statements)} of them, none was run")]
    verdict, hint = (Verdict.FAIL, _MEND) if certain else (Verdict.UNKNOWN, _LOOK)
    return [Finding(name=name, verdict=verdict, found="; ".join(map(str, certain or found)), hint=hint)]


def _look_at_tools(drill: Drill, server: Server, source: Address, staging: Address | None) -> list[Finding]:
    """PostgreSQL's own programs here, where the drill needs any."""
    tools = drill.tools = choose_tools(drill.plan.tools, server.major, source.host)
    for program in (*drill.plan.recovery.programs, *(("initdb", "postgres") if staging is None else ())):
        tools.program(program)
    found = f"{tools.version} in {tools.folder}"
    physical = drill.plan.recovery.physical
    foreseen = judge_own(given(drill.likeness), tools, physical=physical) if staging is None else []
    return [Finding(name="tools of the server's version", verdict=Verdict.PASS, found=found), *foreseen]


def _look_at_room(drill: Drill, server: Server, size: int) -> list[Finding]:
    """Backup and copy may lie on different file systems when servers cannot reach the drill's own folder."""
    wish, backup, copy = drill.plan.staging, size * drill.plan.recovery.keeps, size * guard.ROOM_FOR_COPY
    if drill.plan.negative_control.enabled:
        copy += server.size * guard.ROOM_FOR_COPY  # a scratch clone of the one database
    if wish.address is not None:
        unseen = "not looked at: the disk of a staging server that is there already cannot be seen from here"
        dump = guard.judge_room(guard.measure_room(drill.folder, backup, None))
        return [dump, Finding(name="room for the copy", verdict=Verdict.UNKNOWN, found=unseen)]
    copy_place = staging_place(drill).parent
    if copy_place.stat().st_dev == drill.folder.stat().st_dev:
        places = [(drill.folder, backup + copy)]
    else:
        places = [(drill.folder, backup), (copy_place, copy)]
    return [guard.judge_room(guard.measure_room(place, needed, wish.disk_limit)) for place, needed in places]


def _look_at_staging(drill: Drill, server: Server, staging: Address | None) -> list[Finding]:
    if staging is None:
        return [
            Finding(
                name="staging is not production",
                verdict=Verdict.PASS,
                found="the drill makes a cluster of its own; compared again before the restore",
            )
        ]
    with session(staging, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = drill.staging_server = describe(connection, staging)
        foreseen = judge_staging(given(drill.likeness), connection)
        row = connection.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    able = row is not None and bool(row[0])
    return [
        *foreseen,
        guard.judge_separation(server, there),
        guard.judge_versions(server, there),
        Finding(
            name="staging role may create databases",
            verdict=Verdict.PASS if able else Verdict.FAIL,
            found="yes" if able else "no",
            hint="" if able else f"ALTER ROLE {there.role} CREATEDB on the staging server",
        ),
    ]


def _hold_database(drill: Drill, server: Server, findings: list[Finding]) -> Finding:
    """Take the lock on the database, the last thing that can go wrong. Its file is the drill's first effect."""
    name = "no other drill from this working folder"
    path = drill.home / "locks" / f"{server.system_identifier}-{file_name(server.database)}.lock"
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        return Finding(name=name, verdict=Verdict.UNKNOWN, found="not looked at: the drill is refused already")
    drill.intend("lock", str(path))
    drill.database_lock = Lock.take(path, drill.id)
    if drill.database_lock is None:
        other = holder(path)
        hint = "wait for it to end; `drillbook list` shows it"
        return Finding(
            name=name, verdict=Verdict.FAIL, found=f"{other or 'another drill'} holds this database", hint=hint
        )
    return Finding(name=name, verdict=Verdict.PASS, found="the lock on this database is ours")
