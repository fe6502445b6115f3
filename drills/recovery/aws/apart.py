"""Telling a copy from production where both have the same system identifier, as pages that were copied have.

Guarantees that a session which is on production after all is refused: the address of a copy may be a port forward that
leads elsewhere, and what follows may write.
"""

from __future__ import annotations

import psycopg

from drills.errors import GuardError

# A server starts once: to the microsecond, no two servers of one identifier have this in common.
_WHICH = "SELECT system_identifier::text, pg_postmaster_start_time()::text FROM pg_control_system()"


def which_server(connection: psycopg.Connection) -> tuple[str, str]:
    """What tells one running server from every other: whose data it has, and when it was started.

    Of production this is to be asked again right before it is compared: it may have been restarted meanwhile.
    """
    row = connection.execute(_WHICH).fetchone()
    if row is None:
        raise GuardError("the server does not say which it is", hint="run the drill again")
    return str(row[0]), str(row[1])


def refuse_production(production: tuple[str, str], copy: psycopg.Connection) -> None:
    """Refuse a session on production.

    Args:
        production: as `which_server` says.
        copy: a session on what is taken for the copy.

    Raises:
        GuardError: it is production.
    """
    found = which_server(copy)
    if found == production:
        raise GuardError(
            f"the copy's address leads to production: system identifier {found[0]}, started {found[1]}, as the source",
            hint="mend connect_via: the forward leads to the source's endpoint",
        )
