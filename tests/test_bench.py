"""The benchmark runs from end to end, tells what it could not do, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from bench.blocks import CONTESTS, LIVE, LOCATED, SERIAL, STORED
from bench.children import ChildError, Ended, TooSlow, run_child, without_places
from bench.goals import judge
from bench.ledger import BY_HAND, handful, keys, ten_rows
from bench.page import render
from bench.peers import PEERS
from bench.results import Findings, PeerResult, Run, Series
from fix_bench import MACHINE, start_bench

from drills.clusters import processes_using


def start(place: Path, rows: int) -> subprocess.Popen[str]:
    """The benchmark with its temporary files in this place, without peers and small tables."""
    told = f"--rows {rows} --fault-rows 0 --tables 0 --repetitions 1 --output {place / 'page.md'}"
    return start_bench(place, f"{told} --recovery-rows 0 --recovery-output {place / 'recovery.md'}")


@pytest.mark.thorough
def test_it_runs_from_end_to_end_and_writes_its_page(bench_place: Path) -> None:
    said, _ = start(bench_place, 2000).communicate()
    page = (bench_place / "page.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in page.splitlines() if " | " in line}
    for contest in CONTESTS:
        assert re.fullmatch(r"\d+\.\d\d", rows[contest.name][0]), said + page
    for name in BY_HAND:
        assert re.fullmatch(r"\d+\.\d\d", rows[name][0]), page
    assert "could not be done" not in page
    assert "--rows 2000" in page
    assert str(bench_place) not in page
    assert list((bench_place / "tmp").iterdir()) == []
    assert not (bench_place / "recovery.md").exists()


def test_interrupted_it_removes_what_it_made_and_writes_nothing(bench_place: Path) -> None:
    process = start(bench_place, 200_000)
    assert process.stdout is not None
    assert "making a ledger" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert list((bench_place / "tmp").iterdir()) == []
    assert not (bench_place / "page.md").exists()
    assert processes_using(bench_place) == []


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TooSlow, match=r"over 0 s"):
        run_child(["sleep", "600"], log=tmp_path / "log", limit=0.2)


def test_a_childs_time_and_memory_are_gauged(tmp_path: Path) -> None:
    work = (
        "import time; held = b'x' * 200_000_000; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    )
    ended = run_child([sys.executable, "-c", work], log=tmp_path / "log", limit=60)
    assert ended.code == 0
    assert 0.3 <= ended.cpu <= ended.seconds + 0.1
    assert 190 < ended.peak < 260


def test_places_and_addresses_are_not_told() -> None:
    said = without_places("no such file: /home/jane/bench/x.py, see https://index.example.com/simple")
    assert said == "no such file: …, see …"
    assert without_places("pgcopydb '--source=postgresql://me@host/stock?sslmode=disable'") == "pgcopydb '--source=…'"


def test_the_planted_faults_concern_different_rows() -> None:
    for rows in (500, 2000, 5_000_000):
        assert len({*keys(ten_rows(rows))}) == len(keys(ten_rows(rows))) == 10
        assert len({*keys(handful(rows))}) == len(keys(handful(rows))) == 6
        assert max(keys(ten_rows(rows))) <= rows


@pytest.mark.parametrize(
    ("peer", "said", "named"),
    [
        ("reladiff", '["-", ["20001", "1.50"]]\n["+", ["20001", "1.51"]]\n', {20001}),
        ("pg_comparator", "UPDATE 20001\nINSERT 7\n", {20001, 7}),
        ("datacompy", "keys [20001]\n", {20001}),
    ],
)
def test_what_a_peer_says_is_understood(peer: str, said: str, named: set[int]) -> None:
    assert PEERS[peer]().keys(Ended(0, 1, 1, 1, said)) == named


@pytest.mark.parametrize(
    ("peer", "code", "said"),
    [
        ("reladiff", 0, "[04:44:17] ERROR - '<' not supported between instances of 'NoneType' and 'str'\n"),
        ("pg_comparator", 255, "DBD::Pg::db failed\n"),
        ("datacompy", 1, "MemoryError\n"),
        ("datacompy", 0, ""),
    ],
)
def test_a_peer_that_crashed_is_not_said_to_have_found_nothing(peer: str, code: int, said: str) -> None:
    with pytest.raises(ChildError, match="crashed"):
        PEERS[peer]().keys(Ended(code, 1, 1, 1, said))


def series(name: str, seconds: float) -> Series:
    """One run on a bare scan of a second."""
    return Series(name, [Run(seconds, seconds, seconds + 1, 1, 100)])


def goals(findings: Findings) -> dict[str, bool | None]:
    """By the first words of each."""
    return {goal.said.split(":")[0]: goal.met for goal in judge(findings)}


def test_goals_are_met_missed_or_not_known() -> None:
    findings = Findings(1000, 1, MACHINE, "make bench")
    assert set(goals(findings).values()) == {None}
    findings.ours = {name: series(name, seconds) for name, seconds in ((SERIAL, 6), (LIVE, 10), (LOCATED, 11.6))}
    findings.ours[STORED] = series(STORED, 4)
    findings.peers = [PeerResult("reladiff", series=series("reladiff", 42))]
    found = goals(findings)
    assert found[SERIAL] is True
    assert found[LIVE] is False  # 43 s against 11 s, each with its start
    assert found[STORED] is True
    assert found["locating ten rows adds at most 15%"] is False


def test_a_peer_ended_at_its_limit_took_at_least_that() -> None:
    findings = Findings(1000, 1, MACHINE, "make bench", ours={LIVE: series(LIVE, 10), STORED: series(STORED, 99)})
    findings.peers = [PeerResult("reladiff", over=240)]
    assert goals(findings)[LIVE] is True
    assert goals(findings)[STORED] is None


def test_the_page_says_what_was_not_done_and_why() -> None:
    findings = Findings(1000, 1, MACHINE, "make bench", ours={SERIAL: Series(SERIAL, failed="no server")})
    findings.peers = [PeerResult("reladiff", absent="it could not be installed: pip ended with 1")]
    findings.failures = [("the ledger", "disk full")]
    page = render(findings, date(2026, 11, 22))
    assert f"| {SERIAL} | not measured: no server |" in page
    assert "not run: it could not be installed: pip ended with 1" in page
    assert "| the ledger | disk full |" in page
    assert "| met |" not in page
