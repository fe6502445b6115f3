"""A round of checks: every question of the plan, put to the copy as it is now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from checks.asking import Log
from checks.expectations import (
    look_at_platform,
    read_expectations,
    refuse_incomparable,
)
from checks.suite import Subject, run_checks, try_programs
from drills import events, plan
from drills.addresses import Address
from drills.applications import Applications
from drills.backup_rows import GiveRows
from drills.planned import BY_PROGRAMS
from drills.records import (
    FileRef,
    Server,
    Verdict,
)
from drills.sessions import PINNED, STAGING_LIMITS, Access, connect, describe, session
from drills.snapshots import Sessions
from flows.runtime import Drill
from flows.stages.shared import (
    address_of_copy,
    dump_of,
    given_dump_of,
    keep_queries,
    refuse_production,
    workspace_of,
)


def check(drill: Drill, server: Server, expectations: FileRef, name: str) -> Verdict:
    """One round: every check of the plan, put to the copy as it is now.

    Raises:
        DrillbookError: the copy cannot be asked.
    """
    with drill.stage(f"checks {name}", Verdict.UNKNOWN):
        copy = address_of_copy(drill)
        expected = read_expectations(drill.folder, expectations)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            there = describe(connection, copy)
            refuse_production(drill, server, there, connection)
            log = Log(there.role, f"{there.system_identifier}/{there.database}")
            refuse_incomparable(expected, PINNED, look_at_platform(connection, log))
        address = partial(address_of_copy, drill)
        sessions, writing = (sessions_on(drill, address, access) for access in (Access.READ_ONLY, Access.READ_WRITE))
        folder = drill.reconciled(name)
        verdicts = []
        subject = Subject(
            sessions.plain,
            writing.plain,
            log,
            drill.opened,
            jobs=drill.plan.recovery.jobs,
            probe=Applications(address, drill.id, drill.raw, Path.cwd()),
            owners=drill.staging is None,
            database=drill.database_made,
            physical=drill.plan.recovery.physical,
            give_rows=_rows_of(drill),
        )
        with sessions.cancelled_on_error(), writing.cancelled_on_error():
            for result in run_checks(drill.plan.checks, expected, subject, folder, drill.progress.advance):
                drill.say(events.Checked(round=name, result=result))
                verdicts.append(result.verdict)
        keep_queries(drill, log.queries)
        verdict = Verdict.worst(verdicts)
        drill.say(events.RoundEnded(round=name, verdict=verdict))
    return verdict


def _rows_of(drill: Drill) -> GiveRows | None:
    """The rows of the backup, where it can be read table by table."""
    wish = drill.plan.recovery
    match wish:
        case plan.Dump():
            rows_of = dump_of(drill, wish).rows_of
        case plan.GivenDump():
            rows_of = given_dump_of(drill, wish).rows_of
        case _:
            return None
    return partial(rows_of, workspace=workspace_of(drill, drill.progress.advance))


def try_out(drill: Drill, server: Server) -> Verdict:
    """The last round: programs work with the copy, and may write to it.

    Raises:
        DrillbookError: the copy cannot be asked, or is production.
    """
    with drill.stage(f"checks {BY_PROGRAMS}", Verdict.UNKNOWN):
        copy = address_of_copy(drill)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            refuse_production(drill, server, describe(connection, copy), connection)
        probe = Applications(partial(address_of_copy, drill), drill.id, drill.raw, Path.cwd())
        verdicts = []
        for result in try_programs(drill.plan.checks, probe, drill.reconciled(BY_PROGRAMS)):
            drill.say(events.Checked(round=BY_PROGRAMS, result=result))
            verdicts.append(result.verdict)
        verdict = Verdict.worst(verdicts)
        drill.say(events.RoundEnded(round=BY_PROGRAMS, verdict=verdict))
    return verdict


def sessions_on(drill: Drill, address: Callable[[], Address], access: Access) -> Sessions:
    """Sessions on a copy, so that all of them can be cancelled at once."""
    return Sessions(lambda: connect(address(), name=drill.name, access=access, limits=STAGING_LIMITS))
