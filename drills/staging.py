"""Staging: where a copy is restored. A cluster of the drill's own, or a database on a server that is there already.

Refuses a staging server that is production after all. Guarantees that a cluster of its own is quarantined before
anything is restored into it, and was asked whether it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import psycopg
from psycopg import sql

from drills import guard
from drills.addresses import Address
from drills.clusters import QUARANTINE, SUPERUSER, Cluster
from drills.errors import ClusterError, DrillbookError, GuardError
from drills.records import Server, Surroundings
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, Limits, describe, session

THROW_AWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "maintenance_work_mem": "256MB",
    "checkpoint_timeout": "1h",
}
"""While a copy is loaded: if the machine dies meanwhile, the copy is thrown away anyway."""
LIKE_PRODUCTION = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_level": "replica"}
"""How the copy runs when it is to survive something."""
_NAME_LENGTH = 63
"""PostgreSQL cuts longer names."""
_STRATEGY_SINCE = 150000
"""The version that can be told how to copy a database; those before it copy files anyway."""
_PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
"""As pg_database.datlocprovider writes them, and as CREATE DATABASE does."""
_PROVIDER_SINCE = 150000
"""The version that can be told who provides a locale; before it, libc does."""
_LOCALE = """
SELECT pg_encoding_to_char(d.encoding), d.datcollate::text, d.datctype::text,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
       coalesce(to_jsonb(d) ->> 'daticurules', '')
  FROM pg_database d
 WHERE d.datname = current_database()
"""
"""By way of JSON, which has NULL for a column that this version lacks: daticulocale became datlocale in 17."""
_NO_SCRATCH = {
    psycopg.errors.ObjectInUse: "nobody else may be connected to the copy",
    psycopg.errors.InsufficientPrivilege: (
        "let the drill's role there create databases and own the copy, as does at AWS the master user, once the"
        " database's owner was granted to it at the source; or set `negative_control: {enabled: false}`"
    ),
}
_SIZE_EVERY = 1.0
"""Seconds between two looks at the size of a copy."""


def look_at_surroundings(connection: psycopg.Connection) -> Surroundings:
    """What the source's database needs around it, as far as the role may see it."""
    roles = connection.execute(
        "SELECT rolname::text, rolsuper FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
    ).fetchall()
    spaces = connection.execute("SELECT spcname::text FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1").fetchall()
    row = connection.execute(_LOCALE).fetchone()
    encoding, collate, ctype, provider, locale, rules = row or ("UTF8", "C", "C", "c", "", "")
    return Surroundings(
        roles=tuple(name for name, _ in roles),
        superusers=tuple(name for name, able in roles if able),
        tablespaces=tuple(space[0] for space in spaces),
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        provider=provider,
        locale=locale,
        icu_rules=rules,
    )


def look_at_tablespaces(connection: psycopg.Connection) -> dict[str, str]:
    """Where production's own tablespaces lie, by their numbers."""
    rows = connection.execute(
        "SELECT oid::text, pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1"
    ).fetchall()
    return dict(rows)


def prepare_cluster(cluster: Cluster, source: Server, around: Surroundings, name: str) -> Address:
    """Start a cluster of our own for loading, prove that it is another one than production's, and make the roles.

    Production's roles are made so that owners and privileges can be restored; they cannot log in.

    Raises:
        ClusterError: it does not start, or is not quarantined.
        GuardError: it is production, or another version.
    """
    cluster.start(THROW_AWAY)
    address = cluster.address("template1")
    with session(address, name=name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        there = describe(connection, address)
        guard.refuse_if_any([guard.judge_separation(source, there), guard.judge_versions(source, there)])
        _refuse_without_quarantine(connection)
        for role in around.roles:
            if role != SUPERUSER:
                able = sql.SQL("SUPERUSER" if role in around.superusers else "NOSUPERUSER")
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN {}").format(sql.Identifier(role), able))
        if source.database == "postgres":
            connection.execute("DROP DATABASE postgres")  # pg_restore makes it anew
    return address


def _refuse_without_quarantine(connection: psycopg.Connection) -> None:
    for setting, expected in QUARANTINE.items():
        row = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()
        if row is None or row[0] != expected:
            raise ClusterError(
                f"the copy is not quarantined: expected {setting} = {expected!r}, got {row and row[0]!r}"
            )


def run_like_production(cluster: Cluster, *, on_disk: bool = True) -> None:
    """From throw-away settings to those under which a commit is kept.

    What was loaded before that is put `on_disk` where an outage is to come: after one the server puts all of its files
    there before it does anything else, and the load would be counted as part of the outage. A copy that nothing of the
    kind awaits is thrown away if the machine dies, and need not wait for a disk.
    """
    cluster.stop()
    if on_disk:
        cluster.sync()
    cluster.start(LIKE_PRODUCTION)


def database_name(drill: str) -> str:
    """What the copy of this drill is called on a given server; what tells drills apart comes first, and is not cut."""
    _, stamp, *name, suffix = drill.lower().split("-")
    return "_".join(["dr", stamp, suffix, *name])[:_NAME_LENGTH]


def scratch_name(drill: str) -> str:
    """What the scratch clone of this drill's copy is called."""
    _, stamp, *name, suffix = drill.lower().split("-")
    return "_".join(["dr", stamp, suffix, "scratch", *name])[:_NAME_LENGTH]


def make_database(
    staging: Address, database: str, around: Surroundings, name: str, *, source: Server, seen: Server
) -> Address:
    """A database of the drill's own on a staging server that is there already.

    The session that makes it asks first where it is: between the guard and now, a name may have come to lead elsewhere.
    The address that is returned leads to that very host.

    Raises:
        ClusterError: the source's locale cannot be told to it.
        GuardError: this is production, another version, or another server than the guard saw.
    """
    with session(staging, name=name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        there = describe(connection, staging)
        guard.refuse_if_any([guard.judge_separation(source, there), guard.judge_versions(source, there)])
        if there.system_identifier != seen.system_identifier:
            raise GuardError(
                f"the staging address leads to another server than the guard saw: expected system identifier"
                f" {seen.system_identifier}, got {there.system_identifier}",
                hint="a failover or a change of DNS happened meanwhile; run the drill again",
            )
        connection.execute(make_statement(database, around, connection.info.server_version))
        info = connection.info
        reached = {"host": info.host, "port": str(info.port)} | ({"hostaddr": info.hostaddr} if info.hostaddr else {})
    return Address({**staging.parts, **reached, "dbname": database}, staging.password)


def make_statement(database: str, around: Surroundings, version: int) -> sql.Composed:
    """A database with the source's locale, told in full: what is not told comes from the staging server's template."""
    told = {"ENCODING": around.encoding, "LC_COLLATE": around.collate, "LC_CTYPE": around.ctype}
    if version >= _PROVIDER_SINCE:
        provider = _PROVIDERS.get(around.provider)
        if provider is None:
            raise ClusterError(f"the source's locale has a provider that is not known: {around.provider!r}")
        told["LOCALE_PROVIDER"] = provider
        if provider != "libc":
            told[f"{provider.upper()}_LOCALE"] = around.locale
        if around.icu_rules:
            told["ICU_RULES"] = around.icu_rules
    words = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database))]
    return sql.SQL(" ").join([*words, *(sql.SQL(f"{word} {{}}").format(value) for word, value in told.items())])


@contextmanager
def scratch_database(
    server: Callable[[], Address], copy: str, scratch: str, name: str, limit: timedelta
) -> Iterator[Address]:
    """A clone of a copy on its own server, file by file, for as long as this context lasts.

    Args:
        server: says where both are, by another database than the copy: nobody may be connected to that one meanwhile.
        copy: the database that is cloned.
        scratch: what the clone is called.
        name: of the sessions.
        limit: the longest that the cloning may take.

    Raises:
        ClusterError: it could not be made, or is still there at the end.
        ConnectError: the server cannot be reached.
    """
    limits = Limits(limit, STAGING_LIMITS.lock)
    with session(server(), name=name, access=Access.READ_WRITE, limits=limits) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(scratch), sql.Identifier(copy))
        if connection.info.server_version >= _STRATEGY_SINCE:
            make += sql.SQL(" STRATEGY FILE_COPY")
        try:
            connection.execute(make)
        except psycopg.Error as error:
            said = VAULT.redact(str(error)).strip()
            hint = next((hint for kind, hint in _NO_SCRATCH.items() if isinstance(error, kind)), "")
            raise ClusterError(f"the scratch clone could not be made: {said}", hint=hint) from None
    try:
        yield server().to(scratch)
    except BaseException:
        with suppress(DrillbookError):  # it is in the journal, and dropped at the end of the drill
            _drop_scratch(server, scratch, name)
        raise
    _drop_scratch(server, scratch, name)


def _drop_scratch(server: Callable[[], Address], scratch: str, name: str) -> None:
    try:
        with session(server(), name=name, access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(scratch)))
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", (scratch,)).fetchone()
    except psycopg.Error as error:
        raise ClusterError(f"{scratch} could not be dropped: {VAULT.redact(str(error)).strip()}") from None
    if there is not None:
        raise ClusterError(f"the database {scratch} is still there", hint="drop it by hand, then sweep")


@contextmanager
def size_watch(server: Address, database: str, name: str, tell: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Tells how large the copy is by now, in bytes, asked once a second at most."""
    last = 0.0
    with session(server, name=name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:

        def look() -> None:
            nonlocal last
            if time.monotonic() - last < _SIZE_EVERY:
                return
            last = time.monotonic()
            try:
                row = connection.execute(
                    "SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s", (database,)
                ).fetchone()
            except psycopg.Error:
                return  # only a display; the restore itself will say what is wrong
            tell(row[0] if row else 0)

        yield look
