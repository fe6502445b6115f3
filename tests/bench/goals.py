"""The goals, and whether they are met. What was not measured meets none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.blocks import LIVE, LOCATED, SERIAL, STORED, TOTALS, TWO
from bench.results import Findings, Series

MANY_MEASURED, MANY_STORED = "measured, two workers", "copy against a stored expectation, two workers"
_SECONDS_FOR_MANY = 60
_MEGABYTES = 200
_LOCATING = 0.15
_AGAINST_RELADIFF = {LIVE: 4, STORED: 8}
_OF_BARE = {TOTALS: 1.3, SERIAL: 6, TWO: 4}


@dataclass(frozen=True)
class Goal:
    """One of them."""

    said: str
    found: str
    met: bool | None
    """None where it was not measured."""


def judge(findings: Findings) -> Iterator[Goal]:
    """Each goal with what was found."""
    for name, most in _OF_BARE.items():
        series = findings.of(name)
        found = f"{series.median('ratio'):.2f}" if series else "not measured"
        yield Goal(f"{name}: at most {most:g} of the bare scan", found, _at_most(series, "ratio", most))
    for name, times in _AGAINST_RELADIFF.items():
        yield _faster_than_reladiff(findings, name, times)
    yield _locating(findings)
    peak = max((run.peak for series in findings.ours.values() for run in series.runs), default=None)
    said = f"resident memory of our process under {_MEGABYTES} MB at any table size, here {findings.rows:,} rows"
    yield Goal(
        said, "not measured" if peak is None else f"{peak:.0f} MB at most", None if peak is None else peak < _MEGABYTES
    )
    for name in (MANY_MEASURED, MANY_STORED) if findings.tables else ():
        series = findings.of(name)
        said = f"{findings.tables:,} small tables {name}: under {_SECONDS_FOR_MANY} s"
        found = f"{series.median('seconds'):.1f} s" if series else "not measured"
        yield Goal(said, found, _at_most(series, "seconds", _SECONDS_FOR_MANY))


def _at_most(series: Series | None, of: str, most: float) -> bool | None:
    return series.median(of) <= most if series else None


def _faster_than_reladiff(findings: Findings, name: str, times: int) -> Goal:
    """Process against process, the start of each counted; reladiff ended at its limit took at least that."""
    said = f"{name}: at least {times} times faster than reladiff"
    series = findings.of(name)
    peer = next((peer for peer in findings.peers if peer.name == "reladiff"), None)
    if series is None or peer is None or not (peer.series.runs or peer.over):
        return Goal(said, "not measured", None)
    took = peer.series.median("process") if peer.series.runs else peer.over or 0
    factor = took / series.median("process")
    if peer.series.runs:
        return Goal(said, f"{factor:.1f} times", factor >= times)
    return Goal(said, f"more than {factor:.1f} times", True if factor >= times else None)


def _locating(findings: Findings) -> Goal:
    """Block by block, since both were run in each."""
    said = f"locating ten rows adds at most {_LOCATING:.0%}"
    live, located = findings.of(LIVE), findings.of(LOCATED)
    if live is None or located is None:
        return Goal(said, "not measured", None)
    added = located.median("seconds") / live.median("seconds") - 1
    return Goal(said, f"{added:+.0%}", added <= _LOCATING)
