"""The restore: production counts as lost, and comes back in staging."""

from __future__ import annotations

import time
from functools import partial

from drills import events
from drills.addresses import Address
from drills.clusters import make_cluster
from drills.places import open_place
from drills.records import (
    Backup,
    Copy,
    Server,
    Surroundings,
    Verdict,
)
from drills.sessions import (
    STAGING_LIMITS,
    Access,
    describe,
    session,
)
from drills.staging import (
    database_name,
    make_database,
    prepare_cluster,
    run_like_production,
    size_watch,
)
from flows.runtime import Drill, given
from flows.stages.shared import check_log, dump_of, workspace_of


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
            workspace = workspace_of(drill, lambda _done, _total, _unit: look_at_size())
            done = dump_of(drill).restore(backup, target, owned=owned, workspace=workspace)
        if owned:
            run_like_production(given(drill.cluster))
        check_log(drill, done.log)
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
