"""The guard: every reason not to begin, looked for before any effect.

Owns the questions put to source, staging and this machine before a drill. Refuses when staging is production, when the
source role could write (unless the plan only wants a warning), when the copy would not fit, or when another drill is at
the same database. Guarantees that it changes nothing anywhere: it only reads, in sessions that are read only. What it
could not find out it reports as such.

Of a role it judges every role that it could become, and what PUBLIC may. It cannot judge what functions do that run
with their owner's rights, nor what lies behind foreign servers. That every role may make temporary tables and large
objects of its own is PostgreSQL's default and no finding.
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
APPLICATION = "drillbook"
"""How every session of this program names itself, followed by the drill's id."""

_WAYS_SHOWN = 5
_WAYS_FOUND = 20
_NEEDS_REVOKE = "granted to PUBLIC"
# Every role that the session is or could become, whether by inheritance or by SET ROLE, itself first. A superuser could
# become any; there that it is one says enough.
_WHO = """
WITH me AS (SELECT bool_or(rolsuper) AS super FROM pg_roles WHERE rolname IN (current_user, session_user)),
who AS MATERIALIZED (
    SELECT oid, rolname, rolsuper, rolcreatedb, rolcreaterole,
           CASE WHEN rolname = current_user THEN '' ELSE ' as ' || quote_ident(rolname) END AS via
      FROM pg_roles, me
     WHERE rolname IN (current_user, session_user)
        OR NOT me.super AND (pg_has_role(current_user, oid, 'MEMBER') OR pg_has_role(session_user, oid, 'MEMBER'))
     ORDER BY rolname <> current_user, rolname)
"""
_ATTRIBUTES = """
SELECT 'is a superuser' || via FROM who WHERE rolsuper
UNION ALL SELECT 'may create databases' || via FROM who WHERE rolcreatedb
UNION ALL SELECT 'may create roles' || via FROM who WHERE rolcreaterole
UNION ALL SELECT 'is a member of ' || rolname FROM who WHERE rolname IN (
    'pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_maintain', 'pg_database_owner',
    'pg_signal_backend', 'pg_create_subscription', 'rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin')
"""
# Each kind of object: what one is called, whether a role ({0}) could change it, and whether anybody could.
_OBJECTS = """
SELECT 'may create in database ' || quote_ident(datname) AS way, w.via, p.anybody
  FROM pg_database d, has_database_privilege('public', d.oid, 'CREATE') AS p(anybody),
       LATERAL (SELECT via FROM who WHERE who.oid = datdba OR has_database_privilege(who.oid, d.oid, 'CREATE')
                LIMIT 1) w
 WHERE datname = current_database()
UNION ALL
SELECT 'may create in schema ' || quote_ident(nspname), w.via, has_schema_privilege('public', n.oid, 'CREATE')
  FROM pg_namespace n,
       LATERAL (SELECT via FROM who WHERE who.oid = nspowner OR has_schema_privilege(who.oid, n.oid, 'CREATE')
                LIMIT 1) w
 WHERE nspname !~ '^pg_(toast|temp)'
UNION ALL
SELECT 'owns ' || c.oid::regclass, w.via, false
  FROM pg_class c, LATERAL (SELECT via FROM who WHERE who.oid = relowner LIMIT 1) w
 WHERE relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace
UNION ALL
SELECT 'may write to ' || c.oid::regclass, w.via, has_table_privilege('public', c.oid, {table})
       OR has_any_column_privilege('public', c.oid, 'INSERT, UPDATE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace,
       LATERAL (SELECT via FROM who WHERE has_table_privilege(who.oid, c.oid, {table})
                OR has_any_column_privilege(who.oid, c.oid, 'INSERT, UPDATE') LIMIT 1) w
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't'
   AND nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL
SELECT 'may advance ' || c.oid::regclass, w.via, has_sequence_privilege('public', c.oid, 'USAGE, UPDATE')
  -- Conditions have no order in SQL, and the function refuses what is no sequence.
  FROM (SELECT oid FROM pg_class WHERE relkind = 'S' AND relpersistence <> 't' OFFSET 0) c,
       LATERAL (SELECT via FROM who WHERE has_sequence_privilege(who.oid, c.oid, 'USAGE, UPDATE') LIMIT 1) w
UNION ALL
SELECT 'owns function ' || p.oid::regprocedure, w.via, false
  FROM pg_proc p, LATERAL (SELECT via FROM who WHERE who.oid = proowner LIMIT 1) w
UNION ALL
SELECT 'may write to large object ' || l.oid, COALESCE(w.via, ''), w.via IS NULL
  FROM pg_largeobject_metadata l LEFT JOIN LATERAL (
       SELECT via FROM who WHERE who.oid = lomowner
           OR EXISTS (SELECT FROM aclexplode(lomacl) WHERE grantee = who.oid AND privilege_type = 'UPDATE')
        LIMIT 1) w ON true
 WHERE w.via IS NOT NULL
    OR EXISTS (SELECT FROM aclexplode(lomacl) WHERE grantee = 0 AND privilege_type = 'UPDATE')
"""
_PARAMETERS = """
UNION ALL
SELECT 'may set ' || parname || ' for all', w.via, has_parameter_privilege('public', parname, 'ALTER SYSTEM')
  FROM pg_parameter_acl,
       LATERAL (SELECT via FROM who WHERE has_parameter_privilege(who.oid, parname, 'ALTER SYSTEM') LIMIT 1) w
"""
_PARAMETERS_SINCE, _MAINTAIN_SINCE = 150000, 170000


@dataclass(frozen=True)
class Room:
    """Space on this machine for dump and copy, in bytes."""

    needed: int
    free: int


def ways_to_write(connection: psycopg.Connection) -> list[str]:
    """The ways in which this session's role could change the database; the first twenty."""
    version = connection.info.server_version
    table = "INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER" + (", MAINTAIN" if version >= _MAINTAIN_SINCE else "")
    objects = _OBJECTS.format(table=f"'{table}'") + (_PARAMETERS if version >= _PARAMETERS_SINCE else "")
    marked = f"way || via || CASE WHEN anybody THEN ' ({_NEEDS_REVOKE})' ELSE '' END"
    texts = [f"{_WHO} {_ATTRIBUTES}", f"{_WHO} SELECT {marked} FROM ({objects}) ways LIMIT {_WAYS_FOUND}"]  # noqa: S608 - constants
    return [str(row[0]) for text in texts for row in connection.execute(text.encode()).fetchall()][:_WAYS_FOUND]


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
        hint=_how_to_mend(ways),
    )


def _how_to_mend(ways: list[str]) -> str:
    """What is granted to PUBLIC, no other role would be without."""
    public = any(_NEEDS_REVOKE in way for way in ways)
    own = any(_NEEDS_REVOKE not in way for way in ways)
    steps = ["REVOKE what PUBLIC may do, such as CREATE ON SCHEMA public before PostgreSQL 15"] if public else []
    steps += ["give the drill a role with pg_read_all_data and nothing else"] if own else []
    return ", ".join([*steps, "or set source.writable_role to warn"])


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


def judge_primary(connection: psycopg.Connection) -> Finding:
    """Whether the source is a primary: a standby does not tell which transactions are in progress."""
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    standby = row is None or bool(row[0])
    return Finding(
        name="source is a primary",
        verdict=Verdict.FAIL if standby else Verdict.PASS,
        found="it is a standby" if standby else "yes",
        hint="let source.address lead to the primary; the backup may come from a standby (recovery.address)"
        if standby
        else "",
    )


def measure_room(folder: Path, needed: float, limit: int | None) -> Room:
    """So many bytes below this folder, and what there is."""
    free = shutil.disk_usage(_nearest(folder)).free
    return Room(int(needed), free if limit is None else min(free, limit))


def judge_room(room: Room) -> Finding:
    """Whether it fits."""
    enough = room.free >= room.needed
    return Finding(
        name="room for backup and copy",
        verdict=Verdict.PASS if enough else Verdict.FAIL,
        found=f"{room.needed:,} bytes may be needed, {room.free:,} are free",
        hint=""
        if enough
        else "free some space, set DRILLBOOK_HOME to a larger file system, raise staging.disk_limit, or do without the"
        " scratch clone of `negative_control`",
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
    existing = _nearest(folder)
    # As root, or on a file system mounted read only, the bits of the folder alone say little.
    able = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=True)
    wrong = "cannot be written to" if existing.is_dir() else "is not a folder"
    return Finding(
        name="evidence folder can be written",
        verdict=Verdict.PASS if able else Verdict.FAIL,
        found=str(folder) if able else f"{existing} {wrong}",
        hint="" if able else "mend its permissions, or set evidence.folder in the plan",
    )


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of the way to it. A link that leads nowhere is there, and is no folder."""
    # os.path, since a folder that may not be entered makes pathlib raise.
    whole = folder.absolute()
    return next(path for path in (whole, *whole.parents) if os.path.lexists(path))


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
