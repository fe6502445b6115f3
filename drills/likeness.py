"""Whether staging is like production where a copy would be hurt if it were not: extensions, collations, pages.

Owns what is asked of both servers, in SELECTs only. Guarantees one finding for each thing
looked at, and that what could not be found out is UNKNOWN. A physical copy keeps production's indexes: with a collation
library of another version their order may be wrong, and queries miss rows without an error.
"""

from __future__ import annotations

import re

import psycopg

from drills.records import Finding, Model, Verdict

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
SELECT '', d.datcollate::text, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
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
       c.collprovider::text, coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', ''),
       coalesce(to_jsonb(c) ->> 'collicurules', ''), c.collversion, pg_collation_actual_version(c.oid)
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collprovider <> 'd'
   AND c.oid IN (SELECT attcollation FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
                   JOIN pg_namespace s ON s.oid = t.relnamespace
                  WHERE s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
                  UNION SELECT unnest(indcollation) FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
                   JOIN pg_namespace s ON s.oid = t.relnamespace
                  WHERE s.nspname !~ '^pg_' AND s.nspname <> 'information_schema')
 ORDER BY 1
"""
_MACHINE = re.compile(r" on ([^-\s,]+)")
_PROVIDERS = {"b": "builtin", "i": "ICU"}
_UNVERSIONED = {"C", "POSIX"}
"""Locales by bytes, which no library has to do with."""


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
    special: str = ""
    """The locale of a provider that is not libc."""
    rules: str = ""
    """Of ICU, where it was told to sort otherwise."""
    kept: bool = True
    """Whether the catalogue keeps its version; before PostgreSQL 15 not of the database's own."""

    @property
    def order(self) -> str:
        """All that says how text is sorted, but the version of the library."""
        parts = [self.locale] if self.provider == "c" else [_PROVIDERS.get(self.provider, self.provider), self.special]
        parts += [] if self.provider == "c" or not self.locale else [f"with LC_COLLATE {self.locale}"]
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
    )


def _look_at_collations(connection: psycopg.Connection) -> tuple[Collation, ...]:
    kept = connection.info.server_version >= _DEFAULT_SINCE
    default = _DEFAULT.format(actual=_ACTUAL if kept else "NULL::text")
    rows = [*connection.execute(default.encode()).fetchall(), *connection.execute(_COLLATIONS).fetchall()]
    return tuple(
        Collation(
            name=name,
            locale=locale,
            recorded=recorded,
            actual=actual,
            provider=provider,
            special=special,
            rules=rules,
            kept=kept or bool(name),
        )
        for name, locale, provider, special, rules, recorded, actual in rows
    )


def extensions_on(connection: psycopg.Connection) -> dict[str, frozenset[str]]:
    """The same of a staging server that runs."""
    rows = connection.execute("SELECT name::text, version FROM pg_available_extension_versions").fetchall()
    return {name: frozenset(version for other, version in rows if other == name) for name, _ in rows}


def judge_extensions(source: Likeness, there: dict[str, frozenset[str]] | None) -> list[Finding]:
    """Whether staging has each extension of the source in the version that is installed there; one finding each."""
    if there is None:
        found = "the extensions of staging's PostgreSQL were not found: there is no share folder beside its programs"
        hint = "set `tools:` in the plan to a whole installation of PostgreSQL"
        return [Finding(name="extensions of the source", verdict=Verdict.UNKNOWN, found=found, hint=hint)]
    return [_judge_extension(name, version, there, source.major) for name, version in source.extensions.items()]


def _judge_extension(name: str, version: str, there: dict[str, frozenset[str]], major: int) -> Finding:
    title = f"extension {name} {version}"
    if version in there.get(name, frozenset()):
        return Finding(name=title, verdict=Verdict.PASS, found="staging has it in this version")
    package = f"install the package that brings {name} for PostgreSQL {major} in staging"
    hint = f"{package}, such as postgresql-{major}-{name.replace('_', '-')} or postgresql-contrib"
    if name not in there:
        return Finding(name=title, verdict=Verdict.FAIL, found="staging does not have it", hint=hint)
    others = ", ".join(sorted(there[name])) or "none that is whole: its library is missing"
    return Finding(name=title, verdict=Verdict.FAIL, found=f"staging has other versions: {others}", hint=hint)


def judge_likeness(source: Likeness, copy: Likeness, *, physical: bool) -> list[Finding]:
    """What differs between production and the copy that runs, each thing by itself.

    Args:
        source: as it was looked at before the backup.
        copy: the restored database.
        physical: whether the copy has production's own pages and indexes, rather than new ones.
    """
    pages = Verdict.FAIL if physical else Verdict.PASS
    return [
        _same("major version", source.major, copy.major, Verdict.FAIL, "restore with tools of the source's version"),
        _same("encoding", source.encoding, copy.encoding, Verdict.FAIL, "make the copy in the source's encoding"),
        _judge_checksums(source, copy, physical=physical),
        _same("block size", source.block_size, copy.block_size, pages, "another build of PostgreSQL"),
        _same("WAL segment size", source.wal_segment, copy.wal_segment, pages, "initdb --wal-segsize"),
        _same("integer_datetimes", source.integer_datetimes, copy.integer_datetimes, Verdict.FAIL, "another build"),
        _same("architecture", source.architecture, copy.architecture, pages, "restore on a machine of the same kind"),
        _same("layout of pages", source.layout, copy.layout, pages, "restore on a machine and build of the same kind"),
        *_judge_versions(source, copy),
        *judge_collations(source, copy, physical=physical),
    ]


def _same(what: str, there: object, here: object, otherwise: Verdict, hint: str) -> Finding:
    if there == here:
        return Finding(name=f"{what} of the copy", verdict=Verdict.PASS, found=f"{here}, as the source")
    note = "" if otherwise is not Verdict.PASS else "; rows that were loaded anew do not depend on it"
    found = f"source {there}, copy {here}{note}"
    return Finding(name=f"{what} of the copy", verdict=otherwise, found=found, hint=hint if not note else "")


def _judge_checksums(source: Likeness, copy: Likeness, *, physical: bool) -> Finding:
    name, shown = "page checksums of the copy", {True: "on", False: "off"}
    if source.checksums == copy.checksums:
        return Finding(name=name, verdict=Verdict.PASS, found=f"{shown[copy.checksums]}, as the source")
    found = f"source {shown[source.checksums]}, copy {shown[copy.checksums]}"
    if copy.checksums and not physical:
        return Finding(name=name, verdict=Verdict.PASS, found=f"{found}: the copy would notice more than the source")
    hint = "somebody ran pg_checksums on it" if physical else "initdb --data-checksums in staging"
    return Finding(name=name, verdict=Verdict.FAIL, found=found, hint=hint)


def _judge_versions(source: Likeness, copy: Likeness) -> list[Finding]:
    """Of extensions: a dump does not say in which version one is installed, so the copy gets staging's default."""
    findings = []
    for name, version in source.extensions.items():
        here = copy.extensions.get(name)
        verdict = Verdict.PASS if here == version else Verdict.FAIL if here is None else Verdict.UNKNOWN
        hint = "" if here == version else f"install {name} {version} in staging, or update the source's"
        found = f"{here}, as the source" if here == version else f"source {version}, copy {here or 'has none'}"
        findings.append(Finding(name=f"extension {name} of the copy", verdict=verdict, found=found, hint=hint))
    return findings


def judge_collations(source: Likeness, copy: Likeness, *, physical: bool) -> list[Finding]:
    """Whether text sorts in the copy as it did where the indexes were built; one finding for each collation in use."""
    here = {collation.name: collation for collation in copy.collations}
    return [_judge_collation(there, here.get(there.name), physical=physical) for there in source.collations]


def _judge_collation(there: Collation, here: Collation | None, *, physical: bool) -> Finding:
    name = f"collation {there.name or 'of the database'} in the copy"
    if here is None:
        hint = "make it in staging, or install the locale there"
        return Finding(name=name, verdict=Verdict.FAIL, found="the copy does not have it", hint=hint)
    if here.order != there.order:
        found = f"source {there.order}, copy {here.order}"
        return Finding(name=name, verdict=Verdict.FAIL, found=found, hint="make the database in the source's locale")
    if physical and not there.kept and there.locale not in _UNVERSIONED:
        found = f"{there.order}: this version of PostgreSQL does not keep with which library its indexes were built"
        return Finding(name=name, verdict=Verdict.UNKNOWN, found=found, hint="have `checks.amcheck` look through them")
    built = there.recorded if physical else there.actual
    if built == here.actual:
        return Finding(
            name=name, verdict=Verdict.PASS, found=f"{here.order} {here.actual or 'without versions'}".strip()
        )
    found = f"{here.order}: source {built or 'unknown'}, the copy's library {here.actual or 'unknown'}"
    if not physical:
        note = "; the copy's indexes were built with its own library"
        return Finding(name=name, verdict=Verdict.PASS, found=found + note)
    hint = "text may sort otherwise: REINDEX the copy before it is used, or restore where the library is the source's"
    return Finding(name=name, verdict=Verdict.FAIL, found=found, hint=hint)
