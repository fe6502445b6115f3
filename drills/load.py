"""The load on production: measuring waits while there is too much of it, and stops where that does not end.

Guarantees that a source which the role cannot look at counts as an error, never as idle. What pg_dump does cannot be
held back once it runs; it is not begun on a server that is too busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from drills.errors import ConnectError, LoadError
from drills.plans.servers import Load
from drills.secrets import VAULT

_ACTIVE = """
SELECT count(*) FILTER (WHERE state = 'active' AND application_name !~ '^drillbook'),
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
  FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_LAG = """
SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8,
       CASE WHEN NOT pg_is_in_recovery() OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'infinity')
       END::float8
  FROM pg_stat_replication
"""
_EVERY = 2.0
"""Seconds between two looks."""


class LoadWatch:
    """Looks at the source between two statements, through a session of its own."""

    def __init__(self, wish: Load, connection: psycopg.Connection) -> None:
        self._wish = wish
        self._connection = connection
        self._looked = -_EVERY
        self.waited = 0.0
        """Seconds so far."""

    def wait_until_calm(self, tell: Callable[[str], None]) -> None:
        """Return at once, or when the source is no longer too busy. While it is, `tell` hears of it.

        Raises:
            LoadError: it stayed too busy for longer than the plan lets a drill wait, or cannot be looked at.
            ConnectError: it went away.
        """
        if time.monotonic() - self._looked < _EVERY:
            return
        begun = time.monotonic()
        while busy := self._busy():
            if time.monotonic() - begun > self._wish.patience.total_seconds():
                raise LoadError(
                    f"the source is too busy: {busy}, and was for {self._wish.patience.total_seconds():g} s",
                    hint="run the drill at a quieter hour, from a standby, or raise `source.load`",
                )
            tell(busy)
            time.sleep(_EVERY / 2)
        self._looked = time.monotonic()
        self.waited += self._looked - begun

    def _busy(self) -> str:
        """What is too much, in words; empty where nothing is."""
        try:
            active, sees = self._connection.execute(_ACTIVE).fetchall()[0]
            lag, own = self._connection.execute(_LAG).fetchall()[0]
        except psycopg.Error as error:
            raise ConnectError(f"the load on the source cannot be looked at: {VAULT.redact(str(error))}") from error
        if not sees:
            raise LoadError(
                "the role does not see the load on the source: sessions of others or its standbys are hidden from it",
                hint="GRANT pg_read_all_stats (or pg_monitor) to it, or leave `source.load` out",
            )
        most = self._wish.max_active
        if most is not None and active > most:
            return f"{active} active sessions, at most {most} wanted"
        behind, limit = max(lag, own), self._wish.max_lag
        if limit is not None and behind > limit.total_seconds():
            return f"replication is {behind:.0f} s behind, at most {limit.total_seconds():g} s wanted"
        return ""
