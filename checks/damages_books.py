"""Damages that the plan's own checks have to catch, and the one that lies in the pages: an index without a row.

A total, a rule of books, and an invariant each claim what is in their own tables; the places come from the plan.
Guarantees that a row which counts is one that the check looks at, and has an amount.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from checks.damages_found import RELATION, THIS
from checks.ledger import parts
from checks.names import identifier, qualified
from checks.plans import reading_no_foreign_table, tables_read
from checks.planting import Damage, Planting, Site
from checks.totals_sql import amount_expression, condition, own
from drills.errors import CheckError
from drills.plan_totals import TotalCheck

# ruff: noqa: S608 - names are quoted, and expressions are those of the plan


def _of_totals(site: Site) -> Iterator[Planting]:
    for check in site.checks.totals:
        yield from _amount_lost(check, check.name, site)


def _of_ledger(site: Site) -> Iterator[Planting]:
    for check in site.checks.ledger:
        for part in parts(check):
            yield from _amount_lost(part, check.name, site)


def _amount_lost(total: TotalCheck, check: str, site: Site) -> Iterator[Planting]:
    """The row with the largest amount: a tolerance is not as large as that."""
    table, amount, where = own(total.table), amount_expression(total), condition(total)
    counts = f"({amount}) <> 0" + (f" AND {where}" if where else "")
    statement = (
        f"DELETE FROM {table} WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM {table} WHERE {counts}"
        f" ORDER BY abs(({amount})::numeric) DESC LIMIT 1) RETURNING 1"
    )
    try:
        yield Planting(f"{table} of {check}", (statement,), 1, _names(table, site), check)
    except CheckError:
        return  # no table, but an expression: its rows lie elsewhere


_NAMES = """
WITH RECURSIVE part AS (SELECT {}::regclass::oid AS oid UNION SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = oid)
SELECT n.nspname::text, c.relname::text FROM part JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
"""  # noqa: E501 - SQL


def _names(table: str, site: Site) -> frozenset[str]:
    """The tables that hold the rows of one that a plan names."""
    literal = "'" + table.replace("'", "''") + "'"
    return frozenset(qualified(str(schema), str(name)) for schema, name in site.ask(_NAMES.format(literal)))


def _under_invariants(site: Site) -> Iterator[Planting]:
    for check in site.checks.invariants:
        try:
            with (
                site.connection.transaction(),
                reading_no_foreign_table(site.connection, site.log, check.name, check.sql) as planned,
            ):
                tables = tables_read(site.connection, site.log, check.name, planned)
        except CheckError:
            continue
        filled = [table for table in tables if site.rows.get(qualified(*table))]
        if filled:
            names = frozenset(qualified(*table) for table in filled)
            where, quoted = f"{', '.join(sorted(names))} of {check.name}", [identifier(*table) for table in filled]
            # A table that others refer to cannot be truncated; a large one is deleted from but slowly.
            truncate = f"TRUNCATE {', '.join(f'ONLY {table}' for table in quoted)}"
            yield Planting(where, (truncate,), None, names, check.name)
            statements = tuple(f"DELETE FROM ONLY {table}" for table in quoted)
            yield Planting(where, statements, None, names, check.name)


_INDEXES = f"""
SELECT {THIS}, n.nspname::text, c.relname::text, i.indexrelid::bigint,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
  FROM pg_index i CROSS JOIN {RELATION} AND c.oid = i.indrelid AND c.relkind = 'r'
  JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
 WHERE i.indisvalid AND i.indisready AND i.indpred IS NULL
 ORDER BY pg_relation_size(c.oid), 1, x.relname
"""


def _unindexed(site: Site) -> Iterator[Planting]:
    """A row is written anew while its index is told to look away; afterwards nobody can find it by the index."""
    for where, schema, table, index, columns in site.ask(_INDEXES):
        shown, quoted = qualified(str(schema), str(table)), identifier(str(schema), str(table))
        if site.rows.get(shown):
            ready = f"UPDATE pg_catalog.pg_index SET indisready = {{}} WHERE indexrelid = {index}"
            again = (
                f"WITH gone AS (DELETE FROM ONLY {quoted} WHERE ctid = (SELECT ctid FROM ONLY {quoted} LIMIT 1)"
                f" RETURNING *) INSERT INTO {quoted} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone"
            )
            statements = (ready.format("false"), again, ready.format("true"))
            yield Planting(str(where), statements, None, frozenset({shown}))


BOOKS: Mapping[str, Damage] = MappingProxyType(
    {
        "amount lost from a total": Damage(
            "the row with the largest amount of a total is gone", "totals", _of_totals
        ),
        "amount lost from a ledger rule": Damage(
            "the row with the largest amount of a rule's sums is gone", "ledger", _of_ledger
        ),
        "emptied tables under an invariant": Damage(
            "the tables of an invariant have no rows any more, so that none can violate it", "invariant",
            _under_invariants,
        ),
        "index that misses a row": Damage(
            "a row is in its table and not in its index, so that queries do not find it", "amcheck", _unindexed
        ),
    }
)  # fmt: skip
