"""What the columns that sequences feed hold already.

Refuses to ask a foreign table, be it a partition or an heir: the copy would go to a remote server, with a user mapping
that was restored. Guarantees that a column which cannot be asked says so in its place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import psycopg
from psycopg import sql

from checks.asking import Log
from checks.lots import in_lots
from checks.names import identifier
from drills.errors import CheckError
from drills.measures import SequenceState

End = tuple[Decimal | str | None, bool]
"""What a column has that is furthest along, or why nobody knows; and whether foreign tables below it were left out."""
_Name = tuple[str, str]

_WITH_FOREIGN = """
WITH RECURSIVE below AS (
  SELECT DISTINCT inhparent AS root, inhparent AS oid FROM pg_inherits
   UNION
  SELECT b.root, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid)
SELECT json_build_array(n.nspname, r.relname, coalesce(
         json_agg(json_build_array(m.nspname, c.relname)) FILTER (WHERE c.relkind = 'r'), '[]'))::text
  FROM below b JOIN pg_class r ON r.oid = b.root JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace m ON m.oid = c.relnamespace
 GROUP BY r.oid, n.nspname, r.relname HAVING bool_or(c.relkind = 'f')
"""
"""Tables with a foreign one somewhere below them, and the ordinary ones among what they consist of."""


def read_ends(
    connection: psycopg.Connection, log: Log, states: Sequence[SequenceState], name: str
) -> dict[str, list[End]]:
    """Of every sequence's columns what is furthest along, in the order of `feeds`.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: the server went away.
    """
    columns = [(state, column) for state in states for column in state.feeds]
    if not columns:
        return {}
    with_foreign: dict[_Name, list[_Name]] = {}
    for (row,) in log.ask(connection, f"{name}: foreign tables", _WITH_FOREIGN.strip()):
        schema, table, ordinary = json.loads(row)
        with_foreign[schema, table] = [(part[0], part[1]) for part in ordinary]

    def statement(asked: tuple[SequenceState, tuple[str, str, str]]) -> str:
        state, (schema, table, column) = asked
        return _end_of(state.increment, column, (schema, table), with_foreign.get((schema, table)))

    found: dict[str, list[End]] = {}
    for (state, fed), given in zip(columns, in_lots(connection, log, name, columns, statement), strict=True):
        end = given.message if isinstance(given, CheckError) else given[0]
        found.setdefault(state.name, []).append((end, fed[:2] in with_foreign))
    return found


def _end_of(increment: int, column: str, table: _Name, ordinary: Sequence[_Name] | None) -> str:
    """The question for one column; where only `ordinary` tables may be asked, each of them by itself."""
    end = f"{'max' if increment > 0 else 'min'}({{}})"
    of_one = f"SELECT {end.format(sql.Identifier(column).as_string())}::numeric AS e FROM {{}}"  # noqa: S608 - quoted
    if ordinary is None:
        return of_one.format(identifier(*table))
    each = [of_one.format(f"ONLY {identifier(*one)}") for one in ordinary]
    return f"SELECT {end.format('e')} FROM ({' UNION ALL '.join(each or ['SELECT NULL::numeric AS e'])}) parts"  # noqa: S608 - same
