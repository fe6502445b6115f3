"""Damages that the plan's own checks have to catch, and the one that lies in the pages: an index without a row.

A total, a rule of books, and an invariant each claim what is in their own tables; the places come from the plan.
Guarantees that a row which counts is one that the check looks at, and has an amount; and that where a total is taken
over a view or a join, the rows that are lost below it change the total.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from checks.ledger import parts
from checks.names import identifier, qualified
from checks.negative.found import RELATION, THIS
from checks.negative.planting import Damage, Planting, Site
from checks.plans import reading_no_foreign_table, tables_read
from checks.totals_sql import amount_expression, condition, own, total_statement
from drills.errors import CheckError
from drills.plans.totals import SIDES, TotalCheck

# ruff: noqa: S608 - names are quoted, and expressions are those of the plan


def _of_totals(site: Site) -> Iterator[Planting]:
    for check in site.checks.totals:
        yield from _amount_lost(check, check.name, site)


def _of_ledger(site: Site) -> Iterator[Planting]:
    for check in site.checks.ledger:
        for part in parts(check):
            if part.name == check.part_name(SIDES[-1]):
                continue  # rows that stand on neither side are in no sum
            yield from _amount_lost(part, check.name, site)


def _amount_lost(total: TotalCheck, check: str, site: Site) -> Iterator[Planting]:
    """The row with the largest amount: a tolerance is not as large as that. Else rows of the tables that are read."""
    table, amount, where = own(total.table), amount_expression(total), condition(total)
    counts = f"({amount}) <> 0" + (f" AND {where}" if where else "")
    statement = (
        f"DELETE FROM {table} WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM {table} WHERE {counts}"
        f" ORDER BY abs(({amount})::numeric) DESC LIMIT 1) RETURNING 1"
    )
    try:
        names = _names(table, site)
    except CheckError:
        names = frozenset()  # no table, but an expression: its rows lie elsewhere
    if names:
        yield Planting(f"{table} of {check}", (statement,), 1, names, check)
    try:
        yield from _rows_below(total, check, site)
    except CheckError:
        return  # it cannot be planned, or reads a foreign table, so that it passes nowhere


def _rows_below(total: TotalCheck, check: str, site: Site) -> Iterator[Planting]:
    """One row, or all, of each table that a total over a view or a join reads, where the total changes by it."""
    statement = total_statement(total)
    tables, refreshed = _read_by(statement, check, site)
    mark = (
        'hashtextextended(coalesce(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C"), \'\') COLLATE "C", 0)'
        f"::text FROM ({statement}) t"
    )
    before = f"SELECT set_config('drillbook.before', (SELECT {mark}), true)"
    changed = f"SELECT 1 WHERE current_setting('drillbook.before') <> (SELECT {mark})"
    filled = [table for table in tables if qualified(*table) in site.rows]
    one = "DELETE FROM ONLY {0} WHERE ctid = (SELECT ctid FROM ONLY {0} LIMIT 1)"
    # A sum may be off by what the plan tolerates; not so one that has lost all of its rows.
    for action in ("TRUNCATE ONLY {0}", "DELETE FROM ONLY {0}") if total.tolerance else (one, "DELETE FROM ONLY {0}"):
        for table in filled:
            shown, statements = qualified(*table), (before, action.format(identifier(*table)), *refreshed, changed)
            yield Planting(f"{shown} of {check}", statements, 1, frozenset({shown}), check)


_MATERIALIZED = """
SELECT n.nspname::text, c.relname::text, pg_get_viewdef(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm'
"""


def _read_by(statement: str, name: str, site: Site) -> tuple[list[tuple[str, str]], list[str]]:
    """The tables that a statement reads, through materialized views as well, and what computes these anew.

    Raises:
        CheckError: it cannot be planned, or reads a foreign table.
    """
    with (
        site.connection.transaction(force_rollback=True),  # which gives up the locks that tell what a statement reads
        reading_no_foreign_table(site.connection, site.log, name, statement) as planned,
    ):
        read = tables_read(site.connection, site.log, name, planned)
    views = {(str(schema), str(view)): str(text) for schema, view, text in site.ask(_MATERIALIZED)}
    tables, refreshed = [table for table in read if table not in views], []
    for view in (table for table in read if table in views):
        below, first = _read_by(views[view], name, site)
        tables += below
        refreshed += [*first, f"REFRESH MATERIALIZED VIEW {identifier(*view)}"]
    return list(dict.fromkeys(tables)), list(dict.fromkeys(refreshed))


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
            tables, refreshed = _read_by(check.sql, check.name, site)
        except CheckError:
            continue
        filled = [table for table in tables if qualified(*table) in site.rows]
        if filled:
            names = frozenset(qualified(*table) for table in filled)
            where, quoted = f"{', '.join(sorted(names))} of {check.name}", [identifier(*table) for table in filled]
            # A table that others refer to cannot be truncated; a large one is deleted from but slowly.
            truncate = f"TRUNCATE {', '.join(f'ONLY {table}' for table in quoted)}"
            yield Planting(where, (truncate, *refreshed), None, names, check.name)
            statements = (*(f"DELETE FROM ONLY {table}" for table in quoted), *refreshed)
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
        if shown in site.rows:
            ready = f"UPDATE pg_catalog.pg_index SET indisready = {{}} WHERE indexrelid = {index}"
            again = (
                f"WITH gone AS (DELETE FROM ONLY {quoted} WHERE ctid = (SELECT ctid FROM ONLY {quoted} LIMIT 1)"
                f" RETURNING *) INSERT INTO {quoted} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone"
            )
            # Where the table is empty after all, as it may be in a copy of another time, nothing has changed.
            filled = f"{ready.format('true')} AND EXISTS (SELECT FROM ONLY {quoted}) RETURNING indexrelid"
            yield Planting(str(where), (ready.format("false"), again, filled), 1, frozenset({shown}))


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
