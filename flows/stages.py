"""The stages of a drill, each a plain function: what is said to the journal around what is done by the hands.

Each stage takes the drill and what the stage before it returned. None of them knows Prefect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from checks.asking import Log
from checks.control import read_control
from checks.expectations import (
    expect,
    look_at_platform,
    read_expectations,
    refuse_incomparable,
    write_expectations,
)
from checks.measure import Scope, Wish, measure
from checks.sequences import bracket, read_sequences
from checks.sharing import Advance
from checks.suite import Subject, run_checks, try_programs
from drills import events, guard
from drills.addresses import Address, resolve_address
from drills.applications import Applications
from drills.clusters import make_cluster
from drills.errors import GuardError
from drills.fold import AFTER_RESTORE
from drills.load import LoadWatch
from drills.locks import Lock, holder
from drills.measures import Measures, Query
from drills.outages.base import run_outage
from drills.outages.process import ServerKilled
from drills.places import open_place
from drills.plan import KillServer
from drills.planned import BY_PROGRAMS
from drills.records import (
    Backup,
    Basis,
    CheckResult,
    Copy,
    FileRef,
    Finding,
    Server,
    Surroundings,
    Verdict,
    file_name,
    utc_now,
)
from drills.recovery.base import ToolLog, Workspace
from drills.recovery.dump import Dump
from drills.sessions import (
    PINNED,
    STAGING_LIMITS,
    Access,
    Limits,
    Sessions,
    connect,
    describe,
    exported_snapshot,
    session,
)
from drills.staging import (
    LIKE_PRODUCTION,
    database_name,
    look_at_surroundings,
    make_database,
    prepare_cluster,
    run_like_production,
    size_watch,
)
from drills.tools import choose_tools
from flows.runtime import Drill, given

# --- guard ----------------------------------------------------------------------------------------------------------


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
        with session(source, name=drill.name, access=Access.READ_ONLY, limits=_source_limits(drill)) as connection:
            server = describe(connection, source)
            findings = [
                guard.judge_role(guard.ways_to_write(connection), plan.source.writable_role),
                guard.judge_solitude(drill.id, guard.other_drills(connection)),
            ]
        findings += _look_at_staging(drill, server, staging)
        tools = choose_tools(plan.tools, server.major, source.host)
        for program in ("pg_restore", *(("initdb", "postgres") if staging is None else ())):
            tools.program(program)
        found = f"{tools.version} in {tools.folder}"
        findings.append(Finding(name="tools of the server's version", verdict=Verdict.PASS, found=found))
        findings += [*_look_at_room(drill, server), guard.judge_evidence(Path(plan.evidence.folder))]
        findings.append(_hold_database(drill, server, findings))
        drill.journal.append(events.Guarded(findings=tuple(findings), source=server))
        guard.refuse_if_any(findings)
        drill.source, drill.staging, drill.tools, drill.source_server = source, staging, tools, server
        drill.begun = True
    return server


def _look_at_room(drill: Drill, server: Server) -> list[Finding]:
    """Dump and copy may lie on different file systems when servers cannot reach the drill's own folder."""
    wish = drill.plan.staging
    if wish.address is not None:
        unseen = "not looked at: the disk of a staging server that is there already cannot be seen from here"
        dump = guard.judge_room(guard.measure_room(drill.folder, server.size, makes_copy=False, limit=None))
        return [dump, Finding(name="room for the copy", verdict=Verdict.UNKNOWN, found=unseen)]
    copy_place = open_place(drill.folder / "staging").parent
    if copy_place.stat().st_dev == drill.folder.stat().st_dev:
        places = [(drill.folder, True)]
    else:
        places = [(drill.folder, False), (copy_place, True)]
    return [
        guard.judge_room(guard.measure_room(place, server.size, makes_copy=makes_copy, limit=wish.disk_limit))
        for place, makes_copy in places
    ]


def _source_limits(drill: Drill) -> Limits:
    """Sessions that measure rest inside their snapshot while production is too busy."""
    wish = drill.plan.source
    return Limits(wish.statement_timeout, wish.lock_timeout, wish.load.patience if wish.load else timedelta(0))


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
        row = connection.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    able = row is not None and bool(row[0])
    return [
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


# --- backup and expectations ----------------------------------------------------------------------------------------


def back_up(drill: Drill, server: Server) -> tuple[Backup, FileRef]:
    """Backup and expectations from one snapshot, at the same time, while production goes on writing.

    Raises:
        DrillbookError: one of them could not be had; then there is nothing to compare with.
    """
    with drill.stage("backup", Verdict.UNKNOWN):
        source = given(drill.source)
        drill.intend("directory", str(drill.folder / "dump"))
        leader_limits = Limits(drill.plan.recovery.backup_timeout, drill.plan.source.lock_timeout)
        with ExitStack() as held:
            leader = held.enter_context(session(source, name=drill.name, access=Access.READ_ONLY, limits=leader_limits))
            _refuse_another_server(server, describe(leader, source))
            watch = _watch_load(drill, source, held)
            snapshot = held.enter_context(exported_snapshot(leader))
            drill.journal.append(events.SnapshotTaken(snapshot=snapshot))
            log = Log(server.role, f"{server.system_identifier}/{server.database}")
            sessions = Sessions(
                lambda: connect(source, name=drill.name, access=Access.READ_ONLY, limits=_source_limits(drill))
            )
            around, platform = look_at_surroundings(leader), look_at_platform(leader, log)
            with ThreadPoolExecutor(1, thread_name_prefix="expectations") as pool, sessions.cancelled_on_error():
                wish, scope = Wish.of(drill.plan.checks, drill.opened), Scope(drill.plan.recovery.jobs)
                # Sequences are outside of every snapshot: what the backup holds lies between two readings.
                before = read_sequences(leader, log) if wish.sequences else ()
                between = _between_statements(sessions, watch)
                measuring = pool.submit(measure, sessions.inside(snapshot.name), wish, scope, log, between)
                tell = partial(_unless_failed, measuring, drill.progress.advance)
                taken = _method(drill).back_up(source, snapshot.name, _workspace(drill, tell))
                measures = measuring.result()
            stand = bracket(before, read_sequences(leader, log) if wish.sequences else ())
        keep_queries(drill, log.queries)
        controls = [read_control(check, drill.opened) for check in drill.plan.checks.totals if check.control]
        found = measures.model_copy(update={"sequences": stand, "queries": tuple(log.queries)})
        file = write_expectations(expect(snapshot, PINNED, found, controls, platform), drill.folder)
        drill.journal.append(events.Expected(file=file))
        backup = taken.backup.model_copy(update={"surroundings": around})
        drill.journal.append(events.BackedUp(backup=backup))
        _check_log(drill, taken.log)
    return backup, file


def _unless_failed(
    measuring: Future[Measures], tell: Callable[[int, int | None, str], None], done: int, total: int | None, unit: str
) -> None:
    """Progress of the dump, which is not waited for where there will be nothing to compare it with."""
    if measuring.done():
        measuring.result()
    tell(done, total, unit)


def _watch_load(drill: Drill, source: Address, held: ExitStack) -> LoadWatch | None:
    """Whoever looks at the load on the source, where the plan limits it; the source was calm when this returns."""
    wish = drill.plan.source.load
    if wish is None:
        return None
    limits = Limits(timedelta(seconds=30), drill.plan.source.lock_timeout)
    watching = held.enter_context(session(source, name=drill.name, access=Access.READ_ONLY, limits=limits))
    watch = LoadWatch(wish, watching)
    watch.wait_until_calm(lambda busy: drill.progress.advance(0, None, "bytes", f"waiting: {busy}"))
    return watch


def _between_statements(sessions: Sessions, watch: LoadWatch | None) -> Advance:
    """Between two statements on the source: is the drill still on, and is production calm?"""

    def go_on(done: int, total: int, unit: str, about: str = "") -> None:  # noqa: ARG001 - the dump is what is shown
        sessions.go_on()
        if watch is not None:
            watch.wait_until_calm(lambda _busy: sessions.go_on())

    return go_on


def _refuse_another_server(guarded: Server, found: Server) -> None:
    if guarded.system_identifier != found.system_identifier or guarded.database != found.database:
        raise GuardError(
            f"the address leads to another server than the guard saw: expected system identifier"
            f" {guarded.system_identifier}, got {found.system_identifier}",
            hint="a failover or a change of DNS happened meanwhile; run the drill again",
        )


# --- restore --------------------------------------------------------------------------------------------------------


def restore(drill: Drill, server: Server, backup: Backup) -> Copy:
    """Production counts as lost from here on: bring it back in staging.

    Raises:
        DrillbookError: there is no copy to look at.
    """
    drill.say(events.LossDeclared())
    with drill.stage("restore", Verdict.FAIL):
        begun = time.monotonic()
        around = given(backup.surroundings)
        target = _make_staging(drill, server, around)
        owned = drill.staging is None
        copy = target.to(server.database) if owned else target
        tell = partial(_tell_size, drill, server.size)
        with size_watch(target, copy.parts["dbname"], drill.name, tell) as look_at_size:
            workspace = _workspace(drill, lambda _done, _total, _unit: look_at_size())
            done = _method(drill).restore(backup, target, owned=owned, workspace=workspace)
        if owned:
            run_like_production(given(drill.cluster))
        _check_log(drill, done.log)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            there = describe(connection, copy)
        drill.copy = copy
        copied = Copy(
            server=there,
            made=owned,
            commands=done.commands,
            seconds=round(time.monotonic() - begun, 6),
            deviations=(*done.deviations, *_tablespaces_left_out(around)),
        )
        drill.say(events.Restored(copy_of_it=copied))
        drill.say(events.Accepting())
    return copied


def _make_staging(drill: Drill, server: Server, around: Surroundings) -> Address:
    """A cluster of the drill's own, or a database of its own on the staging server of the plan."""
    if drill.staging is not None:
        database, wish, seen = database_name(drill.id), drill.plan.staging, given(drill.staging_server)
        where = {"address": wish.address or "", "password": wish.password or ""}
        drill.intend("database", database, **where, system_identifier=seen.system_identifier)
        return make_database(drill.staging, database, around, drill.name, source=server, seen=seen)
    folder = open_place(drill.folder / "staging")
    drill.intend("cluster", str(folder))
    drill.cluster = make_cluster(folder, given(drill.tools))
    return prepare_cluster(drill.cluster, server, around, drill.name)


def _tablespaces_left_out(around: Surroundings) -> list[str]:
    names = ", ".join(around.tablespaces)
    return [f"tablespaces were not used: everything of {names} is in the copy's default one"] if names else []


def _tell_size(drill: Drill, expected: int, size: int) -> None:
    drill.progress.advance(size, expected, "bytes")


# --- checks ---------------------------------------------------------------------------------------------------------


def check(drill: Drill, server: Server, expectations: FileRef, name: str) -> Verdict:
    """One round: every check of the plan, put to the copy as it is now.

    Raises:
        DrillbookError: the copy cannot be asked.
    """
    with drill.stage(f"checks {name}", Verdict.UNKNOWN):
        copy = given(drill.copy)
        expected = read_expectations(drill.folder, expectations)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            there = describe(connection, copy)
            guard.refuse_if_any([guard.judge_separation(server, there)])
            log = Log(there.role, f"{there.system_identifier}/{there.database}")
            refuse_incomparable(expected, PINNED, look_at_platform(connection, log))
        sessions, writing = (sessions_on(drill, copy, access) for access in (Access.READ_ONLY, Access.READ_WRITE))
        folder = drill.folder / "reconcile" / file_name(name)
        verdicts = []
        subject = Subject(
            sessions.plain,
            writing.plain,
            log,
            drill.opened,
            jobs=drill.plan.recovery.jobs,
            probe=Applications(copy, drill.id, drill.raw, Path.cwd()),
            owners=drill.staging is None,
            give_rows=partial(_method(drill).rows_of, workspace=_workspace(drill, drill.progress.advance)),
        )
        with sessions.cancelled_on_error(), writing.cancelled_on_error():
            for result in run_checks(drill.plan.checks, expected, subject, folder, drill.progress.advance):
                drill.journal.append(events.Checked(round=name, result=result))
                verdicts.append(result.verdict)
        keep_queries(drill, log.queries)
        verdict = Verdict.worst(verdicts)
        drill.journal.append(events.RoundEnded(round=name, verdict=verdict))
    return verdict


def try_out(drill: Drill, server: Server) -> Verdict:
    """The last round: programs work with the copy, and may write to it.

    Raises:
        DrillbookError: the copy cannot be asked, or is production.
    """
    with drill.stage(f"checks {BY_PROGRAMS}", Verdict.UNKNOWN):
        copy = given(drill.copy)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            guard.refuse_if_any([guard.judge_separation(server, describe(connection, copy))])
        probe = Applications(copy, drill.id, drill.raw, Path.cwd())
        verdicts = []
        for result in try_programs(drill.plan.checks, probe, drill.folder / "reconcile" / file_name(BY_PROGRAMS)):
            drill.journal.append(events.Checked(round=BY_PROGRAMS, result=result))
            verdicts.append(result.verdict)
        verdict = Verdict.worst(verdicts)
        drill.journal.append(events.RoundEnded(round=BY_PROGRAMS, verdict=verdict))
    return verdict


def sessions_on(drill: Drill, copy: Address, access: Access) -> Sessions:
    """Sessions on a copy, so that all of them can be cancelled at once."""
    return Sessions(lambda: connect(copy, name=drill.name, access=access, limits=STAGING_LIMITS))


# --- outages --------------------------------------------------------------------------------------------------------


def injure(drill: Drill, wish: KillServer) -> None:
    """One outage: break the copy under a heartbeat, bring it back, and count what was lost.

    Raises:
        DrillbookError: it could not be measured, or the copy did not come back.
    """
    with drill.stage(f"outage {wish.name}", Verdict.FAIL):
        cluster = given(drill.cluster)
        beats = drill.raw / f"commits-{file_name(wish.name)}.csv"
        result = run_outage(
            wish,
            ServerKilled(cluster, LIKE_PRODUCTION, wish.limit.total_seconds()),
            given(drill.copy),
            name=drill.name,
            beats=beats,
            journal_fault=lambda: drill.say(events.FaultIntended(outage=wish.name)),
        )
        evidence = FileRef.of(beats, drill.folder)
        drill.journal.append(events.OutageEnded(result=result.model_copy(update={"evidence": evidence})))


# --- shared ---------------------------------------------------------------------------------------------------------


def _method(drill: Drill) -> Dump:
    return Dump(drill.plan.recovery, int(drill.plan.source.lock_timeout.total_seconds() * 1000))


def _workspace(drill: Drill, progress: Callable[[int, int | None, str], None]) -> Workspace:
    return Workspace(drill.folder / "dump", drill.raw, given(drill.tools), drill.name, progress)


def keep_queries(drill: Drill, queries: list[Query]) -> None:
    """Every statement that was put to a server, for whoever re-performs it."""
    with (drill.folder / "queries.jsonl").open("ab") as file:
        for query in queries:
            file.write(query.canonical() + b"\n")


def _check_log(drill: Drill, log: ToolLog) -> None:
    """What a tool said is a check like any other."""
    said = [*log.errors, *log.warnings]
    drill.journal.append(
        events.Checked(
            round=AFTER_RESTORE,
            result=CheckResult(
                name=f"what {log.tool} said",
                kind="tool_log",
                verdict=log.verdict,
                reason=log.reason,
                basis=Basis.NONE,
                expected="no error, no warning",
                actual="\n".join(said[:20]) or "nothing",
                difference=f"{len(log.errors)} errors, {len(log.warnings)} warnings",
                sql="",
                started=utc_now(),
                seconds=0.0,
                compared=1,
                differing=len(said),
            ),
        )
    )
