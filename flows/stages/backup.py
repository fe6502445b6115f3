"""Backup and expectations: what the copy is made of, and what it will be held against."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

from checks.asking import Log
from checks.control import read_control
from checks.expectations import (
    expect,
    look_at_platform,
    write_expectations,
)
from checks.measure import Scope, Wish, measure
from checks.sequences import bracket, read_sequences
from checks.sharing import Advance
from drills import events
from drills.addresses import Address
from drills.errors import GuardError
from drills.load import LoadWatch
from drills.measures import Measures
from drills.records import (
    Backup,
    FileRef,
    Server,
    Verdict,
)
from drills.sessions import (
    PINNED,
    Access,
    Limits,
    Sessions,
    connect,
    describe,
    exported_snapshot,
    session,
)
from drills.staging import (
    look_at_surroundings,
)
from flows.runtime import Drill, given
from flows.stages.shared import check_log, keep_queries, method_of, source_limits, workspace_of


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
                lambda: connect(source, name=drill.name, access=Access.READ_ONLY, limits=source_limits(drill))
            )
            around, platform = look_at_surroundings(leader), look_at_platform(leader, log)
            with ThreadPoolExecutor(1, thread_name_prefix="expectations") as pool, sessions.cancelled_on_error():
                wish, scope = Wish.of(drill.plan.checks, drill.opened), Scope(drill.plan.recovery.jobs)
                # Sequences are outside of every snapshot: what the backup holds lies between two readings.
                before = read_sequences(leader, log) if wish.sequences else ()
                between = _between_statements(sessions, watch)
                measuring = pool.submit(measure, sessions.inside(snapshot.name), wish, scope, log, between)
                tell = partial(_unless_failed, measuring, drill.progress.advance)
                taken = method_of(drill).back_up(source, snapshot.name, workspace_of(drill, tell))
                measures = measuring.result()
            stand = bracket(before, read_sequences(leader, log) if wish.sequences else ())
        keep_queries(drill, log.queries)
        controls = [read_control(check, drill.opened) for check in drill.plan.checks.totals if check.control]
        found = measures.model_copy(update={"sequences": stand, "queries": tuple(log.queries)})
        file = write_expectations(expect(snapshot, PINNED, found, controls, platform), drill.folder)
        drill.journal.append(events.Expected(file=file))
        backup = taken.backup.model_copy(update={"surroundings": around})
        drill.journal.append(events.BackedUp(backup=backup))
        check_log(drill, taken.log)
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
