"""The benchmark of recovery: from end to end, with a wrong copy refused, and with nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from bench import copying_by_hand, copying_ours
from bench.children import ChildError
from bench.copying import DATABASE, Copying, content, family_io
from bench.kept import Kept, keep
from bench.lanes import AGAINST, BARE, CUSTOM_FILE, DUMP, OURS, PEER, PGBACKREST, PLAIN_DUMP, REPOSITORIES, contenders
from bench.pair import run
from bench.restored import Copied, Restored, judge
from bench.restores import Restores, Source, copy_once
from bench.restores_page import render
from bench.stock import TABLES, stocked
from fix_bench import MACHINE, start_bench

from drills.clusters import make_cluster, processes_using
from drills.tools import embedded_tools, newest_system_tools


def start(place: Path, rows: int) -> subprocess.Popen[str]:
    """The part of recovery alone, without pgcopydb, with its temporary files in this place."""
    told = f"--rows 0 --recovery-rows {rows} --recovery-blocks 1 --output {place / 'proving.md'}"
    return start_bench(place, f"{told} --recovery-output {place / 'page.md'}")


@pytest.mark.thorough
def test_it_runs_from_end_to_end_and_writes_its_own_page_alone(bench_place: Path) -> None:
    (bench_place / "proving.md").write_text("of an earlier run")
    process = start(bench_place, 2000)
    said, _ = process.communicate()
    page = (bench_place / "page.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in page.splitlines() if " | " in line}
    missing = [name for name in REPOSITORIES if not (shutil.which(name) and newest_system_tools())]
    assert process.returncode == 0, said
    assert ("could not be done" in page) == bool(missing)
    for method in missing:
        assert rows[method][0].endswith("is not installed |"), page
    lanes = [(method, who) for method in AGAINST if method not in missing for who in contenders(method) if who != PEER]
    for method, contender in lanes:
        figures = rows[f"{method}: {contender}"]
        assert all(re.fullmatch(r"\d+\.\d\d", figure) for figure in figures[:3]), said + page
        assert float(figures[6]) > 0, "nothing was written"
        assert float(figures[7]) > 0, "nobody needs no memory"
        assert f"\n{method}: {contender}\n" in page, "its commands are missing"
    assert "--rows 0 --recovery-rows 2000" in page
    assert str(bench_place) not in page
    assert "PGPASSWORD" not in page
    assert (bench_place / "proving.md").read_text() == "of an earlier run"
    assert list((bench_place / "tmp").iterdir()) == []


@pytest.mark.thorough
def test_interrupted_it_removes_what_it_made_and_writes_nothing(bench_place: Path) -> None:
    process = start(bench_place, 2000)
    assert process.stdout is not None
    for line in process.stdout:
        if "dump, bare tools" in line:
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert list((bench_place / "tmp").iterdir()) == []
    assert not (bench_place / "page.md").exists()
    assert processes_using(bench_place) == []


@pytest.mark.thorough
def test_a_copy_that_is_not_the_source_has_no_time(bench_place: Path) -> None:
    tools = embedded_tools()
    with stocked(bench_place / "source", tools, 400, {}) as cluster:
        address = cluster.address(DATABASE)
        source = Source(cluster, tools, content(address))
        assert source.expected.keys() == {*TABLES}
        assert source.expected["ledger_1"][0] == "100"
        run(address, "UPDATE ledger_2 SET amount = amount + 0.01 WHERE id = 150")
        (bench_place / "run").mkdir(mode=0o755)
        with pytest.raises(ChildError, match="a wrong copy"):
            copy_once(source, "dump", OURS, 1, bench_place / "run", {})
        shutil.rmtree(bench_place / "run")
        (bench_place / "run").mkdir(mode=0o755)
        found = copy_once(replace(source, expected=content(address)), "dump", OURS, 1, bench_place / "run", {})
    assert found.seconds > 0


def test_what_ended_children_wrote_is_counted(tmp_path: Path) -> None:
    before = family_io(os.getpid())
    subprocess.run([sys.executable, "-c", "open('x', 'wb').write(b'x' * 5_000_000)"], cwd=tmp_path, check=True)
    after = family_io(os.getpid())
    assert after[1] - before[1] >= 5_000_000


def copied(block: int, seconds: float) -> Copied:
    """That took so long."""
    return Copied(block, Copying(backup=seconds / 2, restore=seconds / 2), 0, 0)


def test_goals_are_met_missed_or_not_known_block_by_block() -> None:
    found = Restored(1000, 2, MACHINE, "make bench")
    assert {goal.met for goal in judge(found)} == {None}
    found.lane("dump", BARE).runs = [copied(1, 10), copied(2, 20)]
    found.lane("dump", OURS).runs = [copied(1, 10.4), copied(2, 20.8)]
    found.lane(PLAIN_DUMP, PEER).runs = [copied(1, 10), copied(2, 20)]
    found.lane("basebackup", BARE).runs = [copied(1, 10)]
    found.lane("basebackup", OURS).runs = [copied(2, 5)]
    met = {goal.said: goal.met for goal in judge(found)}
    assert met["dump: at most 1.05 of the bare tools"] is True
    assert met["dump: not slower than pgcopydb"] is False
    assert met["basebackup: at most 1.05 of the bare tools"] is None  # never in one block
    assert met["pgbackrest: at most 1.05 of the bare tools"] is None


def test_each_lane_has_hands() -> None:
    assert copying_ours.METHODS.keys() == {*AGAINST}
    assert copying_by_hand.METHODS.keys() == {*AGAINST, PEER}


def test_repositories_whose_tools_are_missing_are_said_to_be_and_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Restored(1000, 2, MACHINE, "make bench")
    monkeypatch.setenv("PATH", str(tmp_path))
    Restores(Namespace(), tmp_path, found).run_repositories()
    assert (found.failures, found.lanes) == ([], {})
    page = render(found, date(2026, 11, 22))
    for name in REPOSITORIES:
        assert f"| {name} | {name} is not installed |" in page
        assert f"| {name}: at most 1.05 of the bare tools | not measured | **not known** |" in page


@pytest.mark.thorough
def test_a_backup_that_cannot_be_made_is_a_failure(bench_place: Path) -> None:
    cluster = make_cluster(bench_place / "source", embedded_tools())
    try:
        with pytest.raises(ChildError, match="pg_dump ended with 1: "):
            keep(CUSTOM_FILE, bench_place / "dump_file", cluster)
    finally:
        cluster.destroy()


def test_the_page_says_what_was_not_done_and_why() -> None:
    found = Restored(1000, 2, MACHINE, "make bench")
    found.lane(DUMP, OURS).failed = "a wrong copy: expected this, got that"
    found.failures = [(PGBACKREST, "pgbackrest ended with 25")]
    page = render(found, date(2026, 11, 22))
    assert "| dump: ours | not measured: a wrong copy: expected this, got that |" in page
    assert "| pgbackrest | pgbackrest ended with 25 |" in page
    assert "| met |" not in page


def test_the_page_tells_how_a_backup_came_to_be_there_before_the_commands_of_its_lanes() -> None:
    found = Restored(1000, 2, MACHINE, "make bench")
    found.lane(CUSTOM_FILE, BARE).runs = [Copied(1, Copying(1, 1, commands=[["pg_restore", "/srv/stock.dump"]]), 0, 0)]
    found.kept[CUSTOM_FILE] = Kept({}, [["/usr/bin/pg_dump", "--format=custom"]])
    page = render(found, date(2026, 11, 22))
    assert f"| {CUSTOM_FILE}: bare tools | 1.00 | 1.00 | 2.00 | **1.00** | 1.00 to 1.00 | 0.00 | 0.00 | 0 | 1 |" in page
    made = f"{CUSTOM_FILE}: the backup that is there\n\n```sh\npg_dump --format=custom\n```\n"
    assert f"{made}\n{CUSTOM_FILE}: bare tools\n\n```sh\npg_restore …\n```\n" in page
