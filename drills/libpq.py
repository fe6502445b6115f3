"""What libpq would take from the environment of this process, and what is said instead.

Guarantees that an address leads where the plan says, whatever the person who started the drill has set in PG variables.
"""

from __future__ import annotations

import os

from psycopg import pq

from drills.errors import ConnectError

# Of libpq's parameters with a variable, those that neither have a default compiled in nor take an empty value.
_DEFAULTS = {
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "require_auth": "none,password,md5,gss,sspi,scram-sha-256",
}


def instead_of_environment() -> dict[str, str]:
    """A value for every parameter that libpq would take from the environment of this process.

    A PGHOSTADDR in there would lead our sessions to another server than the plan names, and the tools, which do not
    get it, to the right one. The variables stay, since a plan may refer to them (`env:PGPASSWORD`).

    Raises:
        ConnectError: PGSERVICE is set; nothing can be said instead of it.
    """
    if os.environ.get("PGSERVICE"):
        raise ConnectError(
            "PGSERVICE is set, and would change where sessions go",
            hint="unset it; a drill takes its addresses from the plan alone",
        )
    told = {option.keyword.decode(): option for option in pq.Conninfo.get_defaults() if option.envvar}
    return {
        name: (option.compiled or b"").decode() or _DEFAULTS.get(name, "")
        for name, option in told.items()
        if (option.envvar or b"").decode() in os.environ and name not in {"service", "connect_timeout"}
    }
