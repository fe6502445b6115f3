"""Random rows of random tables: a copy by COPY passes, and any change of any value, row or order of values fails."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import psycopg
import pytest
from fix_checks import a_log, quiet
from fix_content import Digest
from fix_postgres import new_database
from fix_zoo import SETUP, ZOO, Kind
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from checks.content import compare_content
from checks.measure import Scope, Wish, measure
from checks.scanning import scans
from drills.addresses import Address
from drills.clusters import Cluster
from drills.measures import Measures
from drills.plans.checks import Content
from drills.records import Verdict
from drills.sessions import STAGING_LIMITS, Access, connect

EXAMPLES = int(os.environ.get("DRILLBOOK_EXAMPLES", "60"))
NULL = "NULL"
Row = tuple[str, ...]
"""Values as SQL; two that are written differently here read differently in the database."""


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


_LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
_STEPS = st.integers(-(10**17), 10**17)
_ANY = {
    "int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "int8": st.integers(-(2**63) + 1, 2**63 - 1).map(_quoted),
    "numeric(18,2)": st.decimals(-(10**15), 10**15, places=2).map(lambda amount: _quoted(amount or abs(amount))),
    "numeric": st.tuples(st.integers(-(10**30), 10**30), st.integers(0, 12)).map(
        lambda parts: _quoted(f"{'-' if parts[0] < 0 else ''}{abs(parts[0])}.{'1' * parts[1]}" if parts[0] else "0")
    ),
    "float8": st.floats(allow_nan=False).map(_quoted),
    "float4": st.floats(allow_nan=False, width=32).map(_quoted),
    "text": st.text(_LETTERS, max_size=20).map(_quoted),
    "bytea": st.binary(max_size=12).map(lambda value: f"'\\x{value.hex()}'"),
    "timestamp": _STEPS.map(lambda at: f"'2000-01-01'::timestamp + interval '{at} microseconds'"),
    "timestamptz": _STEPS.map(lambda at: f"'2000-01-01Z'::timestamptz + interval '{at} microseconds'"),
    "date": st.integers(-700_000, 2_000_000).map(lambda at: f"'2000-01-01'::date + {at}"),
    "uuid": st.uuids().map(_quoted),
    "int4[]": st.lists(st.integers(-9, 9), max_size=4).map(lambda found: _quoted(f"{{{','.join(map(str, found))}}}")),
}  # fmt: skip
_KINDS = [kind for kind in ZOO if not kind.needs]
_OFTEN = [
    kind for kind in _KINDS if kind.type in {*_ANY, "numeric(40,20)", "bool", "jsonb", "interval", "bpchar", "mood"}
]
_DAMAGES = 12
"""Of each table."""


@dataclass(frozen=True)
class Sort:
    """A type, whether it may be NULL, and where its values come from."""

    type: str
    required: bool
    known: tuple[str, ...]
    """Values of which neighbours are easily taken for each other."""
    values: st.SearchStrategy[str] = field(compare=False)


def _sort(kind: Kind, required: bool, anything: bool) -> Sort:  # noqa: FBT001
    known = () if anything and kind.type in _ANY else kind.values
    values = st.sampled_from(known) if known else _ANY[kind.type]
    return Sort(kind.type, required, known, values if required else st.one_of(st.just(NULL), values))


_SORTS = st.builds(_sort, st.one_of(st.sampled_from(_OFTEN), st.sampled_from(_KINDS)), st.booleans(), st.booleans())


@dataclass(frozen=True)
class Scene:
    """A table, its rows, and the rows of copies that went wrong."""

    columns: tuple[Sort, ...]
    key: str
    """Type of a key; empty where there is none."""
    rows: tuple[Row, ...]
    damaged: tuple[tuple[Row, ...], ...]

    @property
    def table(self) -> str:
        """SQL."""
        key = [f"id {self.key} PRIMARY KEY"] if self.key else []
        given = [f"c{n} {sort.type} {'NOT NULL' if sort.required else ''}" for n, sort in enumerate(self.columns)]
        return f"CREATE TABLE t ({', '.join([*key, *given])})"

    def filled(self, rows: tuple[Row, ...]) -> str:
        """SQL; a key is the row's place, as far as there were rows."""
        told = [", ".join([*([f"'{n}'"] if self.key else []), *row]) for n, row in enumerate(rows)]
        return f"INSERT INTO t VALUES {', '.join(f'({row})' for row in told)}" if told else "SELECT"


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A table with up to 12 columns and 8 rows, and as many damages as there are different ones among a dozen."""
    columns = tuple(draw(st.lists(_SORTS, min_size=1, max_size=11)))
    columns += (draw(st.sampled_from(columns)),) if draw(st.booleans()) else ()
    rows = draw(st.lists(st.tuples(*(sort.values for sort in columns)), min_size=1, max_size=8))
    key = draw(st.sampled_from(["", "int4", "text"]))
    damaged = dict.fromkeys(tuple(_damaged(draw, columns, rows)) for _ in range(_DAMAGES))
    # Without a key, the order of rows is nothing.
    other = [found for found in damaged if (found != tuple(rows) if key else Counter(found) != Counter(rows))]
    return Scene(columns, key, tuple(rows), tuple(other))


def _damaged(draw: st.DrawFn, columns: tuple[Sort, ...], rows: list[Row]) -> list[Row]:
    """A value that is like the one before, any other, a row less, a row twice, two values exchanged; or nothing new."""
    at, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(columns) - 1))
    changed, row = list(rows), list(rows[at])
    known = columns[column].known
    match draw(st.sampled_from(["near", "near", "near", "value", "less", "twice", "between rows", "within a row"])):
        case "near" if row[column] in known:
            row[column] = known[(known.index(row[column]) + draw(st.sampled_from([-2, -1, 1, 2]))) % len(known)]
        case "near" | "value":
            row[column] = draw(columns[column].values)
        case "less":
            del changed[at]
            return changed
        case "twice":
            changed.append(rows[at])
        case "between rows":
            other = draw(st.integers(0, len(rows) - 1))
            row[column] = rows[other][column]
            changed[other] = (*rows[other][:column], rows[at][column], *rows[other][column + 1 :])
        case _:
            alike = [n for n, sort in enumerate(columns) if sort.values is columns[column].values]
            other = draw(st.sampled_from(alike))
            row[column], row[other] = row[other], row[column]
    changed[at] = tuple(row)
    return changed


@dataclass(frozen=True)
class Couple:
    """Two databases on one server, with the same types in them."""

    source: psycopg.Connection
    copy: psycopg.Connection


@pytest.fixture(scope="module")
def couple(production: Cluster) -> Iterator[Couple]:
    """Measured by their owner, each in one session: there are many examples."""
    with ExitStack() as held:
        held.enter_context(pytest.MonkeyPatch.context()).setattr(scans, "ROWS_IN_BUCKET", 2)
        yield Couple(*(held.enter_context(_opened(new_database(production, SETUP).owner)) for _ in range(2)))


def _opened(address: Address) -> psycopg.Connection:
    return connect(address, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS)


def content(connection: psycopg.Connection, digest: Digest, like: Measures | None = None) -> Measures:
    """What a drill measures of the tables."""
    wish = Wish(digest=digest, structure=False, sequences=False)
    return measure(lambda: nullcontext(connection), wish, Scope(1, like=like), a_log(), quiet)


# A smaller example is not worth the minutes that it takes to find one.
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(scene=scenes().filter(lambda scene: bool(scene.damaged)), digest=st.sampled_from(["fast", "fast", "sha256"]))
def test_a_copy_passes_and_a_copy_with_any_change_fails(couple: Couple, scene: Scene, digest: Digest) -> None:
    for connection in (couple.source, couple.copy):
        connection.execute(f"DROP TABLE IF EXISTS t; {scene.table}".encode())
    couple.source.execute(scene.filled(scene.rows).encode())
    couple.source.execute("ANALYZE t")
    expected = content(couple.source, digest)
    assert (expected.counts[0].rows, expected.counts[0].error) == (len(scene.rows), "")
    with (
        couple.source.cursor().copy("COPY t TO STDOUT") as written,
        couple.copy.cursor().copy("COPY t FROM STDIN") as read,
    ):
        for block in written:
            read.write(block)
    assert compare_content(expected, content(couple.copy, digest, expected), Content()).verdict is Verdict.PASS
    for damaged in scene.damaged:
        couple.copy.execute("TRUNCATE t")
        couple.copy.execute(scene.filled(damaged).encode())
        found = compare_content(expected, content(couple.copy, digest, expected), Content())
        assert found.verdict is Verdict.FAIL, damaged
