"""Structure: a copy by pg_dump and pg_restore compares equal, and whatever is changed in it is found and named."""

# ruff: noqa: ISC004 - a damage may take more than a line

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fix_structure import BINARIES, Pair, damaged, look_at, looked_at, opening, paired

from checks.asking import Log
from checks.base import Answer, Question, answer
from checks.sequences import compare_sequences
from checks.structure.compare import LEFT_OUT, STATEMENTS, compare_structure
from checks.structure.spelling import respelled
from checks.structure.whole import PUBLICATIONS, PUBLICATIONS_OF_14
from drills.errors import CheckError
from drills.measures import Item, Measures
from drills.records import Basis, Verdict
from drills.secrets import MASK, Vault


@pytest.fixture(scope="module", params=sorted(BINARIES))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A database with something of everything, and its copy."""
    with paired(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def expected(pair: Pair) -> Measures:
    """What was read in the source."""
    return look_at(pair.source)


def differing(found: Answer) -> dict[tuple[str, str], str]:
    """What did not pass, and what is said of it."""
    assert found.frame is not None
    rows = found.frame[found.frame["verdict"] != Verdict.PASS]
    return {(row["kind"], row["name"]): row["difference"] for row in rows.to_dict("records")}


def after(pair: Pair, expected: Measures, damage: str, *, owners: bool = True) -> Answer:
    """The answer for a copy to which this was done."""
    with damaged(pair.copy, damage) as connection:
        return compare_structure(expected, looked_at(connection), owners=owners)


def test_a_copy_by_dump_and_restore_is_equal(pair: Pair, expected: Measures, tmp_path: Path) -> None:
    copy = look_at(pair.copy)
    result = answer(
        Question("structure", "structure", Basis.SNAPSHOT, [], lambda: compare_structure(expected, copy, owners=True)),
        tmp_path / "reconcile" / "round",
    )
    assert (result.verdict, result.differing) == (Verdict.PASS, 0)
    # The five columns of sales.listed come one by one, since one of them is spelled anew.
    assert result.compared == len(expected.structure) + 4 > 200
    hidden = sum(item.definition.count("(not shown)") for item in expected.structure)
    said = f"{hidden} values that may be secrets are not shown and were not compared"
    assert result.reason == f"all {result.compared} items are as expected and nothing else is there; {said}"


def test_a_copy_on_a_given_server_is_equal_but_for_owners_and_grants(pair: Pair, expected: Measures) -> None:
    given = look_at(pair.given)
    assert compare_structure(expected, given, owners=False).verdict is Verdict.PASS
    found = differing(compare_structure(expected, given, owners=True))
    assert {kind for kind, _ in found} == LEFT_OUT


def test_a_role_without_any_right_reads_the_same(pair: Pair, expected: Measures) -> None:
    with damaged(pair.source, "CREATE ROLE stranger; SET LOCAL ROLE stranger") as connection:
        read = looked_at(connection)
    assert compare_structure(read, look_at(pair.copy), owners=True).verdict is Verdict.PASS
    assert {one.name for one in read.structure} == {one.name for one in expected.structure}


def test_its_sequences_stand_where_they_stood(pair: Pair, expected: Measures) -> None:
    found = compare_sequences(expected, look_at(pair.copy), opening(pair.copy), Log("owner", "7/rich"))
    assert (found.verdict, found.expected) == (Verdict.PASS, "4 sequences")


def test_reading_twice_gives_the_same_and_survives_the_file(pair: Pair, expected: Measures) -> None:
    assert look_at(pair.source).structure == expected.structure
    assert Measures.model_validate_json(expected.canonical()) == expected


def test_no_secret_is_in_what_was_read(expected: Measures) -> None:
    text = expected.model_dump_json()
    assert "hush-hush" not in text
    assert "app.jwt_secret=(not shown)" in text


def test_a_secret_of_the_plan_is_masked_in_code_and_how_many_masks_there_are_is_said(
    pair: Pair, expected: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = next(json.loads(one.definition)["body"] for one in expected.structure if one.name == "sales.fetch()")
    assert body.startswith(f" SELECT 'known-to-the-vault' || 'at\npassword = {MASK} '  [masked; as a whole ")
    vault = Vault()
    vault.know("known-to-the-vault")
    monkeypatch.setattr("checks.structure.compare.VAULT", vault)
    source, copy = look_at(pair.source), look_at(pair.copy)
    assert "known-to-the-vault" not in source.model_dump_json()
    found = compare_structure(source, copy, owners=True)
    assert found.verdict is Verdict.PASS
    assert re.search(r"; \d+ values that may be secrets", found.reason)
    # What is behind the mask is compared as well, and what is around it.
    known = "CREATE OR REPLACE FUNCTION sales.fetch() RETURNS text LANGUAGE sql AS"
    known += " $$ SELECT '{}' || 'at\npassword = {} ' $$"
    for one, other in (("known-to-the-vault", "another"), ("other", "hush")):
        changed = known.format(one, other)
        assert ("function", "sales.fetch()") in differing(after(pair, source, changed)), changed
    other = "CREATE OR REPLACE FUNCTION sales.fetch() RETURNS text LANGUAGE sql AS $$ SELECT 'known-to-the-vault' $$"
    assert ("function", "sales.fetch()") in differing(after(pair, source, other))


def test_reading_keeps_no_lock(pair: Pair) -> None:
    held = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE pid = pg_backend_pid()"
    with opening(pair.source)() as connection, connection.transaction():
        looked_at(connection)
        row = connection.execute(held + " AND c.oid >= 16384").fetchone()
        path = connection.execute("SHOW search_path").fetchone()
    assert (row, path) == ((0,), ("public",))


CUSTOMER, INVOICE, EVENT, MODERN = "sales.customer", "sales.invoice", "sales.event_2026", "sales.modern"
ODD = '"Odd Schema"."Odd ""Table"'
OWNED, PRESET, ALTER_PRESET = "owner and grants", "default privileges", "ALTER DEFAULT PRIVILEGES FOR ROLE keeper"
DAMAGES = [
    # Columns
    ("column", f"{CUSTOMER}.big", f"ALTER TABLE {CUSTOMER} DROP big CASCADE", "missing"),
    ("column", f"{CUSTOMER}.more", f"ALTER TABLE {CUSTOMER} ADD more int", "unexpected"),
    (
        "column",
        f"{ODD}.a",
        f"ALTER TABLE {ODD} ALTER a TYPE numeric(17,2)",
        "type: numeric(18,2) expected, numeric(17",
    ),
    (
        "column",
        f"{CUSTOMER}.born",
        f"ALTER TABLE {CUSTOMER} DROP born CASCADE, ADD born date",
        "position: ",
    ),
    ("column", f"{INVOICE}.posted", f"ALTER TABLE {INVOICE} ALTER posted DROP NOT NULL", "not null: yes expected"),
    ("column", f"{CUSTOMER}.kind", f"ALTER TABLE {CUSTOMER} ALTER kind DROP DEFAULT", "default: 'private'::character"),
    ("column", f"{CUSTOMER}.upper_name", f"ALTER TABLE {CUSTOMER} ALTER upper_name DROP EXPRESSION", "generated: sto"),
    ("column", f"{CUSTOMER}.id", f"ALTER TABLE {CUSTOMER} ALTER id SET GENERATED BY DEFAULT", "identity: always"),
    ("column", f'{ODD}."Ünï"', f'ALTER TABLE {ODD} ALTER "Ünï" TYPE text', 'collation: "C" expected, none found'),
    ("column", f"{CUSTOMER}.note", f"ALTER TABLE {CUSTOMER} ALTER note SET STORAGE MAIN", "storage: external expected"),
    ("column", f"{CUSTOMER}.big", f"ALTER TABLE {CUSTOMER} ALTER big SET COMPRESSION default", "compression: pglz"),
    ("column", f"{CUSTOMER}.name", f"ALTER TABLE {CUSTOMER} ALTER name SET STATISTICS 9", "statistics target: 500"),
    ("column", f"{CUSTOMER}.name", f"ALTER TABLE {CUSTOMER} ALTER name RESET (n_distinct)", "options: n_distinct"),
    ("column", "sales.firms.kind", "ALTER VIEW sales.firms ALTER kind DROP DEFAULT", "default: "),
    ("column", "sales.far.id", "ALTER TABLE sales.far ALTER id OPTIONS (DROP force_null)", "foreign options: force_"),
    ("attribute", "sales.pair.one", "ALTER TYPE sales.pair ALTER ATTRIBUTE one TYPE bigint", "type: integer expected"),
    # Tables
    ("table", "sales.cache", "DROP TABLE sales.cache", "missing"),
    ("table", "sales.cache", "ALTER TABLE sales.cache SET LOGGED", "persistence: unlogged expected, none found"),
    ("table", CUSTOMER, f"ALTER TABLE {CUSTOMER} RESET (fillfactor)", "options: fillfactor=80 missing"),
    ("table", CUSTOMER, f"ALTER TABLE {CUSTOMER} RESET (toast.autovacuum_enabled)", "toast options: autovacuum_en"),
    ("table", CUSTOMER, f"ALTER TABLE {CUSTOMER} DISABLE ROW LEVEL SECURITY", "row security: yes expected, no found"),
    ("table", INVOICE, f"ALTER TABLE {INVOICE} NO FORCE ROW LEVEL SECURITY", "row security forced: yes expected"),
    ("table", CUSTOMER, f"ALTER TABLE {CUSTOMER} REPLICA IDENTITY DEFAULT", "replica identity: full expected"),
    ("table", "sales.heir", "ALTER TABLE sales.heir NO INHERIT sales.parent", "inherits: sales.parent missing"),
    ("table", "sales.typed", "ALTER TABLE sales.typed NOT OF", "of type: sales.address expected"),
    ("table", EVENT, f"ALTER TABLE sales.event DETACH PARTITION {EVENT}", "partition of: "),
    (
        "table",
        "sales.event_old",
        "ALTER TABLE sales.event DETACH PARTITION sales.event_old; ALTER TABLE sales.event "
        "ATTACH PARTITION sales.event_old FOR VALUES FROM (MINVALUE) TO ('2025-12-31')",
        "partition bound: ",
    ),
    ("foreign table", "sales.far", "ALTER TABLE sales.far OPTIONS (SET filename '/else.csv')", "foreign options: "),
    # Constraints and indexes
    ("constraint", f"{INVOICE}.of_customer", f"ALTER TABLE {INVOICE} DROP CONSTRAINT of_customer", "missing"),
    ("constraint", f"{CUSTOMER}.customer_pkey", f"ALTER TABLE {CUSTOMER} DROP CONSTRAINT customer_pkey CASCADE", "mis"),
    ("constraint", f"{INVOICE}.positive", f"ALTER TABLE {INVOICE} VALIDATE CONSTRAINT positive", "validated: no"),
    (
        "constraint",
        f"{INVOICE}.of_customer",
        f"ALTER TABLE {INVOICE} ALTER CONSTRAINT of_customer NOT DEFERRABLE",
        "deferrable: yes expected, no found",
    ),
    (
        "constraint",
        f"{INVOICE}.of_customer",
        f"ALTER TABLE {INVOICE} DISABLE TRIGGER ALL",
        "triggers disabled: none expected, 2 found",
    ),
    (
        "constraint",
        f"{CUSTOMER}.known_kind",
        f"ALTER TABLE {CUSTOMER} DROP CONSTRAINT known_kind, ADD CONSTRAINT known_kind CHECK (kind IN ('private'))",
        "definition: ",
    ),
    (
        "constraint",
        "sales.percent.in_range",
        "ALTER DOMAIN sales.percent DROP CONSTRAINT in_range",
        "missing",
    ),
    ("index", "sales.invoice_posted", "DROP INDEX sales.invoice_posted", "missing"),
    ("index", "sales.more", f"CREATE INDEX more ON {CUSTOMER} (last)", "unexpected"),
    (
        "index",
        "sales.customer_last",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sales.customer_last'::regclass",
        "valid: yes expected, no found",
    ),
    (
        "index",
        "sales.customer_last",
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'sales.customer_last'::regclass",
        "ready: yes expected, no found",
    ),
    ("index", "sales.invoice_pkey", f"ALTER TABLE {INVOICE} SET WITHOUT CLUSTER", "clustered on: yes expected"),
    ("index", "sales.invoice_identity", f"ALTER TABLE {INVOICE} REPLICA IDENTITY FULL", "replica identity: yes"),
    (
        "index",
        "sales.customer_last",
        f"DROP INDEX sales.customer_last; CREATE UNIQUE INDEX customer_last ON {CUSTOMER} (last)",
        "definition: ",
    ),
    # On tables
    ("trigger", f"{CUSTOMER}.stamp", f"DROP TRIGGER stamp ON {CUSTOMER}", "missing"),
    ("trigger", f"{CUSTOMER}.stamp", f"ALTER TABLE {CUSTOMER} DISABLE TRIGGER stamp", "enabled: yes expected, no"),
    ("trigger", f"{INVOICE}.idle", f"ALTER TABLE {INVOICE} ENABLE TRIGGER idle", "enabled: no expected, yes found"),
    ("trigger", f"{EVENT}.on_event", f"ALTER TABLE {EVENT} DISABLE TRIGGER on_event", "enabled: always expected"),
    ("rule", "sales.cache.silent", "DROP RULE silent ON sales.cache", "missing"),
    ("rule", "sales.cache.silent", "ALTER TABLE sales.cache DISABLE RULE silent", "enabled: yes expected, no found"),
    ("policy", f"{CUSTOMER}.own", f"DROP POLICY own ON {CUSTOMER}", "missing"),
    ("policy", f"{CUSTOMER}.own", f"ALTER POLICY own ON {CUSTOMER} TO clerk", "roles: Odd Role missing"),
    ("policy", f"{INVOICE}.all_of_it", f"ALTER POLICY all_of_it ON {INVOICE} USING (id > 0)", "using: true expected"),
    ("statistics object", "sales.together", "DROP STATISTICS sales.together", "missing"),
    ("statistics object", "sales.together", "ALTER STATISTICS sales.together SET STATISTICS 1", "target: 200 expected"),
    # Views
    ("view", "sales.joined", "DROP VIEW sales.joined", "missing"),
    ("view", "sales.counting", "CREATE OR REPLACE VIEW sales.counting (n) AS SELECT 1", "definition: line 1: "),
    ("view", "sales.firms", "ALTER VIEW sales.firms RESET (security_barrier)", "options: security_barrier=true mis"),
    ("materialized view", "sales.filled", "REFRESH MATERIALIZED VIEW sales.filled WITH NO DATA", "populated: yes"),
    ("materialized view", "sales.hollow", "REFRESH MATERIALIZED VIEW sales.hollow", "populated: no expected, yes"),
    # Sequences
    ("sequence", "sales.ticket", "ALTER SEQUENCE sales.ticket NO CYCLE", "cycle: yes expected, no found"),
    ("sequence", "sales.ticket", "ALTER SEQUENCE sales.ticket INCREMENT 1", "increment: 5 expected, 1 found"),
    ("sequence", "sales.ticket", f"ALTER SEQUENCE sales.ticket OWNED BY {CUSTOMER}.ticket", "owned by: none expected"),
    ("sequence", "sales.more", "CREATE SEQUENCE sales.more", "unexpected"),
    # Types
    ("enum", "sales.mood", "ALTER TYPE sales.mood RENAME VALUE 'calm' TO 'quiet'", "labels: calm missing, quiet unex"),
    (
        "enum",
        "sales.mood",
        "UPDATE pg_enum SET enumsortorder = 9 WHERE enumlabel = 'sad' AND enumtypid = 'sales.mood'::regtype",
        "labels: in another order: sad, calm, fine, glad expected",
    ),
    ("domain", "sales.percent", "ALTER DOMAIN sales.percent DROP NOT NULL", "not null: yes expected, no found"),
    ("domain", "sales.percent", "ALTER DOMAIN sales.percent SET DEFAULT 1", "default: 0.00 expected, 1 found"),
    ("composite type", "sales.more", "CREATE TYPE sales.more AS (a int)", "unexpected"),
    ("range type", "sales.span", "DROP TYPE sales.span CASCADE", "missing"),
    ("type", "sales.complex", "DROP TYPE sales.complex CASCADE", "missing"),
    # Routines and what hangs on them
    (
        "function",
        "sales.stamp()",
        "CREATE OR REPLACE FUNCTION sales.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, sales AS"
        " $$ BEGIN\n      -- 'quoted' and \"quoted\"\n      RETURN OLD;\n    END $$",
        "body: line 3: RETURN NEW; expected, RETURN OLD; found",
    ),
    ("function", "sales.stamp()", "ALTER FUNCTION sales.stamp() SECURITY INVOKER", "security definer: yes expected"),
    ("function", "sales.stamp()", "ALTER FUNCTION sales.stamp() RESET search_path", "settings: search_path=pg_catalog"),
    ("function", "sales.double(integer, integer)", "ALTER FUNCTION sales.double VOLATILE", "volatility: immutable"),
    ("function", "sales.atomic(integer)", "DROP FUNCTION sales.atomic", "missing"),
    ("procedure", "sales.close_month(boolean)", "DROP PROCEDURE sales.close_month", "missing"),
    ("aggregate", "sales.product(integer)", "DROP AGGREGATE sales.product(int)", "missing"),
    (
        "aggregate",
        "sales.product(integer)",
        "CREATE OR REPLACE AGGREGATE sales.product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '2')",
        "initial: 1 expected, 2 found",
    ),
    ("operator", "sales.=== (integer, text)", "DROP OPERATOR sales.=== (int, text)", "missing"),
    ("operator class", "sales.by_hash for hash", "DROP OPERATOR CLASS sales.by_hash USING hash", "missing"),
    (
        "operator family",
        "sales.by_hash for hash",
        "ALTER OPERATOR FAMILY sales.by_hash USING hash ADD OPERATOR 1 pg_catalog.= (int2, int4)",
        "operators: 1 =(smallint,integer) unexpected",
    ),
    ("cast", "sales.complex to bigint", "DROP CAST (sales.complex AS bigint)", "missing"),
    (
        "text search configuration",
        "sales.plain",
        "ALTER TEXT SEARCH CONFIGURATION sales.plain DROP MAPPING FOR asciiword",
        "mappings: asciiword: sales.short, simple missing",
    ),
    (
        "text search dictionary",
        "sales.short",
        "ALTER TEXT SEARCH DICTIONARY sales.short (stopwords)",
        "options: stopwords = 'english' expected",
    ),
    ("text search parser", "sales.words", "DROP TEXT SEARCH PARSER sales.words", "missing"),
    (
        "text search parser",
        "sales.words",
        "UPDATE pg_ts_parser SET prsheadline = 'prsd_headline'::regproc WHERE prsname = 'words'",
        "headline: none expected, prsd_headline",
    ),
    ("text search template", "sales.plainly", "DROP TEXT SEARCH TEMPLATE sales.plainly", "missing"),
    ("conversion", "sales.of_latin", "DROP CONVERSION sales.of_latin", "missing"),
    (
        "conversion",
        "sales.of_latin",
        "UPDATE pg_conversion SET condefault = true WHERE conname = 'of_latin'",
        "default: no expected, yes found",
    ),
    ("access method", "heaped", "DROP ACCESS METHOD heaped", "missing"),
    ("transform", "for integer language sql", "DROP TRANSFORM FOR int LANGUAGE sql CASCADE", "missing"),
    ("collation", "sales.bytes", "DROP COLLATION sales.bytes", "missing"),
    (
        "security label",
        f"table {CUSTOMER} by guard",
        "INSERT INTO pg_seclabel (classoid, objoid, objsubid, provider, label)"
        f" VALUES ('pg_class'::regclass, '{CUSTOMER}'::regclass, 0, 'guard', 'secret')",
        "unexpected",
    ),
    (
        "database settings",
        "security label by guard",
        "INSERT INTO pg_shseclabel (classoid, objoid, provider, label)"
        " SELECT 'pg_database'::regclass, oid, 'guard', 'x' FROM pg_database WHERE datname = 'rich'",
        "unexpected",
    ),
    # The rest
    ("schema", "private", "DROP SCHEMA private", "missing"),
    ("extension", "hstore", "DROP EXTENSION hstore", "missing"),
    (
        "extension",
        "citext",
        "UPDATE pg_extension SET extversion = '1.0', extnamespace = 'sales'::regnamespace WHERE extname = 'citext'",
        "version: ",
    ),
    ("extension", "btree_gist", "UPDATE pg_extension SET extnamespace = 'sales'::regnamespace", "schema: public exp"),
    ("event trigger", "watch", "ALTER EVENT TRIGGER watch ENABLE", "enabled: no expected, yes found"),
    ("event trigger", "watch", "DROP EVENT TRIGGER watch", "missing"),
    ("server", "other", "ALTER SERVER other OPTIONS (SET host '127.0.0.2')", "options: host=127.0.0.1 missing"),
    ("user mapping", "other for clerk", "DROP USER MAPPING FOR clerk SERVER other", "missing"),
    ("foreign-data wrapper", "more", "CREATE FOREIGN DATA WRAPPER more", "unexpected"),
    ("large objects", "all", "SELECT lo_unlink(min(oid)) FROM pg_largeobject_metadata", "count: 2 expected, 1"),
    ("publication", "everything", "DROP PUBLICATION everything", "missing"),
    ("publication", "part", "ALTER PUBLICATION part SET (publish = 'insert, delete')", "delete: no expected, yes"),
    ("publication", "part", f"ALTER PUBLICATION part DROP TABLE {INVOICE}", "tables: sales.invoice missing"),
    ("publication", "of_schema", "ALTER PUBLICATION of_schema ADD TABLES IN SCHEMA sales", "schemas: sales unexpected"),
    ("subscription", "feed", "UPDATE pg_subscription SET subenabled = true", "active on a copy: it takes part in"),
    ("subscription", "feed", "ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed", "missing"),
    ("subscription", "feed", "UPDATE pg_subscription SET subpublications = '{part}'", "publications: more missing"),
    ("comment", f"table {CUSTOMER}", f"COMMENT ON TABLE {CUSTOMER} IS NULL", "missing"),
    ("comment", f"table column {CUSTOMER}.name", f"COMMENT ON COLUMN {CUSTOMER}.name IS 'x'", "text: their"),
    ("comment", "schema public", "COMMENT ON SCHEMA public IS 'again'", "text: changed expected, again found"),
    # Owners and grants
    (OWNED, f"table {INVOICE}", f"ALTER TABLE {INVOICE} OWNER TO clerk", "owner: keeper expected, clerk found"),
    (OWNED, f"table {CUSTOMER}", f"GRANT SELECT ON {CUSTOMER} TO PUBLIC", "grants: PUBLIC: SELECT unexpected"),
    (OWNED, f"table {CUSTOMER}", f"REVOKE GRANT OPTION FOR INSERT ON {CUSTOMER} FROM clerk", "grants: clerk: INSERT"),
    (OWNED, f"column {CUSTOMER}.name", f"REVOKE UPDATE (name) ON {CUSTOMER} FROM auditor", "missing"),
    (OWNED, "schema sales", "REVOKE USAGE ON SCHEMA sales FROM clerk", "grants: clerk: USAGE missing"),
    (OWNED, "schema public", "REVOKE CREATE ON SCHEMA public FROM clerk", "grants: clerk: CREATE missing"),
    (OWNED, "sequence sales.ticket", "REVOKE ALL ON SEQUENCE sales.ticket FROM clerk", "grants: clerk: USAGE missing"),
    (OWNED, "routine sales.double(integer, integer)", "GRANT EXECUTE ON FUNCTION sales.double TO PUBLIC", "grants:"),
    (OWNED, "conversion sales.of_latin", "ALTER CONVERSION sales.of_latin OWNER TO clerk", "owner: drillbook expected"),
    (
        OWNED,
        "operator class sales.by_hash for hash",
        "ALTER OPERATOR CLASS sales.by_hash USING hash OWNER TO clerk",
        "owner: drillbook expected, clerk",
    ),
    (
        OWNED,
        "operator family sales.by_hash for hash",
        "ALTER OPERATOR FAMILY sales.by_hash USING hash OWNER TO clerk",
        "owner: drillbook expected, clerk",
    ),
    (OWNED, "type sales.mood", "GRANT USAGE ON TYPE sales.mood TO PUBLIC", "grants: PUBLIC: USAGE unexpected"),
    (OWNED, "server files", 'REVOKE ALL ON FOREIGN SERVER files FROM "Odd Role"', "grants: Odd Role: USAGE missing"),
    (OWNED, "this database", "REVOKE CONNECT ON DATABASE rich FROM clerk", "grants: clerk: CONNECT missing"),
    (OWNED, "routine pg_catalog.pg_ls_dir(text)", "GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO clerk", "unexpected"),
    (PRESET, "tables of keeper in sales", f"{ALTER_PRESET} IN SCHEMA sales REVOKE ALL ON TABLES FROM clerk", "missing"),
    (PRESET, "routines of keeper", f"{ALTER_PRESET} GRANT EXECUTE ON FUNCTIONS TO clerk", "grants: clerk: EXECUTE un"),
    ("database settings", "of all roles", "ALTER DATABASE rich RESET work_mem", "settings: work_mem=5MB missing"),
    ("database settings", "of clerk", "ALTER ROLE clerk IN DATABASE rich RESET ALL", "missing"),
    ("database settings", "this database", "ALTER DATABASE rich CONNECTION LIMIT 7", "connection limit: -1 expected"),
]


@pytest.mark.parametrize(("kind", "name", "damage", "said"), DAMAGES, ids=[f"{d[0]} {d[2]}"[:70] for d in DAMAGES])
def test_a_damage_fails_and_is_named(
    pair: Pair, expected: Measures, kind: str, name: str, damage: str, said: str
) -> None:
    found = after(pair, expected, damage)
    assert found.verdict is Verdict.FAIL
    assert said in differing(found)[kind, name]


SINCE_18 = [
    ("column", f"{MODERN}.a", f"ALTER TABLE {MODERN} ALTER a DROP NOT NULL", "not null: yes expected, no found"),
    ("column", f"{MODERN}.d", f"ALTER TABLE {MODERN} VALIDATE CONSTRAINT d_is_there", "not null is validated: no exp"),
    ("column", "sales.twice.b", "ALTER TABLE sales.twice ALTER b SET EXPRESSION AS (a * 3)", "expression: (a * 2)"),
    ("constraint", f"{MODERN}.far", f"ALTER TABLE {MODERN} ALTER CONSTRAINT far ENFORCED", "enforced: no expected"),
    ("comment", f"the NOT NULL of {MODERN}.a", f"COMMENT ON CONSTRAINT a_is_there ON {MODERN} IS NULL", "missing"),
]  # fmt: skip


@pytest.mark.parametrize("pair", [18], indirect=True)
@pytest.mark.parametrize(("kind", "name", "damage", "said"), SINCE_18)
def test_a_damage_to_what_is_new_in_18_fails(
    pair: Pair, expected: Measures, kind: str, name: str, damage: str, said: str
) -> None:
    found = after(pair, expected, damage)
    assert (found.verdict, said in differing(found)[kind, name]) == (Verdict.FAIL, True)


@pytest.mark.parametrize("pair", [18], indirect=True)
def test_another_name_of_a_not_null_constraint_is_no_difference(pair: Pair, expected: Measures) -> None:
    found = after(pair, expected, f"ALTER TABLE {MODERN} RENAME CONSTRAINT a_is_there TO another")
    assert found.verdict is Verdict.PASS


# --- where a difference is none, or nobody knows ----------------------------------------------------------------------


def test_owners_and_grants_that_were_left_out_are_not_compared_and_that_is_said(pair: Pair, expected: Measures) -> None:
    found = after(
        pair,
        expected,
        f"ALTER TABLE {INVOICE} OWNER TO clerk; REVOKE ALL ON {CUSTOMER} FROM clerk CASCADE",
        owners=False,
    )
    assert found.verdict is Verdict.PASS
    assert found.reason.endswith("; owners, grants and settings of the database were left out on purpose")
    found = after(pair, expected, f"DROP POLICY own ON {CUSTOMER}", owners=False)
    assert found.verdict is Verdict.FAIL


def test_another_version_of_an_extension_is_unknown_since_no_dump_says_it(pair: Pair, expected: Measures) -> None:
    found = after(pair, expected, "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'citext'")
    assert (found.verdict, list(differing(found))) == (Verdict.UNKNOWN, [("extension", "citext")])
    assert "1.0 found; a dump does not say which version" in found.reason


def test_a_database_without_the_schema_public_is_read(pair: Pair, expected: Measures) -> None:
    found = after(pair, expected, "ALTER SCHEMA public RENAME TO gone")
    assert differing(found)["schema", "public"] == "missing"


def test_publications_are_read_on_the_versions_before_15_as_well(pair: Pair) -> None:
    """No such server is here: what is asked there names no column that came later, and gives the same for the same."""
    plain = "DROP PUBLICATION part, of_schema; CREATE PUBLICATION plain FOR TABLE sales.customer, sales.listed"
    with damaged(pair.copy, plain) as connection:
        old, new = (sorted(connection.execute(text.encode()).fetchall()) for text in (PUBLICATIONS_OF_14, PUBLICATIONS))
    assert [row[2] for row in old] == [["everything"], ["plain"]]
    assert json.loads(old[1][4])["tables"] == ["sales.customer", "sales.listed"]
    assert old == new
    assert not re.search("prattrs|prqual|pg_publication_namespace", PUBLICATIONS_OF_14)
    for version in (140000, 150000, 180000):
        asked = [
            one.sql for one in STATEMENTS if "FROM pg_publication p" in one.sql and one.since <= version < one.until
        ]
        assert asked == [PUBLICATIONS_OF_14 if version < 150000 else PUBLICATIONS]


def given(*items: Item, pair: Measures) -> Measures:
    """These items, read like that."""
    return pair.model_copy(update={"structure": items})


def item(kind: str, name: str, **definition: object) -> Item:
    return Item(kind=kind, name=name, definition=json.dumps(definition))


TABLE = item("table", "public.t")


def test_another_version_of_a_collation_library_is_unknown(expected: Measures) -> None:
    one, other = (item("collation version", "this database", provider="c", version=v) for v in ("2.36", "2.40"))
    found = compare_structure(given(TABLE, one, pair=expected), given(TABLE, other, pair=expected), owners=True)
    assert found.verdict is Verdict.UNKNOWN
    assert "version: 2.36 expected, 2.40 found; another version of the library may order" in found.reason
    gone = compare_structure(given(TABLE, one, pair=expected), given(TABLE, pair=expected), owners=True)
    assert gone.verdict is Verdict.UNKNOWN


def test_a_side_that_was_not_read_is_unknown_never_equal_or_missing(expected: Measures, tmp_path: Path) -> None:
    unread = given(pair=expected)
    for left, right, side in ((unread, expected, "source"), (expected, unread, "copy"), (unread, unread, "source")):
        ask = partial(compare_structure, left, right, owners=True)
        result = answer(Question("structure", "structure", Basis.SNAPSHOT, [], ask), tmp_path / "reconcile" / "round")
        assert result.verdict is Verdict.UNKNOWN
        assert f"the structure was not read in the {side}" in result.reason


def test_two_items_of_one_name_cannot_be_compared(expected: Measures) -> None:
    with pytest.raises(CheckError, match="ambiguous"):
        compare_structure(given(TABLE, TABLE, pair=expected), given(TABLE, pair=expected), owners=True)


def test_an_invalid_index_that_no_dump_holds_is_no_fault_of_the_copy(expected: Measures) -> None:
    index = item("index", "public.i", definition="CREATE INDEX i", valid=False, ready=True)
    found = compare_structure(given(TABLE, index, pair=expected), given(TABLE, pair=expected), owners=True)
    assert found.verdict is Verdict.PASS
    sound = item("index", "public.i", definition="CREATE INDEX i", valid=True, ready=True)
    found = compare_structure(given(TABLE, sound, pair=expected), given(TABLE, pair=expected), owners=True)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "index public.i: missing")


def test_an_invalid_index_of_a_partitioned_table_is_in_a_dump_and_must_be_there(pair: Pair, expected: Measures) -> None:
    with damaged(pair.source, "CREATE INDEX not_yet ON ONLY sales.event (customer)") as connection:
        before = looked_at(connection)
    found = compare_structure(before, look_at(pair.copy), owners=True)
    assert differing(found) == {("index", "sales.not_yet"): "missing"}
    assert found.verdict is Verdict.FAIL


def test_a_subscription_that_was_never_dumped_is_unknown(expected: Measures) -> None:
    told = {"publications": ["p"], "slot": "s", "active": True}
    for superuser, verdict in ((False, Verdict.UNKNOWN), (True, Verdict.FAIL)):
        feed = item("subscription", "feed", **told, **{"read by a superuser": superuser})
        found = compare_structure(given(TABLE, feed, pair=expected), given(TABLE, pair=expected), owners=True)
        assert found.verdict is verdict


def test_a_subscription_that_came_with_the_pages_is_right_where_nothing_replicates(
    expected: Measures,
) -> None:
    told = {"publications": ["p"], "slot": "s", "read by a superuser": True}
    both = given(TABLE, item("subscription", "feed", **told, active=True), pair=expected)
    assert compare_structure(both, both, owners=True, held=True).verdict is Verdict.PASS
    assert compare_structure(both, both, owners=True).verdict is Verdict.FAIL
    before = given(TABLE, item("subscription", "feed", **told, active=False), pair=expected)
    assert compare_structure(before, both, owners=True, held=True).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("stored", "parsed_again"),
    [
        ("(ARRAY['a'::varchar, 'b'::varchar])::text[]", "ARRAY[('a'::varchar)::text, ('b'::varchar)::text]"),
        ("(ARRAY['a, (]'::varchar, f(x, y)])::text[]", "ARRAY[('a, (]'::varchar)::text, (f(x, y))::text]"),
        ("(ARRAY['it''s'::varchar])::text[]", "ARRAY[('it''s'::varchar)::text]"),
    ],
)
def test_a_cast_that_the_parser_pushes_down_is_no_difference(stored: str, parsed_again: str) -> None:
    assert (
        respelled(f"(x = ANY ({stored}))") == respelled(f"(x = ANY ({parsed_again}))") == f"(x = ANY ({parsed_again}))"
    )


def test_each_of_several_lists_is_respelled() -> None:
    one, other = "(ARRAY['x'::varchar])::text[]", "ARRAY[('x'::varchar)::text]"
    text = "(a = ANY ({})) AND (t = ANY (ARRAY['k'::text])) AND (b = ANY ({})) OR (c = ANY ({}))"
    assert respelled(text.format(one, other, one)) == text.format(other, other, other)


@pytest.mark.parametrize("text", ["(ARRAY[1, 2])", "(ARRAY['a", "'(ARRAY[' || x", "(ARRAY[a])::text"])
def test_what_only_looks_like_it_stays_as_it_is(text: str) -> None:
    assert respelled(text) == text
