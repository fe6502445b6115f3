"""Synchronous standbys of the source: commits wait for them, and until then nobody sees what is written already.

Refuses a source that would take the drill's receiver for one of them: commits would wait for it.
"""

from __future__ import annotations

import psycopg

from drills.records import Finding, Verdict

_WAITING = """
SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_xid IS NOT NULL
"""


def judge_standbys(connection: psycopg.Connection, name: str) -> Finding:
    """Whether the source would wait with its commits for whoever receives its WAL under this application_name."""
    row = connection.execute("SELECT current_setting('synchronous_standby_names')").fetchone()
    names = str(row[0]) if row else ""
    waits = "*" in names or name.casefold() in names.casefold()
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
