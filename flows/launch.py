"""Starting a drill from the command line: in this process alone, or as a flow of Prefect's."""

from __future__ import annotations

import contextlib
from pathlib import Path

from drills.errors import DrillbookError, EvidenceError, UnforeseenError
from drills.planfile import PlanFile
from drills.record import Record
from flows.index import drill_named
from flows.progress import Progress
from flows.rehearsal import rehearse
from flows.runtime import open_drill, requester_of
from flows.server import prefect_server, wait_until_ready
from flows.settings import drills_folder, home
from reports.bundle import published_at


class _Noting:
    """Progress that remembers which drill it was shown."""

    def __init__(self, beside: Progress) -> None:
        self.drill = ""
        self._beside = beside
        self.stage, self.advance, self.ended = beside.stage, beside.advance, beside.ended

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        self.drill = drill
        self._beside.opened(drill)


def in_this_process(file: PlanFile, requester: str | None, progress: Progress) -> Record:
    """Run the drill here; gives its record, also when somebody stopped it.

    Raises:
        RefusedError: it could not even be opened.
    """
    drill = open_drill(file, requester=requester, home=home(), progress=progress)
    with contextlib.suppress(KeyboardInterrupt):
        rehearse(drill)
    return _filed(drill.id)


def _filed(drill: str) -> Record:
    """The record of a drill that is over. It counts only once its evidence is filed.

    Raises:
        EvidenceError: it is not.
    """
    folder = drills_folder(home()) / drill
    if published_at(folder) is None:
        raise EvidenceError(
            f"the drill {drill} has ended, and its evidence is not filed",
            hint=f"everything is kept in {folder}; mend the cause, then run `drillbook sweep`",
        )
    return drill_named(drill)


def in_prefect(file: PlanFile, requester: str | None, progress: Progress) -> Record:
    """Run the drill as a flow, on the server that PREFECT_API_URL names or on one of our own.

    Raises:
        DrillbookError: it could not be opened, or Prefect cannot be reached.
    """
    requester_of(file.plan, requester)  # before anybody waits for a server
    noting = _Noting(progress)
    with prefect_server(home()):
        progress.stage("Prefect server")
        wait_until_ready()
        progress.ended("Prefect server", "")
        from prefect.exceptions import TerminationSignal  # noqa: PLC0415 - takes two seconds, while the server starts
        from prefect.logging.handlers import APILogWorker  # noqa: PLC0415 - same

        from flows.drill import SHOWN, drill  # noqa: PLC0415 - same

        token = SHOWN.set(noting)
        try:
            state = drill(Path(file.provenance.path), requester, return_state=True)
        except (KeyboardInterrupt, TerminationSignal):
            state = None
        finally:
            SHOWN.reset(token)
            APILogWorker.drain_all(timeout=5)  # while the server is still there
    if noting.drill:
        return _filed(noting.drill)
    error = state.data if state is not None else KeyboardInterrupt()
    if isinstance(error, (DrillbookError, KeyboardInterrupt)):
        raise error
    raise UnforeseenError(f"the flow ended without a drill: {state.message if state else 'stopped'}")
