"""Looking for the rows that differ: in real copies, against real dumps, with every damage named exactly."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from fix_checks import Make, a_log, making, measured, opening
from fix_debian import DEBIAN
from fix_locate import Taken, dump, take
from fix_postgres import QUICK, SHOP, Database, end_cluster, run_sql

from checks.locating.locate import _MOST_TABLES
from checks.locating.rows import in_ranges, near, rows_of_snapshot
from checks.locating.statements import in_buckets, ranges, shift_of
from drills.backup_rows import TableRows
from drills.clusters import Cluster, make_cluster
from drills.errors import ToolError
from drills.measures import Scan
from drills.records import Verdict
from drills.recovery.dumps.rows import read_rows
from drills.results import LINES_KEPT, CheckResult
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.snapshots import importing
from drills.tools import Tools, embedded_tools

LARGE = """
CREATE TABLE entry (id bigint PRIMARY KEY, currency char(3), amount numeric(18,2), said text, paid money);
INSERT INTO entry SELECT n, 'EUR', n * 0.01, 'entry ' || n, n::money FROM generate_series(1, 30000) n;
ANALYZE entry;
"""
CATALOGUE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_attribute), (SELECT count(*) FROM pg_namespace),
       (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_depend), (SELECT count(*) FROM pg_locks
         WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid())
"""
Line = tuple[str, str, str, str, str, str]


@pytest.fixture(scope="module", params=["embedded", "debian"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, Tools]]:
    if request.param != "embedded" and not DEBIAN.exists():
        pytest.skip("Debian's PostgreSQL is not installed")
    tools = embedded_tools() if request.param == "embedded" else Tools.at(DEBIAN)
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", tools)
    cluster.start(QUICK)
    yield cluster, tools
    end_cluster(cluster)


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as make:
        yield make


def lines_of(taken: Taken, result: CheckResult) -> list[Line]:
    names = ("what", "key", "column", "expected", "actual", "difference")
    return [tuple(line[name] for name in names) for line in taken.lines(result)]  # type: ignore[misc]


def rows_of(taken: Taken, result: CheckResult) -> list[Line]:
    """The lines that name rows."""
    return [line for line in lines_of(taken, result) if line[0] not in {"sum", "backup"}]


def sums_of(taken: Taken, result: CheckResult) -> dict[str, tuple[str, str, str]]:
    return {line[2]: line[3:] for line in lines_of(taken, result) if line[0] == "sum"}


# --- what is found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["fast", "sha256"])
def test_a_cent_on_one_row_is_named_on_every_version_and_the_copy_is_left_as_it_was(
    server: tuple[Cluster, Tools], tmp_path: Path, digest: Literal["fast", "sha256"]
) -> None:
    cluster, tools = server
    with making(cluster) as make:
        database = make(f"""{LARGE}
            CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;""")
        taken = take(database, tmp_path, digest=digest, tools=tools)
        assert len(next(iter(taken.expected.counts)).buckets) > 2
        database.run("UPDATE entry SET amount = amount + 0.01 WHERE id = 17001")
        database.run("CREATE EVENT TRIGGER no_ddl ON ddl_command_end EXECUTE FUNCTION refuse()")
        before = database.run(CATALOGUE), database.run("SELECT sum(hashtext(e::text)) FROM entry e")
        found = taken.locate(content={"digest": digest})
        assert (database.run(CATALOGUE), database.run("SELECT sum(hashtext(e::text)) FROM entry e")) == before
        assert found["content"].verdict is Verdict.FAIL
        result = found["rows of public.entry"]
        assert (result.verdict, result.kind) == (Verdict.FAIL, "rows")
        assert result.reason.startswith("1 row of public.entry differs: 1 changed in amount; ")
        assert "those of the bucket that differs" in result.reason
        assert result.difference == "1 changed; amount +0.01; paid 0"
        assert rows_of(taken, result) == [("changed", "id = 17001", "amount", "170.01", "170.02", "+0.01")]
        assert "COPY" in result.sql
        assert "FULL JOIN" in result.sql
        assert result.lines[0].key == "sum · all rows that differ · amount"
        assert result.lines[1].key == "changed · id = 17001 · amount"


def test_a_sound_copy_has_no_rows_to_look_for(make: Make, tmp_path: Path) -> None:
    found = take(make(LARGE), tmp_path).locate()
    assert {name: result.verdict for name, result in found.items()} == {"content": Verdict.PASS}


def test_two_amounts_that_were_swapped_are_two_rows_whose_sum_says_nothing(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("""UPDATE entry e SET amount = o.amount FROM entry o
                     WHERE (e.id, o.id) IN ((5, 25000), (25000, 5))""")
    result = taken.locate()["rows of public.entry"]
    assert rows_of(taken, result) == [
        ("changed", "id = 5", "amount", "0.05", "250.00", "+249.95"),
        ("changed", "id = 25000", "amount", "250.00", "0.05", "-249.95"),
    ]
    assert sums_of(taken, result)["amount"] == ("250.05", "250.05", "0")
    assert "of the 2 buckets that differ" in result.reason


def test_missing_unexpected_and_duplicated_rows_are_told_apart(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("""
        DELETE FROM entry WHERE id IN (9, 10); INSERT INTO entry VALUES (40001, 'USD', 7, NULL, 1);
        ALTER TABLE entry DROP CONSTRAINT entry_pkey;
        INSERT INTO entry SELECT * FROM entry WHERE id = 20000; INSERT INTO entry VALUES (20000, 'EUR', 1, '', 2)""")
    result = taken.locate()["rows of public.entry"]
    assert rows_of(taken, result) == [
        ("missing", "id = 9", "", "id = 9, currency = EUR, amount = 0.09, said = entry 9, paid = $9.00", "", "missing"),
        (
            "missing",
            "id = 10",
            "",
            "id = 10, currency = EUR, amount = 0.10, said = entry 10, paid = $10.00",
            "",
            "missing",
        ),
        (
            "unexpected",
            "id = 20000",
            "",
            "",
            "id = 20000, currency = EUR, amount = 200.00, said = entry 20000, paid = $20,000.00",
            "unexpected",
        ),
        (
            "unexpected",
            "id = 20000",
            "",
            "",
            "id = 20000, currency = EUR, amount = 1.00, said = , paid = $2.00",
            "unexpected",
        ),
        (
            "unexpected",
            "id = 40001",
            "",
            "",
            "id = 40001, currency = USD, amount = 7.00, said = NULL, paid = $1.00",
            "unexpected",
        ),
    ]
    assert result.difference == "2 missing, 3 unexpected; amount +207.81; paid +19984.00"


def test_a_row_whose_key_became_null_is_found(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("ALTER TABLE entry DROP CONSTRAINT entry_pkey; ALTER TABLE entry ALTER id DROP NOT NULL")
    database.run("UPDATE entry SET id = NULL WHERE id = 12345")
    result = taken.locate()["rows of public.entry"]
    assert [line[:2] for line in rows_of(taken, result)] == [("missing", "id = 12345"), ("unexpected", "id = NULL")]


TEXT_KEY = """
CREATE TABLE account (iban text PRIMARY KEY, owner text NOT NULL, balance numeric);
INSERT INTO account SELECT 'DE' || n, 'owner ' || n, n FROM generate_series(1, 25000) n; ANALYZE account;
"""
COMPOSITE = """
CREATE TABLE line (note text, invoice int, line int, amount numeric(12,2), PRIMARY KEY (invoice, line));
INSERT INTO line SELECT NULL, n / 5, n % 5, n FROM generate_series(1, 25000) n; ANALYZE line;
"""


def test_a_text_key_and_a_composite_key_go_by_hashed_buckets(make: Make, tmp_path: Path) -> None:
    database = make(TEXT_KEY + COMPOSITE)
    taken = take(database, tmp_path)
    assert all(len(count.buckets) > 2 for count in taken.expected.counts)
    database.run("UPDATE account SET owner = '' WHERE iban = 'DE777'; UPDATE line SET note = '' WHERE invoice = 700")
    found = taken.locate()
    account, line = found["rows of public.account"], found["rows of public.line"]
    assert rows_of(taken, account) == [("changed", "iban = DE777", "owner", "owner 777", "", "changed")]
    assert rows_of(taken, line) == [
        ("changed", f"invoice = 700, line = {n}", "note", "NULL", "", "changed") for n in range(5)
    ]
    assert sums_of(taken, line) == {"amount": ("17510.00", "17510.00", "0")}
    loaded = int(account.reason.rsplit("; ", 1)[1].split()[0])
    assert 0 < loaded < 12000


def test_rows_without_a_key_are_compared_as_they_are_and_counted(make: Make, tmp_path: Path) -> None:
    database = make("""CREATE TABLE beat (at int, said text);
        INSERT INTO beat SELECT n % 500, 'x' FROM generate_series(1, 20000) n; ANALYZE beat;""")
    taken = take(database, tmp_path)
    database.run("""DELETE FROM beat WHERE ctid IN (SELECT ctid FROM beat WHERE at = 7 LIMIT 3);
        INSERT INTO beat VALUES (8, 'x'), (8, 'x'), (9, NULL)""")
    result = taken.locate()["rows of public.beat"]
    assert rows_of(taken, result) == [
        ("missing", "", "", "at = 7, said = x", "", "missing 3 times"),
        ("unexpected", "", "", "", "at = 8, said = x", "unexpected 2 times"),
        ("unexpected", "", "", "", "at = 9, said = NULL", "unexpected"),
    ]
    assert result.difference == "3 missing, 3 unexpected"
    assert "20000 rows of the backup were loaded, all that it has" in result.reason


def test_a_table_without_columns_has_rows_to_miss(make: Make, tmp_path: Path) -> None:
    database = make("CREATE TABLE zero (); INSERT INTO zero DEFAULT VALUES; INSERT INTO zero DEFAULT VALUES")
    taken = take(database, tmp_path)
    database.run("INSERT INTO zero DEFAULT VALUES")
    assert taken.locate()["rows of public.zero"].difference == "1 unexpected"


ODD_TEXTS = [
    "", "\\N", "NULL", "\\.", "a\tb", "a\nb", "a\r\nb", "\\", "\\\\n", "'", '"', "x,y", "\x01", "Größe 😀", " ",
    "$1 %s", "\n\\.\n",
]  # fmt: skip


def test_texts_that_read_like_the_marks_of_copy_survive(make: Make, tmp_path: Path) -> None:
    literals = ", ".join(f"({n}, E'{_escaped(text)}', '\\x{text.encode().hex()}')" for n, text in enumerate(ODD_TEXTS))
    database = make(f"CREATE TABLE odd (id int PRIMARY KEY, t text, b bytea); INSERT INTO odd VALUES {literals};")
    taken = take(database, tmp_path)
    database.run("UPDATE odd SET t = NULL, b = NULL")
    result = taken.locate()["rows of public.odd"]
    told = {(line[1], line[2]): line[3] for line in rows_of(taken, result)}
    quoted = {"NULL": "'NULL'"}
    assert told == {
        (f"id = {n}", column): value
        for n, text in enumerate(ODD_TEXTS)
        for column, value in (("t", quoted.get(text, text)), ("b", f"\\x{text.encode().hex()}"))
    }


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\'" else letter for letter in text).replace("\x01", "\\x01")


def test_tables_and_columns_of_any_name_are_found_in_the_dump(make: Make, tmp_path: Path) -> None:
    names = [
        ("a b", "c"), ("a", "b c"), ("a b", "n\nl"), ("a b", "n l"), ("public", 'say "hi"'), ("public", "% %s {}"),
        ("Größe", "Ünï"), ("public", "select"), ("public", " FROM stdin;"), ("public", "semi;colon"),
    ]  # fmt: skip
    script = "".join(f"CREATE SCHEMA {_quoted(schema)};" for schema in sorted({one for one, _ in names} - {"public"}))
    for place, (schema, name) in enumerate(names):
        table = f"{_quoted(schema)}.{_quoted(name)}"
        script += f"""CREATE TABLE {table} ("FROM stdin;" text, {_quoted(name)} numeric, "k\n;" int PRIMARY KEY);
            INSERT INTO {table} VALUES ('{place}', {place}, {place});"""
    database = make(script)
    taken = take(database, tmp_path)
    for schema, name in names:
        database.run(f"UPDATE {_quoted(schema)}.{_quoted(name)} SET {_quoted(name)} = -1")
    found = taken.locate()
    results = [result for result in found.values() if result.kind == "rows"]
    assert [result.reason for result in results if result.verdict is not Verdict.FAIL] == []
    told = sorted((line[1], line[3]) for result in results for line in rows_of(taken, result))
    assert told == sorted((f"k\n; = {place}", str(place)) for place in range(len(names)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_partitions_and_heirs_are_each_looked_into_alone(make: Make, tmp_path: Path) -> None:
    database = make("""
        CREATE TABLE sale (id int PRIMARY KEY, amount numeric) PARTITION BY RANGE (id);
        CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (0) TO (10);
        CREATE TABLE sale_2 (amount numeric, id int NOT NULL); ALTER TABLE sale ATTACH PARTITION sale_2 DEFAULT;
        INSERT INTO sale SELECT n, n FROM generate_series(1, 30) n;
        CREATE TABLE animal (name text PRIMARY KEY); CREATE TABLE cat (lives int) INHERITS (animal);
        INSERT INTO animal VALUES ('a'); INSERT INTO cat VALUES ('b', 9), ('c', 9);""")
    taken = take(database, tmp_path)
    database.run(
        "UPDATE sale SET amount = 0 WHERE id = 20; DELETE FROM ONLY animal; UPDATE cat SET name = 'd' WHERE name = 'c'"
    )
    found = taken.locate()
    assert set(found) == {"content", "rows of public.animal", "rows of public.cat", "rows of public.sale_2"}
    assert rows_of(taken, found["rows of public.sale_2"]) == [("changed", "id = 20", "amount", "20", "0", "-20")]
    assert found["rows of public.animal"].difference == "1 missing"
    assert found["rows of public.cat"].difference == "1 missing, 1 unexpected"


def test_generated_columns_are_computed_and_said_to_be(make: Make, tmp_path: Path) -> None:
    database = make("""
        CREATE TABLE bill (net numeric NOT NULL, id int GENERATED ALWAYS AS (n + 1) STORED PRIMARY KEY, n int NOT NULL,
            gross numeric GENERATED ALWAYS AS (net * 1.2) STORED NOT NULL,
            half numeric GENERATED ALWAYS AS (net / 2) VIRTUAL);
        INSERT INTO bill (net, n) SELECT n, n FROM generate_series(1, 20000) n; ANALYZE bill;""")
    taken = take(database, tmp_path)
    assert len(taken.expected.counts[0].buckets) > 2
    database.run("UPDATE bill SET net = 50 WHERE n = 100")
    result = taken.locate()["rows of public.bill"]
    assert [line[1:] for line in rows_of(taken, result)] == [
        ("id = 101", "net", "100", "50", "-50"),
        ("id = 101", "gross", "120.0", "60.0", "-60.0"),
        ("id = 101", "half", "50.0000000000000000", "25.0000000000000000", "-25.0000000000000000"),
    ]
    assert result.reason.endswith("id, gross, half computed from them, being generated")


def test_sums_are_exact_where_a_float_loses_cents_and_infinities_are_no_numbers(make: Make, tmp_path: Path) -> None:
    database = make("""
        CREATE DOMAIN cash AS numeric; CREATE TABLE vault (id int PRIMARY KEY, a numeric(20,2), b cash, c bigint,
            d money);
        INSERT INTO vault SELECT n, 100000000000000.01, 123456789012345678901234567890.123456789, 3, '-12.50'
          FROM generate_series(1, 9) n;""")
    taken = take(database, tmp_path)
    database.run("UPDATE vault SET a = a + 0.01, b = b - 0.000000001, c = 4, d = d + '0.01'::money WHERE id <= 3")
    result = taken.locate()["rows of public.vault"]
    assert sums_of(taken, result) == {
        "a": ("300000000000000.03", "300000000000000.06", "+0.03"),
        "b": ("370370367037037036703703703670.370370367", "370370367037037036703703703670.370370364", "-0.000000003"),
        "d": ("-37.50", "-37.47", "+0.03"),
    }
    assert ("changed", "id = 1", "c", "3", "4", "+1") in rows_of(taken, result)
    assert ("changed", "id = 2", "d", "-$12.50", "-$12.49", "+0.01") in rows_of(taken, result)
    database.run("UPDATE vault SET b = 'NaN' WHERE id = 3")
    again = taken.locate()["rows of public.vault"]
    assert sums_of(taken, again)["b"][2] == "+NaN"
    assert Decimal(sums_of(taken, again)["a"][2]) == Decimal("0.03")


def test_counts_and_sums_are_exact_where_lines_are_cut(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("UPDATE entry SET amount = amount - 1 WHERE id <= 25000; DELETE FROM entry WHERE id > 29000")
    result = taken.locate()["rows of public.entry"]
    missing = sum(n for n in range(29001, 30001))
    assert (
        result.difference
        == f"25000 changed, 1000 missing; amount -{25000 + Decimal(missing) / 100:.2f}; paid -{missing}.00"
    )
    assert result.reason.startswith(
        "26000 rows of public.entry differ: 25000 changed, 1000 missing in amount; the first 200"
    )
    rows = rows_of(taken, result)
    assert [line[1] for line in rows] == [f"id = {n}" for n in [*range(1, 201), *range(29001, 29201)]]
    assert len(result.lines) == LINES_KEPT
    assert result.lines[0].difference == f"-{25000 + Decimal(missing) / 100:.2f}"


def test_long_values_are_shown_where_they_differ(make: Make, tmp_path: Path) -> None:
    database = make("""CREATE TABLE doc (id int PRIMARY KEY, said text);
        INSERT INTO doc VALUES (1, repeat('a', 1000) || 'X' || repeat('b', 1000)), (2, repeat('a', 100000));""")
    taken = take(database, tmp_path)
    database.run("UPDATE doc SET said = replace(said, 'X', 'Y'); UPDATE doc SET said = said || 'b' WHERE id = 2")
    one, two = rows_of(taken, taken.locate()["rows of public.doc"])
    assert one[3] == f"…{'a' * 60}X{'b' * 139}…"
    assert one[4] == f"…{'a' * 60}Y{'b' * 139}…"
    assert "100000 characters" in two[3]
    assert "100001 characters" in two[4]


def test_only_so_many_tables_are_looked_into_and_the_rest_are_named(make: Make, tmp_path: Path) -> None:
    count = _MOST_TABLES + 2
    database = make("".join(f"CREATE TABLE t{n:02} (id int);INSERT INTO t{n:02} VALUES (1);" for n in range(count)))
    taken = take(database, tmp_path)
    database.run("".join(f"UPDATE t{n:02} SET id = 2;" for n in range(count)))
    found = taken.locate(content={"leave_out": [{"table": "public.t00", "reason": "a cache"}]})
    assert len(found) == 1 + _MOST_TABLES + 1
    rest = found["rows of other tables"]
    assert rest.verdict is Verdict.UNKNOWN
    assert rest.reason == f"rows are looked for in 20 tables at most; these differ too: public.t{count - 1:02}"


# --- what cannot be found, and a backup that is at fault itself -----------------------------------------------------


def test_a_backup_that_never_held_what_was_measured_is_a_finding_of_its_own(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("DELETE FROM entry WHERE id = 7; UPDATE entry SET said = 'lost' WHERE id = 20001")
    for path in taken.workspace.backup.iterdir():
        path.unlink()
    taken.workspace.backup.rmdir()
    dump(database, taken.workspace)
    same = taken.locate()["rows of public.entry"]
    assert same.verdict is Verdict.FAIL
    assert same.reason.startswith(
        "the backup itself does not hold what was measured in the snapshot: public.entry, id from 0 to 8191,"
    )
    assert "the copy holds what the backup holds" in same.reason
    lines = [line for line in lines_of(taken, same) if line[0] == "backup"]
    assert [line[1] for line in lines] == ["id from 0 to 8191", "id from 16384 to 24575"]
    assert [line[5] for line in lines] == ["-1 rows in the backup", "other content in the backup"]
    database.run("DELETE FROM entry WHERE id = 8")
    more = taken.locate()["rows of public.entry"]
    assert "1 row of public.entry differs from the backup: 1 missing" in more.reason
    assert [line[:2] for line in rows_of(taken, more)] == [("missing", "id = 8")]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            "DELETE FROM entry WHERE id = 1; ALTER TABLE entry ALTER said TYPE int USING 1",
            "invalid input syntax",
        ),
        ("DELETE FROM entry WHERE id = 1; ALTER TABLE entry DROP said", "the copy has no said"),
        ("DELETE FROM entry WHERE id = 1; ALTER TABLE entry RENAME said TO told", "the copy has no said"),
    ],
)
def test_rows_that_cannot_be_loaded_are_unknown_with_the_reason(
    make: Make, tmp_path: Path, damage: str, reason: str
) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run(damage)
    found = taken.locate()
    assert found["content"].verdict is Verdict.FAIL
    result = found["rows of public.entry"]
    assert result.verdict is Verdict.UNKNOWN
    assert reason in result.reason
    assert database.run("SELECT count(*) FROM pg_class WHERE relname LIKE 'drillbook%'") == [(0,)]


def test_a_backup_that_cannot_be_read_is_unknown(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path, more=["--compress=gzip:1"])
    database.run("DELETE FROM entry WHERE id = 1")
    data = max(taken.workspace.backup.glob("*.dat*"), key=lambda path: path.stat().st_size)
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    cut = taken.locate()["rows of public.entry"]
    assert cut.verdict is Verdict.UNKNOWN
    assert "the dump's rows end too soon: pg_restore ended with 1: " in cut.reason
    (taken.workspace.backup / "toc.dat").unlink()
    gone = taken.locate()["rows of public.entry"]
    assert gone.verdict is Verdict.UNKNOWN
    assert "the dump cannot be read" in gone.reason


def test_a_table_that_is_not_in_the_dump_is_an_error(make: Make, tmp_path: Path) -> None:
    taken = take(make(LARGE), tmp_path, more=["--exclude-table-data=entry"])
    with (
        pytest.raises(ToolError, match=r"holds no rows of public\.entry"),
        read_rows(taken.workspace, "public", "entry", 60),
    ):
        pass


def test_rows_that_pg_restore_does_not_come_to_are_given_up_in_time(make: Make, tmp_path: Path) -> None:
    taken = take(make(LARGE), tmp_path)
    data = max(taken.workspace.backup.glob("*.dat*"), key=lambda path: path.stat().st_size)
    data.unlink()
    os.mkfifo(data)  # nobody ever writes to it
    with pytest.raises(ToolError, match=r"pg_restore had not ended after 0\.5 s and was stopped"):
        _read(taken, 0.5)


def _read(taken: Taken, deadline: float) -> None:
    with read_rows(taken.workspace, "public", "entry", deadline) as rows:
        list(rows.chunks)


def test_large_objects_are_no_rows(make: Make, tmp_path: Path) -> None:
    database = make("SELECT lo_from_bytea(0, 'one')")
    taken = take(database, tmp_path)
    database.run("SELECT lo_from_bytea(0, 'two')")
    result = taken.locate()["rows of large objects"]
    assert result.verdict is Verdict.UNKNOWN
    assert "large objects" in result.reason


def test_a_copy_that_was_mended_meanwhile_proves_nothing(make: Make, tmp_path: Path) -> None:
    database = make(LARGE)
    taken = take(database, tmp_path)
    database.run("UPDATE entry SET said = 'x' WHERE id = 9")

    @contextmanager
    def mending(scan: Scan, buckets: Any) -> Iterator[TableRows]:
        database.run("UPDATE entry SET said = 'entry 9' WHERE id = 9")
        with taken.give_rows(scan, buckets) as rows:
            yield rows

    result = Taken(database, taken.expected, mending, taken.workspace, a_log()).locate()["rows of public.entry"]
    assert result.verdict is Verdict.UNKNOWN
    assert "the copy was changed since it was measured" in result.reason


def test_a_database_in_another_encoding_is_read_as_it_was_written(production: Cluster, tmp_path: Path) -> None:
    name = "shop_locate_latin1"
    run_sql(
        production.address(),
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        address = production.address(name)
        table = 'U&"Gr\\00F6\\00DFe"'
        run_sql(address, f'CREATE TABLE {table} (U&"\\00DC" int PRIMARY KEY, said text)')
        run_sql(address, f"INSERT INTO {table} VALUES (1, U&'\\00E4\\00F6\\00FC')")
        taken = take(Database(address, address), tmp_path)
        run_sql(address, f"UPDATE {table} SET said = U&'\\00E4\\00F6\\00DF'")
        found = taken.locate()
        result = found['rows of "public"."Größe"']
        assert result.verdict is Verdict.FAIL, result.reason
        assert rows_of(taken, result) == [("changed", "Ü = 1", "said", "äöü", "äöß", "changed")]
    finally:
        run_sql(production.address(), f"DROP DATABASE {name} WITH (FORCE)")


# --- where rows come from -------------------------------------------------------------------------------------------


def test_expected_rows_may_come_from_the_sources_own_snapshot(make: Make, tmp_path: Path) -> None:
    source, copy = make(LARGE), make(LARGE)
    with connect(source.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as leader:
        leader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = leader.execute("SELECT pg_export_snapshot()").fetchone()
        assert snapshot is not None

        @contextmanager
        def inside() -> Iterator[Any]:
            with opening(source.reader)() as connection, importing(connection, snapshot[0]):
                yield connection

        expected = measured(source, open_session=inside)
        source.run("UPDATE entry SET amount = 0")
        copy.run("UPDATE entry SET amount = 1 WHERE id = 100; DELETE FROM entry WHERE id = 30000")
        log = a_log()
        taken = take(copy, tmp_path)
        result = Taken(copy, expected, rows_of_snapshot(inside, log), taken.workspace, a_log()).locate()
    found = result["rows of public.entry"]
    assert [line[:2] for line in rows_of(taken, found)] == [("missing", "id = 30000")]
    assert found.difference == "1 missing; amount -300.00; paid -30000.00"
    asked = next(query.sql for query in log.queries if query.name.endswith("expected rows"))
    assert 'WHERE "id" BETWEEN' in asked


def scan_of(**given: Any) -> Scan:
    told = {"namespace": "public", "name": "t", "columns": ("v", "id"), "key": ("id",), "digest": "hash", "row": "1"}
    return Scan.model_validate(told | {"bucket": '"id"::bigint >> 12'} | given)


def test_a_shifted_key_is_known_by_its_bucket_and_nothing_else_is() -> None:
    assert shift_of(scan_of()) == 12
    assert shift_of(scan_of(key=('"',), bucket='""""::bigint >> 3')) == 3
    for other in ("", "hashint4(id) & 63", '"v"::bigint >> 12', '"id"::bigint >> 12 + 1'):
        assert shift_of(scan_of(bucket=other)) is None
    assert ranges(["-1", "0", "7", "8", "None"], 2) == [(-4, 3), (28, 35)]
    assert in_buckets(scan_of(), ["2", "None"]) == '"id" BETWEEN 8192 AND 12287 OR ("id"::bigint >> 12) IS NULL'
    assert in_buckets(scan_of(), []) == in_buckets(scan_of(bucket=""), ["None"]) == ""


@pytest.mark.parametrize("bits", [1, 40])
def test_only_rows_of_the_buckets_that_differ_pass(bits: int) -> None:
    width = 1 << bits
    keys = [-width, -1, 0, width - 1, width, 5 * width]
    lines = [b"%s\t%d\n" % (text, key) for key in keys for text in (b"x", b"\\N", b"")]
    chunks = [b"".join(lines[:4]), b"".join(lines[4:])]
    rows = TableRows(("v", "id"), "UTF8", pinned=False, chunks=iter(chunks))
    passed = b"".join(near(rows, scan_of(bucket=f'"id"::bigint >> {bits}'), ["-1", "1"]))
    wanted = [line for line in lines if int(line.split(b"\t")[1]) in {-width, -1, width}]
    assert passed == b"".join(wanted)
    everything = TableRows(("v", "id"), "UTF8", pinned=False, chunks=iter(chunks))
    assert b"".join(near(everything, scan_of(bucket='"id"::bigint >> 1'), ["1", "None"])) == b"".join(lines)


@pytest.mark.parametrize(
    "numbers", [[(0, 0)], [(0, 9)], [(-1, 1)], [(-300, -25), (7, 7), (99, 101), (1000, 2047)], [(-4, 3), (4, 1023)]]
)
def test_numbers_of_a_range_and_no_others_are_matched(numbers: list[tuple[int, int]]) -> None:
    pattern = re.compile(in_ranges(numbers))
    inside = {number for first, last in numbers for number in range(first, last + 1)}
    assert {number for number in range(-4000, 4000) if pattern.fullmatch(b"%d" % number)} == inside


def test_the_ends_of_a_bigint_are_matched() -> None:
    pattern = re.compile(in_ranges([(-(2**63), -(2**63) + 8191), (2**63 - 8192, 2**63 - 1)]))
    for number in (-(2**63), -(2**63) + 8191, 2**63 - 8192, 2**63 - 1):
        assert pattern.fullmatch(b"%d" % number)
    for number in (0, 1, -1, -(2**63) + 8192, 2**63 - 8193):
        assert not pattern.fullmatch(b"%d" % number)


def test_a_shop_of_several_tables_names_each(make: Make, tmp_path: Path) -> None:
    database = make(SHOP)
    taken = take(database, tmp_path)
    database.run("UPDATE customer SET name = 'x' WHERE id = 3; UPDATE invoice SET amount = NULL WHERE id = 4")
    found = taken.locate()
    assert set(found) == {"content", "rows of public.customer", "rows of public.invoice"}
    assert rows_of(taken, found["rows of public.invoice"]) == [
        ("changed", "id = 4", "amount", "148.04", "NULL", "changed")
    ]
