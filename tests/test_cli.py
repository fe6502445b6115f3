"""The command line: what it says, and the exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fix_postgres import Database, write_plan

from drills.records import Outcome, Verdict
from flows.cli import entry
from flows.index import drill_named


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version: [1", "plan.yaml:1: not YAML"),
        ("- a list", "plan.yaml:1: expected a mapping"),
        ("version: 1\nsauce: {}\n", "plan.yaml:2: sauce: unknown key"),
    ],
)
@pytest.mark.parametrize("command", [["plan", "check"], ["run", "--no-prefect"]])
def test_a_plan_that_cannot_run_is_refused_with_file_line_and_hint(
    home: Path, capfd: pytest.CaptureFixture[str], command: list[str], content: str, said: str
) -> None:
    path = home / "plan.yaml"
    path.write_text(content)
    assert entry([*command, str(path)]) == 3
    error = capfd.readouterr().err
    assert said in error
    assert "HINT: " in error
    assert not (home / "drills").exists()


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "no such plan.yaml"], ["nonsense"], ["demo", "--scale", "0"], ["show", "no such drill"]],
)
@pytest.mark.usefixtures("home")
def test_a_wrong_command_line_is_refused_with_a_hint(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert entry(arguments) == 3
    assert "HINT: " in capfd.readouterr().err


def test_nobody_asked_is_refused(home: Path, shop: Database, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry(["run", "--no-prefect", str(write_plan(home, shop.plan(requester=None)))]) == 3
    assert "--requester" in capfd.readouterr().err


def test_plan_check_touches_nothing(home: Path, shop: Database, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry(["plan", "check", str(write_plan(home, shop.plan()))]) == 0
    assert "a plan for shop: 1 total, 0 ledger rules, 1 invariant, 0 smoke checks, 0 outages" in capfd.readouterr().out
    assert [path.name for path in home.iterdir()] == ["plan.yaml"]


def test_plan_check_says_that_nobody_is_named_who_asks(
    home: Path, shop: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    told = "requester: none; name one with --requester"
    assert entry(["plan", "check", str(write_plan(home, shop.plan(requester=None)))]) == 0
    assert told in capfd.readouterr().out.splitlines()
    assert entry(["plan", "check", str(write_plan(home, shop.plan()))]) == 0
    assert "requester" not in capfd.readouterr().out


def test_plan_schema_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert entry(["plan", "schema"]) == 0
    assert json.loads(capfd.readouterr().out)["additionalProperties"] is False


@pytest.mark.usefixtures("home")
def test_nothing_was_run_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert entry(["list"]) == 0
    assert "no drills yet" in capfd.readouterr().out


def test_a_journal_that_was_changed_is_listed_as_unknown(
    home: Path, shop: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    assert entry(["run", "--no-prefect", str(write_plan(home, shop.plan()))]) == 0
    journal = next((home / "drills").glob("*/journal.jsonl"))
    journal.write_bytes(journal.read_bytes().replace(b'"FAIL"', b'"PASS"').replace(b"tester@", b"nobody@", 1))
    assert entry(["list"]) == 0
    assert "UNKNOWN  unreadable" in capfd.readouterr().out
    assert entry(["show", "DR-"]) == 2


def _take_interrupts() -> None:
    """A shell that puts a job into its background has the job ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_cleans_up_reports_and_ends_with_four(home: Path, shop: Database, sign: signal.Signals) -> None:
    path = write_plan(home, shop.plan())
    running = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "--no-prefect", str(path)],
        env=os.environ | shop.environment, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=_take_interrupts,  # noqa: PLW1509 - it only calls signal()
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(home.glob("drills/*/staging")):
        assert time.monotonic() < until
        time.sleep(0.01)
    running.send_signal(sign)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 4, said
    record = drill_named(next((home / "drills").iterdir()).name)
    assert (record.outcome, record.verdict, record.left) == (Outcome.INTERRUPTED, Verdict.UNKNOWN, ())
    assert "report.html" in said
    assert "Traceback" not in said
    assert shop.environment["SHOP_PASSWORD"] not in said


@pytest.mark.timeout(200)
@pytest.mark.parametrize("method", ["dump", "basebackup", pytest.param("pgbackrest", marks=pytest.mark.thorough)])
def test_the_demo_passes_under_load_and_leaves_only_its_report(home: Path, method: str) -> None:
    if method == "pgbackrest" and shutil.which(method) is None:
        pytest.skip("pgbackrest is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--no-prefect", "--scale", "1", "--method", method],
        env=os.environ, cwd=home.parent, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "meanwhile production committed" in done.stdout
    assert "RuntimeDirWarning" not in done.stderr
    record = drill_named(next((home / "drills").iterdir()).name)
    assert (record.verdict, record.requester) == (Verdict.PASS, "demo@example.com")
    assert record.outages[0].acknowledged_before > 0
    assert not list((home / "demo").iterdir())
    assert Path(done.stdout.split()[-1]).is_file()
