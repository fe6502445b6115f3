"""Running contenders in blocks, the bare scan at both ends of each, so that a ratio is of the same minutes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.children import ChildError, last_word, run_child, without_places
from bench.ledger import BARE_SCAN, BY_HAND, Fault, keys
from bench.ours import Job, Told, sound
from bench.pair import LIMITS, damaged
from bench.results import Findings, Run, Series
from drills.addresses import Address
from drills.errors import DrillbookError
from drills.sessions import Access, session

LIMIT = 600.0
"""Seconds for one run of ours."""
_BARE_SCANS = 3
_PACKAGES = Path(__file__).parent.parent


@dataclass(frozen=True)
class Contest:
    """One of ours, as it is shown."""

    name: str
    part: str
    jobs: int
    damaged: bool = False


TOTALS = "totals by currency only"
SERIAL = "everything, serial"
TWO = "everything, two workers"
STORED = "copy against a stored expectation"
LIVE = "both sides live"
LOCATED = "both sides live, ten differing rows located"
CONTESTS = (
    Contest(TOTALS, "totals", 1),
    Contest(SERIAL, "everything", 1),
    Contest(TWO, "everything", 2),
    Contest(STORED, "stored", 2),
    Contest(LIVE, "live", 2),
    Contest(LOCATED, "live", 2, damaged=True),
)


@dataclass(frozen=True)
class Site:
    """Two databases and a place to write."""

    source: Address
    copy: Address
    folder: Path


def bare_scans(source: Address) -> list[float]:
    """Seconds of some bare scans, one after the other and without parallel workers."""
    return _seconds(source, [BARE_SCAN] * _BARE_SCANS)


def _seconds(source: Address, statements: Sequence[str]) -> list[float]:
    """Of each statement, by one process of the server."""
    with session(source, name="bench", access=Access.READ_ONLY, limits=LIMITS) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        found = []
        for statement in statements:
            started = time.monotonic()
            connection.execute(statement.encode()).fetchall()
            found.append(time.monotonic() - started)
    return found


def run_ours(site: Site, contest: Contest, *, totals: bool = True) -> tuple[Told, Run]:
    """One of ours in a process of its own; the ratio is still to be had.

    Raises:
        ChildError: it failed, or took too long.
    """
    site.folder.mkdir(exist_ok=True)
    source, copy = (dict(address.parts) for address in (site.source, site.copy))
    job = Job(contest.part, source, copy, str(site.folder), contest.jobs, totals)
    answer = site.folder / "answer.json"
    answer.unlink(missing_ok=True)
    ended = run_child(
        [sys.executable, "-m", "bench.ours", json.dumps(asdict(job)), str(answer)],
        log=site.folder / "ours.log",
        limit=LIMIT,
        environment={"PGPASSWORD": site.source.password, "PYTHONPATH": os.fspath(_PACKAGES)},
    )
    if ended.code:
        raise ChildError(last_word(ended.said))
    told = Told(**json.loads(answer.read_text()))
    return told, Run(told.seconds, 0, ended.seconds, ended.cpu, ended.peak)


def run_block(site: Site, found: Findings, faults: Sequence[Fault]) -> None:
    """Each of ours once. A failure is noted with its series, and does not stop the others."""
    scans, by_hand = bare_scans(site.source), _seconds(site.source, [*BY_HAND.values()])
    block: list[tuple[Series, Run]] = []
    for contest in CONTESTS:
        series = found.ours.setdefault(contest.name, Series(contest.name))
        planted = faults if contest.damaged else ()
        try:
            with damaged(site.copy, planted) if planted else nullcontext():
                told, run = run_ours(site, contest)
            _refuse_wrong(contest, told, planted)
        except (ChildError, DrillbookError) as error:
            series.failed = str(error)
            continue
        block.append((series, run))
    scans += bare_scans(site.source)
    base = median(scans)
    found.bare.runs.append(Run(base, 1, base, 0, 0))
    for name, seconds in zip(BY_HAND, by_hand, strict=True):
        found.by_hand.setdefault(name, Series(name)).runs.append(Run(seconds, seconds / base, seconds, 0, 0))
    for series, run in block:
        series.runs.append(Run(run.seconds, run.seconds / base, run.process, run.cpu, run.peak))


def _refuse_wrong(contest: Contest, told: Told, planted: Sequence[Fault]) -> None:
    """A time for a wrong answer is none."""
    if contest.damaged and told.keys != keys(planted):
        raise ChildError(without_places(f"a wrong answer: it named rows {told.keys}; {_reasons(told)}"))
    if told.verdicts and not contest.damaged and not sound(told):
        raise ChildError(without_places(f"a wrong answer on a sound copy: {_reasons(told)}"))


def _reasons(told: Told) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in told.reasons.items()) or "everything passed"
