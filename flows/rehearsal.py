"""The whole life of a drill, top-down on one screen.

Owns the order of things and what follows from an error; the stages themselves are in `flows.stages`, and who runs them
(this process alone, or Prefect as tasks) is handed in as `step`. Guarantees that every drill that was opened is
destroyed, closed, judged and filed, whatever ended it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

from drills import events
from drills.errors import DrillbookError, JournalError, UnforeseenError
from drills.planned import AFTER_RESTORE, after_outage
from drills.record import Record
from drills.records import Verdict
from drills.secrets import VAULT
from flows.destroying import destroy_all
from flows.proving import prove_checks
from flows.runtime import Drill
from flows.stages.backup import back_up
from flows.stages.checks import check, try_out
from flows.stages.guard import look
from flows.stages.managed import read_fully
from flows.stages.outage import injure
from flows.stages.restore import restore
from flows.sweep import close

_PATIENCE = 3
"""How often somebody has to ask before a clean-up is broken off."""


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
                  and, where AWS runs it, every table is read once: only then all of it is there
    5. proof      a scratch clone of the copy is damaged on purpose, which the checks have to see
    6. outages    the copy is broken on purpose and brought back; after each, the checks again
    7. programs   those of the plan try to work with the copy, and may write to it: nothing is compared after them
    8. destroy    whatever the journal says was made
    9. report     the journal is closed, folded into the record, and filed as a bundle

    A stage that fails ends the stages after it; 8 and 9 always come. The record says what was found.

    Raises:
        EvidenceError: the bundle could not be written.
        BaseException: what stopped the drill from outside, after 8 and 9.
    """
    stop: BaseException | None = None
    try:
        server = step(look, drill)
        backup, expectations = step(back_up, drill, server)
        step(restore, drill, server, backup)
        step(check, drill, server, expectations, AFTER_RESTORE)
        if drill.plan.recovery.reads_all:
            step(read_fully, drill, server)
        if drill.plan.negative_control.enabled:
            step(prove_checks, drill, server, expectations)
        for outage in drill.plan.outages:
            step(injure, drill, outage)
            step(check, drill, server, expectations, after_outage(outage.name))
        if drill.plan.checks.tries_programs:
            step(try_out, drill, server)
    except DrillbookError as error:
        _note(drill, error)
    except Exception as error:  # noqa: BLE001 - such as a Prefect server that went away; the drill testifies
        _note(drill, UnforeseenError(VAULT.redact(f"{type(error).__name__}: {error}")), stage="between the stages")
    except BaseException as found:  # noqa: BLE001 - raised again below
        stop = found
    with undisturbed():
        record = _end(drill, stop)
    if stop is not None:
        raise stop
    return record


def _note(drill: Drill, error: DrillbookError, stage: str = "") -> None:
    """What no stage could say: that the guard refused and nobody asks it again, or that the journal was full."""
    with contextlib.suppress(JournalError):
        if stage or isinstance(error, JournalError):
            drill.problem(stage or "journal", Verdict.UNKNOWN, error)
        elif not drill.begun and not isinstance(error, UnforeseenError):
            drill.say(events.Refused(message=VAULT.redact(error.message), hint=VAULT.redact(error.hint)))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and a polite kill wait: what is being cleaned up is what they want. The third one is taken at its word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = 0

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked >= _PATIENCE:
            signal.default_int_handler(number, frame)

    before = {sign: signal.signal(sign, wait) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _end(drill: Drill, stop: BaseException | None) -> Record:
    """Destroy, close, file, let go. No step of it goes through Prefect, which may be what is down."""
    drill.give_up_reserve()
    try:
        if stop is not None:
            with contextlib.suppress(JournalError):
                drill.say(events.Interrupted(reason=f"stopped by {type(stop).__name__}"))
        with contextlib.suppress(DrillbookError):  # it is in the journal, and a sweep tries again
            _destroy(drill)
        return _report(drill)
    finally:
        drill.journal.close()
        drill.lock.release()


def _destroy(drill: Drill) -> None:
    with drill.stage("destroy", Verdict.UNKNOWN):
        if drill.database_lock is not None:
            drill.database_lock.release()
        destroy_all(drill.folder, drill.journal)
        if drill.cluster is not None and not drill.cluster.running:
            drill.cluster.reap()


def _report(drill: Drill) -> Record:
    drill.progress.stage("report")
    record = close(drill.folder, drill.journal)
    drill.progress.ended("report", "")
    return record
