"""The course of the benchmark, part by part.

Guarantees that a part that fails is told and does not stop the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psycopg

from bench.blocks import Contest, Site, bare_scans, run_block, run_ours
from bench.children import ChildError, TooSlow, without_places
from bench.goals import MANY_MEASURED, MANY_STORED
from bench.ledger import ten_rows
from bench.pair import make_copy, make_ledger, make_many, run, serving, warm
from bench.peer import Peer
from bench.peers import PEERS
from bench.results import Findings, PeerResult, Run, Series
from bench.shown_faults import show_faults
from drills.clusters import Cluster
from drills.errors import DrillbookError

FAILING = (ChildError, DrillbookError, psycopg.Error, OSError)


@contextmanager
def part(failures: list[tuple[str, str]], name: str) -> Iterator[None]:
    """What fails in here is told, and does not stop what comes after."""
    try:
        yield
    except FAILING as error:
        failures.append((name, without_places(str(error))))
        say(f"{name}: FAILED: {error}")


@dataclass
class Bench:
    """One benchmark from its start to its end."""

    chosen: argparse.Namespace
    folder: Path
    found: Findings
    peers: dict[str, Peer] = field(default_factory=dict)
    """Those that could be installed."""

    def run(self) -> Findings:
        """In the order in which disturbances matter least: installing first, then the clock, then the rest."""
        started, chosen = time.monotonic(), self.chosen
        for name in chosen.peers:
            self._install(PEERS[name]())
        with part(self.found.failures, "the server"), serving(self.folder, chosen.tools, chosen.rows) as cluster:
            with part(self.found.failures, "the ledger"):
                self._large(cluster)
            if chosen.fault_rows:
                with part(self.found.failures, "the faults"):
                    self._faults(cluster)
            if chosen.tables:
                with part(self.found.failures, "the small tables"):
                    self._many(cluster)
        self.found.minutes = (time.monotonic() - started) / 60
        return self.found

    def _install(self, peer: Peer) -> None:
        result = PeerResult(peer.name, installed=peer.installed, called=peer.called, note=peer.note)
        self.found.peers.append(result)
        say(f"installing {peer.name}")
        try:
            result.version = peer.install(self.folder)
        except FAILING as error:
            result.absent = f"it could not be installed: {without_places(str(error))}"
            say(f"{peer.name}: {result.absent}")
        else:
            self.peers[peer.name] = peer

    def _large(self, cluster: Cluster) -> None:
        say(f"making a ledger of {self.chosen.rows:,} rows")
        source = make_ledger(cluster, "ledger", self.chosen.rows)
        say("dumping and restoring it")
        site = Site(source, make_copy(cluster, source, "ledger_copy", self.folder), self.folder / "large")
        warm(site.source, site.copy)
        self.found.heap = run(source, "SELECT pg_relation_size('ledger')")[0][0] / 2**20
        for number in range(1, self.chosen.repetitions + 1):
            run_block(site, self.found, ten_rows(self.chosen.rows))
            say(f"block {number} of {self.chosen.repetitions}: bare scan {self.found.bare.runs[-1].seconds:.2f} s")
            for series in self.found.ours.values():
                say(f"    {series.name}: {_told(series)}")
        self.found.failures += [(one.name, one.failed) for one in self.found.ours.values() if one.failed]
        for result in self.found.peers:
            if result.name in self.peers:
                self._race(self.peers[result.name], result, site)
        for name in ("ledger", "ledger_copy"):
            run(cluster.address(), f"DROP DATABASE {name} WITH (FORCE)")

    def _race(self, peer: Peer, result: PeerResult, site: Site) -> None:
        """One peer, once, on the sound pair."""
        base = median(bare_scans(site.source))
        try:
            with peer.ready([site.source, site.copy]):
                result.note = peer.note
                named, ended = peer.run(site.source, site.copy, site.folder / f"{peer.name}.log", self.chosen.limit)
            if named:
                result.series.failed = f"a wrong answer: {len(named)} rows of a sound copy"
            else:
                took = ended.seconds
                result.series.runs.append(Run(took, took / base, took, ended.cpu, ended.peak))
        except TooSlow as error:
            result.over, result.series.failed = self.chosen.limit, str(error)
        except FAILING as error:
            result.series.failed = without_places(str(error))
        say(f"{peer.name}: {_told(result.series)}")

    def _faults(self, cluster: Cluster) -> None:
        rows = self.chosen.fault_rows
        say(f"showing each of them one fault at a time, on {rows:,} rows")
        source = make_ledger(cluster, "faults", rows)
        site = Site(source, make_copy(cluster, source, "faults_copy", self.folder), self.folder / "small")
        site.folder.mkdir()
        self.found.faults = show_faults(site, rows, self.peers, self.chosen.limit)

    def _many(self, cluster: Cluster) -> None:
        say(f"making {self.chosen.tables:,} small tables")
        source = make_many(cluster, "many", self.chosen.tables)
        run(cluster.address(), "CREATE DATABASE many_copy TEMPLATE many STRATEGY FILE_COPY")
        site = Site(source, cluster.address("many_copy"), self.folder / "many")
        for name, part in ((MANY_MEASURED, "everything"), (MANY_STORED, "stored")):
            series = self.found.many.setdefault(name, Series(name))
            try:
                series.runs.append(run_ours(site, Contest(name, part, 2), totals=False)[1])
            except (ChildError, DrillbookError) as error:
                series.failed = str(error)
                self.found.failures.append((f"small tables, {name}", series.failed))
            say(f"    {name}: {_told(series)}")


def _told(series: Series) -> str:
    if not series.runs:
        return f"FAILED: {series.failed}"
    run = series.runs[-1]
    ratio = f", {run.ratio:.2f} of the bare scan" if run.ratio else ""
    return f"{run.seconds:.2f} s{ratio}, {run.peak:.0f} MB" + (
        f" (FAILED once: {series.failed})" if series.failed else ""
    )


def say(text: str) -> None:
    """Progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()
