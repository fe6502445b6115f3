"""The stage that proves the checks: a scratch clone of the copy is damaged on purpose, and the checks must see it.

What becomes of it is a check like any other. Guarantees that the copy itself is not touched, that the clone is in the
journal before it is there, that a clone which cannot be made is UNKNOWN and ends nothing, and that one which cannot be
dropped is UNKNOWN and loses nothing of what was found.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from checks.asking import Log
from checks.expectations import read_expectations
from checks.negative.control import negative_control, no_control
from checks.suite import Subject
from drills import events, guard
from drills.addresses import Address
from drills.errors import ClusterError, ConnectError, DrillbookError
from drills.measures import NEGATIVE_CONTROL
from drills.plan import Managed
from drills.records import FileRef, Resource, Server, Verdict
from drills.results import CheckResult
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.staging import scratch_database, scratch_name
from flows.runtime import Drill, given
from flows.stages.checks import sessions_on
from flows.stages.shared import address_of_copy, keep_queries, refuse_production


def prove_checks(drill: Drill, server: Server, expectations: FileRef) -> None:
    """Plant damages in a scratch clone of the copy, and see whether the checks catch them.

    Raises:
        DrillbookError: the expectations cannot be read, or the copy is production after all.
    """
    with drill.stage(NEGATIVE_CONTROL, Verdict.UNKNOWN):
        folder = drill.reconciled(NEGATIVE_CONTROL)
        begun, limit = time.monotonic(), drill.plan.negative_control.limit
        scratch, outside = scratch_name(drill.id), partial(_beside_the_copy, drill)
        result: CheckResult | None = None
        try:
            _refuse_without_room(drill, server, outside())
            resource = _intend(drill, scratch)
            with scratch_database(outside, given(drill.copy).parts["dbname"], scratch, drill.name, limit):
                left = limit - timedelta(seconds=time.monotonic() - begun)
                result = _control(drill, lambda: outside().to(scratch), expectations, left)
            if resource is not None:
                drill.say(events.Destroyed(resource=resource))
        except (ClusterError, ConnectError) as error:
            result = no_control(error, folder) if result is None else _lowered(result, error)
        drill.say(events.Checked(round=NEGATIVE_CONTROL, result=result))


def _lowered(result: CheckResult, error: DrillbookError) -> CheckResult:
    """What was found before the clone could not be dropped stays found, but is no PASS."""
    told = VAULT.redact(f"{error.message} ({error.hint})" if error.hint else error.message)
    verdict = Verdict.worst([result.verdict, Verdict.UNKNOWN])
    return result.model_copy(update={"verdict": verdict, "reason": f"{result.reason}; {told}"})


def _beside_the_copy(drill: Drill) -> Address:
    """The copy's server, by a database that is not the copy."""
    copy = address_of_copy(drill)
    if isinstance(drill.plan.recovery, Managed):
        return copy.to("postgres" if copy.parts["dbname"] != "postgres" else "template1")
    return copy.to("template1" if drill.staging is None else drill.staging.parts["dbname"])


def _intend(drill: Drill, scratch: str) -> Resource | None:
    """A database in a cluster of the drill's own is gone with the cluster; another one is dropped by its address.

    One that AWS runs stands in the journal already, and takes along whatever is in it.
    """
    if isinstance(drill.plan.recovery, Managed):
        return None
    if drill.staging is None:
        return drill.intend("database", scratch, address=str(given(drill.cluster).folder))
    wish = drill.plan.staging
    where = {"address": wish.address or "", "password": wish.password or ""}
    identifier = given(drill.staging_server).system_identifier
    return drill.intend("database", scratch, **where, system_identifier=identifier)


def _refuse_without_room(drill: Drill, server: Server, outside: Address) -> None:
    """A clone is as large as the copy. On a server that is there already, nobody can see the disk from here."""
    with session(outside, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        refuse_production(drill, server, describe(connection, outside), connection)
        name = given(drill.copy).parts["dbname"]
        row = connection.execute("SELECT pg_database_size(%s)", (name,)).fetchone()
    if drill.cluster is None:
        return
    needed = int(given(row)[0] * guard.ROOM_FOR_COPY)
    free, limit = shutil.disk_usage(drill.cluster.folder).free, drill.plan.staging.disk_limit
    if limit is not None:
        dump = sum(file.stat().st_size for file in drill.dump.rglob("*"))
        free = min(free, limit - dump - needed)  # which the copy itself may take
    if needed > free:
        raise ClusterError(
            f"no room for a scratch clone: {needed:,} bytes may be needed, {free:,} are free",
            hint="free some space, raise staging.disk_limit, or leave it out with `negative_control: {enabled: false}`",
        )


def _control(drill: Drill, clone: Callable[[], Address], expectations: FileRef, limit: timedelta) -> CheckResult:
    address = clone()
    with session(address, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = describe(connection, address)
    log = Log(there.role, f"{there.system_identifier}/{there.database}")
    reading, writing = (sessions_on(drill, clone, access) for access in (Access.READ_ONLY, Access.READ_WRITE))
    physical = drill.plan.recovery.physical
    subject = Subject(
        reading.plain,
        writing.plain,
        log,
        drill.opened,
        owners=drill.staging is None,
        database=drill.database_made,
        physical=physical,
    )
    wish = drill.plan.negative_control.model_copy(update={"limit": limit})
    expected = read_expectations(drill.folder, expectations)
    folder = drill.reconciled(NEGATIVE_CONTROL)
    with reading.cancelled_on_error(), writing.cancelled_on_error():
        result = negative_control(wish, drill.plan.checks, expected, subject, folder, drill.progress.advance)
    keep_queries(drill, log.queries)
    return result
