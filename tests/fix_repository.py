"""Repositories of backups as companies have them: made by the real tools, from a server that archives its WAL.

Debian's tools are built for Debian's PostgreSQL; where one is missing, the tests that need it are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, run_sql

from drills.clusters import Cluster, make_cluster
from drills.places import server_account
from drills.processes import run_tool
from drills.records import Server
from drills.recovery.base import Workspace
from drills.recovery.pages.adopt import make_superuser, open_copy, prepare_files
from drills.recovery.pages.replay import recover_files
from drills.recovery.repositories.repository import Existing
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.targets import RecoveryTarget, TargetKind
from drills.tools import Tools

ROWS = 2000
_PATIENCE = 60.0


@dataclass
class Production:
    """A server that archives into a repository, and what the tools need to reach it."""

    place: Path
    cluster: Cluster
    extra: dict[str, str] = field(default_factory=dict)
    """What the tools need besides."""

    @property
    def repository(self) -> Path:
        """The repository of its backups."""
        return self.place / "repository"

    @property
    def server(self) -> Server:
        """As the guard sees it."""
        address = self.cluster.address()
        with session(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            return describe(connection, address)

    @property
    def environment(self) -> dict[str, str]:
        """For tools that connect to it."""
        return self.cluster.address().environment() | {"HOME": str(self.place)} | self.extra

    def run(self, arguments: Sequence[str]) -> str:
        """Run a tool of whoever takes its backups; what it said."""
        done = run_tool(
            arguments,
            environment=self.environment,
            log=self.place / "tools.log",
            deadline=120,
            account=server_account(),
        )
        assert done.code == 0, done.said
        return done.said

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run SQL as its superuser."""
        return run_sql(self.cluster.address(), statement)

    def add_rows(self, table: str = "item") -> None:
        """More rows, in WAL that is archived when this returns."""
        self.sql(f"INSERT INTO {table} SELECT g, md5(g::text) FROM generate_series(1, {ROWS}) g")
        name = self.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
        self.sql("SELECT pg_switch_wal()")
        wait(lambda: self.sql(f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver")[0][0] is True)

    def position(self) -> str:
        """Where its WAL is."""
        return str(self.sql("SELECT pg_current_wal_lsn()")[0][0])

    def archived(self) -> str:
        """How far its WAL is archived after `add_rows`: where the segment begins that the server has gone on to."""
        return str(self.sql(f"SELECT here - mod(here - '0/0', {16 << 20}) FROM pg_current_wal_lsn() AS here")[0][0])

    def counts(self) -> dict[str, object]:
        """What its tables hold."""
        return counts_of(self.cluster)


def counts_of(cluster: Cluster) -> dict[str, object]:
    """Rows and content of the tables that `production` makes."""
    return {
        table: run_sql(cluster.address(), f"SELECT count(*), sum(hashtext(t::text)) FROM {table} t")[0]
        for table in ("item", "elsewhere")
    }


def wait(until: Callable[[], bool]) -> None:
    """Wait for something that comes, and not longer than it may take."""
    started = time.monotonic()
    while not until():
        assert time.monotonic() - started < _PATIENCE, "it did not come"
        time.sleep(0.02)


def debian_tools(*programs: str) -> Tools:
    """Debian's PostgreSQL; the test is skipped where it, or one of these programs, is not installed."""
    for program in (str(DEBIAN / "postgres"), *programs):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return Tools.at(DEBIAN)


@contextmanager
def production(tools: Tools, archive: Callable[[Path], str]) -> Iterator[Production]:
    """A server with two tables, one in a tablespace of its own, whose archive_command is what `archive` says."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-repository-"))
    place.chmod(0o755)
    account = server_account()
    try:
        cluster = make_cluster(place / "cluster", tools)
        for name in ("repository", "space", "lock", "log"):
            own(place / name)
        (place / "tools.log").touch()
        if account is not None:
            os.chown(place, account.uid, account.gid)
        cluster.held = {"archive_mode": "on", "archive_command": archive(place), "wal_level": "replica"}
        it = Production(place, cluster)
        cluster.start(QUICK)
        try:
            it.sql(f"CREATE TABLESPACE space LOCATION '{place / 'space'}'")
            it.sql("CREATE TABLE item (id int, said text); CREATE TABLE elsewhere (id int, said text) TABLESPACE space")
            yield it
        finally:
            cluster.destroy()
    finally:
        shutil.rmtree(place)


def own(folder: Path) -> Path:
    """A folder of the servers' account."""
    account = server_account()
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    return folder


def look(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Everything in a folder: by path its mode, size, and times of change to the nanosecond."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # production goes on archiving
            it = path.lstat()
            found[str(path)] = (it.st_mode, it.st_size, it.st_mtime_ns, it.st_ctime_ns)
    return found


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.fixture
def desk() -> Iterator[Path]:
    """A folder of a drill's own, where the servers' account can get to."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-desk-"))
    place.chmod(0o755)
    (place / "raw").mkdir(mode=0o700)
    yield place
    shutil.rmtree(place)


def tell_environment(desk: Path, program: str, code: int) -> None:
    """In the place of a program: at `<desk>/bin`, one that says what its environment is, and ends with this code."""
    stand_in = desk / "bin" / program
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\nenv\nexit {code}\n")
    stand_in.chmod(0o755)


def told_environment(log: Path) -> dict[str, str]:
    """What it said there."""
    return dict(line.split("=", 1) for line in log.read_text().splitlines() if "=" in line)


def workspace(desk: Path, tools: Tools) -> Workspace:
    """A workspace at this desk."""
    return Workspace(desk / "backup", desk / "raw", tools, "test", lambda *_: None)


@contextmanager
def recovered(
    method: Existing, tools: Tools, folder: Path, reach: str, environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """The copy that was laid out in `<folder>/data`, recovered as far as its archive goes, which must be this far."""
    cluster = prepare_files(folder, tools)
    try:
        cluster.environment = environment or {}
        target = RecoveryTarget(kind=TargetKind.LATEST, reach=reach)
        recover_files(cluster, target, method.restore_command(), lambda *_: None, _PATIENCE)
        make_superuser(cluster)
        open_copy(cluster)
        yield cluster
    finally:
        cluster.destroy()
