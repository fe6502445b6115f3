"""Damages to tables and views as a whole, and to sequences."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks.negative.found import ORDINARY, RELATION, SMALLEST, THIS, on_relations, places
from checks.negative.planting import Damage
from checks.structure.catalogue import OWN_SCHEMA

TABLES: Mapping[str, Damage] = MappingProxyType(
    {
        "missing table": Damage(
            "a table is not there", "tables",
            on_relations("DROP TABLE %s CASCADE", ORDINARY, SMALLEST).find,
        ),
        "unexpected table": Damage(
            "a table is there that nobody expects", "tables",
            places("quote_ident(n.nspname)", "format('CREATE TABLE %I.drillbook_damage (id int)', n.nspname)",
                "pg_namespace n", OWN_SCHEMA).find,
        ),
        "missing view": Damage(
            "a view is not there", "tables", on_relations("DROP VIEW %s CASCADE", "c.relkind = 'v'").find
        ),
        "table made unlogged": Damage(
            "a table would lose its rows in a crash", "tables",
            on_relations("ALTER TABLE %s SET UNLOGGED", f"{ORDINARY} AND c.relpersistence = 'p'", SMALLEST).find,
        ),
    }
)  # fmt: skip

_SEQUENCE = f"""pg_sequences s CROSS JOIN {RELATION} AND n.nspname = s.schemaname AND c.relname = s.sequencename
       AND c.relpersistence = 'p'"""
"""An unlogged one may be given up by the plan, and is then not compared (see `checks.unlogged`)."""


def _sequence(meaning: str, action: str, where: str) -> Damage:
    return Damage(meaning, "sequences", places(THIS, f"format({action})", _SEQUENCE, where).find)


SEQUENCES: Mapping[str, Damage] = MappingProxyType(
    {
        # setval() would outlive the transaction; RESTART does not.
        "sequence behind": _sequence(
            "a sequence gives values again that it has given",
            f"'ALTER SEQUENCE %s RESTART WITH %s', {THIS}, s.start_value",
            "(s.last_value - s.start_value) * sign(s.increment_by) >= 0 AND NOT s.cycle",
        ),
        "sequence ahead": _sequence(
            "a sequence leaves out values that it never gave",
            f"'ALTER SEQUENCE %s RESTART WITH %s', {THIS},"
            " coalesce(s.last_value, s.start_value)::numeric + 1000 * s.increment_by",
            "coalesce(s.last_value, s.start_value)::numeric + 1000 * s.increment_by"
            " BETWEEN s.min_value AND s.max_value",
        ),
        "sequence with another step": _sequence(
            "a sequence counts by another step",
            f"'ALTER SEQUENCE %s INCREMENT BY %s', {THIS}, s.increment_by + sign(s.increment_by)",
            "s.increment_by + sign(s.increment_by) < s.max_value",
        ),
        "missing sequence": _sequence(
            "a sequence is not there", f"'DROP SEQUENCE %s CASCADE', {THIS}", "true"
        ),
    }
)  # fmt: skip
