"""Copies that AWS runs: a snapshot or a point in time of RDS or Aurora, restored as a new instance in staging.

Owns the order of things there. Guarantees that whatever is made at AWS stands in the journal before it is asked for,
that the copy is told from production before anything is asked of it, and that the clocks go on until every table was
read once, since AWS brings a block when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from drills import events, guard, plan
from drills.errors import ConnectError
from drills.planned import FULL_READ
from drills.records import Backup, Copy, FileRef, Finding, Resource, Server, Verdict, utc_now
from drills.recovery.aws.aurora import Aurora
from drills.recovery.aws.client import Aws
from drills.recovery.aws.full_read import FullRead, read_every_table
from drills.recovery.aws.managed import Managed
from drills.recovery.aws.quarantine import ask_quarantine
from drills.recovery.aws.rds import Rds
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, describe, session
from flows.runtime import Drill
from flows.stages.expecting import expecting
from flows.stages.shared import (
    address_of_copy,
    aws_log,
    check_age,
    check_finding,
    check_likeness,
    check_log,
    refuse_production,
)

_SHOWN = 5


def managed_of(drill: Drill, wish: plan.Rds | plan.Aurora) -> Managed:
    """RDS or Aurora, as the plan wants it."""
    raw = aws_log(drill.folder)
    aws = Aws(drill.id, raw)
    return Aurora(wish, aws, raw) if isinstance(wish, plan.Aurora) else Rds(wish, aws, raw)


def pick_snapshot(drill: Drill, server: Server, wish: plan.Rds | plan.Aurora) -> tuple[Backup, FileRef]:
    """A backup that AWS keeps, taken or picked, and what closed periods hold at the source.

    Raises:
        AwsError: there is none that can be used.
    """
    method = managed_of(drill, wish)
    _intend(drill, method.backup_resources(drill.id))
    taken = method.pick(drill.id, drill.progress.advance)
    check_log(drill, taken.log)
    if not wish.takes:
        # It may have been completed after the drill began: AWS is waited for.
        check_age(drill, taken.backup, wish.max_age, utc_now())
    with expecting(drill, server) as source:
        file = source.file_of_closed_periods()
        backup = taken.backup.model_copy(update={"surroundings": source.around})
    drill.say(events.BackedUp(backup=backup))
    return backup, file


def restore_at_aws(drill: Drill, server: Server, backup: Backup, wish: plan.Rds | plan.Aurora) -> Copy:
    """The backup as a new instance or cluster, which let us in and is not production.

    Raises:
        AwsError: there is no copy.
        ConnectError: it does not let us in.
        GuardError: the way to it leads to production, or it does something by itself that production does.
    """
    method = managed_of(drill, wish)
    _intend(drill, method.copy_resources(drill.id))
    restored = method.restore(backup, drill.id, server.database, drill.progress.advance)
    drill.reach = restored.reach.address
    copy = drill.copy = address_of_copy(drill)
    with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = describe(connection, copy)
        refuse_production(drill, server, there, connection)
        check_log(drill, restored.done.log)
        check_likeness(drill, connection)
        quarantine = ask_quarantine(connection)
        for finding in quarantine:
            check_finding(drill, finding, "quarantine")
        guard.refuse_if_any(quarantine)  # every minute that it goes on may take more away from production
    done = restored.done
    deviations = (*done.deviations, "production's settings are not in force, but those of staging's parameter group")
    return Copy(server=there, made=True, commands=done.commands, seconds=0, deviations=deviations)


def read_fully(drill: Drill, server: Server) -> None:
    """Read every table of the copy once; only then everything that it needs is there.

    Raises:
        ConnectError: the copy is gone.
        GuardError: its address leads to production.
    """
    with drill.stage("full read", Verdict.UNKNOWN):
        copy = address_of_copy(drill)
        with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            refuse_production(drill, server, describe(connection, copy), connection)
            try:
                done = read_every_table(connection, drill.progress.advance)
            except psycopg.Error as error:
                raise ConnectError(
                    f"the copy went away while it was read: {VAULT.redact(str(error).strip())}",
                    hint="see at AWS what became of the instance, and who did it",
                ) from None
        unread = tuple(table.table for table in done.unread)
        drill.say(events.FullyRead(seconds=done.seconds, tables=len(done.tables), bytes=done.bytes, unread=unread))
        check_finding(drill, judge_reading(done), "full_read")


def judge_reading(done: FullRead) -> Finding:
    """Whether all of the copy is there. A copy without tables has shown nothing."""
    if done.unread:
        shown = "; ".join(f"{table.table}: {table.error}" for table in done.unread[:_SHOWN])
        more = len(done.unread) - _SHOWN
        return Finding(
            name=FULL_READ,
            verdict=Verdict.UNKNOWN,
            found=f"{len(done.unread)} of {len(done.tables)} tables were not read: {shown}"
            + (f"; and {more} more" if more > 0 else ""),
            hint="let the drill's role read them on the copy, or set recovery.full_read to false",
        )
    found = f"{len(done.tables)} tables, {done.bytes:,} bytes in {done.seconds:.1f} s"
    verdict = Verdict.PASS if done.tables else Verdict.UNKNOWN
    return Finding(name=FULL_READ, verdict=verdict, found=found if done.tables else "there is no table in the copy")


def _intend(drill: Drill, resources: Iterable[Resource]) -> None:
    for one in resources:
        drill.intend(one.kind, one.name, address=one.address)
