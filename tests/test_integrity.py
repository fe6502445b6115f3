"""Indexes, heaps and page checksums of real copies: sound, damaged in their files, and not to be looked at."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fix_checks import a_log, opening
from fix_debian import DEBIAN
from fix_postgres import QUICK, SHOP, Database, drop_database, new_database, run_sql

from checks.asking import Log, OpenSession
from checks.base import answer
from checks.integrity import AMCHECK, CHECKSUMS, integrity_questions
from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.processes import run_tool
from drills.records import Verdict
from drills.results import CheckResult
from drills.sessions import Access, Limits, session
from drills.tools import Tools, embedded_tools

PAGE = 8192
STORE = f"""{SHOP}
INSERT INTO note SELECT n, 'note ' || n FROM generate_series(1, 2000) n;
CREATE INDEX note_said ON note (said);
CREATE TABLE photo (id int PRIMARY KEY, taken bytea);
ALTER TABLE photo ALTER taken SET STORAGE EXTERNAL;
INSERT INTO photo SELECT n, decode(repeat(md5(n::text), 200), 'hex') FROM generate_series(1, 40) n;
CREATE MATERIALIZED VIEW largest AS SELECT * FROM invoice ORDER BY amount DESC LIMIT 10;
"""
CATALOGUE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_namespace),
       (SELECT count(*) FROM pg_depend), (SELECT array_agg(extname || extversion ORDER BY 1) FROM pg_extension)
"""


def writing(address: Address, statement: timedelta = timedelta(minutes=1)) -> OpenSession:
    limits = Limits(statement, timedelta(seconds=5))
    return lambda: session(address, name="test", access=Access.READ_WRITE, limits=limits)


def asked(open_session: OpenSession, name: str = AMCHECK, log: Log | None = None) -> CheckResult:
    """Put one of the questions."""
    told: list[int] = []

    def tell(done: int, total: int, unit: str, about: str = "") -> None:
        told.append(done)

    questions = integrity_questions(open_session, log or a_log(), tell, amcheck=True, checksums=True)
    question = next(question for question in questions if question.name == name)
    with tempfile.TemporaryDirectory() as place:
        result = answer(question, Path(place) / "drill" / "reconcile" / "round")
    assert told == sorted(told)
    return result


def damaged(result: CheckResult) -> set[tuple[str, str | None]]:
    return {(line.key, line.actual) for line in result.lines if line.verdict is Verdict.FAIL}


def keys(result: CheckResult, verdict: Verdict) -> set[str]:
    return {line.key for line in result.lines if line.verdict is verdict}


def make_server(tools: Tools, *, checksums: bool = True) -> Cluster:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", tools, checksums=checksums)
    cluster.start(QUICK)
    return cluster


def remove(cluster: Cluster) -> None:
    cluster.destroy()
    shutil.rmtree(cluster.folder.parent)


@pytest.fixture(scope="module", params=["embedded", "debian"])
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param != "embedded" and not DEBIAN.exists():
        pytest.skip("Debian's PostgreSQL is not installed")
    made = make_server(embedded_tools() if request.param == "embedded" else Tools.at(DEBIAN))
    yield made
    remove(made)


@pytest.fixture
def store(server: Cluster) -> Iterator[Database]:
    database = new_database(server, STORE)
    yield database
    drop_database(database)


def overwrite(server: Cluster, database: Database, relation: str, *, at: int, content: bytes) -> None:
    """Bytes of a relation's file, with the server stopped. What was in its buffers is on disk by then."""
    path = server.data / database.run(f"SELECT pg_relation_filepath('{relation}')")[0][0]
    server.stop()
    with path.open("r+b") as file:
        file.seek(at)
        assert file.read(len(content)) != content
        file.seek(at)
        file.write(content)
    server.start({**QUICK, "autovacuum": "off"})


def item_at(server: Cluster, database: Database, relation: str, page: int) -> int:
    """Where the first item of a page begins in the relation's file: its line pointer says so (storage/itemid.h)."""
    database.run("CHECKPOINT")
    path = server.data / database.run(f"SELECT pg_relation_filepath('{relation}')")[0][0]
    (pointer,) = struct.unpack_from("<I", path.read_bytes(), page * PAGE + 24)
    return page * PAGE + int(pointer & 0x7FFF)


# --- amcheck --------------------------------------------------------------------------------------------------------


def test_a_sound_copy_passes_and_is_left_as_it_was(store: Database) -> None:
    store.run("CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
    store.run("CREATE EVENT TRIGGER no_ddl ON ddl_command_end EXECUTE FUNCTION refuse()")
    before = store.run(CATALOGUE)
    for name in (AMCHECK, CHECKSUMS):
        result = asked(writing(store.owner), name)
        assert result.verdict is Verdict.PASS, result.reason
        assert (result.differing, result.difference) == (0, "none")
        assert store.run(CATALOGUE) == before
    assert store.run("SELECT sum(checksum_failures) FROM pg_stat_database") == [(0,)]


def test_every_index_heap_and_toast_table_is_looked_at_the_copys_own_first(store: Database) -> None:
    result = asked(writing(store.owner))
    wanted = {
        f"public.{name}"
        for name in (
            "customer · heap",
            "customer_pkey · B-tree",
            "invoice · heap",
            "invoice_pkey · B-tree",
            "largest · heap",
            "note · heap",
            "note · TOAST heap",
            "note · TOAST B-tree",
            "note_pkey · B-tree",
            "note_said · B-tree",
            "photo · heap",
            "photo · TOAST heap",
            "photo · TOAST B-tree",
        )
    }
    assert wanted <= {line.key for line in result.lines[:20]}
    assert "pg_catalog.pg_class · heap" in {line.key for line in result.lines}
    have = "SELECT count(*) FROM pg_class c WHERE relkind IN ('r', 'm', 't', 'i') AND relpersistence <> 't'"
    assert [(result.compared,)] == store.run(have)


def test_an_index_that_disagrees_with_its_table_fails_and_hides_no_other(store: Database) -> None:
    store.run("CREATE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    store.run("CREATE INDEX customer_code ON customer (code(id)); CREATE INDEX invoice_code ON invoice (code(id))")
    assert asked(writing(store.owner)).verdict is Verdict.PASS
    store.run("CREATE OR REPLACE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT -$1'")
    result = asked(writing(store.owner))
    assert result.verdict is Verdict.FAIL
    assert keys(result, Verdict.FAIL) == {"public.customer_code · B-tree", "public.invoice_code · B-tree"}
    assert result.reason.startswith("public.customer_code, public.invoice_code: damaged: heap tuple ")
    assert "lacks matching index tuple" in result.reason
    assert result.difference == "2 not sound"


def test_an_index_in_the_order_of_another_collation_fails(store: Database) -> None:
    """As after a move to a machine whose libc or ICU sorts otherwise."""
    if store.run("SELECT to_regcollation('\"und-x-icu\"') IS NULL") == [(True,)]:
        pytest.skip("this server has no ICU")
    store.run("INSERT INTO note VALUES (0, 'Z'), (-1, 'a'), (-2, 'B')")
    store.run('CREATE INDEX sorted ON note (said COLLATE "C")')
    assert asked(writing(store.owner)).verdict is Verdict.PASS
    other = store.run("SELECT to_regcollation('\"und-x-icu\"')::oid::text")[0][0]
    store.run(f"UPDATE pg_index SET indcollation = '{other}' WHERE indexrelid = 'sorted'::regclass")
    result = asked(writing(store.owner))
    assert keys(result, Verdict.FAIL) == {"public.sorted · B-tree"}
    assert "invariant violated for index" in result.reason


def test_a_heap_damaged_in_its_file_fails_by_its_rows(store: Database, server: Cluster) -> None:
    # With the checksum made right again, as memory that went bad before the page was written would have it.
    place = item_at(server, store, "note", 0)
    overwrite(server, store, "note", at=place, content=struct.pack("<I", 0xEFFFFFFF))
    mend_checksums(server)
    result = asked(writing(store.owner))
    assert result.verdict is Verdict.FAIL
    assert "1 faults: block 0, item 1: xmin 4026531839 " in str(dict(damaged(result))["public.note · heap"])
    assert asked(writing(store.owner), CHECKSUMS).verdict is Verdict.PASS


def test_a_toast_value_that_is_gone_fails(store: Database) -> None:
    lose_toast(store)
    result = asked(writing(store.owner))
    assert keys(result, Verdict.FAIL) == {"public.photo · heap"}
    assert "40 faults" in result.reason


def lose_toast(store: Database) -> None:
    """A part of every photo, out of the TOAST table, which takes no DELETE for as long as it is one."""
    (toast, oid) = store.run(
        "SELECT reltoastrelid::regclass::text, reltoastrelid::bigint FROM pg_class WHERE relname = 'photo'"
    )[0]
    store.run(f"UPDATE pg_class SET relkind = 'r' WHERE oid = {oid}")
    store.run(f"DELETE FROM {toast} WHERE chunk_seq = 1")
    store.run(f"UPDATE pg_class SET relkind = 't' WHERE oid = {oid}")
    store.run("VACUUM photo")  # until then a deleted part can still be fetched


def mend_checksums(server: Cluster) -> None:
    """Give every page the checksum of what it holds now."""
    server.stop()
    for action in ("--disable", "--enable"):
        run_as_server(server, [server.tools.program("pg_checksums"), action, "-D", str(server.data)])
    server.start({**QUICK, "autovacuum": "off"})


def run_as_server(server: Cluster, arguments: list[str]) -> None:
    done = run_tool(arguments, environment={}, log=server.log, deadline=60, account=server.account)
    assert done.code == 0, done.said


@pytest.mark.parametrize("relation", ["note", "note_said"])
def test_bytes_flipped_in_a_page_fail_both_checks_and_hide_no_other_object(
    store: Database, server: Cluster, relation: str
) -> None:
    overwrite(server, store, relation, at=2 * PAGE + 4000, content=b"\xde\xad\xbe\xef")
    result = asked(writing(store.owner), CHECKSUMS)
    assert result.verdict is Verdict.FAIL
    assert "invalid page in block 2 of relation" in result.reason
    assert {key.split(" · ")[0] for key in keys(result, Verdict.FAIL)} == {f"public.{relation}", store.name}
    result = asked(writing(store.owner))
    assert f"public.{relation}" in {key.split(" · ")[0] for key in keys(result, Verdict.FAIL)}
    assert keys(result, Verdict.PASS) >= {"public.customer · heap", "public.invoice_pkey · B-tree"}
    assert not keys(result, Verdict.UNKNOWN)


def test_an_index_damaged_in_its_file_fails_though_its_checksum_is_right(store: Database, server: Cluster) -> None:
    place = item_at(server, store, "customer_pkey", 1)
    overwrite(server, store, "customer_pkey", at=place + 8, content=struct.pack("<i", 15))
    mend_checksums(server)
    result = asked(writing(store.owner))
    assert keys(result, Verdict.FAIL) == {"public.customer_pkey · B-tree"}
    assert asked(writing(store.owner), CHECKSUMS).verdict is Verdict.PASS


def test_a_file_that_is_gone_fails(store: Database, server: Cluster) -> None:
    path = server.data / store.run("SELECT pg_relation_filepath('note_said')")[0][0]
    server.stop()
    path.unlink()
    server.start(QUICK)
    result = asked(writing(store.owner))
    assert "public.note_said · B-tree" in keys(result, Verdict.FAIL)
    assert "public.note_pkey · B-tree" in keys(result, Verdict.PASS)


def test_an_amcheck_of_the_copys_own_is_used_and_kept(store: Database) -> None:
    store.run('CREATE SCHEMA "Odd ""one"; CREATE EXTENSION amcheck SCHEMA "Odd ""one" VERSION \'1.3\'')
    before = store.run(CATALOGUE)
    assert asked(writing(store.owner)).verdict is Verdict.PASS
    assert store.run(CATALOGUE) == before


def test_an_old_amcheck_is_brought_up_for_the_check_and_put_back(store: Database) -> None:
    store.run("CREATE EXTENSION amcheck VERSION '1.2'")  # knows no heaps
    before = store.run(CATALOGUE)
    assert asked(writing(store.owner)).verdict is Verdict.PASS
    assert store.run(CATALOGUE) == before


def test_what_amcheck_has_nothing_for_is_told(store: Database) -> None:
    store.run("CREATE INDEX ON note USING hash (id); CREATE INDEX ON note USING brin (id)")
    store.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'note_said'::regclass")
    result = asked(writing(store.owner))
    assert result.verdict is Verdict.PASS
    for told in ("1 indexes that are hash", "1 indexes that are brin", "1 indexes that are invalid"):
        assert told in result.reason
    assert not any("note_said" in line.key for line in result.lines)


def test_an_index_whose_expression_raises_is_unknown_and_hides_no_damage(store: Database) -> None:
    store.run("CREATE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    store.run("CREATE INDEX customer_code ON customer (code(id))")
    store.run("CREATE OR REPLACE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 0'")
    result = asked(writing(store.owner))
    assert (result.verdict, keys(result, Verdict.UNKNOWN)) == (Verdict.UNKNOWN, {"public.customer_code · B-tree"})
    assert "not looked at: division by zero (SQLSTATE 22012)" in result.reason
    lose_toast(store)
    assert asked(writing(store.owner)).verdict is Verdict.FAIL


def test_a_statement_that_takes_too_long_leaves_the_others_alone(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checks.going_over._TOGETHER", 1)
    store.run("CREATE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    store.run("CREATE INDEX customer_code ON customer (code(id)); CREATE INDEX invoice_code ON invoice (code(-id))")
    slow = "BEGIN IF $1 > 0 THEN PERFORM pg_sleep(60); END IF; RETURN 0; END"
    store.run(f"CREATE OR REPLACE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS '{slow}'")
    result = asked(writing(store.owner, timedelta(seconds=2)))
    assert keys(result, Verdict.UNKNOWN) == {"public.customer_code · B-tree"}
    assert keys(result, Verdict.FAIL) == {"public.invoice_code · B-tree"}
    assert result.verdict is Verdict.FAIL


def test_a_server_that_goes_away_leaves_the_rest_unknown_and_what_was_found_stands(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checks.going_over._TOGETHER", 1)
    store.run("CREATE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    store.run("CREATE INDEX customer_code ON customer (code(id)); CREATE INDEX invoice_code ON invoice (code(-id))")
    fatal = "BEGIN IF $1 < 0 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN 0; END"
    store.run(f"CREATE OR REPLACE FUNCTION code(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS '{fatal}'")
    result = asked(writing(store.owner))
    assert keys(result, Verdict.FAIL) == {"public.customer_code · B-tree"}
    assert "public.note · heap" in keys(result, Verdict.UNKNOWN)
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("name", [AMCHECK, CHECKSUMS])
def test_whoever_may_not_make_the_extension_gets_no_pass(store: Database, name: str) -> None:
    for open_session in (writing(store.reader), opening(store.owner)):
        result = asked(open_session, name)
        assert (result.verdict, result.compared) == (Verdict.UNKNOWN, 0)
    assert "the copy is read only" in asked(opening(store.owner), name).reason
    assert "permission denied" in asked(writing(store.reader), name).reason


def test_a_server_without_the_extension_gives_no_pass(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.borrowed._STATE", "SELECT false, false, true, NULL, NULL, NULL")
    result = asked(writing(store.owner))
    assert result.verdict is Verdict.UNKNOWN
    assert "the extension amcheck is not available on the copy's server" in result.reason


@pytest.mark.parametrize("name", [AMCHECK, CHECKSUMS])
@pytest.mark.parametrize("script", ["SELECT 1", "CREATE TABLE nothing (id int)"])
def test_a_copy_without_a_page_of_its_own_passes_nothing(server: Cluster, script: str, name: str) -> None:
    database = new_database(server, script)
    result = asked(writing(database.owner), name)
    drop_database(database)
    assert (result.verdict, result.reason) == (
        Verdict.UNKNOWN,
        "the copy has no page of its own: there was nothing to look at",
    )


# --- page checksums -------------------------------------------------------------------------------------------------


def test_a_copy_without_checksums_is_unknown() -> None:
    made = make_server(embedded_tools(), checksums=False)
    try:
        database = new_database(made, STORE)
        result = asked(writing(database.owner), CHECKSUMS)
        assert result.verdict is Verdict.UNKNOWN
        assert "the copy's pages have no checksums" in result.reason
        assert asked(writing(database.owner)).verdict is Verdict.PASS
    finally:
        remove(made)


def test_a_failure_that_the_server_counted_elsewhere_is_a_fail(server: Cluster, store: Database) -> None:
    other = new_database(server, STORE)
    overwrite(server, other, "note", at=PAGE + 4000, content=b"\xde\xad\xbe\xef")
    assert asked(writing(store.owner), CHECKSUMS).verdict is Verdict.PASS
    with pytest.raises(Exception, match="invalid page"):
        run_sql(other.owner, "SELECT count(*) FROM note")
    result = asked(writing(store.owner), CHECKSUMS)
    drop_database(other)
    assert damaged(result) == {(f"{other.name} · database", "1 checksum failures")}


def test_a_server_that_is_told_to_ignore_checksums_is_not_listened_to(server: Cluster, store: Database) -> None:
    overwrite(server, store, "note", at=PAGE + 4000, content=b"\xde\xad\xbe\xef")
    server.stop()
    server.start({**QUICK, "ignore_checksum_failure": "on", "zero_damaged_pages": "on"})
    try:
        result = asked(writing(store.owner), CHECKSUMS)
    finally:
        server.stop()
        server.start(QUICK)
    assert "public.note · heap" in keys(result, Verdict.FAIL)
