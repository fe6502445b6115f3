"""Extensions of PostgreSQL's own, borrowed for one transaction that is rolled back.

Guarantees that the copy has afterwards what it had before: an extension that it lacked is made and unmade, one that is
behind its version is brought up and put back, and no event trigger of the copy fires. Refuses, with the reason, where
the server does not have it, or the session may not make it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from checks.asking import Log
from drills.errors import CheckError

SCHEMA = "drillbook borrowed"
"""Made and unmade with the rest: nothing of the copy has to give way."""
_STATE = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool, r.rolsuper,
       a.default_version::text, e.extversion::text, n.nspname::text
  FROM pg_roles r
  LEFT JOIN pg_available_extensions a ON a.name = '{0}'
  LEFT JOIN pg_extension e ON e.extname = '{0}'
  LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE r.rolname = current_user
"""
_SETTINGS = """
SELECT set_config('session_replication_role', 'replica', true), set_config('ignore_checksum_failure', 'off', true),
       set_config('zero_damaged_pages', 'off', true)
"""
"""Event triggers do not fire for a replica; a damaged page is an error. Only a superuser may set these."""


@contextmanager
def borrowed(connection: psycopg.Connection, log: Log, name: str, extension: str) -> Iterator[str]:
    """The schema that the extension's functions are in, for as long as this transaction lasts. `SCHEMA` is there too.

    Raises:
        CheckError: it cannot be had.
    """
    with connection.transaction(force_rollback=True):
        # An index made after the transaction's snapshot could not be verified in it.
        log.tell(connection, f"{name}: isolation", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        recovering, fixed, superuser, available, there, schema = log.ask(
            connection, f"{name}: what there is", _STATE.format(extension)
        )[0]
        if recovering or fixed:
            raise CheckError(
                f"the extension {extension} cannot be made: the copy is {'in recovery' if recovering else 'read only'}",
                hint="it is made in a transaction that is rolled back; that takes a session which may write",
            )
        if available is None:
            raise CheckError(
                f"the extension {extension} is not available on the copy's server",
                hint="install PostgreSQL's contrib modules there (the package postgresql-contrib)",
            )
        if superuser:
            log.ask(connection, f"{name}: settings", _SETTINGS)
        own = sql.Identifier(SCHEMA).as_string()
        _make(connection, log, name, f"CREATE SCHEMA {own}")
        # Nothing more can be said of a copy without it, and it may have been dropped.
        _make(connection, log, name, f"CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA {own}")
        if there is None:
            _make(connection, log, name, f"CREATE EXTENSION {extension} WITH SCHEMA {own}")
        elif there != available:
            _make(connection, log, name, f"ALTER EXTENSION {extension} UPDATE")
        yield schema or SCHEMA


def _make(connection: psycopg.Connection, log: Log, name: str, statement: str) -> None:
    try:
        log.tell(connection, f"{name}: {statement}", statement)
    except CheckError as error:
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            hint = (
                "that takes a superuser on the copy's server, or there one who may make schemas and this extension, as"
                " may at AWS the master user, once the database's owner was granted to it at the source; or leave the"
                " check out in the plan (`amcheck: false`, `checksums: false`)"
            )
            raise CheckError(error.message, hint=hint) from error.__cause__
        raise
