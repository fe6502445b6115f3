"""Backup and expectations: what the copy is made of, and what it will be held against."""

from __future__ import annotations

from drills import plan
from drills.records import Backup, FileRef, Server, Verdict
from flows.runtime import Drill
from flows.stages.logical import take_dump, take_given, take_stream
from flows.stages.managed import pick_snapshot
from flows.stages.physical_backup import pick_pages, take_pages


def back_up(drill: Drill, server: Server) -> tuple[Backup, FileRef]:
    """A backup, taken or picked, and expectations of what it holds, while production goes on writing.

    Raises:
        DrillbookError: one of them could not be had; then there is nothing to compare with.
    """
    with drill.stage("backup", Verdict.UNKNOWN):
        match drill.plan.recovery:
            case plan.Dump() as wish:
                return take_dump(drill, server, wish)
            case plan.Stream() as wish:
                return take_stream(drill, server, wish)
            case plan.GivenDump() as wish:
                return take_given(drill, server, wish)
            case plan.BaseBackup() as wish:
                return take_pages(drill, server, wish)
            case plan.Pgbackrest() | plan.Barman() | plan.Walg() as wish:
                return pick_pages(drill, server, wish)
            case plan.Rds() | plan.Aurora() as wish:
                return pick_snapshot(drill, server, wish)
