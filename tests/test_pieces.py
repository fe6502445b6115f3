"""A table scanned whole and in pieces, with totals riding along; many tables in one statement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fix_checks import Make, a_log, count_of, making, opening, quiet, total_check, total_of
from fix_content import MODES, Digest, against, content, failing, measured_in, why

from checks.content import differing_buckets
from checks.measure import Scope, Wish, measure
from checks.scanning import lotwork, tablework
from checks.scanning.relations import Table, read_tables
from checks.scanning.scans import plan_scan, rows_in_bucket, scan_statement
from checks.scanning.tablework import cut_in_pieces
from drills.clusters import Cluster
from drills.measures import Measures, TableCount, Total
from drills.plans.totals import TotalCheck
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.snapshots import Sessions, exported_snapshot


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    """Databases with a script in them."""
    with making(production) as make:
        yield make


# --- pieces ---------------------------------------------------------------------------------------------------------

_LONG = """
CREATE TABLE t (id bigint PRIMARY KEY, kind text, amount numeric(18,2), said text NOT NULL);
INSERT INTO t SELECT n * 3 - 30000, (ARRAY['a', 'b', NULL])[1 + n % 3], n % 1000 - 500, md5(n::text)
    FROM generate_series(1, 20000) n;
CREATE TABLE words (word text PRIMARY KEY, n int);
INSERT INTO words SELECT md5(n::text), n FROM generate_series(1, 20000) n;
CREATE TABLE keyless (n int, said text); INSERT INTO keyless SELECT n, word FROM words;
ANALYZE; UPDATE t SET said = 'updated' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0;
"""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dozen pieces of a table that has a few hundred pages."""
    monkeypatch.setattr(tablework, "_PIECE", 8)
    monkeypatch.setattr(tablework, "_MOST_PIECES", 24)


def known(measures: Measures) -> list[tuple[TableCount, ...] | tuple[Total, ...]]:
    """What was found, not what was asked for it."""
    return [measures.counts, measures.totals]


@pytest.mark.usefixtures("small_pieces")
def test_a_table_read_in_pieces_shows_what_it_shows_when_it_is_read_whole(make: Make) -> None:
    database = make(_LONG)
    totals = total_check(name="by kind", table="t", by={"kind": "kind"}), total_check(name="all", table="t")
    whole, pieces = content(database, "fast", *totals), content(database, "fast", *totals, pieces=True)
    assert known(pieces) == known(whole)
    scans_of_t = [query.sql for query in pieces.queries if query.name == "content of public.t"]
    assert len(scans_of_t) > 20
    assert len([query for query in whole.queries if query.name == "content of public.t"]) == 1
    t, words, keyless = (count_of(whole, f"public.{name}") for name in ("t", "words", "keyless"))
    assert len(t.buckets) >= 4
    assert len(words.buckets) >= 4
    assert keyless.buckets == ()
    for count in (t, words):
        assert sum(bucket.rows for bucket in count.buckets) == count.rows
        assert sum(int(bucket.digest) for bucket in count.buckets) == int(count.digest or 0)


@pytest.mark.parametrize("table", ["t", "words"])
def test_the_bucket_of_a_changed_row_differs_and_no_other(make: Make, table: str) -> None:
    database = make(_LONG)
    before = content(database)
    column, where = ("said", "id = 3") if table == "t" else ("n", "n = 77")
    database.run(f"UPDATE {table} SET {column} = '0' WHERE {where}")
    one, other = count_of(before, f"public.{table}"), count_of(content(database, like=before), f"public.{table}")
    assert len(differing_buckets(one, other)) == 1
    assert why(before.model_copy(update={"counts": (one,)}), before.model_copy(update={"counts": (other,)})) == (
        f"other content, in 1 of {len(one.buckets)} buckets"
    )


def test_the_buckets_of_all_tables_together_fit_into_memory() -> None:
    def table(rows: int) -> Table:
        return Table("r", "public", "t", 0, False, rows, True, 1, False)  # noqa: FBT003

    assert rows_in_bucket([]) == rows_in_bucket([table(5_000_000)] * 20) == 4096
    assert rows_in_bucket([table(16_000_000)] * 100) == 48_828
    assert rows_in_bucket([table(-1)] * 9) == 4096


@pytest.mark.usefixtures("small_pieces")
def test_what_is_written_while_the_pieces_are_read_is_in_none_of_them(make: Make) -> None:
    database = make(_LONG)
    over = threading.Event()

    def write() -> None:
        number = 10**6
        while not over.is_set():
            number += 1000
            database.run(
                f"INSERT INTO t SELECT n, 'late', 1, 'late' FROM generate_series({number}, {number + 999}) n;"
                f"UPDATE t SET said = 'late' WHERE id % 97 = {number // 1000 % 97}; DELETE FROM words WHERE n % 97 = 3"
            )

    with (
        connect(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as leader,
        exported_snapshot(leader) as snapshot,
    ):

        def opened() -> psycopg.Connection:
            return connect(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS)

        inside, wish = Sessions(opened).inside(snapshot.name), Wish((total_check(table="t"),), structure=False)
        before = measure(inside, wish, Scope(2), a_log(), quiet)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for pieces in (True, False, True):
                found = measure(inside, wish, Scope(2, pieces=pieces, like=before), a_log(), quiet)
                assert known(found) == known(before)
        finally:
            over.set()
            writer.join()
    assert count_of(content(database, like=before), "public.t") != count_of(before, "public.t")


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8 * 8192, 8 * 8192 + 1, 9 * 8192, 1000 * 8192])
@pytest.mark.usefixtures("small_pieces")
def test_pieces_cover_every_page_once_and_whatever_comes_behind_the_last(size: int) -> None:
    pieces = cut_in_pieces(size)
    if len(pieces) == 1:
        assert (pieces[0].first, pieces[0].end) == (None, None)
        return
    assert len(pieces) <= 25
    assert (pieces[0].first, pieces[-1].end) == (0, None)
    assert [piece.end for piece in pieces[:-1]] == [piece.first for piece in pieces[1:]]


@pytest.mark.usefixtures("small_pieces")
def test_one_piece_that_fails_leaves_the_rows_and_no_digest(make: Make) -> None:
    """A row in the middle that cannot be read as it should."""
    database = make("""CREATE TABLE t (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (100 / a) VIRTUAL);
        INSERT INTO t SELECT n, 1 FROM generate_series(1, 20000) n; ANALYZE; UPDATE t SET a = 0 WHERE id = 9999""")
    found = content(database, "fast", total_check(table="t", amount="a"), pieces=True)
    count = count_of(found, "public.t")
    assert (count.rows, count.digest, "division by zero" in count.error) == (20000, None, True)
    assert str(total_of(found).rows[0].total) == "19999"
    assert failing(against(found, database), Verdict.UNKNOWN) == {"public.t"}


# --- totals that ride along -----------------------------------------------------------------------------------------

_SUMMED = """
CREATE TABLE t (id int PRIMARY KEY, kind text, side text, amount numeric(18,2), posted date, free numeric);
INSERT INTO t SELECT n, (ARRAY['a', 'b', NULL, ''])[1 + n % 4], (ARRAY['D', 'C'])[1 + n % 2],
    CASE WHEN n % 10 > 0 THEN n % 1000 - 500.25 END, '2026-01-01'::date + n % 300, 1 / n::numeric
    FROM generate_series(1, 9000) n;
CREATE TABLE nothing (amount numeric, kind text); CREATE TABLE only_null (amount numeric, kind text);
INSERT INTO only_null VALUES (NULL, NULL), (NULL, 'x'); ANALYZE;
"""
_RIDING = (
    {"name": "all", "table": "t"},
    {"name": "by kind", "table": "public.t", "by": {"kind": "kind"}},
    {"name": "by kind and month", "table": '"t"', "by": {"kind": "kind", "month": "to_char(posted, 'YYYY-MM')"}},
    {"name": "some", "table": "t -- with a comment", "by": {"kind": "kind"}, "where": "id < 30 OR kind IS NULL"},
    {"name": "none", "table": "t", "by": {"kind": "kind"}, "where": "id < 0"},
    {"name": "none at all", "table": "t", "where": "id < 0"},
    {"name": "free", "table": "T", "amount": "free", "by": {"even": "id % 2"}},
    {"name": "signed", "table": "t", "sign": {"column": "side", "positive": ["D"], "negative": ["C"]}},
    {"name": "closed", "table": "t", "closed": {"column": "posted", "until": "2026-03-01T00:00:00+00:00"}},
    {"name": "of nothing", "table": "nothing"},
    {"name": "of nothing by kind", "table": "nothing", "by": {"kind": "kind"}},
    {"name": "of NULL", "table": "only_null"},
    {"name": "of NULL by kind", "table": "only_null", "by": {"kind": "kind"}},
)


def riding() -> list[TotalCheck]:
    return [total_check(**given) for given in _RIDING]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.usefixtures("small_pieces")
def test_a_total_that_rides_along_is_what_it_is_by_itself(
    make: Make, pieces: bool, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:  # fmt: skip
    database = make(_SUMMED)
    along = content(database, "fast", *riding(), pieces=pieces)
    asked = {query.name for query in along.queries}
    assert not asked & {check["name"] for check in _RIDING} - {"some"}  # a comment makes it no plain name
    monkeypatch.setattr("checks.measure.fold", lambda totals, *_: list(totals))
    alone = content(database, "fast", *riding(), pieces=pieces)
    assert {check["name"] for check in _RIDING} <= {query.name for query in alone.queries}
    for one, other in zip(along.totals, alone.totals, strict=True):
        assert (one.error, other.error) == ("", "")
        assert sorted(map(repr, one.rows)) == sorted(map(repr, other.rows)), one.name
    assert along.counts == alone.counts
    assert content(database, "sha256", *riding()).totals == alone.totals
    assert total_of(along, "of NULL").rows[0].total is None
    assert total_of(along, "all").rows[0].amounts == 8100


@pytest.mark.parametrize(
    "spoilt",
    [
        {"amount": "nothing"}, {"amount": "amount / (id - 77)"}, {"amount": "amount::float8"}, {"where": "id / 0 = 1"},
        {"by": {"x": "1 / (id - 77)"}}, {"amount": "sum(amount)"},
    ],
)  # fmt: skip
def test_a_total_that_cannot_be_had_spoils_neither_the_others_nor_the_content(
    make: Make, spoilt: dict[str, Any]
) -> None:
    database = make(_SUMMED)
    sound = content(database, "fast", *riding())
    found = content(database, "fast", *riding(), total_check(**{"name": "spoilt", "table": "t"} | spoilt))
    assert total_of(found, "spoilt").error
    assert found.totals[:-1] == sound.totals
    assert found.counts == sound.counts


def test_a_total_over_a_table_of_the_server_is_not_taken_for_one_over_ours(make: Make) -> None:
    """The server's own come first where no schema is given."""
    database = make("CREATE TABLE public.pg_am (oid int); INSERT INTO public.pg_am VALUES (5)")
    servers, ours = (
        total_check(name="a", table="pg_am", amount="oid::int"),
        total_check(name="b", table="public.pg_am", amount="oid"),
    )
    found = content(database, "fast", servers, ours)
    assert total_of(found, "b").rows[0].total == Decimal(5)
    assert total_of(found, "a").rows[0].total != Decimal(5)


# --- many tables ----------------------------------------------------------------------------------------------------


def _many(count: int) -> str:
    return "".join(
        f"CREATE TABLE t{n} (id int PRIMARY KEY, said text); INSERT INTO t{n} VALUES ({n}, 'x');" for n in range(count)
    )


@pytest.mark.parametrize("digest", MODES)
def test_small_tables_share_their_statements(make: Make, digest: Digest) -> None:
    database = make(_many(300))
    expected = content(database, digest)
    assert len(expected.counts) == 300
    assert len(expected.queries) <= 12  # 3 lots, each looked back on, and the catalogue
    assert failing(against(expected, database, digest), Verdict.PASS) == {count.table for count in expected.counts}
    database.run("UPDATE t7 SET said = 'y'; DELETE FROM t250")
    assert failing(against(expected, database, digest)) == {"public.t7", "public.t250"}


def test_among_many_tables_the_one_that_cannot_be_read_is_unknown_and_no_other(make: Make) -> None:
    database = make(_many(60) + "ALTER TABLE t33 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t33 USING (id = 0);")
    expected = content(database)
    assert {count.table for count in expected.counts if count.error} == {"public.t33"}
    assert "row-level security" in count_of(expected, "public.t33").error
    assert len(expected.queries) < 40
    assert failing(against(expected, database), Verdict.UNKNOWN) == {"public.t33"}


def test_locks_are_given_back_while_the_rest_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand of them would fill production's lock table."""
    database = make(_many(250))
    held: list[int] = []
    together = lotwork._together

    def counting(connection: psycopg.Connection, *given: Any) -> Any:
        held.append(connection.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").fetchall()[0][0])
        return together(connection, *given)

    monkeypatch.setattr(lotwork, "_together", counting)
    with connect(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        found = measured_in(connection)
    assert len(held) == 3
    assert max(held) < 40
    assert len(found.counts) == 250


def test_workers_find_what_one_process_finds_and_add_up_themselves(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make(_SUMMED)
    alone = content(database, "fast", *riding())
    monkeypatch.setattr("checks.scanning.tablework._LARGE", 1)
    log = a_log()
    wish = Wish(tuple(riding()), structure=False, sequences=False)
    shared = measure(opening(database.reader), wish, Scope(64), log, quiet)
    statements = [query.sql for query in log.queries if query.name.startswith("content of ")]
    assert any("UNION ALL" in statement for statement in statements)
    assert shared.counts == alone.counts
    for one, other in zip(shared.totals, alone.totals, strict=True):
        assert (one.error, sorted(map(repr, one.rows))) == ("", sorted(map(repr, other.rows))), one.name


def test_the_planner_lets_workers_add_up(make: Make) -> None:
    """Without the union it has one process add up everything, since it takes every row for a bucket of its own."""
    database = make("CREATE TABLE t AS SELECT n AS id, n * 0.01 AS amount, repeat('x', 100) AS pad"
                    " FROM generate_series(1, 300000) n; ALTER TABLE t ADD PRIMARY KEY (id); ANALYZE t")  # fmt: skip
    with opening(database.reader)() as connection:
        table = next(table for table in read_tables(connection, a_log()) if table.name == "t")
        scan = plan_scan(table, "fast", (1, 300000))
        connection.execute("SET max_parallel_workers_per_gather = 1; SET enable_sort = off")
        plans = [
            str(connection.execute(f"EXPLAIN {scan_statement(scan, workers=workers)}".encode()).fetchall())
            for workers in (False, True)
        ]
    assert "Partial HashAggregate" not in plans[0]
    assert "Partial HashAggregate" in plans[1]
