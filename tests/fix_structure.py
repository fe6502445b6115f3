"""A database with something of everything that a catalogue can hold, and its copy by pg_dump and pg_restore."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from fix_debian import DEBIAN, DEBIAN_MAJOR
from fix_postgres import QUICK, run_sql

from checks.asking import Log, OpenSession
from checks.sequences import read_sequences
from checks.structure.compare import read_structure
from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.measures import Measures
from drills.processes import run_tool
from drills.sessions import STAGING_LIMITS, Access, session
from drills.tools import EMBEDDED, Tools

BINARIES = {DEBIAN_MAJOR: DEBIAN, 18: EMBEDDED / "bin"}
SOURCE, COPY, GIVEN = "rich_source", "rich", "given"

ROLES = """
CREATE ROLE keeper; CREATE ROLE clerk; CREATE ROLE "Odd Role"; CREATE ROLE auditor;
"""

RICH = r"""
CREATE SCHEMA sales; CREATE SCHEMA "Odd Schema"; CREATE SCHEMA private AUTHORIZATION keeper;
CREATE EXTENSION citext; CREATE EXTENSION hstore WITH SCHEMA sales; CREATE EXTENSION btree_gist;
CREATE EXTENSION file_fdw; CREATE EXTENSION postgres_fdw; CREATE EXTENSION pg_stat_statements;
GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO clerk;
CREATE TYPE sales.mood AS ENUM ('sad', 'fine', 'glad'); ALTER TYPE sales.mood ADD VALUE 'calm' BEFORE 'fine';
CREATE TYPE sales.pair AS (one int, other text);
CREATE TYPE sales.address AS (street text COLLATE "C", zip varchar(10), inside citext);
CREATE COLLATION sales.bytes (provider = libc, locale = 'C');
CREATE DOMAIN sales.percent AS numeric(5,2) DEFAULT 0.00 NOT NULL CONSTRAINT in_range CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN sales.code AS varchar(3) COLLATE "C" CHECK (VALUE IN ('a', 'b', 'it''s, (x]'));
CREATE TYPE sales.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE sales.complex;
CREATE FUNCTION sales.complex_in(cstring) RETURNS sales.complex LANGUAGE internal IMMUTABLE STRICT AS 'int8in';
CREATE FUNCTION sales.complex_out(sales.complex) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int8out';
CREATE TYPE sales.complex (INPUT = sales.complex_in, OUTPUT = sales.complex_out, LIKE = bigint);
CREATE CAST (sales.complex AS bigint) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION sales.double(n int, by int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
    'SELECT n * by';
CREATE FUNCTION sales.atomic(n int) RETURNS TABLE (one int, word text) LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT n, w FROM (VALUES ('x'), ('y')) v(w) WHERE w::varchar IN ('x', 'z'); END;
CREATE FUNCTION sales.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, sales AS
    $$ BEGIN
      -- 'quoted' and "quoted"
      RETURN NEW;
    END $$;
CREATE FUNCTION sales.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE sales.close_month(INOUT done bool) LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE AGGREGATE sales.product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
CREATE FUNCTION sales.same(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::text = $2';
CREATE OPERATOR sales.=== (FUNCTION = sales.same, LEFTARG = int, RIGHTARG = text, HASHES);
CREATE OPERATOR CLASS sales.by_hash FOR TYPE int USING hash AS OPERATOR 1 pg_catalog.=, FUNCTION 1 hashint4(int);
CREATE TEXT SEARCH DICTIONARY sales.short (TEMPLATE = simple, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION sales.plain (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION sales.plain ALTER MAPPING FOR asciiword WITH sales.short, simple;
CREATE TEXT SEARCH PARSER sales.words (
    START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE sales.plainly (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE CONVERSION sales.of_latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD heaped TYPE TABLE HANDLER heap_tableam_handler;
CREATE TRANSFORM FOR int LANGUAGE sql (
    FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE FUNCTION sales.fetch() RETURNS text LANGUAGE sql AS $$ SELECT 'known-to-the-vault' || 'at
password = hush-hush-code ' $$;

CREATE SEQUENCE sales.ticket AS int INCREMENT 5 MINVALUE 5 MAXVALUE 100000 START 10 CACHE 3 CYCLE;
CREATE TABLE sales.customer (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY,
    name text COLLATE "C" NOT NULL, kind varchar(20) NOT NULL DEFAULT 'private'
      CONSTRAINT known_kind CHECK (kind IN ('private', 'firm', 'it''s, [1]')),
    mood sales.mood DEFAULT 'fine', home sales.address, discount sales.percent, code sales.code,
    tags text[] DEFAULT '{}',
    born date CHECK (born > '1900-01-01'), seen timestamptz DEFAULT now() - interval '1 day', mail citext UNIQUE,
    note text, big text COMPRESSION pglz, upper_name text GENERATED ALWAYS AS (upper(name)) STORED,
    gone int, ticket int DEFAULT nextval('sales.ticket'));
ALTER TABLE sales.customer DROP COLUMN gone, ALTER note SET STORAGE EXTERNAL;
ALTER TABLE sales.customer ALTER name SET STATISTICS 500, ALTER name SET (n_distinct = -0.5), ADD last bigint;
ALTER TABLE sales.customer SET (fillfactor = 80, toast.autovacuum_enabled = off);
CREATE TABLE sales.listed (a varchar(9), b varchar(9), c text, n int,
    CONSTRAINT two CHECK (a IN ('x', 'y') AND b IN ('p', 'q')),
    CONSTRAINT mixed CHECK (c IN ('k', 'l') AND a IN ('x', 'y') OR n IN (1, 2) AND b NOT IN ('p', 'q')),
    g bool GENERATED ALWAYS AS (a IN ('x', 'y') OR b IN ('p', 'q')) STORED);
CREATE INDEX listed_n ON sales.listed (n) WHERE c IN ('k', 'l') AND a IN ('x', 'y') AND b IN ('p', 'q');
CREATE POLICY listed ON sales.listed USING (a IN ('x', 'y') AND b IN ('p', 'q'));
CREATE VIEW sales.of_lists AS SELECT n FROM sales.listed
    WHERE c IN ('k', 'l') AND a IN ('x', 'y') AND (b IN ('p', 'q') OR a NOT IN ('v', 'w'));
CREATE TABLE "Odd Schema"."Odd ""Table" (
    "select" serial, "Ünï" text COLLATE "C", a numeric(18,2), PRIMARY KEY ("select") DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE sales.invoice (
    id serial PRIMARY KEY, customer bigint NOT NULL, amount numeric(18,2), period daterange, posted date NOT NULL,
    CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES sales.customer ON DELETE CASCADE DEFERRABLE,
    CONSTRAINT no_overlap EXCLUDE USING gist (customer WITH =, period WITH &&));
ALTER TABLE sales.invoice ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID;
CREATE INDEX invoice_posted ON sales.invoice (posted DESC NULLS LAST) INCLUDE (amount) WITH (fillfactor = 70)
    WHERE amount > 0;
CREATE INDEX customer_kind ON sales.customer (lower(name), kind) WHERE kind IN ('private', 'firm');
CREATE UNIQUE INDEX customer_last ON sales.customer (last) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX invoice_identity ON sales.invoice (id, customer);
ALTER TABLE sales.invoice CLUSTER ON invoice_pkey;
ALTER TABLE sales.invoice REPLICA IDENTITY USING INDEX invoice_identity;
ALTER TABLE sales.customer REPLICA IDENTITY FULL;
CREATE STATISTICS sales.together (dependencies, ndistinct) ON kind, mood FROM sales.customer;
ALTER STATISTICS sales.together SET STATISTICS 200;
CREATE UNLOGGED TABLE sales.cache (k text, v jsonb);
CREATE TABLE sales.typed OF sales.address;

CREATE TABLE sales.event (id bigint NOT NULL, at timestamptz NOT NULL, what text DEFAULT 'x', PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE sales.event_2026 PARTITION OF sales.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE sales.event_old (at timestamptz NOT NULL, what text DEFAULT 'old', id bigint NOT NULL, gone int);
ALTER TABLE sales.event_old DROP COLUMN gone;
ALTER TABLE sales.event ATTACH PARTITION sales.event_old FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE sales.event_rest PARTITION OF sales.event DEFAULT PARTITION BY HASH (id);
CREATE TABLE sales.event_rest_0 PARTITION OF sales.event_rest FOR VALUES WITH (modulus 1, remainder 0);
CREATE INDEX event_what ON sales.event (what); ALTER INDEX sales.event_2026_what_idx RENAME TO of_this_year;
ALTER TABLE sales.event ADD customer bigint; ALTER TABLE sales.event_2026 ADD CONSTRAINT my_own FOREIGN KEY (customer)
    REFERENCES sales.customer;
ALTER TABLE sales.event ADD CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES sales.customer;
CREATE TABLE sales.parent (a int, b int CHECK (b > 0)); CREATE TABLE sales.heir (c int) INHERITS (sales.parent);
ALTER TABLE sales.parent ADD d int DEFAULT 4; CREATE TABLE sales.adopted (e int, b int CHECK (b > 0), a int, d int);
ALTER TABLE sales.adopted DROP CONSTRAINT adopted_b_check;
ALTER TABLE sales.adopted ADD CONSTRAINT parent_b_check CHECK (b > 0); ALTER TABLE sales.adopted INHERIT sales.parent;

CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF name ON sales.customer FOR EACH ROW
    WHEN (NEW.kind IN ('private', 'firm')) EXECUTE FUNCTION sales.stamp();
CREATE TRIGGER idle AFTER INSERT ON sales.invoice FOR EACH ROW EXECUTE FUNCTION sales.stamp();
ALTER TABLE sales.invoice DISABLE TRIGGER idle;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON sales.invoice DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION sales.stamp();
CREATE TRIGGER on_event AFTER INSERT ON sales.event FOR EACH ROW EXECUTE FUNCTION sales.stamp();
ALTER TABLE sales.event_2026 ENABLE ALWAYS TRIGGER on_event;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('DROP TABLE', 'ALTER TABLE') EXECUTE FUNCTION sales.watch();
ALTER EVENT TRIGGER watch DISABLE;
CREATE RULE silent AS ON DELETE TO sales.cache WHERE old.k IS NULL DO INSTEAD NOTHING;
CREATE VIEW sales.firms WITH (security_barrier, check_option = local) AS
    SELECT id, name, kind FROM sales.customer WHERE kind IN ('firm', 'private') AND mood <> 'sad';
CREATE VIEW sales.wide AS SELECT c.*, i.amount, sum(i.amount) OVER (PARTITION BY c.id) AS total,
    CASE WHEN i.amount BETWEEN 1 AND -1 THEN -1 ELSE 1.50 END AS sign, i.posted + interval '1 mon' AS due,
    ROW(c.id, 'x') IS NULL AS r
    FROM sales.customer c LEFT JOIN sales.invoice i ON i.customer = c.id
    AND (c.name, c.kind) IN (('a', 'b'), ('c', 'd'))
    WHERE EXISTS (SELECT FROM sales.parent) OR c.name LIKE ANY (ARRAY['a%', 'b%']) OR c.kind = ANY ('{x,y}');
CREATE VIEW sales.joined AS SELECT * FROM sales.parent JOIN sales.heir USING (a, b, d);
ALTER VIEW sales.firms ALTER kind SET DEFAULT 'firm';
CREATE RECURSIVE VIEW sales.counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
CREATE MATERIALIZED VIEW sales.filled AS SELECT kind, count(*) FROM sales.customer GROUP BY 1;
CREATE UNIQUE INDEX filled_kind ON sales.filled (kind);
CREATE MATERIALIZED VIEW sales.hollow AS SELECT 1 AS one WITH NO DATA;
ALTER TABLE sales.customer ENABLE ROW LEVEL SECURITY; ALTER TABLE sales.invoice ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales.invoice FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sales.customer AS RESTRICTIVE FOR SELECT TO clerk, "Odd Role" USING (kind IN ('private', 'firm'));
CREATE POLICY all_of_it ON sales.invoice USING (true) WITH CHECK (amount > 0);

CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE sales.far (id int OPTIONS (force_null 'true'), amount numeric) SERVER files
    OPTIONS (filename '/nowhere.csv', format 'csv');
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'nowhere');
CREATE USER MAPPING FOR clerk SERVER other OPTIONS (user 'clerk', password 'hush-hush-password');
CREATE PUBLICATION part FOR TABLE sales.customer (id, name, last) WHERE (id > 0), sales.invoice
    WITH (publish = 'insert');
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA "Odd Schema";
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root);
CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 password=hush-hush-subscription' PUBLICATION part, more
    WITH (connect = false, slot_name = 'feed_slot');
SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two');

ALTER TABLE sales.invoice OWNER TO keeper; ALTER FUNCTION sales.double(int, int) OWNER TO keeper;
ALTER TYPE sales.mood OWNER TO keeper; ALTER VIEW sales.firms OWNER TO keeper;
GRANT USAGE ON SCHEMA sales TO clerk, auditor; GRANT SELECT, INSERT ON sales.customer TO clerk WITH GRANT OPTION;
SET ROLE clerk; GRANT SELECT ON sales.customer TO auditor; RESET ROLE;
GRANT UPDATE (name, kind) ON sales.customer TO auditor; REVOKE ALL ON sales.cache FROM drillbook;
GRANT USAGE ON SEQUENCE sales.ticket TO clerk; REVOKE EXECUTE ON FUNCTION sales.double FROM PUBLIC;
REVOKE USAGE ON TYPE sales.mood FROM PUBLIC; GRANT USAGE ON FOREIGN SERVER files TO "Odd Role";
GRANT CREATE ON SCHEMA public TO clerk; GRANT SELECT ON sales.far TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE keeper IN SCHEMA sales GRANT SELECT ON TABLES TO clerk;
ALTER DEFAULT PRIVILEGES FOR ROLE keeper REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

COMMENT ON TABLE sales.customer IS 'who buys'; COMMENT ON COLUMN sales.customer.name IS 'their "name"';
COMMENT ON CONSTRAINT known_kind ON sales.customer IS 'as the law has it'; COMMENT ON SCHEMA public IS 'changed';
COMMENT ON FUNCTION sales.double(int, int) IS 'twice'; COMMENT ON TRIGGER stamp ON sales.customer IS 'stamps';
COMMENT ON TYPE sales.mood IS 'how they are'; COMMENT ON EXTENSION citext IS 'ours';
COMMENT ON INDEX sales.customer_kind IS 'i';
INSERT INTO sales.customer (name, last) SELECT 'n' || n, n FROM generate_series(1, 50) n;
INSERT INTO sales.invoice (customer, amount, posted) SELECT 99 + n, n, '2026-01-01' FROM generate_series(1, 40) n;
REFRESH MATERIALIZED VIEW sales.filled;
"""

SINCE_18 = """
CREATE TABLE sales.modern (
    a int CONSTRAINT a_is_there NOT NULL, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int NOT NULL NO INHERIT,
    e int, CONSTRAINT far FOREIGN KEY (e) REFERENCES sales.invoice NOT ENFORCED,
    CONSTRAINT big CHECK (a > 10) NOT ENFORCED);
ALTER TABLE sales.modern ADD d int, ADD CONSTRAINT d_is_there NOT NULL d NOT VALID;
ALTER TABLE sales.modern RENAME c TO c_renamed;
COMMENT ON CONSTRAINT a_is_there ON sales.modern IS 'why';
CREATE TABLE sales.twice (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL);
CREATE TABLE sales.stay (room int, at daterange, PRIMARY KEY (room, at WITHOUT OVERLAPS));
"""

OF_THE_DATABASE = """
ALTER DATABASE rich OWNER TO keeper; GRANT CONNECT ON DATABASE rich TO clerk; COMMENT ON DATABASE rich IS 'all of it';
ALTER DATABASE rich SET work_mem = '5MB'; ALTER ROLE clerk IN DATABASE rich SET work_mem = '6MB';
ALTER DATABASE rich SET app.jwt_secret = 'hush-hush-setting';
"""


@dataclass(frozen=True)
class Pair:
    """A server with a database and its copy on it."""

    cluster: Cluster
    major: int

    @property
    def source(self) -> Address:
        """What was dumped."""
        return self.cluster.address(SOURCE)

    @property
    def copy(self) -> Address:
        """What was made of the dump."""
        return self.cluster.address(COPY)

    @property
    def given(self) -> Address:
        """What was made of it as on a server that is there already: without owners and grants."""
        return self.cluster.address(GIVEN)


def make_pair(major: int, place: Path) -> Pair:
    """Both, by the tools of this version, as a drill does it: with `--create`, and all roles there beforehand."""
    tools = Tools.at(BINARIES[major])
    cluster = make_cluster(place / "cluster", tools)
    cluster.start(QUICK | {"wal_level": "logical"})
    run_sql(cluster.address(), ROLES)
    run_sql(cluster.address(), f"CREATE DATABASE {COPY}")
    run_sql(cluster.address(), OF_THE_DATABASE)
    run_sql(cluster.address(COPY), RICH + (SINCE_18 if major >= 18 else ""))
    tool(tools, "pg_dump", cluster.address(COPY), place, "-Fc", f"--file={place / 'dump'}")
    run_sql(cluster.address(), f"ALTER DATABASE {COPY} RENAME TO {SOURCE}")
    tool(
        tools, "pg_restore", cluster.address("template1"), place, "--create", "--dbname=template1", str(place / "dump")
    )
    run_sql(cluster.address(), f"CREATE DATABASE {GIVEN} TEMPLATE template0")
    given, left_out = cluster.address(GIVEN), ("--no-owner", "--no-privileges", f"--dbname={GIVEN}")
    tool(tools, "pg_restore", given, place, *left_out, str(place / "dump"))
    return Pair(cluster, major)


def tool(tools: Tools, program: str, address: Address, place: Path, *arguments: str) -> None:
    """Run it; it must have nothing to say."""
    done = run_tool(
        [tools.program(program), *arguments], environment=address.environment(), log=place / "log", deadline=120
    )
    assert (done.code, done.said) == (0, "")


@contextmanager
def paired(major: int) -> Iterator[Pair]:
    """A pair, and an end to it."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-structure-"))
    place.chmod(0o755)
    pair = make_pair(major, place)
    yield pair
    pair.cluster.destroy()
    shutil.rmtree(place)


def opening(address: Address, access: Access = Access.READ_ONLY) -> OpenSession:
    """Sessions as a drill has them."""
    return partial(session, address, name="test", access=access, limits=STAGING_LIMITS)


def looked_at(connection: psycopg.Connection) -> Measures:
    """Structure and sequences, and nothing else, as a drill measures them."""
    log = Log("reader", "7/rich")
    structure, sequences = read_structure(connection, log), read_sequences(connection, log)
    return Measures(
        relations=(), counts=(), totals=(), queries=tuple(log.queries), structure=structure, sequences=sequences
    )


def look_at(address: Address) -> Measures:
    """The same, of a database."""
    with opening(address)() as connection:
        return looked_at(connection)


@contextmanager
def damaged(address: Address, damage: str) -> Iterator[psycopg.Connection]:
    """A session in which this was done, and undone at the end."""
    with opening(address, Access.READ_WRITE)() as connection, connection.transaction(force_rollback=True):
        connection.execute(damage.encode())
        yield connection
