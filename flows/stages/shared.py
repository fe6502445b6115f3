"""What stages share: the method of the plan, the place where it works, and what its tools said."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from drills import events, guard, plan
from drills.addresses import Address
from drills.errors import GuardError
from drills.likeness.facts import look_at_likeness
from drills.likeness.rules import judge_collations, judge_likeness
from drills.measures import Query
from drills.places import open_place
from drills.planned import AFTER_RESTORE, AGE
from drills.records import Backup, Basis, Finding, Server, Verdict, utc_now
from drills.recovery.age import judge_age
from drills.recovery.aws import apart
from drills.recovery.base import ToolLog, Workspace
from drills.recovery.dumps.dump import Dump
from drills.recovery.dumps.given import GivenDump
from drills.recovery.dumps.stream import Stream
from drills.results import CheckResult
from drills.sessions import Access, Limits, session
from flows.runtime import RAW, STAGING, Drill, given


def source_limits(drill: Drill) -> Limits:
    """Sessions that measure rest inside their snapshot while production is too busy."""
    wish = drill.plan.source
    return Limits(wish.statement_timeout, wish.lock_timeout, wish.load.patience if wish.load else timedelta(0))


def dump_of(drill: Drill, wish: plan.Dump) -> Dump:
    """pg_dump and pg_restore as the plan wants them."""
    return Dump(wish, _lock_wait(drill))


def stream_of(drill: Drill, wish: plan.Stream) -> Stream:
    """pg_dump into pg_restore."""
    return Stream(wish, _lock_wait(drill))


def _lock_wait(drill: Drill) -> int:
    return int(drill.plan.source.lock_timeout.total_seconds() * 1000)


def given_dump_of(drill: Drill, wish: plan.GivenDump) -> GivenDump:
    """The dump that somebody else made."""
    return GivenDump(wish, given(drill.source_server).database)


def workspace_of(drill: Drill, progress: Callable[[int, int | None, str], None]) -> Workspace:
    """Where a method works, and with what."""
    place = staging_place(drill) if drill.plan.recovery.physical else drill.dump
    return Workspace(place, drill.raw, given(drill.tools), drill.name, progress)


def address_of_copy(drill: Drill) -> Address:
    """Where the copy is, and what lets us in now; ask for every new connection."""
    return drill.reach() if drill.reach is not None else given(drill.copy)


def aws_log(folder: Path) -> Path:
    """Where the answers of AWS are kept, in the folder of a drill."""
    return folder / RAW / "aws.jsonl"


def staging_place(drill: Drill) -> Path:
    """Where the copy's server will run, reachable by the account that it runs as."""
    return open_place(drill.folder / STAGING)


def refuse_production(drill: Drill, server: Server, there: Server, connection: psycopg.Connection) -> None:
    """Nothing is asked of a copy that is production after all.

    A physical copy has the system identifier of its source. That it is ours is told by where its files are; of one
    that AWS runs, by when its server was started: production has others than the one that is the source.

    Raises:
        ConnectError: production cannot be asked which server it is.
        GuardError: it is.
    """
    if isinstance(drill.plan.recovery, plan.Managed):
        # It may have been restarted since the guard asked, or its address may lead to another of its servers.
        for production in (given(drill.production), _production_now(drill)):
            apart.refuse_production(production, connection)
        apart.refuse_older(drill.opened, connection)
        return
    cluster = drill.cluster
    if cluster is None or not drill.plan.recovery.physical:
        guard.refuse_if_any([guard.judge_separation(server, there)])
        return
    row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    found = str(row[0]) if row else "nowhere"
    if os.path.realpath(found) != os.path.realpath(cluster.data):
        raise GuardError(
            f"the copy's address leads to another server: expected its files in {cluster.data}, got {found}",
            hint="who took its port? run the drill again",
        )


def _production_now(drill: Drill) -> tuple[str, str]:
    source = given(drill.source)
    with session(source, name=drill.name, access=Access.READ_ONLY, limits=source_limits(drill)) as connection:
        return apart.which_server(connection)


def keep_queries(drill: Drill, queries: list[Query]) -> None:
    """Every statement that was put to a server, for whoever re-performs it."""
    with (drill.folder / "queries.jsonl").open("ab") as file:
        for query in queries:
            file.write(query.canonical() + b"\n")


def check_once(drill: Drill, **told: object) -> None:
    """What was found out on the way to the copy is a check of the first round like any other."""
    usual = {"basis": Basis.NONE, "sql": "", "started": utc_now(), "seconds": 0.0, "compared": 1}
    drill.say(events.Checked(round=AFTER_RESTORE, result=CheckResult.model_validate(usual | told)))


def check_finding(drill: Drill, finding: Finding, kind: str, name: str = "") -> None:
    """What was found out about backup or copy."""
    sound = finding.verdict is Verdict.PASS
    check_once(
        drill,
        name=name or finding.name,
        kind=kind,
        verdict=finding.verdict,
        reason=f"{finding.found} ({finding.hint})" if finding.hint else finding.found,
        expected="as the plan and the source say",
        actual=finding.found,
        difference="none" if sound else finding.found,
        differing=int(not sound),
    )


def check_age(drill: Drill, backup: Backup, limit: timedelta | None, at: datetime | None = None) -> None:
    """Whether a backup that was there is young enough: when the drill began, or at another instant.

    An age that nobody knows is told where the plan asks for it.
    """
    if backup.taken is None and limit is None:
        return
    finding = judge_age(backup, limit.total_seconds() if limit else None, at or drill.opened)
    check_finding(drill, finding, "backup_age", AGE)


def check_likeness(drill: Drill, connection: psycopg.Connection) -> None:
    """Whether the copy's server is like production's, where the copy would be hurt if it were not."""
    here, source, wish = look_at_likeness(connection), given(drill.likeness), drill.plan.recovery
    likeness = judge_likeness(source, here, physical=wish.physical, of_now=wish.aligned)
    findings = {one.name: one for one in likeness}
    if isinstance(wish, plan.Managed):
        # AWS moves pages between its machines as it likes, but indexes on text come as production's library sorted.
        findings |= {one.name: one for one in judge_collations(source, here, physical=True, of_now=False)}
    for finding in findings.values():
        check_finding(drill, finding, "likeness")


def check_log(drill: Drill, log: ToolLog) -> None:
    """What a tool said."""
    said = [*log.errors, *log.warnings]
    check_once(
        drill,
        name=f"what {log.tool} said",
        kind="tool_log",
        verdict=log.verdict,
        reason=log.reason,
        expected="no error, no warning",
        actual="\n".join(said[:20]) or "nothing",
        difference=f"{len(log.errors)} errors, {len(log.warnings)} warnings",
        differing=len(said),
    )
