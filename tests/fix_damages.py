"""A database in which every damage of the catalogue has a place, on each version that is at hand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fix_checks import a_log, expectations, quiet
from fix_postgres import QUICK, run_sql
from fix_structure import BINARIES

from checks.asking import OpenSession
from checks.measure import Scope, Wish, measure
from checks.negative.control import negative_control
from checks.suite import Subject
from drills.addresses import Address
from drills.clusters import make_cluster
from drills.measures import Expectations
from drills.plan import Checks
from drills.plans.negative import NegativeControl
from drills.records import utc_now
from drills.results import CheckResult
from drills.sessions import STAGING_LIMITS, Access, session
from drills.tools import Tools

BOOKS = """
CREATE ROLE clerk; CREATE SCHEMA books; CREATE EXTENSION hstore SCHEMA books;
CREATE TYPE books.mood AS ENUM ('sad', 'fine', 'glad'); CREATE DOMAIN books.share AS numeric(5,2) CHECK (VALUE <= 100);
CREATE SEQUENCE books.ticket START 5;
CREATE FUNCTION books.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';

CREATE TABLE books.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, city text, mood books.mood,
    share books.share, opened timestamptz, closed date, notice interval, weight float8, active bool, tags text[],
    term daterange, photo bytea, flags bit(4), token uuid, host inet, facts jsonb, raw json, rate numeric,
    code bpchar, alias text, big bigint, name_twice text GENERATED ALWAYS AS (name || name) STORED,
    serial int DEFAULT nextval('books.ticket'), CONSTRAINT named CHECK (name <> ''));
INSERT INTO books.account (name, city, mood, share, opened, closed, notice, weight, active, tags, term, photo, flags,
                           token, host, facts, raw, rate, code, alias, big)
SELECT 'Zoé ' || n, NULLIF('city ' || n % 3, 'city 0'), (enum_range(NULL::books.mood))[1 + n % 3], n,
    TIMESTAMPTZ '2026-01-01 12:00Z' + n * interval '1 day', DATE '2026-01-01' + n, n * interval '1 month',
    NULLIF(n * 0.1, 0.3), n % 2 = 0, ARRAY['a' || n, 'b', 'c'], daterange('2026-01-01', DATE '2026-02-01' + n),
    decode(md5(n::text), 'hex'), n::bit(4), md5(n::text)::uuid, ('10.0.0.' || n || '/24')::inet,
    jsonb_build_object('n', n, 'half', n / 2.0), json_build_object('n', n), n * 1.5, 'c' || n, 'Alias ' || n, n
  FROM generate_series(1, 12) n;
UPDATE books.account SET weight = 0 WHERE id = 1;
CREATE TABLE books.posting (
    id int PRIMARY KEY, account bigint NOT NULL REFERENCES books.account, amount numeric(18,2) NOT NULL,
    tax numeric(18,2), posted timestamptz NOT NULL);
INSERT INTO books.posting SELECT n, 1 + n % 12, CASE n % 2 WHEN 0 THEN 10.25 * n ELSE -10.25 * (n - 1) END,
    NULLIF(n % 5, 0) + 0.10, TIMESTAMPTZ '2026-01-01Z' + n * interval '1 minute' FROM generate_series(0, 99) n;
CREATE INDEX posting_posted ON books.posting (posted);
CREATE TRIGGER stamp BEFORE INSERT ON books.posting FOR EACH ROW EXECUTE FUNCTION books.stamp();
CREATE STATISTICS books.together (dependencies) ON account, posted FROM books.posting;
CREATE TABLE books.visit (at timestamptz NOT NULL, who text, place text);
INSERT INTO books.visit SELECT TIMESTAMPTZ '2026-03-01Z' + n * interval '1 h', 'who ' || n, 'here'
  FROM generate_series(1, 5) n;
CREATE RULE quiet AS ON DELETE TO books.visit WHERE old.who IS NULL DO INSTEAD NOTHING;
CREATE TABLE books.event (id bigint NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE books.event_2026 PARTITION OF books.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO books.event VALUES (1, '2026-05-05'), (2, '2026-05-06');
CREATE TABLE books.parent (a int); CREATE TABLE books.heir (b int) INHERITS (books.parent);
CREATE VIEW books.positive AS SELECT * FROM books.posting WHERE amount > 0;
CREATE MATERIALIZED VIEW books.daily AS SELECT posted::date AS day, sum(amount) FROM books.posting GROUP BY 1;
ALTER TABLE books.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON books.account FOR SELECT USING (active);
CREATE PUBLICATION everything FOR TABLE books.posting;
COMMENT ON TABLE books.posting IS 'what was posted'; GRANT SELECT ON books.posting TO clerk;
SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two');
"""
WITH_ICU = """
CREATE COLLATION books.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE books.account ALTER alias TYPE text COLLATE books.loose;
"""
PLAN = {
    "totals": [{"name": "postings by account", "table": "books.posting", "amount": "amount",
                "by": {"account": "account"}}],
    "ledger": [{"kind": "trial_balance", "name": "books balance",
                "postings": {"table": "books.posting", "amount": "amount"}}],
    "invariants": [{"name": "every posting has a day",
                    "sql": "SELECT id FROM books.posting WHERE posted::date IS NULL"}],
}  # fmt: skip


@dataclass(frozen=True)
class Books:
    """A database of that kind, and what was measured in it."""

    address: Address
    expected: Expectations
    icu: bool
    """Whether its server knows ICU's collations, of which some hold different texts for equal."""

    def opening(self, access: Access) -> OpenSession:
        """Sessions on it."""
        return partial(session, self.address, name="test", access=access, limits=STAGING_LIMITS)

    def subject(self, **changes: Any) -> Subject:
        """It, as checks get to it."""
        told: dict[str, Any] = {"opened": utc_now()} | changes
        return Subject(self.opening(Access.READ_ONLY), self.opening(Access.READ_WRITE), a_log(), **told)


def checks_of(**changes: object) -> Checks:
    """What the plan asks of it."""
    return Checks.model_validate(PLAN | changes)


def controlled(books: Books, folder: Path, *damages: str, checks: Checks | None = None, **changes: Any) -> CheckResult:
    """The negative control of it, with these damages or those of a plan that names none."""
    wish = NegativeControl.model_validate({"damages": damages} if damages else {})
    told: dict[str, Any] = {"expected": books.expected, "subject": books.subject(), "advance": quiet} | changes
    return negative_control(wish, checks or checks_of(), folder=folder / "reconcile" / "control", **told)


def measured_books(address: Address, checks: Checks) -> Expectations:
    """What was measured in it, as a drill does."""
    opening = partial(session, address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS)
    return expectations(measure(opening, Wish.of(checks, utc_now()), Scope(2), a_log(), quiet))


@contextmanager
def books_kept(major: int) -> Iterator[Books]:
    """A server of this version with it, and an end to it."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-damages-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", Tools.at(BINARIES[major]))
    cluster.start(QUICK | {"wal_level": "logical"})
    try:
        run_sql(cluster.address(), "CREATE DATABASE books")
        address = cluster.address("books")
        run_sql(address, BOOKS)
        icu = bool(run_sql(address, "SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"))
        if icu:
            run_sql(address, WITH_ICU)
        yield Books(address, measured_books(address, checks_of()), icu)
    finally:
        cluster.destroy()
        shutil.rmtree(place)
