"""The databases of the benchmark: a ledger and its restored copy, on one server that keeps both in its cache.

Guarantees that the copy is what pg_dump and pg_restore made of the ledger, and that nothing of it all outlives the
benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.ledger import FINISH, MANY, ROWS, TABLE, Fault
from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.errors import ToolError
from drills.processes import last_words, run_tool
from drills.sessions import Access, Limits, session
from drills.tools import Tools

LIMITS = Limits(timedelta(hours=1), timedelta(seconds=30))
_MEGABYTE_ROWS = 4000
"""Rows of the ledger in a megabyte, its index counted; rather few."""
_PORTION = 250_000
_TABLES_AT_ONCE = 500
_DEADLINE = 3600.0
"""Seconds."""


def settings(rows: int) -> dict[str, str]:
    """Of the server: as for production, with a cache that holds both databases and locks for many tables."""
    return {
        "shared_buffers": f"{256 + 2 * rows // _MEGABYTE_ROWS}MB",
        "work_mem": "64MB",
        "maintenance_work_mem": "512MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
        "max_locks_per_transaction": "512",
    }


@contextmanager
def serving(folder: Path, tools: Tools, rows: int) -> Iterator[Cluster]:
    """A server, destroyed at the end."""
    cluster = make_cluster(folder / "cluster", tools)
    try:
        cluster.start(settings(rows))
        yield cluster
    finally:
        cluster.destroy()


def run(address: Address, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements one by one, and give the rows of the last if it has any."""
    with session(address, name="bench", access=Access.READ_WRITE, limits=LIMITS) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def make_ledger(cluster: Cluster, name: str, rows: int) -> Address:
    """A database with a ledger of so many rows."""
    run(cluster.address(), f"CREATE DATABASE {name}")
    portions = range(1, rows + 1, _PORTION)
    loads = [ROWS.format(first=first, last=min(first + _PORTION - 1, rows)) for first in portions]
    run(cluster.address(name), TABLE, *loads, *FINISH)
    return cluster.address(name)


def make_copy(cluster: Cluster, source: Address, name: str, folder: Path) -> Address:
    """A database restored from a dump of another.

    Raises:
        ToolError: pg_dump or pg_restore failed.
    """
    run(cluster.address(), f"CREATE DATABASE {name}")
    copy, dump = cluster.address(name), folder / f"{name}.dump"
    _tool(cluster, source, folder, "pg_dump", "--format=custom", "--compress=0", f"--file={dump}")
    _tool(cluster, copy, folder, "pg_restore", f"--dbname={name}", "--exit-on-error", str(dump))
    dump.unlink()
    run(copy, "VACUUM (FREEZE, ANALYZE)")
    return copy


def _tool(cluster: Cluster, address: Address, folder: Path, name: str, *arguments: str) -> None:
    done = run_tool(
        [cluster.tools.program(name), *arguments],
        environment=address.environment(),
        log=folder / f"{name}.log",
        deadline=_DEADLINE,
    )
    if done.code:
        raise ToolError(f"{name} ended with {done.code}: {last_words(done.said)}")


def make_many(cluster: Cluster, name: str, tables: int) -> Address:
    """A database with so many small tables."""
    run(cluster.address(), f"CREATE DATABASE {name}")
    portions = range(1, tables + 1, _TABLES_AT_ONCE)
    makes = [MANY.format(first=first, last=min(first + _TABLES_AT_ONCE - 1, tables)) for first in portions]
    run(cluster.address(name), *makes, "VACUUM (FREEZE, ANALYZE)")
    return cluster.address(name)


def warm(*databases: Address) -> None:
    """Read them into the server's cache."""
    for address in databases:
        run(address, "CREATE EXTENSION pg_prewarm", "SELECT pg_prewarm('ledger'), pg_prewarm('ledger_pkey')",
            "DROP EXTENSION pg_prewarm", "CHECKPOINT")  # fmt: skip


@contextmanager
def damaged(copy: Address, faults: Sequence[Fault]) -> Iterator[None]:
    """The copy with these faults; healed at the end."""
    run(copy, *(fault.plant for fault in faults))
    try:
        yield
    finally:
        run(copy, *(fault.heal for fault in reversed(faults)))
