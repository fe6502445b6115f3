"""The drill as Prefect sees it: a flow, its stages as tasks, its progress and its verdict as artifacts.

Owns the dress and no logic: what a drill does is `flows.rehearsal.rehearse`, which reads top-down. Prefect schedules
and shows; evidence and cleanup rest on the journal alone. Flow parameters hold a path and a name, never a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from drills.errors import ConnectError, EvidenceError
from drills.planfile import read_plan
from drills.records import Verdict
from flows.rehearsal import rehearse
from flows.runtime import Drill, Progress, Silent, open_drill
from flows.settings import home
from reports.bundle import bundle_path
from reports.summary import markdown

SHOWN: ContextVar[Progress] = ContextVar("SHOWN", default=Silent())  # noqa: B039 - it holds nothing
"""Who is shown the progress beside Prefect: the terminal of whoever runs the flow there."""

_RETRIED: dict[str, type[Exception]] = {"look": ConnectError, "_report": EvidenceError}
"""Where a retry is safe, and after which error: looking changes nothing, and a bundle is written whole or not at all.
A backup or a restore that failed is a finding, and trying again until it works would hide it."""


@flow(name="drill", validate_parameters=True)
def drill(plan: Path, requester: str | None = None) -> State[Any]:
    """Rehearse the loss of a production database and leave evidence.

    Args:
        plan: The plan's YAML file, as the worker sees it.
        requester: Who asks for this drill; the plan's own requester when left out.
    """
    file = read_plan(plan)
    shown = _InPrefect(SHOWN.get(), stages=5 + 2 * len(file.plan.outages))
    opened = open_drill(file, requester=requester, home=home(), progress=shown, scheduler=str(flow_run.id))
    record = rehearse(opened, as_task)
    create_markdown_artifact(
        key="drill-report",
        markdown=markdown(record, bundle_path(record)),
        description=f"{record.verdict}: {record.drill}",
    )
    state = Completed if record.verdict is Verdict.PASS else Failed
    return state(
        name=record.verdict.value,
        message=f"{record.verdict}: {record.drill}",
        data={"drill": record.drill, "verdict": record.verdict.value},
    )


def as_task(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:  # noqa: ANN401 - as the stage
    """Run a stage as a task. Its values are closed over, so that Prefect neither stores nor looks into them."""
    retried = _RETRIED.get(stage.__name__)

    @task(
        name=stage.__name__.strip("_").replace("_", " "),
        retries=2 if retried else 0,
        retry_delay_seconds=2,
        retry_condition_fn=lambda _task, _run, state: retried is not None and isinstance(state.data, retried),
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run() -> Any:  # noqa: ANN401 - as the stage
        return stage(drill, *values)

    return run()


class _InPrefect:
    """Progress as a Prefect artifact, and to whoever else is shown it."""

    def __init__(self, beside: Progress, stages: int) -> None:
        self._beside, self._stages, self._done = beside, stages, 0
        created = create_progress_artifact(progress=0.0, key="drill-progress", description="opened")
        self._artifact: UUID = created if isinstance(created, UUID) else UUID(str(created))

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        self._beside.opened(drill)

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._beside.stage(name)
        update_progress_artifact(self._artifact, progress=min(99.0, 100 * self._done / self._stages), description=name)

    def advance(self, done: int, total: int | None, unit: str) -> None:
        """Too often for an API; the terminal shows it."""
        self._beside.advance(done, total, unit)

    def ended(self, name: str, error: str) -> None:
        """A stage ended."""
        self._done += 1
        self._beside.ended(name, error)
        if name == "report":
            update_progress_artifact(self._artifact, progress=100.0, description="ended")
