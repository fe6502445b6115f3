"""The restore: production counts as lost, and comes back in staging."""

from __future__ import annotations

import time

from drills import events, plan
from drills.records import Backup, Copy, Server, Verdict
from flows.runtime import Drill
from flows.stages.logical import finish_stream, load_dump
from flows.stages.managed import restore_at_aws
from flows.stages.physical_restore import bring_pages, recover_pages


def restore(drill: Drill, server: Server, backup: Backup) -> Copy:
    """Production counts as lost from here on: bring it back in staging.

    Raises:
        DrillbookError: there is no copy to look at.
    """
    if not isinstance(drill.plan.recovery, plan.Stream):  # which production itself has fed
        drill.say(events.LossDeclared())
    with drill.stage("restore", Verdict.FAIL):
        begun = time.monotonic()
        copied = _bring_back(drill, server, backup)
        copied = copied.model_copy(update={"seconds": round(time.monotonic() - begun, 6)})
        drill.say(events.Restored(copy_of_it=copied))
        drill.say(events.Accepting())
    return copied


def _bring_back(drill: Drill, server: Server, backup: Backup) -> Copy:
    match drill.plan.recovery:
        case plan.Dump() | plan.GivenDump() as wish:
            return load_dump(drill, server, backup, wish)
        case plan.Stream():
            return finish_stream(drill, backup)
        case plan.Pgbackrest() | plan.Barman() | plan.Walg() as wish:
            return bring_pages(drill, server, backup, wish)
        case plan.BaseBackup():
            return recover_pages(drill, server)
        case plan.Rds() | plan.Aurora() as wish:
            return restore_at_aws(drill, server, backup, wish)
