"""Reading every table once: all of it, what is out of line too, and a table that cannot be read is named."""

from __future__ import annotations

import pytest
from fix_postgres import Database

from drills.addresses import Address
from drills.recovery.aws.full_read import FullRead, read_every_table
from drills.sessions import STAGING_LIMITS, Access, session

MORE = """
CREATE TABLE parted (id int, part int) PARTITION BY LIST (part);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted SELECT n, 1 + n % 2 FROM generate_series(1, 100) n;
CREATE TABLE long (id int PRIMARY KEY, said text);
ALTER TABLE long ALTER said SET STORAGE EXTERNAL;
INSERT INTO long SELECT n, repeat('drill', 20000) FROM generate_series(1, 20) n;
CREATE MATERIALIZED VIEW summed AS SELECT part, count(*) FROM parted GROUP BY part;
CREATE MATERIALIZED VIEW empty AS SELECT 1 AS one WITH NO DATA;
VACUUM ANALYZE long;
"""


def read(address: Address) -> FullRead:
    """As this role."""
    with session(address, name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return read_every_table(connection)


@pytest.fixture
def rich(shop: Database) -> Database:
    """A shop with more kinds of tables."""
    for statement in MORE.strip().split(";\n"):
        shop.run(statement.removesuffix(";"))
    return shop


@pytest.mark.parametrize("who", ["owner", "reader"])
def test_every_table_is_read_with_its_rows_and_bytes(rich: Database, who: str) -> None:
    """Partitions and materialized views; not what has no storage."""
    shown: list[tuple[int, int | None, str]] = []
    address = getattr(rich, who)
    with session(address, name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        done = read_every_table(connection, lambda *told: shown.append(told[:3]))
    rows = {table.table: table.rows for table in done.tables}
    assert rows == {
        "customer": 20, "invoice": 500, "note": 0, "parted_1": 50, "parted_2": 50, "long": 20, "summed": 2,
    }  # fmt: skip
    assert done.unread == ()
    assert done.bytes > 20 * 100_000
    assert shown[0][0] == 0
    assert shown[-1][:2] == (done.bytes, done.bytes)


@pytest.mark.parametrize("who", ["owner", "reader"])
def test_blocks_are_really_read_those_out_of_line_too(rich: Database, who: str) -> None:
    """By the server's own count of them."""
    counted = """
        SELECT pg_stat_get_blocks_fetched('long'::regclass),
               pg_stat_get_blocks_fetched((SELECT reltoastrelid FROM pg_class WHERE oid = 'long'::regclass))
    """
    rich.run("SELECT pg_stat_reset()")
    read(getattr(rich, who))
    [(heap, toast)] = rich.run(counted)
    [(pages,)] = rich.run("SELECT pg_relation_size(reltoastrelid) / 8192 FROM pg_class WHERE oid = 'long'::regclass")
    assert heap >= 1
    assert toast >= pages > 200


def test_a_table_that_cannot_be_read_is_named(rich: Database) -> None:
    """And its bytes are not counted."""
    whole = read(rich.owner)
    rich.run("ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    done = read(rich.reader)
    assert [table.table for table in done.unread] == ["note"]
    assert "row-level security" in done.unread[0].error
    assert done.bytes < whole.bytes


def test_large_objects_are_read_or_named(rich: Database) -> None:
    """Whoever may not read them says so."""
    rich.run("SELECT lo_from_bytea(0, 'drill'::bytea)")
    assert [table.rows for table in read(rich.owner).tables if table.table == "large objects"] == [1]
    rich.run("REVOKE SELECT ON pg_largeobject FROM PUBLIC")
    done = read(rich.reader)
    objects = [table for table in done.tables if table.table == "large objects"]
    assert len(objects) == 1
    assert (objects[0].rows == 1) == (not objects[0].error)


def test_a_server_that_goes_away_is_no_table_that_could_not_be_read(rich: Database) -> None:
    """The caller learns that the copy is gone."""
    import psycopg  # noqa: PLC0415 - here alone

    with session(rich.reader, name="gone", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:

        def kill(_done: int, _total: int | None, _unit: str, about: str) -> None:
            if about == "note":
                rich.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gone'")

        with pytest.raises(psycopg.OperationalError):
            read_every_table(connection, kill)
