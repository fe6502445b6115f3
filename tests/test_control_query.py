"""Control totals in other databases: only read, in time, and no secret told."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_checks import Make, making
from fix_control import (
    LARGE,
    OPENED,
    PASSWORD,
    ask,
    checking,
    error_of,
    sums_of,
)
from fix_postgres import Database, run_sql
from fix_totals import put_total
from pydantic import ValidationError
from sqlalchemy import make_url

from checks.control.compare import read_control
from checks.control.query import _connect_args
from drills.clusters import Cluster
from drills.plan import TotalCheck
from drills.records import Verdict
from drills.secrets import VAULT

WAREHOUSE = """
CREATE TABLE fact (currency text, amount numeric, posted_at timestamptz, ratio float8);
INSERT INTO fact VALUES ('EUR', 100000000000000.01, '2026-10-31 23:59:59Z', 0.5), ('USD', 7.5, '2026-10-01Z', 0.5),
    (NULL, -1, '2026-10-01Z', 0.5), ('EUR', 5, '2026-11-01 00:00:00Z', 0.5);
"""
SUMS = "SELECT currency, sum(amount) AS amount FROM fact WHERE posted_at < '2026-11-01Z'::timestamptz GROUP BY currency"
FOUND = {"EUR": LARGE, "USD": "7.5", None: "-1"}


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as makes:
        yield makes


@pytest.fixture
def warehouse(make: Make, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Another database, and the password of its reader where the plan says it is."""
    database = make(WAREHOUSE)
    assert database.reader.password
    monkeypatch.setenv("WAREHOUSE_PASSWORD", database.reader.password)
    return database


def url_of(database: Database, scheme: str = "postgresql+psycopg", password: str = "") -> str:
    parts = database.reader.parts
    middle = f":{password}" if password else ""
    return f"{scheme}://{parts['user']}{middle}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"


def query_check(url: str, statement: str = SUMS, **more: Any) -> TotalCheck:
    given = {"url": url, "sql": statement, "password": "env:WAREHOUSE_PASSWORD"} | more.pop("given", {})
    return checking("query", given, **more)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql"])
def test_another_postgres_is_asked(warehouse: Database, scheme: str) -> None:
    check = query_check(url_of(warehouse, scheme))
    assert sums_of(check) == FOUND
    found = read_control(check, OPENED)
    assert (found.query, found.origin) == (SUMS, url_of(warehouse, scheme))


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql"])
def test_libpqs_variables_of_the_person_do_not_change_where_a_query_goes(
    warehouse: Database, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {
        "PGHOSTADDR": "203.0.113.1",
        "PGOPTIONS": "-c search_path=pg_catalog -c role=nobody",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nowhere",
        "PGTARGETSESSIONATTRS": "standby",
        "PGUSER": "nobody",
        "PGDATABASE": "nowhere",
        "PGCLIENTENCODING": "LATIN1",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    check = query_check(url_of(warehouse, scheme))
    assert sums_of(check) == FOUND
    monkeypatch.setenv("PGPASSWORD", os.environ["WAREHOUSE_PASSWORD"])
    assert "no password supplied" in error_of(query_check(url_of(warehouse, scheme), given={"password": None}))
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    assert "PGSERVICE is set" in error_of(check)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql+pymysql://u@h/d", {"connect_timeout": 10}),
        ("mysql+mysqldb://u@h/d?connect_timeout=3", {}),
        ("oracle+oracledb://u@h/d", {"tcp_connect_timeout": 10}),
        ("mssql+pyodbc://u@h/d", {"timeout": 10}),
        ("postgresql+pg8000://u@h/d", {}),
        ("postgresql+psycopg://u@h/d?sslmode=require", {"connect_timeout": 10, "port": "5432"}),
    ],
)
def test_every_driver_is_told_how_long_connecting_may_take_in_its_own_words(
    url: str, told: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert _connect_args(make_url(url)) == told


def test_source_copy_and_warehouse_are_compared(warehouse: Database, make: Make, tmp_path: Path) -> None:
    check = query_check(url_of(warehouse), table="fact", where="posted_at < '2026-11-01Z'")
    source, copy = make(WAREHOUSE), make(WAREHOUSE)
    before = put_total(source, check)
    assert ask(tmp_path, check, before, put_total(copy, check)).verdict is Verdict.PASS
    run_sql(copy.owner, "UPDATE fact SET amount = amount - 0.01 WHERE amount > 1000")
    lost = ask(tmp_path, check, before, put_total(copy, check))
    assert (lost.verdict, "the copy disagrees" in lost.reason) == (Verdict.FAIL, True)
    run_sql(warehouse.owner, "UPDATE fact SET amount = amount + 0.01 WHERE currency = 'USD'")
    off = ask(tmp_path, check, before, before)
    assert (off.verdict, "the control disagrees" in off.reason) == (Verdict.FAIL, True)


def test_the_period_of_the_total_goes_into_the_query(warehouse: Database) -> None:
    statement = (
        "SELECT currency, sum(amount) AS amount FROM fact WHERE posted_at < (:closed)::timestamptz AND ':no' <> '%'"
        " GROUP BY currency"
    )
    closed = {"column": "posted_at", "until": "end of previous month"}
    assert sums_of(query_check(url_of(warehouse), statement, closed=closed)) == FOUND


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM fact RETURNING currency, amount", 'at or near "DELETE"'),
        ("WITH gone AS (DELETE FROM fact RETURNING *) SELECT currency, amount FROM gone", "data-modifying statements"),
        ("SELECT currency, amount FROM fact; DELETE FROM fact", "cannot insert multiple commands"),
        ("COMMIT; DELETE FROM fact", 'at or near "COMMIT"'),
        ("SELECT currency, amount, setval('s', 9) FROM fact", "read-only transaction"),
        ("SELECT currency, ratio AS amount FROM fact", "the amount is a float"),
        ("SELECT posted_at AS currency, amount FROM fact", "a group is a datetime"),
        ("SELECT currency, amount AS a FROM fact", "no column 'amount'"),
        ("SELECT currency, amount, amount FROM fact", "more than one column 'amount'"),
        ("SELECT currency, NULL::numeric AS amount FROM fact", "record 1: no amount"),
        ("SELECT currency, amount FROM nowhere", 'relation "nowhere" does not exist'),
    ],
)
def test_a_query_that_writes_or_cannot_be_exact_is_unknown(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    # As the owner, whom nothing but the transaction keeps from writing.
    monkeypatch.setenv("WAREHOUSE_PASSWORD", warehouse.owner.password or "")
    run_sql(warehouse.owner, "CREATE SEQUENCE s")
    parts = warehouse.owner.parts
    url = f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    assert said in error_of(query_check(url, statement))
    assert run_sql(warehouse.owner, "SELECT count(*), (SELECT last_value FROM s) FROM fact") == [(4, 1)]


def test_a_query_that_takes_too_long_is_ended(warehouse: Database, tmp_path: Path) -> None:
    check = query_check(url_of(warehouse), "SELECT pg_sleep(60)", given={"statement_timeout": "200ms"})
    assert any(said in error_of(check) for said in ("statement timeout", "took longer than 200ms"))
    busy = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS amount FROM n"
    path = tmp_path / "erp.db"
    sqlite3.connect(path).close()
    endless = checking("query", {"url": f"sqlite:///{path}", "sql": busy, "statement_timeout": "200ms"}, by={})
    assert "took longer than 200ms" in error_of(endless)


@pytest.fixture
def erp(tmp_path: Path) -> Path:
    path = tmp_path / "erp of 50%.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE fact (currency TEXT, cents INTEGER, amount REAL, posted TEXT)")
        database.execute("INSERT INTO fact VALUES ('EUR', 10000000000000001, 0.5, '2026-10-31'), ('USD', 750, 1, 'x')")
    database.close()
    return path


def sqlite_check(path: Path, statement: str, **more: Any) -> TotalCheck:
    return checking("query", {"url": f"sqlite:///{path}", "sql": statement}, **more)


def test_another_kind_of_database_is_asked(erp: Path) -> None:
    exact = "SELECT currency, (sum(cents) / 100) || '.' || printf('%02d', sum(cents) % 100) AS amount FROM fact"
    assert sums_of(sqlite_check(erp, f"{exact} GROUP BY currency")) == {"EUR": LARGE, "USD": "7.50"}
    assert "the amount is a float" in error_of(sqlite_check(erp, "SELECT currency, amount FROM fact"))


def test_nothing_is_written_to_it_nor_made(erp: Path) -> None:
    statement = "INSERT INTO fact VALUES ('GBP', 1, 1, '') RETURNING currency, cents AS amount"
    assert "readonly database" in error_of(sqlite_check(erp, statement))
    assert "unable to open" in error_of(sqlite_check(erp.with_name("none.db"), "SELECT 1"))
    assert not erp.with_name("none.db").exists()


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://reader:{PASSWORD}@host/db",
        "postgresql://reader:pw@host/db",
        "postgresql://reader:p/w@host/db",
        "postgresql://host/db?password=pw",
        "mssql+pyodbc://reader@dsn?PWD=pw",
        "sqlite",
        f"{PASSWORD}",
        "reader:pw@host",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        query_check(url)
    assert PASSWORD not in str(caught.value)
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://nobody:{}@localhost:1/nowhere",
        "postgresql+psycopg://nobody:{}@localhost:1/nowhere?options=-c%20x%3D1",
        "nodialect://nobody:{}@localhost/db",
        "mysql+pymysql://nobody:{}@localhost/db",
        "postgresql://nobody:{}@localhost:port/db",
    ],
)
def test_a_planted_password_is_in_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", address.format("planted%21pw%2Fwith%40marks"))
    monkeypatch.setenv("WAREHOUSE_PASSWORD", PASSWORD)
    for given in ({"password": None}, {}):
        found = read_control(query_check("env:WAREHOUSE_URL", given=given), OPENED)
        assert found.error
        assert found.origin == "env:WAREHOUSE_URL"
        for spelled in (PASSWORD, "planted", "with%40marks"):
            assert spelled not in found.model_dump_json()


def test_a_wrong_password_is_in_no_error(warehouse: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", PASSWORD)
    check = query_check(url_of(warehouse), f"SELECT '{PASSWORD}'::int AS amount, 1 AS currency")
    found = read_control(check, OPENED)
    assert found.error
    assert PASSWORD not in found.model_dump_json()
    assert VAULT.redact(PASSWORD) != PASSWORD


def test_a_reference_that_leads_nowhere_is_unknown(warehouse: Database) -> None:
    check = query_check(url_of(warehouse), given={"password": "env:NOT_SET_ANYWHERE"})
    assert "NOT_SET_ANYWHERE is not set" in error_of(check)
