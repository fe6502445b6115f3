"""However a drill ends: it is cleaned up, it testifies, and nothing that is not its own is touched."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_home import halted, kill
from fix_postgres import Database, new_database, run_sql, write_plan

from drills import events
from drills.clusters import Cluster
from drills.errors import ClusterError, EvidenceError, JournalError, ToolError
from drills.events import Entry, Event
from drills.journal import Journal
from drills.planfile import read_plan
from drills.record import Record
from drills.records import Outcome, Resource, Verdict
from drills.staging import database_name
from flows import rehearsal
from flows.cli import entry
from flows.destroying import destroy_all
from flows.index import drill_named
from flows.progress import Progress, Silent
from flows.rehearsal import rehearse
from flows.runtime import JOURNAL, Drill, open_drill
from flows.sweep import sweep
from reports.bundle import bundle_path
from reports.verify import verify


def opened(home: Path, plan: dict[str, Any], progress: Progress | None = None) -> Drill:
    file = read_plan(write_plan(home, plan))
    return open_drill(file, requester=None, home=home, progress=progress or Silent())


def before(name: str, what: Callable[[Drill], object]) -> Any:
    """Do something ahead of the stage of that name."""

    def step(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:
        if stage.__name__ == name:
            what(drill)
        return stage(drill, *values)

    return step


def cleaned_up(record: Record, home: Path) -> None:
    assert record.left == ()
    assert [path.name for path in (home / "drills" / record.drill).iterdir()] == [JOURNAL]
    assert verify(bundle_path(record)).faults == ()


class Broken(Silent):
    """Somebody who is shown the progress, and breaks at each turn."""

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("__"):
            raise ValueError(name)
        return super().__getattribute__(name)


def test_a_display_that_breaks_does_not_touch_the_drill(home: Path, shop: Database) -> None:
    record = rehearse(opened(home, shop.plan(), Broken()))
    assert record.verdict is Verdict.PASS
    cleaned_up(record, home)


def test_an_outage_whose_name_reads_like_markup_is_shown_as_it_is(
    home: Path, shop: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    outage = {"kind": "kill_server", "name": "disk [/data] gone", "steady": "50ms", "down": "50ms"}
    assert entry(["run", "--no-prefect", str(write_plan(home, shop.plan(outages=[outage])))]) == 0
    assert "disk [/data] gone" in capfd.readouterr().out


def test_a_runner_that_breaks_between_stages_is_unknown_and_not_an_interruption(home: Path, shop: Database) -> None:
    def step(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:
        if stage.__name__ == "check":
            raise ConnectionResetError("the scheduler is gone")
        return stage(drill, *values)

    record = rehearse(opened(home, shop.plan()), step)
    assert (record.verdict, record.outcome) == (Verdict.UNKNOWN, Outcome.BROKEN_OFF)
    assert "the scheduler is gone" in record.problems[0].message
    cleaned_up(record, home)


@pytest.mark.parametrize("where", ["destroy_all", "close"])
def test_ctrl_c_during_the_clean_up_waits_for_its_end(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real = getattr(rehearsal, where)

    def interrupted(*values: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*values)

    monkeypatch.setattr(rehearsal, where, interrupted)
    handler = signal.getsignal(signal.SIGINT)
    record = rehearse(opened(home, shop.plan()))
    assert record.verdict is Verdict.PASS
    cleaned_up(record, home)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_destruction_that_fails_is_a_problem_and_the_report_is_written(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = destroy_all.__globals__["destroy_cluster"]

    def fail(folder: Path) -> None:
        if folder.name == "staging":
            raise ClusterError("access denied")
        real(folder)

    monkeypatch.setitem(destroy_all.__globals__, "destroy_cluster", fail)
    drill = opened(home, shop.plan())
    record = rehearse(drill)
    assert record.verdict is Verdict.UNKNOWN
    assert [resource.kind for resource in record.left] == ["cluster"]
    assert any("access denied" in reason for reason in record.reasons)
    assert (bundle_path(record) / "report.html").exists()
    monkeypatch.setitem(destroy_all.__globals__, "destroy_cluster", real)
    assert [swept.what for swept in sweep(home)] == ["was cleared of what it had left"]
    assert drill.cluster is not None
    drill.cluster.reap()


def test_a_program_that_cannot_be_ended_is_a_problem_and_the_rest_is_destroyed(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_drill: str) -> None:
        raise ToolError("a program cannot be killed: process 7")

    monkeypatch.setitem(destroy_all.__globals__, "end_applications", fail)
    smoke = [{"kind": "sql", "name": "customers", "sql": "SELECT count(*) FROM customer", "min": 1}]
    plan = shop.plan()
    record = rehearse(opened(home, {**plan, "checks": {**plan["checks"], "smoke": smoke}}))
    assert (record.verdict, record.left) == (Verdict.UNKNOWN, ())
    assert record.reasons == ("UNKNOWN: destroy: a program cannot be killed: process 7",)
    assert "end it by hand" in record.problems[0].hint
    cleaned_up(record, home)


def test_a_journal_that_cannot_take_the_interruption_does_not_stop_the_clean_up(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Journal.append

    def append(self: Journal, event: Event) -> Entry:
        if isinstance(event, events.Interrupted):
            raise JournalError("no space")
        return real(self, event)

    monkeypatch.setattr(Journal, "append", append)

    def stop(_drill: Drill) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(opened(home, shop.plan()), before("check", stop))
    record = drill_named(next((home / "drills").iterdir()).name)
    assert record.verdict is Verdict.UNKNOWN
    cleaned_up(record, home)


@pytest.mark.parametrize("launch", ["--no-prefect", "--json"])
def test_a_pass_without_filed_evidence_is_no_pass(
    home: Path, shop: Database, capfd: pytest.CaptureFixture[str], launch: str
) -> None:
    (home.parent / "evidence").mkdir()
    (home.parent / "evidence" / "shop").write_text("in the way")
    plan = str(write_plan(home, shop.plan()))
    assert entry(["run", plan, "--no-prefect", launch]) == 2
    said = capfd.readouterr()
    assert "PASS" not in said.out
    assert "drillbook sweep" in said.err


@pytest.mark.timeout(200)
def test_a_pass_without_filed_evidence_is_no_pass_under_prefect_either(
    home: Path, shop: Database, prefect_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (home.parent / "evidence").mkdir()
    (home.parent / "evidence" / "shop").write_text("in the way")
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    assert entry(["run", str(write_plan(home, shop.plan()))]) == 2
    assert "is not filed" in capfd.readouterr().err


def test_staging_that_became_production_after_the_guard_gets_nothing(
    home: Path, shop: Database, production: Cluster, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    plan = shop.plan(staging={"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"})

    def fail_over(drill: Drill) -> None:
        drill.staging = production.address()

    record = rehearse(opened(home, plan), before("restore", fail_over))
    assert record.verdict is Verdict.FAIL
    assert "staging is not production" in record.problems[0].message
    assert run_sql(production.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr\\_%'") == []


def test_a_copy_is_not_called_destroyed_because_another_server_does_not_have_it(
    home: Path, shop: Database, staging: Cluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    monkeypatch.setenv("STAGING", shop.url(staging.address()))

    def move(_drill: Drill) -> None:
        monkeypatch.setenv("STAGING", shop.url(cluster.address()))
        monkeypatch.setenv("STAGING_PASSWORD", cluster.password)

    plan = shop.plan(staging={"address": "env:STAGING", "password": "env:STAGING_PASSWORD"})
    record = rehearse(opened(home, plan), before("check", move))
    assert record.verdict is Verdict.UNKNOWN
    assert [resource.kind for resource in record.left] == ["database"]
    assert any("another server" in problem.message for problem in record.problems)
    monkeypatch.setenv("STAGING", shop.url(staging.address()))
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    assert [swept.what for swept in sweep(home)] == ["was cleared of what it had left"]
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr\\_%'") == []


@pytest.mark.parametrize("kind", ["directory", "cluster", "lock", "database"])
def test_a_journal_that_names_what_is_not_the_drills_destroys_nothing(
    home: Path, shop: Database, tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    drill = opened(home, shop.plan())
    name = "postgres" if kind == "database" else str(precious / "file" if kind == "lock" else precious)
    drill.say(events.Intended(resource=Resource(kind=kind, name=name)))
    drill.journal.close()
    os.close(drill.lock._descriptor)
    drill.lock._descriptor = -1
    (swept,) = sweep(home)
    assert swept.record is not None
    assert [resource.name for resource in swept.record.left] == [name]
    assert any("not this drill's" in problem.message for problem in swept.record.problems)
    assert (precious / "file").read_text() == "mine"


def test_a_copy_of_a_running_drills_folder_is_not_swept(home: Path, shop: Database) -> None:
    said: list[str] = []

    def copy_and_sweep(drill: Drill) -> None:
        copied = drill.folder.with_name("DR-copied")
        ignored = shutil.ignore_patterns("staging", "dump", "lock")
        shutil.copytree(drill.folder, copied, ignore=ignored)
        said.extend(swept.error for swept in sweep(home))
        shutil.rmtree(copied)

    record = rehearse(opened(home, shop.plan()), before("check", copy_and_sweep))
    assert any("the journal of another drill" in error for error in said)
    assert record.verdict is Verdict.PASS
    cleaned_up(record, home)


def test_a_folder_that_cannot_be_looked_at_does_not_stop_the_sweep(home: Path, shop: Database) -> None:
    (home / "drills" / "DR-0-first").mkdir(parents=True)
    (home / "drills" / "DR-0-first" / JOURNAL).mkdir()
    drill = opened(home, shop.plan())
    drill.journal.close()
    os.close(drill.lock._descriptor)
    drill.lock._descriptor = -1
    first, second = sweep(home)
    assert first.error
    assert second.record is not None


def test_a_folder_that_was_not_whole_is_swept_once_its_process_is_killed_and_not_before(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = halted(lambda: opened(home, shop.plan()), monkeypatch, Path, "rename")
    (folder,) = (home / "drills").iterdir()
    assert [(swept.drill, swept.what) for swept in sweep(home)] == [(folder.name, "is running")]
    assert (folder / "plan.yaml").exists()
    kill(child)
    assert [(swept.drill, swept.what) for swept in sweep(home)] == [(folder.name, "had not begun; removed")]
    assert list((home / "drills").iterdir()) == []


def test_sweeps_beside_each_other_do_not_break(home: Path, shop: Database) -> None:
    for _ in range(3):
        drill = opened(home, shop.plan())
        drill.journal.close()
        os.close(drill.lock._descriptor)
        drill.lock._descriptor = -1
    found: list[str] = []

    def clean() -> None:
        found.extend(swept.error for swept in sweep(home))

    threads = [threading.Thread(target=clean) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) <= {""}
    assert list(sweep(home)) == []


def test_a_database_name_cannot_lead_a_lock_out_of_its_folder(
    home: Path, production: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(production.address(), 'CREATE DATABASE "x/../../victim"')
    try:
        (home / "victim.lock").write_text("mine")
        database = new_database(production, "CREATE TABLE t AS SELECT 1 AS n")
        monkeypatch.setenv("SHOP_PASSWORD", database.environment["SHOP_PASSWORD"])
        plan = database.plan(checks={"row_counts": True})
        plan["source"]["address"] = plan["source"]["address"].replace(f"/{database.name}?", "/x%2F..%2F..%2Fvictim?")
        record = rehearse(opened(home, plan))
        assert record.outcome is not Outcome.REFUSED
        assert (home / "victim.lock").read_text() == "mine"
    finally:
        run_sql(production.address(), 'DROP DATABASE "x/../../victim" WITH (FORCE)')


def test_what_tells_two_copies_apart_is_never_cut_off() -> None:
    long = "production-settlement-" * 4
    names = {database_name(f"DR-20260101T060000Z-{long}-{suffix}") for suffix in ("aaaa", "bbbb")}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_the_persons_own_settings_for_postgresql_change_nothing(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGPASSWORD": "another",
        "PGREQUIREAUTH": "md5",
        "PGOPTIONS": "-c work_mem=1",
        "PGHOST": "x",
    }.items():
        monkeypatch.setenv(name, value)
    assert rehearse(opened(home, shop.plan())).verdict is Verdict.PASS


def test_a_refusal_says_what_to_do_in_terminal_and_record(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "wrong")
    assert entry(["run", "--no-prefect", str(write_plan(home, shop.plan()))]) == 3
    assert "HINT: check the reference under `password:`" in capfd.readouterr().out
    record = drill_named(next((home / "drills").iterdir()).name)
    assert "check the reference" in (bundle_path(record) / "report.html").read_text()


def test_evidence_error_is_what_the_library_raises(home: Path, shop: Database) -> None:
    (home.parent / "evidence").mkdir()
    (home.parent / "evidence" / "shop").write_text("in the way")
    with pytest.raises(EvidenceError):
        rehearse(opened(home, shop.plan()))
