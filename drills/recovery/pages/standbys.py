"""Who receives the source's WAL: the drill, and its synchronous standbys, for which commits wait.

Owns what is asked of the source about both. Refuses a source that would take the drill's receiver for a synchronous
standby, since commits would wait for it, and an address that a base backup and its WAL cannot be had at, or not those
of the source.
"""

from __future__ import annotations

from contextlib import closing

import psycopg

from drills.addresses import Address
from drills.errors import ConnectError
from drills.libpq import instead_of_environment
from drills.records import Finding, Server, Verdict
from drills.recovery.pages.slot import SLOT_LIMITS
from drills.secrets import VAULT
from drills.sessions import CONNECT_TIMEOUT, Access, session

_WRONG_PASSWORD = ("password authentication failed", "no password supplied")
_NOT_REACHED = ("Connection refused", "timeout", "failed to resolve")
_TO_RECEIVE = "the role needs REPLICATION, and pg_hba.conf a line for `replication`"
_TO_LOG_IN = "the role needs CONNECT on the database of its address as well, and pg_hba.conf a line for that database"
_WAITING = """
SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_xid IS NOT NULL
 UNION
SELECT p.transaction::text::bigint FROM pg_prepared_xacts p
 WHERE EXISTS (
   SELECT FROM pg_stat_activity a
    WHERE a.wait_event = 'SyncRep' AND a.backend_xid IS NULL AND a.datname = p.database
      AND (position(quote_literal(p.gid) IN a.query) > 0
           OR NOT EXISTS (SELECT FROM pg_prepared_xacts o
                           WHERE o.database = a.datname AND position(quote_literal(o.gid) IN a.query) > 0)))
"""
"""Who commits a prepared transaction has no number of his own, and until he is done it counts as prepared. Which one he
commits, his statement says; where it does not, written in another way or cut off, any of them may be it."""


def judge_standbys(connection: psycopg.Connection, name: str) -> Finding:
    """Whether the source would wait with its commits for whoever receives its WAL under this application_name."""
    row = connection.execute("SELECT current_setting('synchronous_standby_names'), pg_is_in_recovery()").fetchone()
    names, recovering = (str(row[0]), bool(row[1])) if row else ("", False)
    # Nothing is committed on a standby, and so nothing waits, whatever it is set to for the day that it takes over.
    waits = not recovering and ("*" in names or name.casefold() in names.casefold())
    return Finding(
        name="no commit waits for the receiver",
        verdict=Verdict.FAIL if waits else Verdict.PASS,
        found=f"synchronous_standby_names = {names!r}",
        hint="name the standbys in synchronous_standby_names, so that * is none of them" if waits else "",
    )


def waiting_for_standbys(connection: psycopg.Connection) -> tuple[int, ...]:
    """32-bit numbers of transactions that wait for a standby now.

    None of other roles without pg_read_all_stats. The view is read once in a transaction, so ask outside of one.
    """
    return tuple(row[0] for row in connection.execute(_WAITING).fetchall())


def judge_sender(address: Address, source: Server, name: str) -> Finding:
    """Whether base backups and WAL can be had at this address, and are the source's.

    Asked as pg_basebackup does it (PostgreSQL, Streaming Replication Protocol: IDENTIFY_SYSTEM), by which no row of any
    table can be read; and by the ordinary login of the session that has WAL kept, for which other lines of pg_hba.conf
    and other privileges count.
    """
    try:
        with closing(_connect_sender(address, name)) as connection:
            found = connection.execute("IDENTIFY_SYSTEM").fetchone()
        with session(address, name=name, access=Access.READ_ONLY, limits=SLOT_LIMITS):
            pass
    except psycopg.Error as error:
        said = VAULT.redact(str(error)).strip()
        return _of_sender(Verdict.FAIL, f"{address}: {said}", _how_to_get_in(said))
    except ConnectError as error:
        return _of_sender(Verdict.FAIL, error.message, _how_to_get_in(error.message, _TO_LOG_IN))
    # A walsender names no encoding, so that texts come as bytes.
    identifier = found[0].decode() if found and isinstance(found[0], bytes) else str(found and found[0])
    if identifier == source.system_identifier:
        return _of_sender(Verdict.PASS, f"system identifier {identifier}")
    told = f"system identifier {identifier}, {source.system_identifier} expected"
    return _of_sender(Verdict.FAIL, told, "recovery.address leads to another system than source.address")


def _how_to_get_in(said: str, otherwise: str = _TO_RECEIVE) -> str:
    """What to do about it. libpq passes on no SQLSTATE of a connection that failed, so the server's words have to do.

    PostgreSQL's documentation, Appendix A: 28P01 is a wrong password, 28000 everything else that keeps a role out.
    """
    if any(sign in said for sign in _WRONG_PASSWORD):
        return "look at recovery.password, or at source.password where recovery.address is not set"
    return "look at recovery.address: host and port" if any(sign in said for sign in _NOT_REACHED) else otherwise


def _of_sender(verdict: Verdict, found: str, hint: str = "") -> Finding:
    return Finding(name="base backups are the source's", verdict=verdict, found=found, hint=hint)


def _connect_sender(address: Address, name: str) -> psycopg.Connection:
    told = {**instead_of_environment(), "connect_timeout": str(CONNECT_TIMEOUT), **address.parts}
    told |= {"password": address.password, "application_name": name[:63], "replication": "true"}
    # Its protocol knows simple statements alone.
    return psycopg.connect(
        **told,  # type: ignore[arg-type]
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    )
