"""A real Prefect server, started once for all tests that need one."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.processes import spawn, stop_process
from flows.server import API_URL, wait_until_ready


@pytest.fixture(scope="session")
def prefect_home() -> Iterator[Path]:
    """Where its database is."""
    with tempfile.TemporaryDirectory(prefix="drillbook-prefect-") as place:
        yield Path(place)


@pytest.fixture(scope="session")
def prefect_url(prefect_home: Path) -> Iterator[str]:
    """The address of its API, on a free port, with its scheduler running."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    told = {"PREFECT_HOME": str(prefect_home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_UI_ENABLED": "0"}
    server = spawn(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        environment=os.environ | told,
        log=prefect_home / "server.log",
    )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(API_URL, url)
            wait_until_ready()
        yield url
    finally:
        stop_process(server)
