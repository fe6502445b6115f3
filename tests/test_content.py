"""Content: tables of every shape, as they were and damaged, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fix_checks import Make, count_of, making, opening
from fix_content import MODES, Digest, against, content, failing, measured_in
from test_measure import ODD

from checks.scanning import tablework
from drills.clusters import Cluster
from drills.measures import LARGE_OBJECTS
from drills.records import Verdict


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    """Databases with a script in them."""
    with making(production) as make:
        yield make


# --- damages --------------------------------------------------------------------------------------------------------

BOOKS = """
CREATE TABLE {name} (id int {null}, amount numeric(18,2) {null}, fee numeric(18,2) {null}, free numeric {null},
    at timestamptz {null}, said text {null}, more text {null}, doc jsonb {null}, rate float8 {null},
    term interval {null}, kind text, big int8 {null});
INSERT INTO {name} SELECT n, n * 7.5, n * 2, 1.5, '2026-11-21 12:00+00'::timestamptz + n * interval '1 s', 'said ' || n,
    'more', jsonb_build_object('n', -n, 'x', 1.0), 0.1 * n, '1 month', '', n FROM generate_series(1, 20) n;
UPDATE {name} SET amount = 1 WHERE id = 2; UPDATE {name} SET amount = 10000 WHERE id = 3;
UPDATE {name} SET amount = 1234567890.12 WHERE id = 4; UPDATE {name} SET kind = NULL WHERE id = 5;
UPDATE {name} SET said = 'x|y', more = 'z' WHERE id = 6; UPDATE {name} SET amount = -5 WHERE id = 8;
UPDATE {name} SET amount = 5, fee = 5 WHERE id IN (7, 9);
UPDATE {name} SET fee = 100 WHERE id = 7; UPDATE {name} SET said = 'twin', amount = 9, fee = 9 WHERE id = 20;
"""
DAMAGES = {
    "a cent": "SET amount = amount + 0.01 WHERE id = 1",
    "two amounts exchanged": "SET amount = CASE id WHEN 1 THEN 75 ELSE 7.50 END WHERE id IN (1, 10)",
    "1 and 10000 exchanged, which differ by their weight": "SET amount = 10001 - amount WHERE id IN (2, 3)",
    "signs of two rows exchanged": "SET amount = -amount WHERE id IN (7, 8)",
    "signs of a pair flipped": "SET amount = -amount, fee = -fee WHERE id = 9",
    "both amounts times 10000": "SET amount = amount * 10000, fee = fee * 10000 WHERE id = 9",
    "a cent of a billion": "SET amount = amount + 0.01 WHERE id = 4",
    "a microsecond": "SET at = at + interval '1 microsecond' WHERE id = 11",
    "NULL to an empty text": "SET kind = '' WHERE id = 5",
    "an empty text to NULL": "SET kind = NULL WHERE id = 6",
    "NULL to <null>": "SET kind = '<null>' WHERE id = 5",
    "a blank at the end": "SET said = said || ' ' WHERE id = 12",
    "a part of a value in the next column": "SET said = 'x', more = 'y|z' WHERE id = 6",
    "two columns exchanged": "SET said = more, more = said WHERE id = 13",
    "a number in a document": "SET doc = doc || '{\"n\": 14}' WHERE id = 14",
    "the scale of a number in a document": "SET doc = doc || '{\"x\": 1.00}' WHERE id = 15",
    "the last place of a float": "SET rate = 1.5000000000000002 WHERE id = 15",
    "minus nothing": "SET rate = '-0' WHERE id = 16",
    "thirty days": "SET term = '30 days' WHERE id = 17",
    "the scale of a free number": "SET free = 1.50 WHERE id = 18",
    "a bigint with its halves joined": "SET big = 4294967296 WHERE id = 1",
    "a row twice, another gone": "SET (id, amount, fee, free, at, said, more, doc, rate, term, kind, big) = "
    "(SELECT id, amount, fee, free, at, said, more, doc, rate, term, kind, big FROM {name} WHERE id = 19)"
    " WHERE id = 20",
}
"""What was tried on other tools, and what PostgreSQL's own hashes leave out (RECONCILIATION, docs/adr/0006)."""


@pytest.mark.parametrize("digest", MODES)
def test_every_damage_is_found_in_columns_that_may_be_null_and_in_those_that_may_not(
    make: Make, digest: Digest
) -> None:
    for name, null in (("open", ""), ("chained", "NOT NULL")):
        database = make(BOOKS.format(name=name, null=null) + f"UPDATE {name} SET rate = 0 WHERE id = 16")
        database.run(f"UPDATE {name} SET rate = 1.5 WHERE id = 15; CREATE TABLE kept AS TABLE {name}")
        expected = content(database, digest)
        assert failing(against(expected, database, digest), Verdict.PASS) == {f"public.{name}", "public.kept"}
        missed = []
        for told, damage in DAMAGES.items():
            database.run(f"UPDATE {name} " + damage.replace("{name}", name))
            missed += [told] if failing(against(expected, database, digest)) != {f"public.{name}"} else []
            database.run(f"TRUNCATE {name}; INSERT INTO {name} SELECT * FROM kept")
        assert missed == []
        assert failing(against(expected, database, digest)) == set()


# --- shapes ---------------------------------------------------------------------------------------------------------

_WIDE = ", ".join(f"c{n} {('int', 'text NOT NULL', 'numeric(18,2)', 'int8 NOT NULL')[n % 4]}" for n in range(1, 1601))
_REQUIRED = [f"c{n}" for n in range(1, 1601, 2)]
_ODD = ", ".join('"' + name.replace('"', '""') + '" text' for name in ODD)
SHAPES = {
    "generated": """CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED,
        c int GENERATED ALWAYS AS (a + 1) VIRTUAL); INSERT INTO t VALUES (1), (2)""",
    "identity": """CREATE TABLE t (a bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b text);
        INSERT INTO t (b) VALUES ('x')""",
    "no columns": "CREATE TABLE t (); INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES",
    "1600 columns": f"""CREATE TABLE t ({_WIDE}); INSERT INTO t ({", ".join(_REQUIRED)})
        VALUES ({", ".join("0" for _ in _REQUIRED)})""",
    "dropped columns": """CREATE TABLE t (a int, b int, c int); ALTER TABLE t DROP b, ADD d int DEFAULT 5;
        INSERT INTO t VALUES (1)""",
    "rows twice": """CREATE TABLE t (a int, b text);
        INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, NULL)""",
    "a key of two": """CREATE TABLE t (a int, b text, c int, PRIMARY KEY (b, a));
        INSERT INTO t VALUES (1, 'x', 1), (2, 'x', 1)""",
    "a key of text": "CREATE TABLE t (a text PRIMARY KEY, b int); INSERT INTO t VALUES ('x', 1), ('y', 1)",
    "unlogged": "CREATE UNLOGGED TABLE t (a int); INSERT INTO t VALUES (1)",
    "large values": """CREATE TABLE t (a text, b bytea); ALTER TABLE t ALTER b SET STORAGE EXTERNAL;
        INSERT INTO t SELECT repeat(md5(n::text), 5000), decode(repeat(md5(n::text), 5000), 'hex')
            FROM generate_series(1, 3) n""",
    "a partition": """CREATE TABLE p (a int, b int) PARTITION BY RANGE (a); CREATE TABLE t PARTITION OF p DEFAULT;
        INSERT INTO p VALUES (1, 1), (2, 2)""",
    "a parent": """CREATE TABLE t (a int); CREATE TABLE heir (b int) INHERITS (t);
        INSERT INTO t VALUES (1); INSERT INTO heir VALUES (2, 2)""",
    "odd names": f"CREATE TABLE t ({_ODD}, n int NOT NULL); INSERT INTO t (n) VALUES (1)",
}
_CHANGES = {
    "no columns": "INSERT INTO t DEFAULT VALUES",
    "1600 columns": "UPDATE t SET c1598 = 1",
    "rows twice": "DELETE FROM t WHERE ctid = '(0,1)'; INSERT INTO t VALUES (NULL, NULL)",
    "large values": "UPDATE t SET b = b || '\\x00' WHERE ctid = '(0,1)'",
    "identity": "UPDATE t SET b = 'y'",
    "a key of two": "UPDATE t SET c = 2 WHERE a = 1",
    "a key of text": "UPDATE t SET b = 2 WHERE a = 'x'",
    "odd names": "UPDATE t SET \"semi;colon\" = ''",
}


@pytest.mark.parametrize("digest", MODES)
def test_a_table_of_any_shape_passes_as_it_was_and_fails_when_it_is_changed(make: Make, digest: Digest) -> None:
    for told, script in SHAPES.items():
        database = make(script)
        expected = content(database, digest)
        assert [count.error for count in expected.counts] == [""] * len(expected.counts), told
        assert failing(against(expected, database, digest), Verdict.PASS) >= {"public.t"}, told
        database.run(_CHANGES.get(told, "UPDATE ONLY t SET a = a + 7"))
        assert failing(against(expected, database, digest)) == {"public.t"}, told


@pytest.mark.parametrize("digest", MODES)
def test_large_objects_are_compared_whole_and_unknown_where_they_may_not_be_read(make: Make, digest: Digest) -> None:
    database = make("""SELECT lo_from_bytea(90001, 'abc'), lo_from_bytea(90002, ''), lo_create(90003),
        lo_put(90003, 1048576 * 3 - 1, 'end'), lo_from_bytea(90004, decode(repeat('00', 1048576), 'hex'));
        CREATE TABLE t AS SELECT 1 AS n;""")
    denied = content(database, digest)
    assert (count_of(denied, LARGE_OBJECTS).rows, count_of(denied, LARGE_OBJECTS).digest) == (4, None)
    assert "permission denied for large object" in count_of(denied, LARGE_OBJECTS).error
    assert failing(against(denied, database, digest), Verdict.UNKNOWN) == {LARGE_OBJECTS}
    expected = content(database, digest, address=database.owner)
    assert failing(against(expected, database, digest, address=database.owner), Verdict.PASS) == {
        LARGE_OBJECTS,
        "public.t",
    }
    for damage in (
        "lo_put(90001, 0, 'x')", "lo_put(90003, 5, 'x')", "lo_put(90003, 1048576 * 3 - 1, 'End')", "lo_unlink(90002)",
        "lo_put(90004, 1048576, '\\x00')", "lo_put(90002, 0, '\\x00')",
    ):  # fmt: skip
        keep = "CREATE TABLE IF NOT EXISTS kept AS SELECT oid, lo_get(oid) FROM pg_largeobject_metadata"
        database.run(f"{keep}; SELECT {damage}")
        assert LARGE_OBJECTS in failing(against(expected, database, digest, address=database.owner)), damage
        database.run("SELECT lo_unlink(oid) FROM pg_largeobject_metadata; SELECT lo_from_bytea(oid, lo_get) FROM kept")
    database.run("DROP TABLE kept")
    assert failing(against(expected, database, digest, address=database.owner)) == set()


# --- what cannot be compared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", MODES)
def test_what_cannot_be_digested_is_unknown_with_the_reason(make: Make, digest: Digest) -> None:
    database = make("""
        CREATE TABLE hidden (n int); INSERT INTO hidden VALUES (1); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON hidden USING (n > 1); CREATE TABLE partly (a int, b int); INSERT INTO partly VALUES (1, 2);
        CREATE TABLE denied (a int); CREATE TABLE fine (a int); INSERT INTO fine VALUES (1);
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE far (n int) SERVER files OPTIONS (filename '/nowhere');""")
    role = database.reader.parts["user"]
    database.run(f"REVOKE pg_read_all_data FROM {role}; GRANT SELECT ON fine, hidden TO {role}")
    database.run(f"GRANT SELECT (a) ON partly TO {role}")
    expected = content(database, digest)
    assert [(count.table, count.rows) for count in expected.counts] == [
        ("public.denied", None), ("public.fine", 1), ("public.hidden", None), ("public.partly", 1),
    ]  # fmt: skip
    told = {count.table: count.error for count in expected.counts}
    assert "row-level security" in told["public.hidden"]
    assert "permission denied" in told["public.denied"]
    assert "permission denied" in told["public.partly"]
    verdicts = against(expected, database, digest)
    assert failing(verdicts, Verdict.UNKNOWN) == {"public.denied", "public.far", "public.hidden", "public.partly"}
    assert failing(verdicts, Verdict.PASS) == {"public.fine"}


def test_a_column_that_is_not_null_for_new_rows_only_is_hashed_as_one_that_may_be(make: Make) -> None:
    """PostgreSQL 18 calls it NOT NULL in the catalogue all the same; a chain would be NULL with it."""
    database = make("""CREATE TABLE t (a int, b int UNIQUE, c text NOT NULL);
        INSERT INTO t VALUES (NULL, NULL, 'x'), (1, 1, 'y');
        ALTER TABLE t ADD CONSTRAINT new_a NOT NULL a NOT VALID, ADD CONSTRAINT new_b NOT NULL b NOT VALID""")
    expected = content(database)
    assert (count_of(expected, "public.t").error, failing(against(expected, database))) == ("", set())
    found = count_of(expected, "public.t").scan
    assert found is not None
    assert found.key == ()
    database.run("ALTER TABLE t DROP CONSTRAINT new_a, DROP CONSTRAINT new_b; UPDATE t SET c = 'z' WHERE a IS NULL")
    assert failing(against(expected, database)) == {"public.t"}


def test_rows_that_a_sum_would_pass_over_are_noticed(make: Make) -> None:
    """Where somebody wrote NOT NULL into the catalogue by himself, to be spared the scan."""
    lie = "UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 't'::regclass AND attname = 'a'"
    rows = "CREATE TABLE t (a int, b text NOT NULL); INSERT INTO t SELECT {}, n FROM generate_series(1, 99) n;"
    database = make(rows.format("nullif(n % 5, 0)") + lie)
    expected = content(database)
    assert count_of(expected, "public.t").error == "19 rows have NULL in a column that may not be NULL"
    assert failing(against(expected, database), Verdict.UNKNOWN) == {"public.t"}
    assert failing(against(content(database, "sha256"), database, "sha256"), Verdict.PASS) == {"public.t"}
    sound = make(rows.format("n") + "ALTER TABLE t ALTER a SET NOT NULL")
    expected = content(sound)
    sound.run("ALTER TABLE t ALTER a DROP NOT NULL; UPDATE t SET a = NULL WHERE a = 7")
    assert failing(against(expected, sound)) == {"public.t"}
    sound.run("UPDATE t SET a = NULL")
    assert failing(against(expected, sound)) == {"public.t"}


@pytest.mark.parametrize(
    "change", ["ALTER TABLE t RENAME TO was; ALTER TABLE other RENAME TO t", "CLUSTER t USING t_pkey"]
)
def test_a_table_that_is_not_the_one_of_the_catalogue_any_more_is_unknown(
    make: Make, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make("CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t ADD PRIMARY KEY (a); CREATE TABLE other AS TABLE t")
    planned = tablework.TableWork.statement

    def meanwhile(work: tablework.TableWork, *given: Any) -> str:
        monkeypatch.undo()
        database.run(change)
        return planned(work, *given)

    with opening(database.reader)() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT")
        monkeypatch.setattr(tablework.TableWork, "statement", meanwhile)
        found = measured_in(connection)
    assert "rewritten after the snapshot" in count_of(found, "public.t").error
    assert (count_of(found, "public.t").rows, count_of(found, "public.t").digest) == (None, None)
