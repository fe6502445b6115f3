"""The databases that are copied: four tables with two indexes each, on a server that runs as production does.

Guarantees that nothing of them outlives the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.copying import DATABASE
from bench.ledger import ROWS, TABLE
from bench.pair import run
from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.tools import Tools

TABLES = ("ledger_1", "ledger_2", "ledger_3", "ledger_4")
_LOADING = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
_PORTION = 250_000
_MEGABYTE_ROWS = 4000


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
