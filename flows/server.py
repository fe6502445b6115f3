"""A Prefect server of our own, for whoever has none: started beside a drill, gone with it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drills.errors import ToolError
from drills.processes import plain_environment, spawn, stop_process
from flows.settings import quiet_prefect

API_URL = "PREFECT_API_URL"
_START_DEADLINE = 120.0
_POLL = 0.1


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """For as long as this lasts there is a Prefect server: the one that PREFECT_API_URL names, or one of our own.

    It starts in the background at once; `wait_until_ready` waits for it. Ours keeps its database under the home, so
    that earlier drills can be seen with `prefect server start`.

    Raises:
        ToolError: it did not start.
    """
    quiet_prefect(home)
    if os.environ.get(API_URL):
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    # As Prefect starts its own ephemeral server, but tied to this process: it may not outlive a killed drill.
    arguments = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "error",
        "--lifespan",
        "on",
    ]
    # No secret of a plan is for this server: it gets Prefect's settings, and what every child gets.
    environment = {
        **plain_environment(
            {name: value for name, value in os.environ.items() if name.startswith(("PREFECT_", "DO_NOT"))}
        ),
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    process = spawn(
        arguments, environment=environment, log=home / "prefect" / "server.log", when_orphaned=signal.SIGKILL
    )
    os.environ[API_URL] = f"http://127.0.0.1:{port}/api"
    try:
        yield
    finally:
        os.environ.pop(API_URL, None)
        stop_process(process)


def wait_until_ready() -> None:
    """Wait until the Prefect server answers.

    Raises:
        ToolError: it does not; the drill can be run without it.
    """
    url = os.environ[API_URL].rstrip("/")
    until = time.monotonic() + _START_DEADLINE
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - the person's own server
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL)
    raise ToolError(
        f"no Prefect server answers at {url} within {_START_DEADLINE:g} s",
        hint="start it, unset PREFECT_API_URL, or run with --no-prefect",
    )
