"""Telling a copy from production where both have the same system identifier, as pages that were copied have.

Guarantees that a session which is on production after all is refused, on whichever of its servers: the address of a
copy may be a port forward that leads elsewhere, and what follows may write.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

from drills.errors import GuardError
from drills.records import CLOCKS_APART

# A server starts once: to the microsecond, no two servers of one identifier have this in common.
_WHICH = "SELECT system_identifier::text, pg_postmaster_start_time()::text FROM pg_control_system()"
_SINCE_WHEN = "SELECT pg_is_in_recovery(), pg_postmaster_start_time()"
_MEND = "mend connect_via: the forward leads to "


def which_server(connection: psycopg.Connection) -> tuple[str, str]:
    """What tells one running server from every other: whose data it has, and when it was started.

    Of production this is to be asked again right before it is compared: it may have been restarted meanwhile.
    """
    row = connection.execute(_WHICH).fetchone()
    if row is None:
        raise GuardError("the server does not say which it is", hint="run the drill again")
    return str(row[0]), str(row[1])


def refuse_production(production: tuple[str, str], copy: psycopg.Connection) -> None:
    """Refuse a session on the server behind the source's address.

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
            hint=f"{_MEND}the source's endpoint",
        )


def refuse_older(opened: datetime, copy: psycopg.Connection) -> None:
    """Refuse a session on a server that was there before the drill: another of production's, which nobody has named.

    A replica has production's identifier and a start of its own; where the source is one, so has the primary. What was
    restored is no replica, and was not started before somebody asked for it.

    Args:
        opened: when the drill began.
        copy: a session on what is taken for the copy.

    Raises:
        GuardError: it is not what this drill had AWS make.
    """
    recovering, started = copy.execute(_SINCE_WHEN).fetchone() or (True, opened)
    if recovering:
        raise GuardError(
            "the copy's address leads to a replica: expected a server of its own, got one that is in recovery",
            hint=f"{_MEND}a reader or a read replica, which may be production's",
        )
    if started < opened - timedelta(seconds=CLOCKS_APART):
        raise GuardError(
            f"the copy's address leads to a server that was there before: expected one started after {opened}, when the"
            f" drill began, got one started {started}",
            hint=f"{_MEND}another server, which may be production's; if it does not, that server's clock is wrong",
        )
