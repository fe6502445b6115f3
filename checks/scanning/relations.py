"""The tables of a database as its catalogue describes them: what there is to scan, by which columns, in which buckets.

Owns the two statements that read it. Guarantees that every table is listed, also those that cannot be measured, and
that domains are seen through to the type that they stand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from checks.asking import Log
from checks.names import identifier, qualified

KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}
UNLOGGED = "unlogged table"
_RELATIONS = """
SELECT c.relkind::text, n.nspname::text, c.relname::text, coalesce(pg_relation_size(c.oid), 0),
       c.relpersistence = 'u', c.reltuples::bigint, coalesce(a.amname, '') = 'heap', c.oid::bigint,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2, 3
"""
_COLUMNS = """
WITH RECURSIVE plain AS (
    SELECT t.oid AS declared, t.oid AS base, -1 AS typmod FROM pg_type t WHERE t.typtype <> 'd'
    UNION ALL
    SELECT d.oid, p.base, greatest(d.typtypmod, p.typmod)
      FROM plain p JOIN pg_type d ON d.typtype = 'd' AND d.typbasetype = p.declared)
SELECT c.oid::bigint, a.attname::text, quote_ident(a.attname) = a.attname,
       CASE WHEN a.atttypid <> p.base THEN format_type(p.base, -1) ELSE '' END,
       CASE WHEN n.nspname = 'pg_catalog' THEN b.typname::text ELSE '' END,
       CASE WHEN p.typmod = -1 THEN a.atttypmod ELSE p.typmod END, a.attnotnull AND NOT EXISTS (
         SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'n' AND NOT k.convalidated
            AND k.conkey[1] = a.attnum),
       EXISTS (SELECT FROM pg_collation k WHERE k.oid = a.attcollation AND NOT k.collisdeterministic),
       EXISTS (SELECT FROM pg_cast k WHERE k.castsource = p.base AND k.casttarget = 'text'::regtype
                AND k.castmethod <> 'i' AND k.oid >= 16384),
       current_setting('server_version_num')::int
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN plain p ON p.declared = a.atttypid JOIN pg_type b ON b.oid = p.base JOIN pg_namespace n ON n.oid = b.typnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
 ORDER BY c.oid, a.attnum
"""
_KEYS = """
SELECT DISTINCT ON (i.indrelid) i.indrelid::bigint,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(num, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
              WHERE k.place <= i.indnkeyatts ORDER BY k.place)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace s ON s.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
   AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
   AND NOT EXISTS (SELECT FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(num, place)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
                    WHERE k.place <= i.indnkeyatts AND (NOT a.attnotnull OR EXISTS (
                       SELECT FROM pg_constraint v WHERE v.conrelid = i.indrelid AND v.contype = 'n'
                          AND NOT v.convalidated AND v.conkey[1] = a.attnum)))
 ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""


@dataclass(frozen=True)
class Column:
    """A column, with what decides how its values are hashed."""

    name: str
    bare: bool
    """It needs no quotes, and is no keyword."""
    cast: str
    """The type that its domain stands on, as SQL; empty where it is of no domain.

    Somebody may have made a function that takes the domain, which would be a better match than the server's own.
    """
    base: str
    """The name of its type in pg_catalog, domains seen through; empty for a type from elsewhere."""
    typmod: int
    required: bool
    """NOT NULL, and validated (since PostgreSQL 18 a column may be NOT NULL for new rows only)."""
    loose: bool = False
    """Its collation holds different texts for equal."""
    recast: bool = False
    """Somebody made a cast of its type to text, which may leave something out, or show what no dump writes."""
    server: int = 0
    """The version of the server whose functions there are, as 180001."""


@dataclass(frozen=True)
class Table:
    """A relation of the database, and of a table its columns and its key."""

    kind: str
    schema: str
    name: str
    size: int
    """Bytes of its main fork."""
    unlogged: bool
    rows: int
    """As the planner believes; less than 0 where it does not know."""
    heap: bool
    oid: int
    parent: bool
    """Others inherit from it, or are its partitions."""
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    """Columns of the primary key, or of another unique key without NULL; empty where there is none."""

    @property
    def shown(self) -> str:
        """Schema and name for people."""
        return qualified(self.schema, self.name)

    @property
    def quoted(self) -> str:
        """Schema and name for SQL."""
        return identifier(self.schema, self.name)

    @property
    def told_kind(self) -> str:
        """What it is, in words."""
        return UNLOGGED if self.kind == "r" and self.unlogged else KINDS[self.kind]


def read_tables(connection: psycopg.Connection, log: Log) -> list[Table]:
    """Every table, view and foreign table, by schema and name.

    Raises:
        CheckError: the catalogue cannot be read.
    """
    columns: dict[int, list[Column]] = {}
    for oid, *column in log.ask(connection, "columns", _COLUMNS):
        columns.setdefault(oid, []).append(Column(*column))
    keys = dict(log.ask(connection, "keys", _KEYS))
    return [_table(row, columns, keys) for row in log.ask(connection, "relations", _RELATIONS)]


def _table(row: Sequence[Any], columns: dict[int, list[Column]], keys: dict[int, list[str]]) -> Table:
    kind, schema, name, size, unlogged, rows, heap, oid, parent = row
    found, key = tuple(columns.get(oid, ())), tuple(keys.get(oid, ()))
    return Table(kind, schema, name, size, unlogged, rows, heap, oid, parent, found, key)
