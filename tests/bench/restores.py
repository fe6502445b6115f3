"""The part of the benchmark that copies a database: each method of ours against the bare tools, block by block.

Guarantees that every contender starts from the same source right after a checkpoint, in a folder of its own that is
removed before the next one starts; that their order is turned about from block to block; and that a copy which does
not hold what the source does has no time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.children import ChildError, last_word, run_child, without_places
from bench.copying import DATABASE, Copying, Job, content, family_io
from bench.course import FAILING, part, say
from bench.kept import archiving, keep
from bench.lanes import BASEBACKUP, BLOCKS, DUMP, FILES, PEER, PLAIN_DUMP, REPOSITORIES, STREAM, contenders
from bench.pair import run
from bench.peer import install
from bench.restored import Copied, Restored
from bench.stock import size, stocked
from drills.addresses import Address
from drills.clusters import Cluster
from drills.remains import destroy_cluster, remove_folder
from drills.tools import Tools, newest_system_tools

_PACKAGES = Path(__file__).parent.parent
_LIMIT = 3600.0
"""Seconds for one copying."""


@dataclass(frozen=True)
class Source:
    """What is copied."""

    cluster: Cluster
    tools: Tools
    expected: dict[str, list[str]]
    """What its tables hold."""

    @property
    def address(self) -> Address:
        """Of the database."""
        return self.cluster.address(DATABASE)


@dataclass
class Restores:
    """This part from its start to its end."""

    chosen: argparse.Namespace
    folder: Path
    found: Restored

    def run(self) -> Restored:
        """The embedded PostgreSQL with its methods and the peer, then the distribution's with those of repositories."""
        started = time.monotonic()
        with part(self.found.failures, "the database"):
            program = self._install_peer()
            with self._source("embedded", self.chosen.tools) as source:
                taking = {DUMP: {}, PLAIN_DUMP: {"program": program}, STREAM: {}, BASEBACKUP: {}}
                self._blocks(source, taking | self._kept(source, FILES))
        with part(self.found.failures, " and ".join(REPOSITORIES)):
            self.run_repositories()
        self.found.minutes = (time.monotonic() - started) / 60
        return self.found

    def run_repositories(self) -> None:
        """Those whose tools are installed, which are built for the distribution's PostgreSQL."""
        tools = newest_system_tools()
        missing = {name: name for name in REPOSITORIES if shutil.which(name) is None}
        if tools is None:
            missing = dict.fromkeys(REPOSITORIES, "the distribution's PostgreSQL")
        self.found.absent += [(name, f"{what} is not installed") for name, what in missing.items()]
        there = [name for name in REPOSITORIES if name not in missing]
        if tools is None or not there:
            return
        self.found.versions[f"PostgreSQL for {' and '.join(there)}"] = tools.version
        folder = self.folder / "repository"
        folder.mkdir(mode=0o755)
        with self._source(folder.name, tools, archiving(folder, there)) as source:
            self._blocks(source, self._kept(source, there))

    def _kept(self, source: Source, methods: Sequence[str]) -> dict[str, dict[str, str]]:
        """Backups that are there when the clocks start, as a plan calls them; a method without one has no lanes."""
        for method in methods:
            say(f"having a backup made for {method}")
            with part(self.found.failures, method):
                folder = source.cluster.folder.parent / method.partition(",")[0]
                self.found.kept[method] = keep(method, folder, source.cluster)
        return {method: self.found.kept[method].words for method in methods if method in self.found.kept}

    def _install_peer(self) -> str:
        """Pgcopydb on the path, or Debian's package unpacked, not installed; empty where it cannot be had."""
        if not self.chosen.peers:
            return ""
        try:
            return install_pgcopydb(self.folder / "peer", self.found)
        except FAILING as error:
            self.found.failures.append((PEER, f"it could not be installed: {without_places(str(error))}"))
            say(f"{PEER}: {error}")
            return ""

    @contextmanager
    def _source(self, name: str, tools: Tools, held: dict[str, str] | None = None) -> Iterator[Source]:
        rows = self.chosen.recovery_rows
        say(f"making a database of {rows:,} rows on PostgreSQL {tools.version}")
        folder = self.folder / name
        folder.mkdir(mode=0o755, exist_ok=True)
        with stocked(folder / "source", tools, rows, held or {}) as cluster:
            address = cluster.address(DATABASE)
            self.found.megabytes = self.found.megabytes or size(address)
            yield Source(cluster, tools, content(address))

    def _blocks(self, source: Source, methods: Mapping[str, dict[str, str]]) -> None:
        """Each block in the other order than the one before."""
        for block in range(1, self.chosen.recovery_blocks + 1):
            for method, extra in methods.items():
                if block > BLOCKS.get(method, block):
                    continue
                there = [one for one in contenders(method) if one != PEER or extra["program"]]
                for contender in there if block % 2 else reversed(there):
                    self._once(source, method, contender, block, extra)

    def _once(self, source: Source, method: str, contender: str, block: int, extra: dict[str, str]) -> None:
        """One contender once. A failure is noted with it, and does not stop the others."""
        lane = self.found.lane(method, contender)
        place = self.folder / "run"
        place.mkdir(mode=0o755)
        try:
            lane.runs.append(copy_once(source, method, contender, block, place, extra))
        except FAILING as error:
            lane.failed = without_places(str(error))
            self.found.failures.append((f"{method}, {contender}, block {block}", lane.failed))
            say(f"    {method}, {contender}: FAILED: {error}")
        else:
            last = lane.runs[-1]
            say(f"    {method}, {contender}: {last.done.backup:.2f} s + {last.done.restore:.2f} s")
        finally:
            destroy_cluster(place / "copy")
            remove_folder(place)


def copy_once(source: Source, method: str, contender: str, block: int, place: Path, extra: dict[str, str]) -> Copied:
    """One copying in a process of its own.

    Raises:
        ChildError: it failed, or took too long, or the copy does not hold what the source does.
    """
    run(source.address, "CHECKPOINT")
    os.sync()  # nobody pays for what the one before has left to be written
    job = Job(method, contender, dict(source.address.parts), str(source.tools.folder), str(place), extra=extra)
    answer, pid = place / "answer.json", source.cluster.process
    before = family_io(pid.pid) if pid is not None else (0, 0)
    ended = run_child(
        [sys.executable, "-m", "bench.copying", json.dumps(asdict(job)), str(answer)],
        log=place / "child.log",
        limit=_LIMIT,
        environment={"PGPASSWORD": source.address.password, "PYTHONPATH": os.fspath(_PACKAGES)},
    )
    after = family_io(pid.pid) if pid is not None else (0, 0)
    if ended.code:
        raise ChildError(last_word(ended.said))
    done = Copying(**json.loads(answer.read_text()))
    if done.tables != source.expected:
        raise ChildError(f"a wrong copy: expected {source.expected}, got {done.tables}")
    return Copied(block, done, after[0] - before[0], after[1] - before[1])


def install_pgcopydb(folder: Path, found: Restored) -> str:
    """Where it is.

    Raises:
        ChildError: it cannot be had.
    """
    program = shutil.which(PEER)
    if program is None:
        folder.mkdir(mode=0o755)
        install(["apt-get", "download", PEER], folder)
        package = next(folder.glob("*.deb"))
        install(["dpkg-deb", "-x", os.fspath(package), os.fspath(folder)], folder)
        found.versions[PEER] = f"{package.name.split('_')[1]}, Debian's package unpacked"
        program = os.fspath(folder / "usr" / "bin" / PEER)
    else:
        found.versions[PEER] = "as installed"
    return program
