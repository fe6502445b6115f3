"""The drill on a real Prefect server, deployed as prefect.yaml says and run by a real worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fix_postgres import Database, write_plan

from drills.records import Verdict
from flows.cli import entry
from flows.index import drill_named
from reports.bundle import bundle_path

CHECKOUT = Path(__file__).parent.parent
DEADLINE = 180


@pytest.fixture
def prefect_environment(prefect_url: str, prefect_home: Path, home: Path, shop: Database) -> dict[str, str]:
    """What every Prefect command here is told."""
    return (
        os.environ
        | shop.environment
        | {
            "PREFECT_API_URL": prefect_url,
            "PREFECT_HOME": str(prefect_home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DRILLBOOK_CHECKOUT": str(home.parent),
            "PYTHONUNBUFFERED": "1",
            # Prefect's runner makes a folder of a fixed name there, which may be another account's by now.
            "TMPDIR": str(home.parent),
        }
    )


def prefect(environment: dict[str, str], *arguments: str) -> str:
    """Run a Prefect command from the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def deployed(prefect_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Both deployments, and a worker for them."""
    prefect(prefect_environment, "work-pool", "create", "--type", "process", "--overwrite", "drill-pool")
    prefect(prefect_environment, "deploy", "--all")
    said = Path(prefect_environment["PREFECT_HOME"]) / "worker.log"
    with said.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "drill-pool"],
            cwd=CHECKOUT,
            env=prefect_environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield prefect_environment
    finally:
        family = psutil.Process(worker.pid).children(recursive=True)
        worker.send_signal(signal.SIGTERM)
        # On a busy machine Prefect's worker has been seen to take the signal and wait for ever.
        _, stubborn = psutil.wait_procs([psutil.Process(worker.pid), *family], timeout=20)
        for member in stubborn:
            member.kill()
        worker.wait(20)


def ask(environment: dict[str, str], path: str, **body: Any) -> Any:
    """What the API answers."""
    answer = httpx.post(f"{environment['PREFECT_API_URL']}{path}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


def wait_for_end(environment: dict[str, str], run: str) -> dict[str, Any]:
    """The flow run, once it has ended."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        found: dict[str, Any] = httpx.get(f"{environment['PREFECT_API_URL']}/flow_runs/{run}", timeout=30).json()
        if found["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
            return found
        time.sleep(0.5)
    said = (Path(environment["PREFECT_HOME"]) / "worker.log").read_text()
    raise AssertionError(f"the flow run {run} had not ended after {DEADLINE} s; the worker said: {said[-2000:]}")


@pytest.mark.timeout(400)
def test_the_on_demand_deployment_runs_and_its_verdict_can_be_read_from_the_api(
    deployed: dict[str, str], home: Path, shop: Database
) -> None:
    plan = write_plan(home, shop.plan())
    deployment = httpx.get(f"{deployed['PREFECT_API_URL']}/deployments/name/drill/on-demand", timeout=30).json()
    told = prefect(
        deployed,
        "deployment",
        "run",
        "drill/on-demand",
        "--params",
        json.dumps({"plan": str(plan), "requester": "sre"}),
    )
    run = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", told)
    assert run is not None, told
    ended = wait_for_end(deployed, run[0])
    assert ended["deployment_id"] == deployment["id"]
    record = drill_named(max((home / "drills").iterdir()).name)
    assert ended["state_name"] == "PASS", record.reasons
    assert (record.verdict, record.requester) == (Verdict.PASS, "sre")
    assert record.runner.scheduler == run[0]

    artifacts = ask(deployed, "/artifacts/filter", artifacts={"flow_run_id": {"any_": [run[0]]}})
    report = next(artifact for artifact in artifacts if artifact["key"] == "drill-report")
    assert report["data"].startswith(f"# PASS: {record.drill}")
    assert (bundle_path(record) / "report.html").as_uri() in report["data"]
    progress = next(artifact for artifact in artifacts if artifact["key"] == "drill-progress")
    assert float(progress["data"]) == 100.0
    tasks = ask(deployed, "/task_runs/filter", flow_runs={"id": {"any_": [run[0]]}})
    assert {task["name"].rsplit("-", 1)[0] for task in tasks} == {"look", "back up", "restore", "check", "prove checks"}
    # Prefect's database holds a path and a name, and never the secret.
    database = b"".join(path.read_bytes() for path in Path(deployed["PREFECT_HOME"]).rglob("*") if path.is_file())
    assert str(plan).encode() in database
    assert shop.environment["SHOP_PASSWORD"].encode() not in database


def test_the_quarterly_schedule_has_a_future_run_at_its_hour(deployed: dict[str, str]) -> None:
    """Prefect's scheduler has been seen to stop without a word; a schedule alone proves nothing."""
    deployment = httpx.get(f"{deployed['PREFECT_API_URL']}/deployments/name/drill/quarterly", timeout=30).json()
    schedule = deployment["schedules"][0]["schedule"]
    assert (schedule["cron"], schedule["timezone"]) == ("0 6 1 1,4,7,10 *", "UTC")
    assert deployment["global_concurrency_limit"]["limit"] == 1
    until = time.monotonic() + DEADLINE
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < until:
        found = ask(deployed, "/flow_runs/filter", deployments={"id": {"any_": [deployment["id"]]}})
        time.sleep(0.5)
    starts = [datetime.fromisoformat(run["expected_start_time"]) for run in found]
    assert starts
    assert all((at.month % 3, at.day, at.hour, at.minute) == (1, 1, 6, 0) and at > datetime.now(UTC) for at in starts)


def test_run_uses_the_server_that_the_environment_names(
    prefect_environment: dict[str, str], home: Path, shop: Database
) -> None:
    plan = write_plan(
        home, shop.plan(checks={"totals": [{"name": "t", "table": "invoice", "amount": "amount / (id - 7)"}]})
    )
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", str(plan)],
        env=prefect_environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    record = drill_named(max((home / "drills").iterdir()).name)
    assert record.verdict is Verdict.UNKNOWN
    runs = ask(prefect_environment, "/flow_runs/filter")
    ended = next(run for run in runs if run["id"] == record.runner.scheduler)
    assert (ended["state_type"], ended["state_name"]) == ("FAILED", "UNKNOWN")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_server_that_does_not_answer_is_an_error_with_a_way_out(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.server._START_DEADLINE", 0.2)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert entry(["run", str(write_plan(home, shop.plan()))]) == 2
    assert "--no-prefect" in capfd.readouterr().err
