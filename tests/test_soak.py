"""Drill after drill under full load, and no false alarm: what is measured in a snapshot is what its dump brings back.

DRILLBOOK_SOAK is the number of rounds, for whoever wants to wait longer than a minute.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fix_checks import a_log, opening, quiet, total_check
from fix_postgres import end_cluster, new_cluster, run_sql
from fix_structure import tool

from checks.content import compare_content
from checks.measure import Scope, Wish, measure
from checks.scanning import tablework
from checks.totals import compare_totals
from drills.clusters import Cluster
from drills.measures import Measures
from drills.plans.checks import Content
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.snapshots import Sessions, exported_snapshot

ROUNDS = int(os.environ.get("DRILLBOOK_SOAK", "8"))
TOTALS = (
    total_check(name="branches", table="pgbench_branches", amount="bbalance"),
    total_check(name="by branch", table="pgbench_accounts", amount="abalance", by={"branch": "bid"}),
    total_check(name="history by teller", table="pgbench_history", amount="delta", by={"teller": "tid"}),
)
WISH = Wish(TOTALS, structure=False, sequences=False)


@pytest.fixture(scope="module")
def bank() -> Iterator[Cluster]:
    """A server with a bank on it, of its own: it is worked hard."""
    cluster = new_cluster({"fsync": "off", "shared_buffers": "128MB", "max_connections": "60"})
    try:
        run_sql(cluster.address(), "CREATE DATABASE bank")
        place = Path(tempfile.mkdtemp(prefix="drillbook-soak-"))
        run = [cluster.tools.program("pgbench"), "--initialize", "--quiet", "--scale=1", "bank"]
        environment = os.environ | cluster.address("bank").environment()
        subprocess.run(run, env=environment, cwd=place, check=True, capture_output=True, timeout=120)
        yield cluster
    finally:
        end_cluster(cluster)


def transactions(bank: Cluster) -> int:
    """Committed so far."""
    return int(run_sql(bank.address("bank"), "SELECT count(*) FROM pgbench_history")[0][0])


@contextmanager
def full_speed(bank: Cluster) -> Iterator[None]:
    """Four clients that never wait."""
    run = [bank.tools.program("pgbench"), "--client=4", "--jobs=1", "--time=600", "bank"]
    environment = os.environ | bank.address("bank").environment()
    clients = subprocess.Popen(run, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not transactions(bank):
            time.sleep(0.1)
        yield
        assert clients.poll() is None, "pgbench ended before its time"
    finally:
        clients.terminate()
        clients.wait()


def drill(bank: Cluster, place: Path, copy: str, *, pieces: bool) -> tuple[Measures, Measures]:
    """What is measured in a snapshot that is dumped meanwhile, and what the dump brings back."""

    def opened() -> psycopg.Connection:
        return connect(bank.address("bank"), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS)

    with opened() as leader, exported_snapshot(leader) as snapshot, ThreadPoolExecutor(1) as pool:
        inside = Sessions(opened).inside(snapshot.name)
        measuring = pool.submit(measure, inside, WISH, Scope(2, pieces=pieces), a_log(), quiet)
        arguments = ("-Fc", "-Z0", f"--snapshot={snapshot.name}", f"--file={place / 'dump'}")
        tool(bank.tools, "pg_dump", bank.address("bank"), place, *arguments)
        expected = measuring.result()
    run_sql(bank.address(), f"CREATE DATABASE {copy}")
    tool(bank.tools, "pg_restore", bank.address(copy), place, f"--dbname={copy}", str(place / "dump"))
    scope = Scope(2, pieces=not pieces, like=expected)
    return expected, measure(opening(bank.address(copy)), WISH, scope, a_log(), quiet)


def test_no_false_alarm_under_full_load(bank: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablework, "_PIECE", 64)
    tmp_path.chmod(0o755)
    with full_speed(bank):
        for number in range(ROUNDS):
            before = transactions(bank)
            expected, actual = drill(bank, tmp_path, f"copy_{number}", pieces=bool(number % 2))
            assert transactions(bank) > before, "nothing was written meanwhile"
            found = compare_content(expected, actual, Content())
            assert (found.verdict, found.reason) == (Verdict.PASS, "all 4 tables hold the same rows, in every column")
            for check, one, other in zip(TOTALS, expected.totals, actual.totals, strict=True):
                assert compare_totals(one, other, 0.0, check).verdict is Verdict.PASS
            assert any(count.buckets for count in expected.counts)
            # The copy that goes on living is another one: the comparison can fail.
            run_sql(
                bank.address(f"copy_{number}"), "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 77777"
            )
            changed = measure(opening(bank.address(f"copy_{number}")), WISH, Scope(2, like=expected), a_log(), quiet)
            assert compare_content(expected, changed, Content()).verdict is Verdict.FAIL
            run_sql(bank.address(), f"DROP DATABASE copy_{number} WITH (FORCE)")
