"""A drill that is killed at any point leaves nothing behind once it is swept, and still testifies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fix_postgres import Database, open_sessions, run_sql, write_plan

from drills.clusters import Cluster
from drills.events import Entry, Event
from drills.journal import Journal
from drills.planfile import read_plan
from drills.record import Record
from drills.records import Outcome, Verdict
from flows.cli import entry
from flows.index import drill_named
from flows.progress import Silent
from flows.rehearsal import rehearse
from flows.runtime import open_drill
from flows.sweep import sweep
from reports.bundle import bundle_path
from reports.verify import verify

OUTAGE = {"kind": "kill_server", "name": "server killed", "writers": 1, "steady": "50ms", "down": "50ms"}


def killed(home: Path, plan: Path, when: Callable[[int, Event], bool]) -> bool:
    """Run the drill in a process of its own that ends by SIGKILL right after the entry that `when` picks.

    False when the drill came to its end before.
    """
    child = os.fork()
    if child == 0:
        real = Journal.append

        def append(self: Journal, event: Event) -> Entry:
            written = real(self, event)
            if when(written.seq, event):
                os.kill(os.getpid(), signal.SIGKILL)
            return written

        Journal.append = append  # type: ignore[method-assign]
        try:
            rehearse(open_drill(read_plan(plan), requester=None, home=home, progress=Silent()))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def swept(home: Path) -> Record:
    """Sweep; everything must be gone, and the one new drill must have its bundle."""
    results = list(sweep(home))
    assert [result.error for result in results] == [""] * len(results)
    assert list(sweep(home)) == []
    folder = max((home / "drills").iterdir())
    assert [path.name for path in folder.iterdir()] == ["journal.jsonl"]
    assert not list((home / "locks").glob("*"))
    for process in psutil.process_iter(["cmdline"]):
        assert not any(folder.name in part for part in process.info["cmdline"] or []), process
    record = drill_named(folder.name)
    assert record.left == ()
    assert verify(bundle_path(record)).faults == ()
    assert (bundle_path(record) / "report.html").stat().st_size > 1000
    return record


def no_session_is_left(database: Database) -> None:
    """The server notices a dead client when it next reads from it; that takes a moment, but not long."""
    until = time.monotonic() + 10
    while open_sessions(database.owner):
        assert time.monotonic() < until, open_sessions(database.owner)


def plan_to_kill(home: Path, shop: Database) -> Path:
    few = {"tables": False, "structure": False, "sequences": False, "amcheck": False}
    damages = {"damages": ["one cent", "lost row"]}
    return write_plan(home, shop.plan(outages=[OUTAGE], checks=few, negative_control=damages))


@pytest.mark.parametrize("event", ["intended", "snapshot taken", "loss declared", "round ended", "outage ended"])
def test_killed_at_this_entry_it_leaves_nothing_and_testifies(home: Path, shop: Database, event: str) -> None:
    assert killed(home, plan_to_kill(home, shop), lambda _seq, said: said.event == event)
    record = swept(home)
    no_session_is_left(shop)
    assert (record.outcome, record.verdict) == (Outcome.INTERRUPTED, Verdict.UNKNOWN)
    assert "interrupted" in " ".join(record.reasons)


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_killed_after_each_step_it_leaves_nothing_and_testifies(home: Path, shop: Database) -> None:
    plan = plan_to_kill(home, shop)
    step = 1
    while killed(home, plan, lambda seq, _event, step=step: seq == step):  # type: ignore[misc]
        record = swept(home)
        no_session_is_left(shop)
        if record.outcome is not Outcome.FINISHED:
            assert (record.outcome, record.verdict) == (Outcome.INTERRUPTED, Verdict.UNKNOWN), step
            assert "interrupted" in " ".join(record.reasons)
        step += 1
    # The last one ran to its end, and it had many steps to be killed at.
    assert step > 35
    whole = drill_named(max((home / "drills").iterdir()).name)
    assert (whole.outcome, whole.verdict) == (Outcome.FINISHED, Verdict.PASS)


@pytest.mark.parametrize("event", ["intended", "restored", "checked", "destroyed"])
def test_killed_with_a_copy_on_a_given_server_the_copy_is_dropped(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    plan = shop.plan(staging={"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"})
    path = write_plan(home, plan)
    seen: list[str] = []

    def when(_seq: int, said: Event) -> bool:
        seen.append(said.event)
        return said.event == event and (event != "intended" or seen.count("intended") == 3)

    assert killed(home, path, when)
    record = swept(home)
    assert record.outcome is Outcome.INTERRUPTED
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []


def test_a_sweep_leaves_a_running_drill_alone(home: Path, shop: Database, capfd: pytest.CaptureFixture[str]) -> None:
    drill = open_drill(read_plan(write_plan(home, shop.plan())), requester=None, home=home, progress=Silent())
    assert entry(["sweep"]) == 0
    assert "is running" in capfd.readouterr().out
    assert rehearse(drill).verdict is Verdict.PASS


def test_a_killed_drill_does_not_keep_the_next_one_from_running(home: Path, shop: Database) -> None:
    plan = write_plan(home, shop.plan())
    assert killed(home, plan, lambda _seq, event: event.event == "snapshot taken")
    drill = open_drill(read_plan(plan), requester=None, home=home, progress=Silent())
    assert rehearse(drill).verdict is Verdict.PASS
    assert swept_one_interrupted(home)


def test_a_sweep_from_another_folder_files_the_evidence_where_the_drill_would_have(
    home: Path, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed(home, write_plan(home, shop.plan()), lambda _seq, event: event.event == "restored")
    monkeypatch.chdir(tmp_path)
    assert swept_one_interrupted(home)
    assert list(home.parent.glob("evidence/shop/*/DR-*/report.html"))
    assert not list(tmp_path.iterdir())


def swept_one_interrupted(home: Path) -> bool:
    """Whether the sweep closes exactly the killed one."""
    results = list(sweep(home))
    return [result.record.outcome for result in results if result.record] == [Outcome.INTERRUPTED]


def test_what_cannot_be_destroyed_is_said_and_swept_later(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    plan = shop.plan(staging={"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"})
    assert killed(home, write_plan(home, plan), lambda _seq, event: event.event == "restored")
    monkeypatch.delenv("STAGING_PASSWORD")
    result = next(iter(sweep(home)))
    assert result.record is not None
    assert [resource.kind for resource in result.record.left] == ["database"]
    assert any("STAGING_PASSWORD" in problem.message for problem in result.record.problems)
    assert any("left behind" in reason for reason in result.record.reasons)
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    assert [result.what for result in sweep(home)] == ["was cleared of what it had left"]
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []
    assert list(sweep(home)) == []
