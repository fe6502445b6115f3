"""Damages to rows: some went missing, came twice, or exchanged what they hold; and damages to large objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from checks.negative.planting import Damage, Planting, Site, quoted_name
from checks.negative.values import INSTANTS, NUMBERS
from drills.measures import LARGE_OBJECTS

# ruff: noqa: S608 - names are quoted

# --- several rows ---------------------------------------------------------------------------------------------------


def _swapped(site: Site) -> Iterator[Planting]:
    """Two rows exchange their amounts, so that every total is as it was."""
    for column in site.columns:
        if column.kind in NUMBERS and column.keyed and not (column.unique or column.fixed):
            name, table = quoted_name(column), column.quoted
            statement = (
                f"WITH one AS (SELECT ctid AS at, {name} AS v FROM ONLY {table} WHERE {name} IS NOT NULL LIMIT 1),"
                f" two AS (SELECT t.ctid AS at, t.{name} AS v FROM ONLY {table} t, one WHERE t.{name} <> one.v LIMIT 1)"
                f" UPDATE ONLY {table} t SET {name} = CASE WHEN t.ctid = one.at THEN two.v ELSE one.v END"
                " FROM one, two WHERE t.ctid IN (one.at, two.at) RETURNING 1"
            )
            yield Planting(f"{column.shown}.{column.name}", (statement,), 2, frozenset({column.shown}))


def _all_rows(site: Site) -> Iterator[Planting]:
    """An hour, as when a time zone was taken for another."""
    for column in site.columns:
        if column.kind in INSTANTS and not (column.unique or column.fixed):
            name, count = quoted_name(column), site.rows[column.shown]
            statement = (
                f"UPDATE ONLY {column.quoted} SET {name} = {name} + interval '1 hour'"
                f" WHERE (SELECT bool_or(isfinite({name})) FROM ONLY {column.quoted}) RETURNING 1"
            )
            yield Planting(f"{column.shown}.{column.name}", (statement,), count, frozenset({column.shown}))


def _tables(site: Site) -> Iterator[tuple[str, str, str]]:
    """Every table that has rows: its name for people and for SQL, and its columns that can be written."""
    names = dict.fromkeys((column.shown, column.quoted) for column in site.columns)
    for shown, quoted in names:
        own = [quoted_name(column) for column in site.columns if column.shown == shown and not column.generated]
        yield shown, quoted, ", ".join(own)


def _lost(site: Site) -> Iterator[Planting]:
    for shown, quoted, _ in _tables(site):
        statement = f"DELETE FROM ONLY {quoted} WHERE ctid = (SELECT ctid FROM ONLY {quoted} LIMIT 1) RETURNING 1"
        yield Planting(shown, (statement,), 1, frozenset({shown}))


def _emptied(site: Site) -> Iterator[Planting]:
    for shown, quoted, _ in _tables(site):
        yield Planting(shown, (f"DELETE FROM ONLY {quoted} RETURNING 1",), site.rows[shown], frozenset({shown}))


_UNIQUE = """
SELECT CASE WHEN k.oid IS NULL THEN format('DROP INDEX %s CASCADE', i.indexrelid::regclass)
            ELSE format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', i.indrelid::regclass, k.conname) END
  FROM pg_index i LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
 WHERE i.indrelid = '{}'::regclass AND (i.indisunique OR i.indisexclusion) ORDER BY 1
"""


def _without_uniqueness(site: Site, quoted: str) -> tuple[str, ...]:
    """What stands in the way of a row that is there twice, away with it: rows may come twice only where it is gone."""
    return tuple(str(row[0]) for row in site.ask(_UNIQUE.format(quoted.replace("'", "''"))))


def _duplicated(site: Site) -> Iterator[Planting]:
    for shown, quoted, columns in _tables(site):
        statement = (
            f"INSERT INTO {quoted} ({columns}) OVERRIDING SYSTEM VALUE"
            f" SELECT {columns} FROM ONLY {quoted} LIMIT 1 RETURNING 1"
        )
        yield Planting(shown, (*_without_uniqueness(site, quoted), statement), 1, frozenset({shown}))


def _replaced(site: Site) -> Iterator[Planting]:
    """One row is lost and another is there twice, so that the count is as it was."""
    for shown, quoted, columns in _tables(site):
        statement = (
            f"WITH one AS (SELECT ctid AS at, t::text AS v FROM ONLY {quoted} t LIMIT 1),"
            f" two AS (SELECT t.* FROM ONLY {quoted} t, one WHERE t::text <> one.v LIMIT 1),"
            f" gone AS (DELETE FROM ONLY {quoted} t USING one, two WHERE t.ctid = one.at)"
            f" INSERT INTO {quoted} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM two RETURNING 1"
        )
        yield Planting(shown, (*_without_uniqueness(site, quoted), statement), 1, frozenset({shown}))


_FOREIGN_KEYS = """
SELECT n.nspname::text, c.relname::text, a.attname::text, format('%I.%I', fn.nspname, f.relname), quote_ident(b.attname)
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid AND c.relkind = 'r' JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
  JOIN pg_attribute b ON b.attrelid = f.oid AND b.attnum = k.confkey[1]
 WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND b.atttypid IN (21, 23, 20)
 ORDER BY 1, 2, 3
"""


def _orphan(site: Site) -> Iterator[Planting]:
    keys = {row[:3]: row[3:] for row in site.ask(_FOREIGN_KEYS)}
    for column in site.columns:
        if (column.schema, column.table, column.name) in keys and not column.fixed:
            table, name = keys[column.schema, column.table, column.name]
            own = quoted_name(column)
            statement = (
                f"UPDATE ONLY {column.quoted} SET {own} = (SELECT max({name}) + 1 FROM {table}) WHERE ctid ="
                f" (SELECT ctid FROM ONLY {column.quoted} WHERE {own} IS NOT NULL LIMIT 1) RETURNING 1"
            )
            yield Planting(f"{column.shown}.{column.name}", (statement,), 1, frozenset({column.shown}))


# --- large objects --------------------------------------------------------------------------------------------------


def _object(site: Site, statement: str) -> Iterator[Planting]:
    if LARGE_OBJECTS in site.rows:  # a plan may leave them out, as it may a table
        yield Planting(LARGE_OBJECTS, (statement,), 1, frozenset({LARGE_OBJECTS}))


def _object_byte(site: Site) -> Iterator[Planting]:
    yield from _object(
        site,
        "SELECT lo_put(oid, 0, set_byte(content, 0, 255 - get_byte(content, 0))) FROM (SELECT oid, lo_get(oid, 0, 1)"
        " AS content FROM pg_largeobject_metadata ORDER BY oid) o WHERE length(content) > 0 LIMIT 1",
    )


def _object_lost(site: Site) -> Iterator[Planting]:
    yield from _object(site, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata ORDER BY oid LIMIT 1")


ROWS: Mapping[str, Damage] = MappingProxyType(
    {
        "swapped amounts": Damage(
            "two rows have exchanged their amounts, so that every total is as it was", "content", _swapped
        ),
        "an hour in every row": Damage(
            "all instants of a column are an hour late, as by a wrong time zone", "content", _all_rows
        ),
        "foreign key orphan": Damage("a row refers to one that is not there", "content", _orphan),
        "one row instead of another": Damage(
            "one row is lost and another is there twice, so that the count is as it was", "content", _replaced
        ),
        "large object byte": Damage("one byte of a large object is inverted", "content", _object_byte),
        "lost row": Damage("a table lacks one row", "row counts", _lost),
        "duplicated row": Damage("a table has one row twice", "row counts", _duplicated),
        "emptied table": Damage("a table has no rows any more", "row counts", _emptied),
        "lost large object": Damage("a large object is gone", "row counts", _object_lost),
    }
)  # fmt: skip
