"""The benchmark as a process of its own, in a place of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.results import Machine

MACHINE = Machine("some processor", 2, 8, 0.1, "3.11", "18.6", {"shared_buffers": "1GB"})


@pytest.fixture
def bench_place() -> Iterator[Path]:
    """A folder that the servers' account can get to."""
    folder = Path(tempfile.mkdtemp(prefix="drillbook-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def start_bench(place: Path, told: str) -> subprocess.Popen[str]:
    """Told this, with its temporary files in this place; no peers."""
    temporary = place / "tmp"
    temporary.mkdir(mode=0o755)
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *told.split(), "--peers", "none"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
