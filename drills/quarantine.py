"""The quarantine of a copy: the settings that hold it, and the questions that show that they do.

Owns what a server of ours is told on its command line, which no configuration file and no ALTER SYSTEM that came with a
backup outranks. Guarantees that a physical copy was asked for each of these settings, and for everything that would
show that something got past them; a wrong answer is an error.

What a database or a role of production sets for its own sessions does outrank a command line. The three of these
settings that could be set so are therefore also told by every session of ours (`session_options`), and no role of
production's gets in. Subscriptions stay as they are: without a worker none of them does anything, and to disable them
would be a change that the check of the structure rightly finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg

from drills.errors import ClusterError
from drills.records import utc_now
from drills.targets import Answer, Quarantine

QUARANTINE = {
    "archive_mode": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_logical_replication_workers": "0",
    "shared_preload_libraries": "",
}
"""A copy reaches nobody, and nobody but this machine reaches it."""

_PHYSICAL = {
    **QUARANTINE,
    "archive_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "max_wal_senders": "0",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
}
_SINCE: dict[int, dict[str, str]] = {
    15: {"archive_library": ""},
    17: {"event_triggers": "off", "summarize_wal": "off", "sync_replication_slots": "off"},
}
"""An event trigger may run at each login since 17, and do whatever its owner may."""
_SHOWN = {"archive_command": "(disabled)"}
"""What a server that does not archive says instead of the value."""
_BY_SESSIONS = ("session_preload_libraries", "local_preload_libraries", "event_triggers")
"""What ALTER DATABASE or ALTER ROLE may have set: that outranks the command line, and is outranked by a session."""
_OWN_KINDS = (
    "autovacuum launcher", "autovacuum worker", "background writer", "checkpointer", "client backend", "io worker",
    "parallel worker", "startup", "walwriter",
)  # fmt: skip
_ASKED = {
    "is it in recovery": ("pg_is_in_recovery()::text", "false"),
    "is this session a superuser's": ("current_setting('is_superuser')", "on"),
    "restore command": ("current_setting('restore_command')", ""),
}
"""What a server is asked besides its settings, and the one right answer."""
_LINE = "concat_ws(' ', type, database::text, user_name::text, address, auth_method, error)"
_LISTED = {
    "lines in pg_hba.conf": (_LINE, "pg_hba_file_rules", "host {{all}} {{{superuser}}} 127.0.0.1 scram-sha-256"),
    "settings from a configuration file": ("name", "pg_settings WHERE source = 'configuration file'", ""),
    "replication slots": ("slot_name", "pg_replication_slots", ""),
    "standbys that it feeds": ("application_name", "pg_stat_replication", ""),
    "servers that it follows": ("coalesce(slot_name, status)", "pg_stat_wal_receiver", ""),
    "subscriptions at work": ("subname", "pg_stat_subscription WHERE pid IS NOT NULL", ""),
    "processes that are not a server's own": ("backend_type", "pg_stat_activity WHERE NOT backend_type = ANY (%s)", ""),
    "sessions of others": ("usename", "pg_stat_activity WHERE usename <> current_user", ""),
}
"""What it is asked to list, from where, and all that may be there."""


def hold_physical(major: int) -> dict[str, str]:
    """What a physical copy of this major version is told at every start."""
    later = [settings for since, settings in _SINCE.items() if major >= since]
    return {name: value for settings in (_PHYSICAL, *later) for name, value in settings.items()}


def session_options(major: int) -> str:
    """For the `options` of every session of ours on such a copy."""
    held = hold_physical(major)
    return " ".join(f"-c {name}={held[name]}" for name in _BY_SESSIONS if name in held)


def ask_copy(connection: psycopg.Connection, held: Mapping[str, str], superuser: str, folder: Path) -> Quarantine:
    """Ask a running copy whether it is in quarantine.

    Args:
        connection: a session as its superuser.
        held: the settings that it was started with, each of which must be in force by the command line.
        superuser: the one role that may connect.
        folder: what every file of it lies in.

    Raises:
        ClusterError: an answer is wrong; the message has all of these.
    """
    answers = _ask_settings(connection, held)
    for question, (what, expected) in _ASKED.items():
        answers.append(Answer(question=question, expected=expected, actual=_ask(connection, f"SELECT {what}")))
    for question, (what, place, expected) in _LISTED.items():
        actual = _ask(connection, f"SELECT string_agg(DISTINCT ({what})::text, '; ') FROM {place}")  # noqa: S608
        answers.append(Answer(question=question, expected=expected.format(superuser=superuser), actual=actual))
    spaces = connection.execute("SELECT pg_tablespace_location(oid) FROM pg_tablespace").fetchall()
    # One that was made after the backup was made anew while its WAL was replayed.
    outside = [path for (path,) in spaces if path and not Path(path).resolve().is_relative_to(folder.resolve())]
    answers.append(Answer(question="tablespaces elsewhere", expected="", actual=", ".join(outside)))
    wrong = [answer for answer in answers if answer.actual != answer.expected]
    if wrong:
        told = "; ".join(f"{answer.question}: expected {answer.expected!r}, got {answer.actual!r}" for answer in wrong)
        raise ClusterError(
            f"the copy is not quarantined: {told}",
            hint="it was ended at once; find out what it has reached meanwhile before you run the drill again",
        )
    return Quarantine(asked=utc_now(), answers=tuple(answers))


def _ask_settings(connection: psycopg.Connection, held: Mapping[str, str]) -> list[Answer]:
    """In one statement: the server makes the list of all its settings anew for each."""
    rows = connection.execute(
        "SELECT name, current_setting(name) || ' by ' || source FROM pg_settings WHERE name = ANY (%s)", ([*held],)
    ).fetchall()
    found: dict[str, str] = dict(rows)
    return [
        Answer(
            question=name,
            expected=f"{_SHOWN.get(name, value)} by {'client' if name in _BY_SESSIONS else 'command line'}",
            actual=found.get(name, "no such setting"),
        )
        for name, value in held.items()
    ]


def _ask(connection: psycopg.Connection, statement: str) -> str:
    asked = [list(_OWN_KINDS)] if "%s" in statement else None
    row = connection.execute(statement.encode(), asked).fetchone()
    return str(row[0]) if row and row[0] is not None else ""
