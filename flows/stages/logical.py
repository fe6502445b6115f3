"""Logical copies: a dump taken while production goes on writing, loaded into a database of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from drills import events, plan
from drills.addresses import Address
from drills.clusters import make_cluster
from drills.errors import ToolError
from drills.measures import Measures
from drills.records import Backup, Copy, FileRef, Server, Snapshot, Surroundings, Verdict
from drills.recovery.base import Progress, Restore, Taken
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.snapshots import exported_snapshot
from drills.staging import database_name, make_database, prepare_cluster, run_like_production, size_watch
from flows.runtime import Drill, given
from flows.stages.expecting import Expecting, expecting
from flows.stages.shared import (
    check_age,
    check_likeness,
    check_log,
    dump_of,
    given_dump_of,
    staging_place,
    stream_of,
    workspace_of,
)


def take_dump(drill: Drill, server: Server, wish: plan.Dump) -> tuple[Backup, FileRef]:
    """Dump and expectations from one snapshot, at the same time."""
    drill.intend("directory", str(drill.dump))
    with expecting(drill, server) as source:

        def dump(snapshot: Snapshot, tell: Progress) -> Taken:
            return dump_of(drill, wish).back_up(given(drill.source), snapshot.name, workspace_of(drill, tell))

        return _take(drill, source, dump)


def take_stream(drill: Drill, server: Server, wish: plan.Stream) -> tuple[Backup, FileRef]:
    """Dump and expectations from one snapshot, at the same time, and the dump is loaded while it is taken.

    Production is let go before the indexes are made.
    """
    with ExitStack() as held:
        with expecting(drill, server) as source:
            target, owned = _make_staging(drill, server, source.around), drill.staging is None
            drill.copy = target.to(server.database) if owned else target
            method, workspace = stream_of(drill, wish), workspace_of(drill, drill.progress.advance)
            loading = held.enter_context(method.loading(target, owned=owned, workspace=workspace))
            try:
                taken = _take(drill, source, lambda seen, tell: loading.take(given(drill.source), seen.name, tell))
            except ToolError:
                if loading.failed is not None:
                    check_log(drill, loading.failed)
                raise
        drill.loaded = loading.finish()
    return taken


def _take(drill: Drill, source: Expecting, dump: Callable[[Snapshot, Progress], Taken]) -> tuple[Backup, FileRef]:
    with exported_snapshot(source.leader) as snapshot:
        drill.say(events.SnapshotTaken(snapshot=snapshot))
        before = source.sequences()
        with ThreadPoolExecutor(1, "expectations") as pool, source.sessions.cancelled_on_error():
            measuring = pool.submit(source.measure, snapshot)
            taken = dump(snapshot, partial(_unless_failed, measuring, drill.progress.advance))
            measures = measuring.result()
    file = source.file(snapshot, measures, before)
    backup = taken.backup.model_copy(update={"surroundings": source.around})
    drill.say(events.BackedUp(backup=backup))
    check_log(drill, taken.log)
    return backup, file


def take_given(drill: Drill, server: Server, wish: plan.GivenDump) -> tuple[Backup, FileRef]:
    """A dump that somebody else made, and what closed periods hold at the source.

    Raises:
        ToolError: the dump is not whole, or not what the plan says.
    """
    drill.intend("directory", str(drill.dump))
    taken = given_dump_of(drill, wish).pick(workspace_of(drill, drill.progress.advance))
    check_log(drill, taken.log)
    check_age(drill, taken.backup, wish.max_age)
    if taken.log.verdict is Verdict.FAIL:
        raise ToolError(taken.log.reason, hint="have a new dump made, and look at how this one came to be cut short")
    with expecting(drill, server) as source:
        file = source.file_of_closed_periods()
        backup = taken.backup.model_copy(update={"surroundings": source.around})
    drill.say(events.BackedUp(backup=backup))
    return backup, file


def _unless_failed(
    measuring: Future[Measures], tell: Callable[[int, int | None, str], None], done: int, total: int | None, unit: str
) -> None:
    """Progress of the dump, which is not waited for where there will be nothing to compare it with."""
    if measuring.done():
        measuring.result()
    tell(done, total, unit)


def load_dump(drill: Drill, server: Server, backup: Backup, wish: plan.Dump | plan.GivenDump) -> Copy:
    """The dump, loaded into a cluster of the drill's own or a database of its own."""
    around = given(backup.surroundings)
    target = _make_staging(drill, server, around)
    owned = drill.staging is None
    copy = target.to(server.database) if owned else target
    tell = partial(_tell_size, drill, server.size)
    with size_watch(target, copy.parts["dbname"], drill.name, tell) as look_at_size:
        workspace = workspace_of(drill, lambda _done, _total, _unit: look_at_size())
        method = dump_of(drill, wish) if isinstance(wish, plan.Dump) else given_dump_of(drill, wish)
        done = method.restore(backup, target, owned=owned, workspace=workspace)
    drill.copy = copy
    return _finish(drill, done, around)


def finish_stream(drill: Drill, backup: Backup) -> Copy:
    """What was loaded while it was dumped, as production runs."""
    return _finish(drill, given(drill.loaded), given(backup.surroundings))


def _finish(drill: Drill, done: Restore, around: Surroundings) -> Copy:
    copy, owned, drill.database_made = given(drill.copy), drill.staging is None, done.database
    if owned:
        run_like_production(given(drill.cluster), on_disk=bool(drill.plan.outages))
    check_log(drill, done.log)
    with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = describe(connection, copy)
        check_likeness(drill, connection)
    deviations = (*done.deviations, *_tablespaces_left_out(around))
    return Copy(server=there, made=owned, commands=done.commands, seconds=0, deviations=deviations)


def _make_staging(drill: Drill, server: Server, around: Surroundings) -> Address:
    """A cluster of the drill's own, or a database of its own on the staging server of the plan."""
    if drill.staging is not None:
        database, wish, seen = database_name(drill.id), drill.plan.staging, given(drill.staging_server)
        where = {"address": wish.address or "", "password": wish.password or ""}
        drill.intend("database", database, **where, system_identifier=seen.system_identifier)
        return make_database(drill.staging, database, around, drill.name, source=server, seen=seen)
    folder = staging_place(drill)
    drill.intend("cluster", str(folder))
    drill.cluster = make_cluster(folder, given(drill.tools))
    return prepare_cluster(drill.cluster, server, around, drill.name)


def _tablespaces_left_out(around: Surroundings) -> list[str]:
    names = ", ".join(around.tablespaces)
    return [f"tablespaces were not used: everything of {names} is in the copy's default one"] if names else []


def _tell_size(drill: Drill, expected: int, size: int) -> None:
    drill.progress.advance(size, expected, "bytes")
