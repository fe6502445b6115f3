"""What the drill's role cannot read at the source: pg_dump ends at the first of these, after an hour perhaps."""

from __future__ import annotations

import psycopg

from drills.records import Finding, Verdict

_SHOWN = 5
_UNREADABLE = """
WITH told AS MATERIALIZED (
    SELECT c.oid, c.relkind, n.oid AS namespace,
           has_schema_privilege(n.oid, 'USAGE') AS enters, c.relrowsecurity AS secured
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'))
SELECT oid::regclass::text, CASE WHEN NOT enters THEN 'no USAGE of its schema'
            WHEN secured AND relkind <> 'S' AND row_security_active(oid) THEN 'a policy hides rows'
            ELSE 'no SELECT' END
  FROM told
 WHERE NOT enters
    -- Each function refuses what is of the other kind.
    OR CASE relkind WHEN 'S' THEN NOT has_sequence_privilege(oid, 'SELECT')
                    ELSE NOT has_table_privilege(oid, 'SELECT') OR row_security_active(oid) END
 ORDER BY 1
"""
_GRANT = "GRANT pg_read_all_data TO the role (and BYPASSRLS, where policies hide rows); each drill reads every row"


def judge_reading(connection: psycopg.Connection, *, whole: bool) -> Finding:
    """Whether every table and sequence can be read. Of extensions' own ones only the configuration is dumped.

    Args:
        connection: to the source, as the role of the plan.
        whole: whether what cannot be read ends the drill, as it does pg_dump. Otherwise it is left to the checks.

    Raises:
        psycopg.Error: it could not be asked.
    """
    found = connection.execute(_UNREADABLE).fetchall()
    name = "the role reads everything"
    if not found:
        return Finding(name=name, verdict=Verdict.PASS, found="every table and sequence")
    shown = "; ".join(f"{table}: {why}" for table, why in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding(
        name=name, verdict=Verdict.FAIL if whole else Verdict.UNKNOWN, found=f"not {shown}{more}", hint=_GRANT
    )
