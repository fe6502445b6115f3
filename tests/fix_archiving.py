"""A server that archives and is configured to reach out, a base backup of it, and copies that are made of that."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, run_sql

from drills.addresses import Address
from drills.clusters import Cluster, destroy_cluster, make_cluster, processes_using
from drills.processes import run_tool
from drills.recovery.pages.adopt import Adopted, adopt_cluster
from drills.recovery.pages.replay import copy_from_folder
from drills.targets import RecoveryTarget, TargetKind
from drills.tools import Tools, embedded_tools

OPEN = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
"""How production's server is held in these tests: it may do everything else that it was configured to."""
REACHING_OUT = {
    "archive_cleanup_command": "touch {marks}/archive_cleanup_command",
    "recovery_end_command": "touch {marks}/recovery_end_command",
    "external_pid_file": "{marks}/external_pid_file",
    "primary_conninfo": "host=127.0.0.1 port=1 user=nobody",
    "primary_slot_name": "standby",
    "session_preload_libraries": "auto_explain",
    "shared_preload_libraries": "pg_stat_statements",
    "synchronous_standby_names": "somebody",
    "checkpoint_timeout": "33s",
}
SCRIPT = """
CREATE TABLE happened (n int PRIMARY KEY);
INSERT INTO happened VALUES (0);
CREATE ROLE app LOGIN PASSWORD 'secret of production';
CREATE TABLE logins (at timestamptz DEFAULT clock_timestamp());
"""
EVERY_LOGIN = """
CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_read_only') = 'off' THEN INSERT INTO logins DEFAULT VALUES; END IF;
END $$;
CREATE EVENT TRIGGER each_login ON login EXECUTE FUNCTION note_login();
ALTER EVENT TRIGGER each_login ENABLE ALWAYS;
"""


@dataclass(frozen=True)
class Archiving:
    """A server that archives, a base backup of it, and moments after it."""

    cluster: Cluster
    place: Path
    positions: dict[int, str]
    """After the commit of this row."""
    moments: dict[int, str]
    end: str
    """WAL position up to which everything is archived."""
    segments: dict[int, str]
    """In which the row was written."""

    @property
    def archive(self) -> Path:
        """Where production archives to."""
        return self.place / "archive"

    @property
    def marks(self) -> Path:
        """Where whatever reached out leaves a file."""
        return self.place / "marks"

    def archived(self) -> list[str]:
        """Names of what is in the archive."""
        return sorted(path.name for path in self.archive.iterdir())

    def lay_out(self, folder: Path) -> Path:
        """A fresh copy of the base backup's files, as a method brings them."""
        folder.mkdir()
        shutil.copymode(self.cluster.folder, folder)
        subprocess.run(["cp", "-a", self.place / "base", folder / "data"], check=True)  # noqa: S607
        own(self.cluster, folder)
        return folder

    def latest(self) -> RecoveryTarget:
        """Everything that is archived."""
        return RecoveryTarget(kind=TargetKind.LATEST, reach=self.end)


def own(cluster: Cluster, path: Path) -> None:
    """Give it to the server's account."""
    if cluster.account is not None:
        os.chown(path, cluster.account.uid, cluster.account.gid)


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Wait."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def quiet(_done: int, _total: int | None, _unit: str) -> None:
    """Nobody is told."""


def scalar(address: Address, statement: str) -> Any:
    """The first value of the first row."""
    return run_sql(address, statement)[0][0]


@pytest.fixture(scope="module", params=["embedded", pytest.param("debian", marks=pytest.mark.thorough)])
def archiving(request: pytest.FixtureRequest) -> Iterator[Archiving]:
    """A server that archives to a folder, is configured by ALTER SYSTEM to reach out, and was backed up."""
    if request.param == "debian" and not DEBIAN.exists():
        pytest.skip("Debian's PostgreSQL is not installed")
    place = Path(tempfile.mkdtemp(prefix="drillbook-physical-"))
    place.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drills.clusters.QUARANTINE", OPEN)
        cluster = make_cluster(place / "source", embedded_tools() if request.param == "embedded" else Tools.at(DEBIAN))
        try:
            yield set_up(cluster, place)
        finally:
            cluster.destroy()
            shutil.rmtree(place)


def set_up(cluster: Cluster, place: Path) -> Archiving:
    """Configure it, fill it, back it up, and go on."""
    for name in ("archive", "marks", "backups"):
        (place / name).mkdir()
        own(cluster, place / name)
    start = {**QUICK, "max_logical_replication_workers": "0"}
    cluster.start(start)
    address = cluster.address()
    origins = "max_active_replication_origins" if cluster.tools.major >= 18 else "max_replication_slots"
    for name, value in {
        origins: "30",
        "archive_mode": "on",
        "archive_command": f"cp %p {place}/archive/%f",
        "max_prepared_transactions": "20",
        "track_commit_timestamp": "on",
    }.items():
        run_sql(address, f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.stop()
    cluster.start(start)
    run_sql(address, SCRIPT)
    run_sql(address, "SELECT pg_create_physical_replication_slot('standby', true)")
    run_sql(
        address,
        "CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub WITH (connect = false);"
        "ALTER SUBSCRIPTION sub ENABLE",
    )
    run_sql(address, "ALTER DATABASE postgres SET session_preload_libraries = 'auto_explain'")
    if cluster.tools.major >= 17:
        run_sql(address, EVERY_LOGIN)
    for name, value in REACHING_OUT.items():
        run_sql(address, f"ALTER SYSTEM SET {name} = '{value.format(marks=place / 'marks')}'")
    back_up(cluster, place / "base", place / "backups")
    return go_on(cluster, place)


def back_up(cluster: Cluster, to: Path, log: Path, options: Sequence[str] = ("-X", "none")) -> None:
    """By pg_basebackup, plain."""
    to.mkdir(mode=0o700)
    own(cluster, to)
    done = run_tool(
        [cluster.tools.program("pg_basebackup"), "-D", str(to), *options, "--checkpoint=fast", "--no-sync"],
        environment=cluster.address().environment(),
        log=log / "pg_basebackup.log",
        deadline=60,
        account=cluster.account,
    )
    assert done.code == 0, done.said


def go_on(cluster: Cluster, place: Path) -> Archiving:
    """Business after the backup: rows 1 to 4, each in a segment of its own, and a transaction that stays prepared."""
    address = cluster.address()
    positions, moments, segments = {}, {}, {}
    for row in range(1, 5):
        run_sql(address, f"INSERT INTO happened VALUES ({row})")
        found = run_sql(
            address, "SELECT clock_timestamp(), pg_current_wal_insert_lsn(), pg_walfile_name(pg_current_wal_lsn())"
        )
        moments[row], positions[row], segments[row] = found[0][0].isoformat(), *map(str, found[0][1:])
        run_sql(address, f"SELECT pg_create_restore_point('after row {row}')")
        run_sql(address, "SELECT pg_switch_wal()")
    # More places where something was taken over from than a server has room for unless it is told.
    origin = "SELECT pg_replication_origin_{}('from ' || n{}) FROM generate_series(1, 20) n"
    run_sql(address, origin.format("create", ""))
    run_sql(address, origin.format("advance", ", '0/100'"))
    run_sql(address, "BEGIN; INSERT INTO happened VALUES (100); PREPARE TRANSACTION 'held'")
    return Archiving(cluster, place, positions, moments, archive_all(cluster, place), segments)


def archive_all(cluster: Cluster, place: Path) -> str:
    """All WAL that was written so far is in the archive; gives where it ends."""
    address = cluster.address()
    end, last = run_sql(
        address, "SELECT pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_insert_lsn())"
    )[0]
    run_sql(address, "SELECT pg_switch_wal()")
    wait_until((place / "archive" / last).exists)
    wait_until(lambda: run_sql(address, "SELECT last_archived_wal FROM pg_stat_archiver")[0][0] >= last)
    return str(end)


@pytest.fixture
def folder(archiving: Archiving) -> Iterator[Path]:
    """Where a copy is made; nothing of it is left, and nothing of production changed."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-copy-"))
    place.chmod(0o755)
    archived = archiving.archived()
    copy = archiving.lay_out(place / "copy")
    yield copy
    destroy_cluster(copy)
    assert processes_using(place) == []
    shutil.rmtree(place)
    assert archiving.archived() == archived
    assert list(archiving.marks.iterdir()) == []
    assert run_sql(archiving.cluster.address(), "SELECT slot_name, active FROM pg_replication_slots") == [
        ("standby", False)
    ]


def adopt(archiving: Archiving, folder: Path, target: RecoveryTarget, archive: Path | None = None) -> Adopted:
    """A running copy, from production's archive or another."""
    return adopt_cluster(
        folder,
        archiving.cluster.tools,
        target=target,
        restore_command=copy_from_folder(archive or archiving.archive),
        progress=quiet,
        deadline=60,
    )


def rows_of(adopted: Adopted) -> list[int]:
    """What happened, by the copy."""
    return [n for (n,) in run_sql(adopted.cluster.address(), "SELECT n FROM happened ORDER BY n")]


@contextlib.contextmanager
def ended(adopted: Adopted) -> Iterator[Cluster]:
    """The copy, destroyed at the end."""
    try:
        yield adopted.cluster
    finally:
        adopted.cluster.destroy()
