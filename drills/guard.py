"""The guard: every reason not to begin, looked for before any effect.

Owns the questions put to source, staging and this machine before a drill. Refuses when staging is production, when the
source role could write (unless the plan only wants a warning), when the copy would not fit, or when another drill is at
the same database. Guarantees that it changes nothing anywhere: it only reads, in sessions that are read only. What it
could not find out it reports as such.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psycopg

from drills.errors import GuardError
from drills.records import Finding, Server, Verdict

ROOM_FOR_COPY = 1.2
"""A restored copy against the source's size: indexes are built anew, WAL is written meanwhile."""
ROOM_FOR_DUMP = 1.0
"""The dump against the source's size, should nothing in it compress."""
APPLICATION = "drillbook"
"""How every session of this program names itself, followed by the drill's id."""

_WAYS_SHOWN = 5
_WRITES = """
SELECT way FROM (
    SELECT 'is a superuser' AS way, rolsuper AS able FROM pg_roles WHERE rolname = current_user
    UNION ALL SELECT 'may create databases', rolcreatedb FROM pg_roles WHERE rolname = current_user
    UNION ALL SELECT 'may create roles', rolcreaterole FROM pg_roles WHERE rolname = current_user
    UNION ALL SELECT 'is a member of ' || rolname, pg_has_role(oid, 'MEMBER') FROM pg_roles
        WHERE rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_maintain',
                          'pg_database_owner')
    UNION ALL SELECT 'may create in database ' || current_database(),
        has_database_privilege(current_database(), 'CREATE')
    UNION ALL SELECT 'may create in schema ' || quote_ident(nspname), has_schema_privilege(oid, 'CREATE')
        FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    UNION ALL SELECT 'owns ' || oid::regclass, true FROM pg_class WHERE relowner = current_user::regrole
        AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'may write to ' || oid::regclass,
        has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
            OR has_any_column_privilege(oid, 'INSERT, UPDATE')
        FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'f') AND relnamespace <> 'information_schema'::regnamespace
            AND relnamespace <> 'pg_catalog'::regnamespace AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'may advance ' || oid::regclass,
        -- Conditions have no order in SQL, and the function refuses what is no sequence.
        CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE, UPDATE') END
        FROM pg_class WHERE relkind = 'S'
) ways WHERE able LIMIT 20
"""


@dataclass(frozen=True)
class Room:
    """Space on this machine for dump and copy, in bytes."""

    needed: int
    free: int


def ways_to_write(connection: psycopg.Connection) -> list[str]:
    """The ways in which this session's role could change the database; the first twenty."""
    return [str(row[0]) for row in connection.execute(_WRITES).fetchall()]


def other_drills(connection: psycopg.Connection) -> list[str]:
    """Sessions of other drills on this database, wherever they run, as far as this role may see them."""
    rows = connection.execute(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE %s AND application_name <> current_setting('application_name')",
        (f"{APPLICATION}/%",),
    ).fetchall()
    return [str(row[0]).partition("/")[2] for row in rows]


def judge_role(ways: list[str], wish: str) -> Finding:
    """What the plan wants done about a role that could write."""
    name = "source role only reads"
    if not ways:
        return Finding(name=name, verdict=Verdict.PASS, found="no way to write was found")
    more = len(ways) - _WAYS_SHOWN
    shown = ", ".join(ways[:_WAYS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return Finding(
        name=name,
        verdict=Verdict.UNKNOWN if wish == "warn" else Verdict.FAIL,
        found=f"the role could write: it {shown}",
        hint="give the drill a role with pg_read_all_data and nothing else, or set source.writable_role to warn",
    )


def judge_separation(source: Server, staging: Server) -> Finding:
    """Whether staging is another cluster than production. Host names can lie; system identifiers do not."""
    name = "staging is not production"
    if source.system_identifier == staging.system_identifier:
        return Finding(
            name=name,
            verdict=Verdict.FAIL,
            found=f"{source.address} and {staging.address} both have the system identifier {source.system_identifier}",
            hint="they are one cluster, or one is a physical copy of the other; name a staging server of its own",
        )
    return Finding(
        name=name,
        verdict=Verdict.PASS,
        found=f"system identifiers differ: source {source.system_identifier}, staging {staging.system_identifier}",
    )


def judge_versions(source: Server, staging: Server) -> Finding:
    """Whether the copy will run on the source's major version."""
    same = source.major == staging.major
    return Finding(
        name="staging runs the source's version",
        verdict=Verdict.PASS if same else Verdict.FAIL,
        found=f"source {source.version}, staging {staging.version}",
        hint="" if same else f"expected PostgreSQL {source.major} in staging, got {staging.major}",
    )


def measure_room(folder: Path, size: int, *, makes_copy: bool, limit: int | None) -> Room:
    """What dump and copy of a database of `size` bytes need below this folder, and what there is."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    needed = int(size * (ROOM_FOR_DUMP + (ROOM_FOR_COPY if makes_copy else 0)))
    return Room(needed, free if limit is None else min(free, limit))


def judge_room(room: Room) -> Finding:
    """Whether it fits."""
    enough = room.free >= room.needed
    return Finding(
        name="room for dump and copy",
        verdict=Verdict.PASS if enough else Verdict.FAIL,
        found=f"{room.needed:,} bytes may be needed, {room.free:,} are free",
        hint=""
        if enough
        else "free some space, set DRILLBOOK_HOME to a larger file system, or raise staging.disk_limit",
    )


def judge_solitude(drill: str, others: list[str]) -> Finding:
    """Whether another drill is at the same database."""
    elsewhere = [other for other in others if other and other != drill]
    return Finding(
        name="no other drill at this database",
        verdict=Verdict.FAIL if elsewhere else Verdict.PASS,
        found=f"held by {', '.join(elsewhere)}" if elsewhere else "none was seen",
        hint="wait for it to end; `drillbook sweep` closes drills whose process is gone" if elsewhere else "",
    )


def judge_evidence(folder: Path) -> Finding:
    """Whether the bundle can be written where it has to go."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    able = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return Finding(
        name="evidence folder can be written",
        verdict=Verdict.PASS if able else Verdict.FAIL,
        found=str(folder) if able else f"{existing} cannot be written to",
        hint="" if able else "mend its permissions, or set evidence.folder in the plan",
    )


def refuse_if_any(findings: list[Finding]) -> None:
    """Stop where a finding says so.

    Raises:
        GuardError: with all the reasons at once.
    """
    against = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    if against:
        raise GuardError(
            "; ".join(f"{finding.name}: {finding.found}" for finding in against),
            hint="; ".join(finding.hint for finding in against if finding.hint),
        )
