"""The drill as Prefect sees it: a flow, its stages as tasks, its progress and its verdict as artifacts.

Owns the dress and no logic: what a drill does is `flows.rehearsal.rehearse`, which reads top-down. Prefect schedules
and shows; evidence and cleanup rest on the journal alone. Flow parameters hold a path and a name, never a secret.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from drills.errors import ConnectError
from drills.planfile import read_plan
from drills.records import Verdict
from flows.progress import Progress, Silent
from flows.rehearsal import rehearse
from flows.runtime import Drill, open_drill
from flows.settings import home
from flows.stages.guard import look
from reports.bundle import bundle_path
from reports.summary import markdown

SHOWN: ContextVar[Progress] = ContextVar("SHOWN", default=Silent())  # noqa: B039 - it holds nothing
"""Who is shown the progress beside Prefect: the terminal of whoever runs the flow there."""


_PATIENCE = 5.0
"""Seconds that a finished drill waits for Prefect to hear of it."""


class NotPassedError(Exception):
    """The drill ended, and did not pass. Prefect wants an exception where a flow did not complete."""


@flow(name="drill", validate_parameters=True)
def drill(plan: Path, requester: str | None = None) -> State[Any]:
    """Rehearse the loss of a production database and leave evidence.

    Args:
        plan: The plan's YAML file, as the worker sees it.
        requester: Who asks for this drill; the plan's own requester when left out.
    """
    file = read_plan(plan)
    wish = file.plan
    more = wish.recovery.reads_all + wish.negative_control.enabled + 2 * len(wish.outages) + wish.checks.tries_programs
    shown = _InPrefect(SHOWN.get(), stages=5 + more)
    opened = open_drill(file, requester=requester, home=home(), progress=shown, scheduler=str(flow_run.id))
    record = rehearse(opened, as_task)
    shown.finish()
    with suppress(Exception):  # a view; the evidence is filed
        told = f"{record.verdict}: {record.drill}"
        create_markdown_artifact(key="drill-report", markdown=markdown(record, bundle_path(record)), description=told)
    if record.verdict is Verdict.PASS:
        return Completed(name="PASS", message=f"PASS: {record.drill}", data={"drill": record.drill})
    message = f"{record.verdict}: {record.drill}: {'; '.join(record.reasons)}"
    return Failed(name=record.verdict.value, message=message, data=NotPassedError(message))


def as_task(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:  # noqa: ANN401 - as the stage
    """Run a stage as a task. Its values are closed over, so that Prefect neither stores nor looks into them.

    Only looking is tried again, since it changes nothing. A backup or a restore that failed is a finding, and trying
    again until it works would hide it.
    """

    @task(
        name=stage.__name__.replace("_", " "),
        retries=2 if stage is look else 0,
        retry_delay_seconds=2,
        retry_condition_fn=_may_be_passing,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run() -> Any:  # noqa: ANN401 - as the stage
        return stage(drill, *values)

    return run()


def _may_be_passing(_task: object, _run: object, state: State[Any]) -> bool:
    """A server that is not reached may be there in a moment. A wrong password stays wrong, and locks accounts."""
    error = state.data
    passing = ("Connection refused", "timeout", "starting up", "not resolve")
    return isinstance(error, ConnectError) and any(sign in error.message for sign in passing)


class _InPrefect:
    """Progress as a Prefect artifact, and to whoever else is shown it.

    The API is asked in a thread of its own: a server that is slow or gone neither delays the drill, whose clocks run,
    nor ends it.
    """

    def __init__(self, beside: Progress, stages: int) -> None:
        self._beside, self._stages, self._done = beside, stages, 0
        self._news: SimpleQueue[tuple[float, str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=copy_context().run, args=(self._tell,), name="progress", daemon=True)
        self._thread.start()

    def _tell(self) -> None:
        with suppress(Exception):
            created = create_progress_artifact(progress=0.0, key="drill-progress", description="opened")
            artifact = created if isinstance(created, UUID) else UUID(str(created))
            while (news := self._news.get()) is not None:
                update_progress_artifact(artifact, progress=news[0], description=news[1])

    def finish(self) -> None:
        """Say that it is over, and wait a moment for that to be heard."""
        self._news.put((100.0, "ended"))
        self._news.put(None)
        self._thread.join(_PATIENCE)

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        self._beside.opened(drill)

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._news.put((min(99.0, 100 * self._done / self._stages), name))
        self._beside.stage(name)

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """Too often for an API; the terminal shows it."""
        self._beside.advance(done, total, unit, about)

    def ended(self, name: str, error: str) -> None:
        """A stage ended."""
        self._done += 1
        self._beside.ended(name, error)
