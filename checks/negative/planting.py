"""Planting a damage in a database, in a transaction that is rolled back.

Owns what a damage is, and the search for a place where it can be planted. Refuses a place where the server does, or
where nothing would change: then the next is tried. Guarantees that the same database is damaged in the same place, in
the smallest table with amounts of money before all others, and that a damage for which there is no place is said to
have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import psycopg
from psycopg import sql

from checks.asking import Log
from checks.names import identifier, qualified
from checks.structure.catalogue import OWN_SCHEMA, no_member
from drills.errors import CheckError
from drills.plans.checks import Checks

_MOST_PLACES = 60
"""Places that are tried for one damage."""
_QUIET = "SELECT set_config('session_replication_role', 'replica', true)"
"""No trigger fires and no foreign key objects, as when a backup is loaded. Only a superuser may set this."""
_SEARCH = "SELECT set_config('synchronize_seqscans', 'off', true)"
"""A scan that begins in the middle would find another row each time."""
_COLUMNS = f"""
SELECT n.nspname::text, c.relname::text, a.attname::text,
       CASE WHEN b.typtype = 'e' THEN 'enum' WHEN b.typtype = 'r' THEN 'range' WHEN b.typcategory = 'A' THEN 'array'
            WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname::text ELSE '' END,
       format_type(a.atttypid, a.atttypmod), CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       a.attnotnull,
       EXISTS (SELECT FROM pg_collation k WHERE k.oid = a.attcollation AND NOT k.collisdeterministic),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey)),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       a.attgenerated <> '', a.attidentity = 'a'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 ORDER BY 1, 2, a.attnum
"""  # noqa: S608 - put together from the constants of this program


@dataclass(frozen=True)
class Column:
    """A column that a damage may be planted in."""

    schema: str
    table: str
    name: str
    kind: str
    """Its type in pg_catalog, a domain seen through; `enum`, `range` or `array`; empty for any other."""
    type: str
    """As a cast has it."""
    typmod: int
    required: bool
    loose: bool
    """Its collation holds different texts for equal."""
    unique: bool
    """Part of a unique index."""
    keyed: bool
    """Its table has a primary key, so that no two of its rows are alike."""
    generated: bool
    numbered: bool
    """GENERATED ALWAYS AS IDENTITY."""

    @property
    def fixed(self) -> bool:
        """Whether an UPDATE cannot write to it."""
        return self.generated or self.numbered

    @property
    def shown(self) -> str:
        """Its table, for people."""
        return qualified(self.schema, self.table)

    @property
    def quoted(self) -> str:
        """Its table, for SQL."""
        return identifier(self.schema, self.table)


def quoted_name(column: Column) -> str:
    """Its name for SQL."""
    return sql.Identifier(column.name).as_string()


@dataclass(frozen=True)
class Planting:
    """One way to plant a damage in one place."""

    where: str
    """For people."""
    statements: tuple[str, ...]
    rows: int | None = None
    """How many rows the last statement must give; None where it gives none."""
    tables: frozenset[str] = frozenset()
    """Whose rows it changes."""
    check: str = ""
    """The one check of its kind that claims it; empty where there is only one."""


@dataclass(frozen=True)
class Site:
    """The database that is to be damaged."""

    connection: psycopg.Connection
    log: Log
    columns: Sequence[Column]
    """Of tables with rows, in the order in which they are tried."""
    rows: Mapping[str, int | None]
    """Of every table that has any and whose content is compared, by its name for people; None where not counted."""
    checks: Checks
    """What the plan asks, with all periods settled."""

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of a statement about places.

        Raises:
            CheckError: the server refused it.
        """
        with self.connection.transaction():
            return self.log.ask(self.connection, "places for a damage", statement)


@dataclass(frozen=True)
class Damage:
    """Something that can go wrong with a copy."""

    meaning: str
    claimed_by: str
    """The check that has to catch it; `totals`, `ledger` and `invariant` are those of the plan."""
    find: Callable[[Site], Iterator[Planting]]
    """The places where it may be planted, the best first."""
    of_owners: bool = False
    """Seen only where owners and grants were restored."""


def survey(connection: psycopg.Connection, log: Log, rows: Mapping[str, int | None], checks: Checks) -> Site:
    """What there is to be damaged.

    Args:
        connection: a session on the scratch clone that may write.
        log: of the statements.
        rows: of each table that has any, by its name for people.
        checks: what the plan asks, with all periods settled.

    Raises:
        CheckError: the catalogue cannot be read.
    """
    columns = [Column(*row) for row in log.ask(connection, "columns to be damaged", _COLUMNS)]
    columns = [column for column in columns if column.shown in rows]
    rich = {column.shown for column in columns if column.kind in {"numeric", "money"}}
    columns.sort(key=lambda one: (rows[one.shown] == 1, one.shown not in rich, rows[one.shown] or 0, one.shown))
    return Site(connection, log, columns, rows, checks)


def plant(damage: Damage, site: Site) -> Planting | None:
    """Plant it in the first place that takes it, inside of the transaction that is open; None where there is none.

    Raises:
        CheckError: places could not be looked for.
        ConnectError: the server went away.
    """
    with site.connection.transaction():
        site.log.tell(site.connection, "scans from the beginning", _SEARCH)
    _allow(site)
    return next((place for place in islice(damage.find(site), _MOST_PLACES) if _takes(place, site)), None)


def _allow(site: Site) -> None:
    """Without this, a trigger or a foreign key may refuse one place or the other."""
    try:
        with site.connection.transaction():
            site.log.tell(site.connection, "no triggers", _QUIET)
    except CheckError:
        return


def _takes(planting: Planting, site: Site) -> bool:
    """Plant it there; what was begun and did not succeed is rolled back."""
    try:
        with site.connection.transaction():
            _do(planting, site)
    except CheckError:
        return False
    return True


def _do(planting: Planting, site: Site) -> None:
    name = f"damage: {planting.where}"
    *before, last = planting.statements
    for statement in before:
        site.log.tell(site.connection, name, statement)
    if planting.rows is None:
        site.log.tell(site.connection, name, last)
    elif site.log.count(site.connection, name, last) != planting.rows:
        raise CheckError("nothing there to be changed so")
