"""Backup and expectations: what the copy is made of, and what it will be held against."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from drills import events
from drills.measures import Measures
from drills.records import Backup, FileRef, Server, Verdict
from drills.sessions import exported_snapshot
from flows.runtime import Drill, given
from flows.stages.expecting import expecting
from flows.stages.shared import check_log, dump_of, workspace_of


def back_up(drill: Drill, server: Server) -> tuple[Backup, FileRef]:
    """Backup and expectations from one snapshot, at the same time, while production goes on writing.

    Raises:
        DrillbookError: one of them could not be had; then there is nothing to compare with.
    """
    with drill.stage("backup", Verdict.UNKNOWN):
        drill.intend("directory", str(drill.folder / "dump"))
        with expecting(drill, server) as source:
            with exported_snapshot(source.leader) as snapshot:
                drill.journal.append(events.SnapshotTaken(snapshot=snapshot))
                before = source.sequences()
                with ThreadPoolExecutor(1, "expectations") as pool, source.sessions.cancelled_on_error():
                    measuring = pool.submit(source.measure, snapshot)
                    tell = partial(_unless_failed, measuring, drill.progress.advance)
                    method, workspace = dump_of(drill), workspace_of(drill, tell)
                    taken = method.back_up(given(drill.source), snapshot.name, workspace)
                    measures = measuring.result()
            file = source.file(snapshot, measures, before)
            backup = taken.backup.model_copy(update={"surroundings": source.around})
        drill.journal.append(events.BackedUp(backup=backup))
        check_log(drill, taken.log)
    return backup, file


def _unless_failed(
    measuring: Future[Measures], tell: Callable[[int, int | None, str], None], done: int, total: int | None, unit: str
) -> None:
    """Progress of the dump, which is not waited for where there will be nothing to compare it with."""
    if measuring.done():
        measuring.result()
    tell(done, total, unit)
