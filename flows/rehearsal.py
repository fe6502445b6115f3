"""The whole life of a drill, top-down on one screen.

Owns the order of things and what follows from an error; the stages themselves are in `flows.stages`, and who runs them
(this process alone, or Prefect as tasks) is handed in as `step`. Guarantees that every drill that was opened is
destroyed, closed, judged and filed, whatever ended it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from drills import events
from drills.errors import DrillbookError, JournalError, UnforeseenError
from drills.fold import AFTER_RESTORE, after_outage
from drills.records import Record, Verdict
from drills.secrets import VAULT
from flows import stages
from flows.runtime import Drill
from flows.sweep import close, destroy_all


class Step(Protocol):
    """How a stage is run."""

    def __call__(self, stage: Callable[..., Any], drill: Drill, *values: object) -> Any:  # noqa: ANN401 - as the stage
        """Run it, and give what it gives."""
        ...


def directly(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:  # noqa: ANN401 - as the stage
    """Run a stage as the plain function that it is."""
    return stage(drill, *values)


def rehearse(drill: Drill, step: Step = directly) -> Record:
    """Rehearse the loss of a database.

    1. guard      every reason not to begin; from here to the end, one drill holds the database
    2. backup     backup and expectations, from one snapshot
    3. restore    production counts as lost; the copy comes up in staging
    4. checks     what came back is held against what was expected
    5. outages    the copy is broken on purpose and brought back; after each, the checks again
    6. destroy    whatever the journal says was made
    7. report     the journal is closed, folded into the record, and filed as a bundle

    A stage that fails ends the stages after it; 6 and 7 always come. The record says what was found.

    Raises:
        EvidenceError: the bundle could not be written.
        BaseException: what stopped the drill from outside, after 6 and 7.
    """
    try:
        server = step(stages.look, drill)
        backup, expectations = step(stages.back_up, drill, server)
        step(stages.restore, drill, server, backup)
        step(stages.check, drill, server, expectations, AFTER_RESTORE)
        for outage in drill.plan.outages:
            step(stages.injure, drill, outage)
            step(stages.check, drill, server, expectations, after_outage(outage.name))
    except DrillbookError as error:
        _note(drill, error)
    except BaseException as stop:
        drill.journal.append(events.Interrupted(reason=f"stopped by {type(stop).__name__}"))
        _end(drill, step)
        raise
    return _end(drill, step)


def _note(drill: Drill, error: DrillbookError) -> None:
    """What no stage could say: that the journal was full, or that the guard refused and nobody asks it again."""
    if isinstance(error, JournalError):
        drill.problem("journal", Verdict.UNKNOWN, error)
        return
    begun = any(
        isinstance(entry.body, events.Guarded) and not _against(entry.body) for entry in drill.reading().entries
    )
    if not begun and not isinstance(error, UnforeseenError):
        drill.journal.append(events.Refused(message=VAULT.redact(error.message), hint=VAULT.redact(error.hint)))


def _against(guarded: events.Guarded) -> bool:
    return any(finding.verdict is Verdict.FAIL for finding in guarded.findings)


def _end(drill: Drill, step: Step) -> Record:
    """Destroy, close, file, let go."""
    drill.give_up_reserve()
    try:
        step(_destroy, drill)
        record: Record = step(_report, drill)
    finally:
        drill.journal.close()
        drill.lock.release()
    return record


def _destroy(drill: Drill) -> None:
    with drill.stage("destroy", Verdict.UNKNOWN):
        if drill.database_lock is not None:
            drill.database_lock.release()
        destroy_all(drill.folder, drill.journal)
        if drill.cluster is not None:
            drill.cluster.reap()


def _report(drill: Drill) -> Record:
    drill.progress.stage("report")
    record = close(drill.folder, drill.journal)
    drill.progress.ended("report", "")
    return record
