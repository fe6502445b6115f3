"""Digests of rows: what reads differently is told apart, what a dump brings back is the same, on every server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fix_checks import a_log, opening, quiet
from fix_postgres import QUICK, end_cluster, run_sql
from fix_structure import BINARIES, tool
from fix_zoo import SETUP, ZOO, Kind, folded

from checks.content import compare_content
from checks.measure import Scope, Wish, measure
from checks.scanning.relations import Table, read_tables
from checks.scanning.scans import plan_scan
from drills.clusters import Cluster, make_cluster
from drills.measures import Measures
from drills.plans.checks import Content
from drills.records import Verdict
from drills.tools import Tools

MODES = ["fast", "sha256"]
LOOSE = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);"
_PAIRED = 10
"""Values of a type that are put side by side, each with each."""


@dataclass
class Zoo:
    """A server with a database in which every kind has a few tables."""

    cluster: Cluster
    major: int
    kinds: dict[int, Kind] = field(default_factory=dict)

    def build(self) -> None:
        """By the kind's number: what may not be NULL, what may, two side by side of each, and what is the same."""
        run_sql(self.cluster.address(), "CREATE DATABASE zoo")
        address = self.cluster.address("zoo")
        able = self._able()
        run_sql(address, SETUP + (LOOSE if "ICU" in able else ""))
        for extension in able & {"citext", "hstore"}:
            run_sql(address, f"CREATE EXTENSION {extension}")
        self.kinds = {
            number: kind
            for number, kind in enumerate(ZOO)
            if kind.since <= self.major and (not kind.needs or kind.needs in able)
        }
        for number, kind in self.kinds.items():
            run_sql(address, _tables(number, kind))

    def _able(self) -> set[str]:
        address = self.cluster.address("zoo")
        icu = run_sql(address, "SELECT count(*) > 1 FROM pg_collation WHERE collprovider = 'i'")[0][0]
        libxml = run_sql(address, "SELECT count(*) FROM pg_config WHERE name = 'CONFIGURE' AND setting ~ 'with-libxml'")
        there = {name for (name,) in run_sql(address, "SELECT name::text FROM pg_available_extensions")}
        return there | ({"ICU"} if icu else set()) | ({"libxml"} if libxml[0][0] else set())

    def digests(self, prefix: str, mode: str, like: Zoo | None = None) -> dict[int, list[object]]:
        """Of every row of the tables with this prefix, in their order; in the words of another server if given."""
        asked = (like or self).statements(prefix, mode)
        with opening(self.cluster.address("zoo"))() as connection:
            return {
                number: [row[0] for row in connection.execute(asked[number].encode())]
                for number in self.kinds
                if number in asked
            }

    def statements(self, prefix: str, mode: str) -> dict[int, str]:
        """That read these digests."""
        with opening(self.cluster.address("zoo"))() as connection:
            tables = {table.name: table for table in read_tables(connection, a_log())}
        return {number: _digests(tables[f"{prefix}{number}"], mode) for number in self.kinds}

    def repeated(self, prefix: str, mode: str) -> dict[str, int]:
        """The kinds in which rows share a digest, and how many do."""
        found = self.digests(prefix, mode)
        lacking = {number: len(digests) - len(set(digests)) for number, digests in found.items()}
        return {self.kinds[number].told: count for number, count in lacking.items() if count}


def _tables(number: int, kind: Kind) -> str:
    values = ", ".join(f"({value})" for value in kind.values)
    pairs = "INSERT INTO {0}{2} SELECT a.v, b.v FROM (TABLE {1}{2} LIMIT {3}) a, (TABLE {1}{2} LIMIT {3}) b;"
    return f"""
        CREATE TABLE full{number} (v {kind.type} NOT NULL); INSERT INTO full{number} VALUES {values};
        CREATE TABLE open{number} (v {kind.type}); INSERT INTO open{number} VALUES (NULL), {values};
        CREATE TABLE chained{number} (a {kind.type} NOT NULL, b {kind.type} NOT NULL);
        CREATE TABLE apart{number} (a {kind.type}, b {kind.type});
        CREATE TABLE same{number} (v {kind.type}); INSERT INTO same{number}
            VALUES (NULL) {"".join(f", ({one}), ({other})" for one, other in kind.same)};
        {pairs.format("chained", "full", number, _PAIRED)} {pairs.format("apart", "open", number, _PAIRED)}"""


def _digests(table: Table, mode: str) -> str:
    scan = plan_scan(table, mode, None)
    return f"SELECT {scan.row} FROM ONLY {table.quoted} ORDER BY ctid"


@pytest.fixture(scope="module")
def both() -> Iterator[dict[int, Zoo]]:
    """By major version: one on the embedded server, one on Debian's where that is installed."""
    zoos: dict[int, Zoo] = {}
    with ExitStack() as held:
        for major, binaries in BINARIES.items():
            if binaries.exists():
                zoos[major] = Zoo(held.enter_context(_server(binaries)), major)
                zoos[major].build()
        yield zoos


@contextmanager
def _server(binaries: Path) -> Iterator[Cluster]:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", Tools.at(binaries))
    try:
        cluster.start(QUICK)
        yield cluster
    finally:
        end_cluster(cluster)


@pytest.fixture(scope="module", params=[18, 15], ids=["embedded", "debian 15"])
def zoo(both: dict[int, Zoo], request: pytest.FixtureRequest) -> Zoo:
    """On each server that there is."""
    if request.param not in both:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    return both[request.param]


def test_the_pairs_that_are_meant_to_be_confused_are_confused_by_the_server_itself(zoo: Zoo) -> None:
    for one, other in [*folded(), (1, 4294967296)]:
        told = f"SELECT hashint8extended({one}, 7) = hashint8extended({other}, 7)"
        assert run_sql(zoo.cluster.address(), told)[0][0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefix", ["full", "open"])
def test_every_value_of_every_type_and_null_are_told_apart(zoo: Zoo, prefix: str, mode: str) -> None:
    assert len(zoo.kinds) > 80
    assert zoo.repeated(prefix, mode) == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefix", ["chained", "apart"])
def test_every_pair_of_values_side_by_side_is_told_from_every_other(zoo: Zoo, prefix: str, mode: str) -> None:
    assert zoo.repeated(prefix, mode) == {}


@pytest.mark.parametrize("prefix", ["chained", "apart"])
def test_no_two_rows_add_up_to_what_two_others_do(zoo: Zoo, prefix: str) -> None:
    """An exchange of values between rows would be invisible otherwise."""
    for number, digests in zoo.digests(prefix, "fast").items():
        whole = [int(str(digest)) for digest in digests]
        sums = [one + other for at, one in enumerate(whole) for other in whole[at:]]
        assert len(set(sums)) == len(sums), zoo.kinds[number].told


@pytest.mark.parametrize("mode", MODES)
def test_a_value_has_one_digest_however_it_was_written(zoo: Zoo, mode: str) -> None:
    for number, (_, *digests) in zoo.digests("same", mode).items():
        assert digests[::2] == digests[1::2], zoo.kinds[number].told


def content(zoo: Zoo, database: str, mode: str, like: Measures | None = None) -> Measures:
    """What a drill measures of it."""
    wish = Wish(digest="sha256" if mode == "sha256" else "fast", structure=False, sequences=False)
    return measure(opening(zoo.cluster.address(database)), wish, Scope(2, like=like), a_log(), quiet)


@pytest.fixture(scope="module")
def restored(zoo: Zoo) -> Iterator[Zoo]:
    """With the database `again`, which a dump was restored into behind other objects, so that every OID is another."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-zoo-"))
    run_sql(zoo.cluster.address(), "CREATE DATABASE again TEMPLATE template0")
    run_sql(zoo.cluster.address("again"), "CREATE TYPE before AS ENUM ('a', 'b'); DROP TYPE before")
    tool(zoo.cluster.tools, "pg_dump", zoo.cluster.address("zoo"), place, "-Fc", f"--file={place / 'dump'}")
    again = zoo.cluster.address("again")
    tool(zoo.cluster.tools, "pg_restore", again, place, "--dbname=again", str(place / "dump"))
    yield zoo
    shutil.rmtree(place)


@pytest.mark.parametrize("mode", MODES)
def test_a_dump_brings_every_value_back_with_its_digest(restored: Zoo, mode: str) -> None:
    glad = "SELECT oid FROM pg_enum WHERE enumlabel = 'glad'"
    assert run_sql(restored.cluster.address("zoo"), glad) != run_sql(restored.cluster.address("again"), glad)
    expected = content(restored, "zoo", mode)
    assert {count.error for count in expected.counts} == {""}
    assert len(expected.counts) == 5 * len(restored.kinds)
    found = compare_content(expected, content(restored, "again", mode, expected), Content())
    assert (found.verdict, found.reason) == (
        Verdict.PASS,
        f"all {5 * len(restored.kinds)} tables hold the same rows, in every column",
    )


def test_digests_are_the_same_on_every_version(both: dict[int, Zoo]) -> None:
    if len(both) == 1:
        pytest.skip("PostgreSQL 15 is not installed")
    oldest = both[min(both)]
    for mode in MODES:
        one, other = (zoo.digests("open", mode, oldest) for zoo in both.values())
        shared = [number for number in one if number in other]
        assert len(shared) > 80
        assert [one[number] for number in shared] == [other[number] for number in shared]
