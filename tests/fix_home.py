"""A home of its own for every test: nothing of one drill is seen by another, and nothing lands in the checkout."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
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
