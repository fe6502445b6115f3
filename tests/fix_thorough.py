"""Tests that take long, and show in more ways what a shorter one shows as well: `make thorough` runs them.

The suite has to end within what a CI run may take on two cores.
"""

from __future__ import annotations

import os

import pytest

ASKED = "DRILLBOOK_THOROUGH"


def pytest_configure(config: pytest.Config) -> None:
    """The marker has to be known."""
    config.addinivalue_line("markers", f"thorough: takes long; skipped unless {ASKED} is set")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not asked for is skipped, and says so."""
    if os.environ.get(ASKED):
        return
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.skip(reason=f"takes long; {ASKED}=1 or `make thorough` runs it"))
