"""A drill on production's own pages that is killed where it matters leaves nothing behind once it is swept."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_postgres import QUICK, SHOP, end_cluster, new_cluster, new_database, run_sql, write_plan
from test_basebackup import Shop
from test_killed import killed, no_session_is_left, swept
from test_repository_drill import Kept, at_hand, pgbackrest_of, under_load

from drills.addresses import Address
from drills.events import Event
from drills.records import Outcome, Verdict

FEW: dict[str, Any] = {"tables": False, "structure": False, "sequences": False, "amcheck": False}
When = Callable[[int, Event], bool]


@pytest.fixture(scope="module")
def shop_with_pages() -> Iterator[Shop]:
    """A server whose pages may be had by a role of their own."""
    cluster = new_cluster(QUICK)
    try:
        run_sql(cluster.address(), "CREATE ROLE backup LOGIN REPLICATION PASSWORD 'backup-password'")
        yield Shop(cluster, new_database(cluster, SHOP))
    finally:
        end_cluster(cluster)


@pytest.fixture(scope="module")
def stanza() -> Iterator[Kept]:
    """A repository of pgBackRest."""
    with pgbackrest_of() as kept:
        yield kept


def intent(number: int) -> Callable[[], When]:
    """Right after this intent."""

    def make() -> When:
        seen: list[str] = []

        def when(_seq: int, said: Event) -> bool:
            seen.append(said.event)
            return said.event == "intended" and seen.count("intended") == number

        return when

    return make


def after(event: str) -> Callable[[], When]:
    """Right after an event of this kind."""
    return lambda: lambda _seq, said: said.event == event


def while_runs(*words: str) -> Callable[[], When]:
    """While a program of the drill's runs whose command line has these words."""

    def watch() -> None:
        me = psutil.Process()
        while True:
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    told = " ".join(child.cmdline())
                    if all(word in told for word in words):
                        os.kill(me.pid, signal.SIGKILL)

    def when(seq: int, _said: Event) -> bool:
        if seq == 1:
            threading.Thread(target=watch, daemon=True).start()
        return False

    return lambda: when


def nobody_is_left_at(owner: Address) -> None:
    """No slot and nobody who receives WAL; a server needs a moment to notice that a client has died."""
    until = time.monotonic() + 30
    for view in ("pg_replication_slots", "pg_stat_replication"):
        while rows := run_sql(owner, f"SELECT * FROM {view}"):
            assert time.monotonic() < until, rows


def die(home: Path, plan: dict[str, Any], when: Callable[[], When]) -> None:
    """Run it until it is killed, and sweep; everything is gone, and it testifies."""
    assert killed(home, write_plan(home, plan), when()), "it came to its end before it was killed"
    record = swept(home)
    assert (record.outcome, record.verdict) == (Outcome.INTERRUPTED, Verdict.UNKNOWN)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(intent(3), marks=pytest.mark.thorough),
        while_runs("pg_basebackup"),
        after("snapshot taken"),
        while_runs("postgres", "recovery_target_lsn"),
        pytest.param(after("quarantined"), marks=pytest.mark.thorough),
        pytest.param(after("round ended"), marks=pytest.mark.thorough),
    ],
    ids=["intent", "base backup", "WAL is received", "recovery", "adopted", "checked"],
)
def test_with_a_base_backup(
    home: Path, shop_with_pages: Shop, monkeypatch: pytest.MonkeyPatch, when: Callable[[], When]
) -> None:
    monkeypatch.setenv("BACKUP_PASSWORD", "backup-password")
    for name, value in shop_with_pages.database.environment.items():
        monkeypatch.setenv(name, value)
    die(home, shop_with_pages.plan(checks=FEW), when)
    no_session_is_left(shop_with_pages.database)
    nobody_is_left_at(shop_with_pages.database.owner)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(intent(3), marks=pytest.mark.thorough),
        while_runs("fetch-wal"),
        pytest.param(after("snapshot taken"), marks=pytest.mark.thorough),
        while_runs("pgbackrest", "restore", "--set="),
        pytest.param(while_runs("postgres", "recovery_target_lsn"), marks=pytest.mark.thorough),
        pytest.param(after("alignment proved"), marks=pytest.mark.thorough),
    ],
    ids=["intent", "WAL is fetched", "snapshot", "restore", "recovery", "adopted"],
)
def test_with_a_repository_of_pgbackrest(
    home: Path, stanza: Kept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: Callable[[], When]
) -> None:
    kept = at_hand(stanza, monkeypatch)
    with under_load(kept, tmp_path):
        die(home, kept.plan(checks=FEW), when)
    no_session_is_left(kept.database)
