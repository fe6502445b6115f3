"""An outage: the copy is broken under a heartbeat, and brought back."""

from __future__ import annotations

from drills import events
from drills.outages.base import run_outage
from drills.outages.process import ServerKilled
from drills.plan import KillServer
from drills.records import (
    FileRef,
    Verdict,
    file_name,
)
from drills.staging import (
    LIKE_PRODUCTION,
)
from flows.runtime import Drill, given


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
        drill.say(events.OutageEnded(result=result.model_copy(update={"evidence": evidence})))
