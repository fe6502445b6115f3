"""What stages share: the method of the plan, the place where it works, and what its tools said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from drills import events, plan
from drills.fold import AFTER_RESTORE
from drills.measures import Query
from drills.records import (
    Basis,
    CheckResult,
    utc_now,
)
from drills.recovery.base import ToolLog, Workspace
from drills.recovery.dump import Dump
from drills.sessions import (
    Limits,
)
from flows.runtime import Drill, given


def source_limits(drill: Drill) -> Limits:
    """Sessions that measure rest inside their snapshot while production is too busy."""
    wish = drill.plan.source
    return Limits(wish.statement_timeout, wish.lock_timeout, wish.load.patience if wish.load else timedelta(0))


def dump_of(drill: Drill) -> Dump:
    """The recovery method of a plan that wants a dump.

    Raises:
        UnforeseenError: it wants another one.
    """
    wish = drill.plan.recovery
    patience = int(drill.plan.source.lock_timeout.total_seconds() * 1000)
    return Dump(given(wish if isinstance(wish, plan.Dump) else None), patience)


def workspace_of(drill: Drill, progress: Callable[[int, int | None, str], None]) -> Workspace:
    """Where that method works, and with what."""
    return Workspace(drill.folder / "dump", drill.raw, given(drill.tools), drill.name, progress)


def keep_queries(drill: Drill, queries: list[Query]) -> None:
    """Every statement that was put to a server, for whoever re-performs it."""
    with (drill.folder / "queries.jsonl").open("ab") as file:
        for query in queries:
            file.write(query.canonical() + b"\n")


def check_log(drill: Drill, log: ToolLog) -> None:
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
