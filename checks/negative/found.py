"""Places for a damage that the catalogue knows: queries that name them and write the statements for them.

Guarantees an order that does not depend on OIDs, which a restore deals anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.negative.planting import Planting, Site
from checks.structure.catalogue import OWN_SCHEMA, no_member

# ruff: noqa: S608 - put together from the constants of this program

OWN = f"{OWN_SCHEMA} AND {no_member('pg_class', 'c.oid')}"
RELATION = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {OWN}"
ROUTINE = (
    f"pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND {OWN_SCHEMA} AND {no_member('pg_proc', 'p.oid')}"
)
TYPE = f"pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND {OWN_SCHEMA} AND {no_member('pg_type', 't.oid')}"
COLUMN = f"""{RELATION} AND c.relkind = 'r' AND NOT c.relispartition
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount = 0"""
THIS = "format('%I.%I', n.nspname, c.relname)"
THIS_COLUMN = "format('%I.%I.%I', n.nspname, c.relname, a.attname)"
THIS_TYPE = "format('%I.%I', n.nspname, t.typname)"
ROUTINE_NAME = "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))"
ORDINARY = "c.relkind = 'r' AND NOT c.relispartition"
SMALLEST = "pg_relation_size(c.oid)"


@dataclass(frozen=True)
class Found:
    """Places that the catalogue knows: a query of where, and of the statements for it."""

    query: str

    def find(self, site: Site) -> Iterator[Planting]:
        """All of them."""
        for where, statements in site.ask(self.query):
            yield Planting(str(where), tuple(statements))  # type: ignore[arg-type]  # an array of texts


def places(name: str, statements: str, source: str, where: str = "", order: str = "") -> Found:
    """A query for places: their name, the statements for each, where they come from, which of them, in what order."""
    only = f" WHERE {where}" if where else ""
    return Found(
        f"SELECT {name}, ARRAY[{statements}]\n  FROM {source}{only}\n ORDER BY {order}{', ' if order else ''}1"
    )


def on_columns(action: str, where: str) -> Found:
    """Columns of ordinary tables, and what is done to each."""
    return places(THIS_COLUMN, f"format('ALTER TABLE %s ALTER %I {action}', {THIS}, a.attname)", COLUMN, where)


def on_relations(statement: str, where: str, order: str = "") -> Found:
    """Relations, and what is done to each."""
    return places(THIS, f"format('{statement}', {THIS})", RELATION, where, order)
