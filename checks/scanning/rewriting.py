"""Whether a table is still the one that the snapshot saw.

MVCC keeps old rows, but a table that was truncated, rewritten or exchanged for another since has lost them. Asked after
a table was read and before the lock on it is given back, what is said here holds for all that was read.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from checks.asking import Log
from checks.names import qualified

WHY = "truncated or rewritten after the snapshot was taken, which cannot be looked behind"
_ASKED = "tables rewritten since the snapshot"
# pg_class is read as of the snapshot, the functions see the present. Catalogues that have no file node are mapped.
_OF_THESE = """
SELECT asked.oid
  FROM unnest({oids}::bigint[], {names}::text[]) AS asked(oid, name) LEFT JOIN pg_class c ON c.oid = asked.oid
 WHERE to_regclass(asked.name)::oid IS DISTINCT FROM c.oid
    OR c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
"""
_LOCKED = """
SELECT n.nspname::text, c.relname::text
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'm')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
"""


def rewritten(connection: psycopg.Connection, log: Log, tables: Sequence[tuple[int, str]]) -> set[int]:
    """Those of these tables, by OID and name for SQL, which the snapshot saw otherwise."""
    if not tables:
        return set()
    oids, names = ([table[place] for table in tables] for place in (0, 1))
    statement = sql.SQL(_OF_THESE).format(oids=sql.Literal(oids), names=sql.Literal(names))
    return {oid for (oid,) in log.ask(connection, _ASKED, statement.as_string())}


def all_rewritten(connection: psycopg.Connection, log: Log) -> list[str]:
    """Of all tables that this transaction has locked, by their names for people."""
    return sorted(qualified(schema, table) for schema, table in log.ask(connection, _ASKED, _LOCKED))
