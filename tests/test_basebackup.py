"""A drill on production's own pages: recovered to the commit at which the source was measured, and equal to the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fix_postgres import Database, open_sessions
from test_drill import OUTAGE, nothing_is_left, result_of, run_drill

from drills.records import Basis, Outcome, Verdict


def physical(shop: Database, **changes: object) -> dict[str, Any]:
    """A plan for a base backup, taken by the owner of the server of the tests."""
    recovery = {"method": "basebackup", "jobs": 2, "address": shop.url(shop.owner), "password": "env:OWNER_PASSWORD"}
    return shop.plan(recovery=recovery | changes)


def test_a_copy_of_the_pages_passes_and_nothing_is_left(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNER_PASSWORD", shop.owner.password)
    record = run_drill(home, physical(shop) | {"outages": [OUTAGE], "objectives": {"rto": "5min", "rpo": "5min"}})
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert result_of(record, "alignment").basis is Basis.WAL
    assert result_of(record, "row counts").basis is Basis.WAL
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []
