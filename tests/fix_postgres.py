"""Real PostgreSQL servers, and databases with a little business in them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.tools import embedded_tools

QUICK = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "60"}

SHOP = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE invoice (
    id int PRIMARY KEY, customer int NOT NULL REFERENCES customer, currency char(3) NOT NULL, posted date NOT NULL,
    amount numeric(18,2));
CREATE TABLE note (id int PRIMARY KEY, said text);
CREATE VIEW open_invoice AS SELECT * FROM invoice WHERE amount > 0;
INSERT INTO customer SELECT n, 'customer ' || n FROM generate_series(1, 20) n;
INSERT INTO invoice SELECT n, 1 + n % 20, (ARRAY['EUR', 'USD'])[1 + n % 2], DATE '2026-01-01' + n % 90,
    (n * 37 % 10007) + 0.01 * (n % 100) FROM generate_series(1, 500) n;
"""


@dataclass(frozen=True)
class Database:
    """A database on a server of the tests, as its owner sees it, and the role that drills may use."""

    owner: Address
    reader: Address
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.owner.parts["dbname"]

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL as the owner."""
        return run_sql(self.owner, statement)

    def url(self, address: Address) -> str:
        """An address as a plan writes it."""
        parts = address.parts
        return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}?sslmode=disable"

    def plan(self, **changes: object) -> dict[str, Any]:
        """A plan for it; a change of None leaves a key out."""
        told: dict[str, Any] = {
            "version": 1,
            "database": "shop",
            "owner": "test-sre",
            "requester": "tester@example.com",
            "source": {"address": self.url(self.reader), "password": "env:SHOP_PASSWORD"},
            "recovery": {"method": "dump", "jobs": 2, "compression": "none"},
            "checks": {
                "totals": [
                    {
                        "name": "invoices by currency",
                        "table": "invoice",
                        "amount": "amount",
                        "by": {"currency": "currency"},
                    }
                ],
                "invariants": [{"name": "every invoice has a customer", "sql": ORPHANS}],
            },
        } | changes
        return {key: value for key, value in told.items() if value is not None}


ORPHANS = "SELECT i.id FROM invoice i LEFT JOIN customer c ON c.id = i.customer WHERE c.id IS NULL"


def run_sql(address: Address, statement: str) -> list[tuple[Any, ...]]:
    """Run SQL, and give the rows of the last statement if it has any."""
    connection = connect(address, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS)
    with connection:
        cursor = connection.execute(statement.encode())
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def new_database(cluster: Cluster, script: str, how: str = "") -> Database:
    """A database of its own with this in it, made like this, and a role that reads all of it."""
    name, password = f"shop_{secrets.token_hex(4)}", f"pw-{secrets.token_hex(8)}"
    reader = f"reader_{name}"
    run_sql(cluster.address(), f"CREATE DATABASE {name} {how}")
    owner = cluster.address(name)
    run_sql(owner, script)
    with connect(owner, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(reader), password))
        connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(reader)))
    return Database(owner, Address({**owner.parts, "user": reader}, password), {"SHOP_PASSWORD": password})


def drop_database(database: Database) -> None:
    """Away with it."""
    run_sql(database.owner.to("postgres"), f"DROP DATABASE {database.name} WITH (FORCE)")
    run_sql(database.owner.to("postgres"), f"DROP ROLE {database.reader.parts['user']}")


def new_cluster(settings: dict[str, str]) -> Cluster:
    """A running server in a place of its own."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", embedded_tools())
    cluster.start(settings)
    return cluster


def end_cluster(cluster: Cluster) -> None:
    """Gone."""
    cluster.destroy()
    shutil.rmtree(cluster.folder.parent)


@pytest.fixture(scope="session")
def production() -> Iterator[Cluster]:
    """A server for all tests."""
    cluster = new_cluster(QUICK)
    yield cluster
    end_cluster(cluster)


@pytest.fixture(scope="session")
def staging() -> Iterator[Cluster]:
    """Another server, given to drills by its address."""
    cluster = new_cluster(QUICK)
    yield cluster
    end_cluster(cluster)


@pytest.fixture
def shop(production: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A shop: customers, invoices, an empty table, a view."""
    database = new_database(production, SHOP)
    for key, value in database.environment.items():
        monkeypatch.setenv(key, value)
    yield database
    drop_database(database)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of the test's own, which it may kill."""
    made = new_cluster(QUICK)
    yield made
    end_cluster(made)


def write_plan(folder: Path, plan: dict[str, Any]) -> Path:
    """A plan's file."""
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def open_sessions(address: Address) -> list[str]:
    """Names of the drills' sessions on this server."""
    rows = run_sql(address, "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'drillbook%'")
    return [str(row[0]) for row in rows]
