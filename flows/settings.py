"""Where things are: the working folder, and what Prefect is told before it is imported."""

from __future__ import annotations

import os
from pathlib import Path

HOME = "DRILLBOOK_HOME"


def home() -> Path:
    """The folder for everything that a drill needs while it runs: `DRILLBOOK_HOME`, or `.drillbook` here."""
    return Path(os.environ.get(HOME) or ".drillbook").absolute()


def drills_folder(place: Path) -> Path:
    """One folder a drill, by id."""
    return place / "drills"


def quiet_prefect(place: Path) -> None:
    """Prefect's settings, unless the person has set them: nothing leaves this machine, nothing lands in ~/.prefect.

    The start-up limit is generous because a first start on a fresh machine has been seen to take 32 s.
    """
    defaults = {
        "PREFECT_HOME": str(place / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_CLI_COLORS": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
