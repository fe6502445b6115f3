"""The databases that are copied: four tables with two indexes each, on a server that runs as production does.

Guarantees that nothing of them outlives the benchmark, and that the repository of pgBackRest, where it is installed,
holds one full backup of the same rows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.children import ChildError
from bench.copying import DATABASE, STANZA
from bench.ledger import ROWS, TABLE
from bench.pair import run
from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.places import server_account
from drills.processes import last_words, run_tool
from drills.tools import Tools, newest_system_tools

TABLES = ("ledger_1", "ledger_2", "ledger_3", "ledger_4")
_LOADING = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
_PORTION = 250_000
_MEGABYTE_ROWS = 4000
_DEADLINE = 3600.0
_PROGRAM = "pgbackrest"


def settings(rows: int) -> dict[str, str]:
    """Of the source: as for production, with a cache for half of it; the kernel has the other half."""
    return {
        "shared_buffers": f"{128 + rows // _MEGABYTE_ROWS // 2}MB",
        "maintenance_work_mem": "256MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
        "wal_level": "replica",
    }


@contextmanager
def stocked(folder: Path, tools: Tools, rows: int, held: Mapping[str, str]) -> Iterator[Cluster]:
    """A server with a database of so many rows, running as production does; destroyed at the end."""
    cluster = make_cluster(folder, tools)
    try:
        cluster.start(settings(rows) | _LOADING)
        _fill(cluster, rows)
        cluster.stop()
        cluster.sync()
        cluster.held = held
        cluster.start(settings(rows))
        yield cluster
    finally:
        cluster.destroy()


def _fill(cluster: Cluster, rows: int) -> None:
    run(cluster.address(), f"CREATE DATABASE {DATABASE}")
    address, share = cluster.address(DATABASE), rows // len(TABLES)
    for number, name in enumerate(TABLES):
        first, end = number * share + 1, (number + 1) * share
        loads = [
            ROWS.replace("INTO ledger", f"INTO {name}").format(first=start, last=min(start + _PORTION - 1, end))
            for start in range(first, end + 1, _PORTION)
        ]
        run(address, TABLE.replace("TABLE ledger", f"TABLE {name}"), *loads, f"ALTER TABLE {name} ADD PRIMARY KEY (id)",
            f"CREATE INDEX ON {name} (account, posted)", f"VACUUM (FREEZE, ANALYZE) {name}")  # fmt: skip


def size(database: Address) -> float:
    """MB."""
    return float(run(database, "SELECT pg_database_size(current_database())")[0][0]) / 2**20


def repository_tools() -> tuple[Tools, str]:
    """PostgreSQL of the distribution, for which its pgBackRest is built, and where that is.

    Raises:
        ChildError: one of them is not installed.
    """
    program, tools = shutil.which(_PROGRAM), newest_system_tools()
    if program is None or tools is None:
        missing = _PROGRAM if program is None else "the distribution's PostgreSQL"
        raise ChildError(f"{missing} is not installed")
    return tools, program


def archiving(program: str, folder: Path) -> dict[str, str]:
    """What the source is told, so that its WAL gets into the repository."""
    command = [program, "archive-push", "%p", *_where(folder), f"--pg1-path={folder / 'source' / 'data'}"]
    return {"archive_mode": "on", "archive_command": " ".join(command), "max_wal_senders": "10"}


def make_repository(program: str, folder: Path, cluster: Cluster) -> Path:
    """One full backup of the server, taken by pgBackRest.

    Raises:
        ChildError: it failed.
    """
    told = [f"--pg1-path={cluster.data}", f"--pg1-port={cluster.port}", f"--pg1-user={cluster.superuser}"]
    backup = ["backup", "--type=full", "--start-fast", "--process-max=2", "--repo1-retention-full=2",
              "--compress-level=1"]  # fmt: skip
    for command in (["stanza-create", "--no-online"], backup):
        done = run_tool(
            [program, command[0], *_where(folder), *told, *command[1:]],
            environment=cluster.address().environment() | {"HOME": str(folder)},
            log=folder / "pgbackrest.log",
            deadline=_DEADLINE,
            account=server_account(),
        )
        if done.code:
            raise ChildError(f"pgbackrest {command[0]} ended with {done.code}: {last_words(done.said)}")
    return folder / "repository"


def _where(folder: Path) -> list[str]:
    places = {name: folder / name for name in ("repository", "lock", "log")}
    for place in places.values():
        if not place.exists():
            place.mkdir(mode=0o700)
            account = server_account()
            if account is not None:
                os.chown(place, account.uid, account.gid)
    return ["--no-config", f"--stanza={STANZA}", f"--repo1-path={places['repository']}",
            f"--lock-path={places['lock']}", f"--log-path={places['log']}", "--log-level-file=off"]  # fmt: skip
