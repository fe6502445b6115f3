"""Every session carries its limits and pinned settings, goes where the plan says, and tells no secret."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from fix_postgres import Database, run_sql

from drills.addresses import Address, resolve_address
from drills.clusters import Cluster
from drills.errors import ConnectError, PlanError, SecretError
from drills.processes import run_tool
from drills.secrets import VAULT
from drills.sessions import NOTICED_DEAD, PINNED, Access, Limits, connect, describe, session
from drills.snapshots import Sessions, exported_snapshot, importing

LIMITS = Limits(timedelta(minutes=30), timedelta(seconds=5))


def reading(address: Address, *, name: str = "test", limits: Limits = LIMITS) -> psycopg.Connection:
    return connect(address, name=name, access=Access.READ_ONLY, limits=limits)


def shown(connection: psycopg.Connection, setting: str) -> str:
    row = connection.execute("SELECT setting FROM pg_settings WHERE name = %s", (setting,)).fetchone()
    assert row is not None
    return str(row[0])


def test_limits_and_pinned_settings_are_in_force(shop: Database) -> None:
    with reading(shop.reader, name="drillbook/DR-1") as connection:
        for setting, value in PINNED.items():
            assert shown(connection, setting) == value
        told = {name: shown(connection, name) for name in ("statement_timeout", "lock_timeout", "application_name")}
        assert told == {"statement_timeout": "1800000", "lock_timeout": "5000", "application_name": "drillbook/DR-1"}
        assert shown(connection, "idle_in_transaction_session_timeout") == "1800000"


def test_a_server_is_told_to_notice_within_a_minute_that_nobody_is_there_any_more(shop: Database) -> None:
    with reading(shop.reader) as connection:
        told = {name: int(shown(connection, name)) for name in NOTICED_DEAD}
        assert shown(connection, "client_connection_check_interval") == "10000"
    assert told == {
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": 60000,
    }


def test_what_the_role_or_the_database_sets_for_itself_does_not_change_how_values_read(shop: Database) -> None:
    role = shop.reader.parts["user"]
    shop.run(f"ALTER DATABASE {shop.name} SET datestyle = 'German'; ALTER ROLE {role} SET statement_timeout = 0")
    shop.run(
        f"ALTER ROLE {role} SET default_transaction_read_only = off; ALTER ROLE {role} SET search_path = pg_catalog"
    )
    with reading(shop.reader) as connection:
        assert shown(connection, "DateStyle") == "ISO, YMD"
        assert shown(connection, "statement_timeout") == "1800000"
        assert shown(connection, "default_transaction_read_only") == "on"
        assert connection.execute("SELECT min(posted)::text FROM invoice").fetchone() == ("2026-01-01",)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(timedelta(microseconds=1), "1"), (timedelta(milliseconds=1.5), "2"), (timedelta(days=999), "2147483647")],
)
def test_no_limit_becomes_the_zero_that_means_none(shop: Database, limit: timedelta, expected: str) -> None:
    # The shortest limits would end the very statement that sets them, so only their text is looked at.
    if expected == "2147483647":
        with reading(shop.reader, limits=Limits(limit, limit)) as connection:
            assert shown(connection, "statement_timeout") == expected
    from drills.sessions import _milliseconds  # noqa: PLC0415 - not for anybody else

    assert _milliseconds(limit) == expected


def test_a_reading_session_cannot_write_and_a_writing_one_can(shop: Database) -> None:
    with reading(shop.owner) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM note")
    with session(shop.owner, name="test", access=Access.READ_WRITE, limits=LIMITS) as connection:
        connection.execute("INSERT INTO note VALUES (1, 'x')")
    assert connection.closed


def test_a_statement_past_its_limit_is_ended(shop: Database) -> None:
    short = Limits(timedelta(milliseconds=200), timedelta(milliseconds=100))
    with reading(shop.reader, limits=short) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")
    with (
        psycopg.connect(**shop.owner.parts, password=shop.owner.password) as holder,  # type: ignore[arg-type]
        reading(shop.reader, limits=Limits(timedelta(minutes=1), timedelta(milliseconds=100))) as connection,
    ):
        holder.execute("LOCK TABLE note")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("SELECT FROM note")


def test_rows_that_a_policy_hides_raise_an_error_and_do_not_shorten_a_count(shop: Database) -> None:
    shop.run("ALTER TABLE invoice ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON invoice USING (id < 10)")
    with reading(shop.reader) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level"):
        connection.execute("SELECT count(*) FROM invoice")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"dbname": "not_there"}, "check the name"),
        ({"port": "1"}, "is the server running"),
        ({"host": "no.such.host.invalid"}, "check the host's name"),
        ({"host": "127.0.0.1,127.0.0.1", "port": "1,2"}, "is the server running"),
        ({"sslmode": "require"}, "sslmode"),
        ({"sslmode": "nonsense"}, ""),
        ({"port": "many"}, ""),
    ],
)
def test_an_error_of_connecting_says_what_to_do(shop: Database, changes: dict[str, str], hint: str) -> None:
    address = Address({**shop.reader.parts, **changes}, shop.reader.password)
    with pytest.raises(ConnectError) as refused:
        reading(address)
    assert str(address) in refused.value.message
    assert "\n" not in refused.value.message
    assert hint in refused.value.hint
    assert shop.reader.password not in str(refused.value)


def test_a_wrong_password_is_not_told(shop: Database) -> None:
    VAULT.know("planted-Wr0ng")
    with pytest.raises(ConnectError, match="password authentication failed") as refused:
        reading(Address(shop.reader.parts, "planted-Wr0ng"))
    assert "`password:`" in refused.value.hint
    assert "planted" not in str(refused.value)
    assert refused.value.__cause__ is None
    with pytest.raises(ConnectError, match="no password supplied"):
        reading(Address(shop.reader.parts))


def test_libpqs_variables_of_the_person_do_not_change_where_a_session_goes(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {
        "PGHOSTADDR": "203.0.113.1",
        "PGOPTIONS": "-c search_path=pg_catalog -c role=nobody",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nowhere",
        "PGSSLCERTMODE": "require",
        "PGREQUIREAUTH": "none",
        "PGTARGETSESSIONATTRS": "standby",
        "PGMINPROTOCOLVERSION": "3.2",
        "PGCLIENTENCODING": "LATIN1",
        "PGPASSFILE": "/nowhere",
        "PGCONNECT_TIMEOUT": "0",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    bare = {name: value for name, value in shop.reader.parts.items() if name != "sslmode"}
    with reading(Address(bare, shop.reader.password)) as connection:
        assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (500,)
        assert connection.info.encoding == "utf-8"
    monkeypatch.setenv("PGSERVICE", "production")
    with pytest.raises(ConnectError, match="PGSERVICE is set"):
        reading(shop.reader)
    monkeypatch.delenv("PGSERVICE")


def test_a_snapshot_is_seen_by_every_session_that_imports_it_whatever_is_written(shop: Database) -> None:
    with reading(shop.reader) as leader, reading(shop.reader) as other:
        with exported_snapshot(leader) as snapshot:
            shop.run("DELETE FROM invoice")
            with importing(other, snapshot.name):
                assert other.execute("SELECT count(*) FROM invoice").fetchone() == (500,)
                assert shown(other, "transaction_read_only") == "on"
            assert other.execute("SELECT count(*) FROM invoice").fetchone() == (0,)
        assert leader.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert snapshot.taken.tzinfo is not None


def test_the_death_of_a_server_inside_a_snapshot_is_not_masked_by_the_end_of_the_snapshot(cluster: Cluster) -> None:
    connection = reading(cluster.address())

    def work() -> None:
        with exported_snapshot(connection):
            cluster.kill()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    connection.close()


def running(database: Database, text: str) -> int:
    found = run_sql(
        database.owner,
        f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{text}' AND wait_event = 'PgSleep'",
    )
    return int(found[0][0])


def test_sessions_are_cancelled_at_once_when_the_work_beside_them_fails(shop: Database) -> None:
    sessions = Sessions(lambda: reading(shop.reader))
    ended: list[str] = []

    def work(number: int) -> None:
        try:
            with sessions.plain() as connection:
                for _ in range(2):  # what was not on its way when the first cancel came is cancelled by the next
                    try:
                        connection.execute("SELECT pg_sleep(61)")
                    except psycopg.errors.QueryCanceled:
                        ended.append(f"{number}")
        except ConnectError as error:
            ended.append(error.message)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while running(shop, "SELECT pg_sleep(61)") < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError), sessions.cancelled_on_error():
        raise ZeroDivisionError
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - begun < 20
    assert sorted(ended) == ["0", "0", "1", "1"]
    assert running(shop, "SELECT pg_sleep(61)") == 0
    with pytest.raises(ConnectError, match="cancelled"), sessions.plain():
        pass
    with pytest.raises(ConnectError, match="cancelled"):
        sessions.go_on(1, 2, "tables")
    assert not sessions._open


def test_a_server_describes_itself_and_its_name_holds_no_password(shop: Database) -> None:
    with reading(shop.reader) as connection:
        server = describe(connection, shop.reader)
    assert (server.major, server.database, server.role) == (18, shop.name, shop.reader.parts["user"])
    assert server.size > 0
    assert shop.reader.password not in server.address


# --- addresses --------------------------------------------------------------------------------------------------------


def test_an_address_is_taken_as_it_stands_or_from_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    literal = resolve_address("postgresql://role@db.internal:5433/billing?sslmode=require", None)
    assert str(literal) == "role@db.internal:5433/billing"
    assert literal.password == ""
    monkeypatch.setenv("BILLING", "host=db.internal dbname=billing user=role")
    monkeypatch.setenv("BILLING_PASSWORD", "geheim-geheim")
    found = resolve_address("env:BILLING", "env:BILLING_PASSWORD")
    assert (str(found), found.password) == ("role@db.internal:5432/billing", "geheim-geheim")
    assert found.to("other").parts["dbname"] == "other"
    assert found.to("other").password == "geheim-geheim"


def test_a_password_in_an_address_is_known_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING", "postgresql://role:s3cr%20t-planted@db.internal/billing")
    found = resolve_address("env:BILLING", None)
    assert found.password == "s3cr t-planted"
    for text in (str(found), repr(found), repr(found.to("x")), f"{found}"):
        assert "planted" not in text
    assert "PGPASSWORD" in found.environment()
    assert VAULT.redact("it is s3cr t-planted or s3cr%20t-planted") == "it is [secret] or [secret]"


@pytest.mark.parametrize("text", ["", "nonsense", "host=db", "dbname=billing", "postgresql://u:planted-pw-2@/billing"])
def test_what_is_no_address_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BILLING", text)
    with pytest.raises((PlanError, SecretError), match="env:BILLING") as refused:
        resolve_address("env:BILLING", None)
    assert "planted" not in str(refused.value)


def test_a_parameter_that_the_tools_could_not_be_given_is_refused() -> None:
    with pytest.raises(PlanError, match="not supported: service"):
        resolve_address("host=a dbname=b service=production", None)


@pytest.mark.parametrize(
    "options",
    [
        "-c statement_timeout=0",
        "-c default_transaction_read_only=off",
        "-cDateStyle=German",
        "--search-path=evil",
        "-c session_replication_role=replica",
        "-c role=reader -c zero_damaged_pages=on",
        r"-c search_path=a,\ b",
        "-c",
        "-O",
        "-c SESSION_REPLICATION_ROLE=replica",
    ],
)
def test_options_that_would_change_what_a_drill_rests_on_are_refused(options: str) -> None:
    with pytest.raises(PlanError, match="in its options"):
        resolve_address(psycopg.conninfo.make_conninfo(host="a", dbname="b", options=options), None)


@pytest.mark.parametrize("options", ["", "endpoint=quiet-sun-1", "-c role=reader --work-mem=64MB", "-c jit=off"])
def test_options_that_only_say_who_and_how_fast_are_taken(options: str) -> None:
    found = resolve_address(psycopg.conninfo.make_conninfo(host="a", dbname="b", options=options), None)
    assert found.parts.get("options", "") == options


def test_several_hosts_are_tried_in_turn(shop: Database, production: Cluster) -> None:
    parts = {**shop.reader.parts, "host": "127.0.0.1,127.0.0.1", "port": f"1,{production.port}"}
    with reading(Address(parts, shop.reader.password)) as connection:
        assert connection.info.port == production.port
    assert Address(parts).host == "127.0.0.1,127.0.0.1"


def test_tools_are_given_the_whole_address_by_environment_and_nothing_by_argument(
    shop: Database, production: Cluster, tmp_path: Path
) -> None:
    address = Address({**shop.reader.parts, "sslmode": "verify-full", "sslrootcert": "/ca.pem"}, "pw-planted-3")
    told = address.environment()
    assert (told["PGSSLMODE"], told["PGSSLROOTCERT"], told["PGPASSWORD"]) == ("verify-full", "/ca.pem", "pw-planted-3")
    done = run_tool(
        [production.tools.program("psql"), "--no-password", "--no-psqlrc", "-Atc", "SELECT current_database()"],
        environment=shop.reader.environment(),
        log=tmp_path / "log",
        deadline=60,
    )
    assert (done.code, done.said.strip()) == (0, shop.name)
    assert not any(shop.reader.password in argument for argument in done.arguments)
