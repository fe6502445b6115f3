"""A home of its own for every test: nothing of one drill is seen by another, and nothing lands in the checkout."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """DRILLBOOK_HOME, at a place that the servers' account can reach, and the working directory beside it."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-test-"))
    place.chmod(0o755)
    monkeypatch.setenv("DRILLBOOK_HOME", str(place / "home"))
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(place)
    (place / "home").mkdir()
    yield place / "home"
    shutil.rmtree(place)


def halted(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> int:
    """A process that does this, and hangs where it would call that function; its number once it does."""
    reading, writing = os.pipe()

    def hang(*_values: object, **_named: object) -> None:
        os.write(writing, b".")
        signal.pause()

    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(module, name, hang)
            signal.alarm(60)
            work()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"."
    os.close(reading)
    return child


def kill(child: int) -> None:
    """End it, as a machine that is out of memory would."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
