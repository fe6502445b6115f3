"""What a copy has to have in common with production: the facts of a server and one database on it.

Owns what is asked of both, in SELECTs only, with no more than a role that may connect.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import psycopg

from drills.records import Model

_FACTS = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000, version(),
       pg_encoding_to_char(d.encoding), current_setting('data_checksums'), i.database_block_size,
       i.bytes_per_wal_segment, current_setting('integer_datetimes'),
       concat_ws(' ', i.max_data_alignment, i.blocks_per_segment, i.wal_block_size, i.max_identifier_length,
                 i.max_index_columns, i.max_toast_chunk_size, i.large_object_chunk_size, i.float8_pass_by_value)
  FROM pg_control_init() i, pg_database d WHERE d.datname = current_database()
"""
_EXTENSIONS = "SELECT extname::text, extversion FROM pg_extension ORDER BY 1"
_DEFAULT = """
SELECT '', d.datcollate::text, d.datctype::text, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
       coalesce(to_jsonb(d) ->> 'daticurules', ''), to_jsonb(d) ->> 'datcollversion', {actual}
  FROM pg_database d WHERE d.datname = current_database()
"""
"""By way of JSON, which has NULL for a column that this version lacks: daticulocale became datlocale in 17."""
_ACTUAL = "pg_database_collation_actual_version(d.oid)"
_DEFAULT_SINCE = 150000
"""The version that keeps that of the database's own collation."""
_COLLATIONS = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname), coalesce(c.collcollate::text, ''),
       coalesce(c.collctype::text, ''),
       c.collprovider::text, coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', ''),
       coalesce(to_jsonb(c) ->> 'collicurules', ''), c.collversion, pg_collation_actual_version(c.oid)
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collprovider <> 'd'
   AND c.oid IN (SELECT attcollation FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
                   JOIN pg_namespace s ON s.oid = t.relnamespace
                  WHERE NOT a.attisdropped AND s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
                  UNION SELECT unnest(indcollation) FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
                   JOIN pg_namespace s ON s.oid = t.relnamespace
                  WHERE s.nspname !~ '^pg_' AND s.nspname <> 'information_schema')
 ORDER BY 1
"""
_PRELOADED = "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"
"""Which gives no row to a role without pg_read_all_settings."""
_MACHINE = re.compile(r" on ([^-\s,]+)")
_PROVIDERS = {"b": "builtin", "i": "ICU"}


class Collation(Model):
    """A collation that is in use, and its library's version."""

    name: str
    """Empty for the database's own."""
    locale: str
    """LC_COLLATE of the C library; before PostgreSQL 15 also a locale of ICU."""
    recorded: str | None
    """What it was when the indexes were built, as the catalogue says; None where the provider has no versions."""
    actual: str | None
    """What the server's library gives now."""
    provider: str = "c"
    """As the catalogue writes it: b for builtin, c for libc, i for ICU."""
    ctype: str = ""
    """LC_CTYPE of the C library."""
    special: str = ""
    """The locale of a provider that is not libc."""
    rules: str = ""
    """Of ICU, where it was told to sort otherwise."""
    kept: bool = True
    """Whether the catalogue keeps its version; before PostgreSQL 15 not of the database's own."""

    @property
    def locales(self) -> frozenset[str]:
        """The locales of the C library that it needs. Before PostgreSQL 15 one of ICU has its own in their place."""
        needs = self.provider == "c" or not self.name
        return frozenset({self.locale, self.ctype} - {""}) if needs else frozenset()

    @property
    def order(self) -> str:
        """All that says how text is sorted and which letters are alike, but the version of the library."""
        parts = [self.locale] if self.provider == "c" else [_PROVIDERS.get(self.provider, self.provider), self.special]
        parts += [] if self.provider == "c" or not self.locale else [f"with LC_COLLATE {self.locale}"]
        parts += [] if self.ctype in {"", self.locale} else [f"with LC_CTYPE {self.ctype}"]
        return " ".join(part for part in [*parts, self.rules and f"with rules {self.rules}"] if part)


class Likeness(Model):
    """A server and one database on it, as far as a copy has to be like it."""

    version: str
    major: int
    architecture: str
    encoding: str
    checksums: bool
    block_size: int
    wal_segment: int
    integer_datetimes: str
    layout: str
    """The other figures of pg_control_init()."""
    extensions: dict[str, str]
    """Name to the version that is installed."""
    collations: tuple[Collation, ...]
    """The database's own first."""
    preloaded: tuple[str, ...] | None = None
    """The libraries that every process of the server loads; None where the role may not read which."""


def look_at_likeness(connection: psycopg.Connection) -> Likeness:
    """What there is; needs no more than a role that may connect."""
    row = connection.execute(_FACTS).fetchone()
    assert row is not None  # noqa: S101 - one database, one row
    version, major, whole, encoding, checksums, block, segment, datetimes, layout = row
    machine = _MACHINE.search(whole)
    return Likeness(
        version=version,
        major=major,
        architecture=machine[1] if machine else "",
        encoding=encoding,
        checksums=checksums == "on",
        block_size=block,
        wal_segment=segment,
        integer_datetimes=datetimes,
        layout=layout,
        extensions=dict(connection.execute(_EXTENSIONS).fetchall()),
        collations=_look_at_collations(connection),
        preloaded=look_at_preloaded(connection),
    )


def _look_at_collations(connection: psycopg.Connection) -> tuple[Collation, ...]:
    kept = connection.info.server_version >= _DEFAULT_SINCE
    default = _DEFAULT.format(actual=_ACTUAL if kept else "NULL::text")
    rows = [*connection.execute(default.encode()).fetchall(), *connection.execute(_COLLATIONS).fetchall()]
    return tuple(
        Collation(
            name=name,
            locale=locale,
            ctype=ctype,
            recorded=recorded,
            actual=actual,
            provider=provider,
            special=special,
            rules=rules,
            kept=kept or bool(name),
        )
        for name, locale, ctype, provider, special, rules, recorded, actual in rows
    )


def look_at_preloaded(connection: psycopg.Connection) -> tuple[str, ...] | None:
    """The names of `shared_preload_libraries`, without folders and suffixes."""
    row = connection.execute(_PRELOADED).fetchone()
    if row is None:
        return None
    named = [name.strip(' "') for name in str(row[0]).split(",")]
    return tuple(PurePath(name).name.removesuffix(".so") for name in named if name)


def extensions_on(connection: psycopg.Connection) -> dict[str, frozenset[str]]:
    """The extensions that a server has, each with the versions that can be installed."""
    rows = connection.execute("SELECT name::text, version FROM pg_available_extension_versions").fetchall()
    return {name: frozenset(version for other, version in rows if other == name) for name, _ in rows}
