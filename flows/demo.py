"""The demo: a production database under live writes, lost and brought back, with nothing installed but this program.

Production is a PostgreSQL cluster of the embedded wheel, loaded by pgbench and kept under pgbench's load for as long as
the drill lasts. Guarantees that server and load are gone afterwards, as a killed demo's are after a sweep.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

import drills
from drills.clusters import Cluster, destroy_cluster, make_cluster
from drills.errors import ClusterError
from drills.locks import Lock
from drills.places import open_place
from drills.processes import plain_environment, run_tool, spawn, stop_process
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, session
from drills.tools import Tools, embedded_tools, newest_system_tools
from flows.demo_repository import STANZA, Repository

PLAN = Path(drills.__file__).parent / "catalog" / "bank.yaml"
DATABASE = "bank"
DUMP = "dump"
ROLE = "drillbook_reader"
BACKUP_ROLE = "drillbook_backup"
METHODS = {
    DUMP: "",
    "basebackup": """\
recovery:
  method: basebackup
  address: env:DRILLBOOK_BANK_BACKUP_ADDRESS
  password: env:DRILLBOOK_BANK_BACKUP_PASSWORD
  jobs: 2
""",
    "pgbackrest": """\
recovery:
  method: pgbackrest
  stanza: {stanza}
  repo_path: {repository}
  max_age: 1h
  jobs: 2
""",
}
"""How the demo may bring its bank back: what stands in the plan instead of the dump."""
_RECOVERY = re.compile(r"^recovery:\n(?:[ ].*\n)+", re.MULTILINE)
_CLIENTS = 4
_RATE = 500
"""Transactions a second that pgbench is asked for: a load that two cores can carry beside the drill."""


@dataclass(frozen=True)
class Bank:
    """Production while the demo lasts."""

    cluster: Cluster
    method: str

    @property
    def plan(self) -> Path:
        """The demo's plan with its recovery method. Only that of the dump is in the catalog."""
        if self.method == DUMP:
            return PLAN
        path = self.cluster.folder / f"{PLAN.stem}-{self.method}.yaml"
        # A text of JSON is one of YAML too, whatever the folder is called.
        told = METHODS[self.method].format(stanza=STANZA, repository=json.dumps(str(Repository(self.cluster).folder)))
        path.write_text(_RECOVERY.sub(lambda _: told, PLAN.read_text()))
        return path

    def committed(self) -> int:
        """Transactions that the load has committed so far."""
        with session(
            self.cluster.address(DATABASE), name="drillbook demo", access=Access.READ_ONLY, limits=STAGING_LIMITS
        ) as connection:
            row = connection.execute("SELECT count(*) FROM pgbench_history").fetchone()
        return int(row[0]) if row else 0


@contextmanager
def bank(home: Path, scale: int, say: Callable[[str], None], method: str = DUMP) -> Iterator[Bank]:
    """A bank in production, under load. Its address and password are in the environment that the demo's plan refers to.

    Raises:
        ClusterError: it could not be made.
    """
    # The lock says where the server is: whoever sweeps finds both.
    mark = home / "demo" / f"production-{secrets.token_hex(3)}.lock"
    folder = open_place(mark.with_suffix(""))
    lock = Lock.take(mark, str(folder))
    if lock is None:
        raise ClusterError(f"{folder} is in use", hint="run it again")
    cluster: Cluster | None = None
    try:
        cluster = make_cluster(folder, _tools(method))
        repository = Repository(cluster) if method == "pgbackrest" else None
        cluster.held = repository.settings() if repository else {}
        cluster.start({"max_wal_size": "2GB"})
        if repository is not None:
            say("pgBackRest takes a backup of the empty bank, and the WAL from then on")
            repository.take_backup()
        _load(cluster, scale, say)
        # It can read everything and write nothing; the other may have the server's files and WAL.
        _make_role(cluster, ROLE, "DRILLBOOK_BANK", "GRANT pg_read_all_data TO {}")
        _make_role(cluster, BACKUP_ROLE, "DRILLBOOK_BANK_BACKUP", "ALTER ROLE {} REPLICATION")
        with _under_load(cluster):
            yield Bank(cluster, method)
    finally:
        destroy_cluster(folder)
        if cluster is not None:
            cluster.reap()
        lock.release()


def _tools(method: str) -> Tools:
    """PostgreSQL 18 of the embedded wheel; for a distribution's pgBackRest the newest that the distribution has."""
    if method != "pgbackrest":
        return embedded_tools()
    return newest_system_tools() or embedded_tools()


def _load(cluster: Cluster, scale: int, say: Callable[[str], None]) -> None:
    say(f"pgbench loads a bank of {scale * 100_000:,} accounts")
    with session(
        cluster.address(), name="drillbook demo", access=Access.READ_WRITE, limits=STAGING_LIMITS
    ) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    done = run_tool(
        [cluster.tools.program("pgbench"), "--initialize", f"--scale={scale}", "--quiet", DATABASE],
        environment=cluster.address(DATABASE).environment(),
        log=cluster.folder / "pgbench.log",
        deadline=600,
    )
    if done.code:
        raise ClusterError(f"pgbench --initialize ended with {done.code}: {done.said.strip().splitlines()[-1:]}")


def _make_role(cluster: Cluster, name: str, variable: str, grant: str) -> None:
    """A role that the drill uses. Its address and password are put into the environment, which the plan refers to."""
    password, role = secrets.token_urlsafe(18), sql.Identifier(name)
    VAULT.know(password)
    with session(
        cluster.address(DATABASE), name="drillbook demo", access=Access.READ_WRITE, limits=STAGING_LIMITS
    ) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        connection.execute(sql.SQL(grant).format(role))
    address = f"postgresql://{name}@127.0.0.1:{cluster.port}/{DATABASE}?sslmode=disable"
    os.environ |= {f"{variable}_ADDRESS": address, f"{variable}_PASSWORD": password}


@contextmanager
def _under_load(cluster: Cluster) -> Iterator[None]:
    """Pgbench writes until this ends."""
    load = spawn(
        [
            cluster.tools.program("pgbench"),
            f"--client={_CLIENTS}",
            "--jobs=1",
            "--time=86400",
            f"--rate={_RATE}",
            "--no-vacuum",
            DATABASE,
        ],
        environment=plain_environment(cluster.address(DATABASE).environment()),
        log=cluster.folder / "pgbench.log",
    )
    try:
        yield
        if load.poll() is not None:
            raise ClusterError(
                f"the load ended by itself with {load.returncode}", hint=f"see {cluster.folder / 'pgbench.log'}"
            )
    finally:
        stop_process(load)
