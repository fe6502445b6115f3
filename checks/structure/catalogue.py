"""The statements that read a database's structure: what tables are made of.

Owns the form of these statements. Each gives rows of kind, prefix, path, suffix and definition: the name of an object
is its path with quotes where they are needed, between prefix and suffix; its definition is a JSON object. OIDs and
numbers of columns, which a restore deals anew, are in none of them; members of extensions are left to the extension.
The statements are written for a search path of `pg_catalog` alone, so that every name in an expression carries its
schema. Tablespaces are not read: a copy lies where its server puts it.
"""

from __future__ import annotations

from dataclasses import dataclass

# ruff: noqa: S608 - put together from the constants of this program


@dataclass(frozen=True)
class Statement:
    """One question to the catalogue."""

    name: str
    sql: str
    since: int = 0
    """The first server version, as server_version_num, that can answer."""
    until: int = 10**6
    """The first one that is asked something else instead."""


OWN_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
"""Of a pg_namespace `n`: not the server's own, and not a session's temporary one."""
OWN_OID = 16384
"""FirstNormalObjectId in access/transam.h: what initdb made lies below."""

NOT_SHOWN = "=(not shown)"
"""What stands for the value of an option that may be a secret. Two of them are equal, whatever they were."""
_SENSITIVE = "passw|secret|token|credential|api_?key|access_?key|private_?key"
"""What an option whose value is not for the evidence may be called."""


def no_member(catalogue: str, oid: str) -> str:
    """A condition: no extension brings this object."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass AND e.objid = {oid}"
        " AND e.deptype = 'e')"
    )


def ordered(array: str) -> str:
    """An array of options as a list. Its order means nothing; values that may be secrets are not for the evidence."""
    return (
        f"CASE WHEN {array} IS NOT NULL THEN (SELECT jsonb_agg(CASE WHEN split_part(o, '=', 1) ~* "
        f"""'{_SENSITIVE}' THEN split_part(o, '=', 1) || '{NOT_SHOWN}' ELSE o END ORDER BY o COLLATE "C")"""
        f" FROM unnest({array}) o) END"
    )


def named_collation(oid: str, default: str) -> str:
    """A collation that is not the type's own."""
    return f"CASE WHEN {oid} <> {default} THEN {oid}::regcollation::text END"


RELATIONS = f"""
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
       '', ARRAY[n.nspname, c.relname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'persistence', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
         'access method', a.amname,
         'options', {ordered("c.reloptions")},
         'toast options', {ordered("t.reloptions")},
         'of type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
         CASE WHEN c.relispartition THEN 'partition of' ELSE 'inherits' END,
         (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
           WHERE i.inhrelid = c.oid),
         'partition key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
         'partition bound', pg_get_expr(c.relpartbound, c.oid),
         'row security', CASE WHEN c.relkind IN ('r', 'p') THEN c.relrowsecurity END,
         'row security forced', CASE WHEN c.relkind IN ('r', 'p') THEN c.relforcerowsecurity END,
         'replica identity', CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN CASE WHEN c.relkind IN ('r', 'p')
            THEN 'nothing' END WHEN 'i' THEN 'an index' END,
         'populated', CASE WHEN c.relkind = 'm' THEN c.relispopulated END,
         'server', s.srvname,
         'foreign options', {ordered("f.ftoptions")},
         'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END))::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_am a ON a.oid = c.relam
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
  LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
"""

COLUMNS = f"""
WITH dropped AS (
  SELECT attrelid, array_agg(attnum) AS numbers FROM pg_attribute WHERE attisdropped AND attnum > 0 GROUP BY 1)
SELECT CASE c.relkind WHEN 'c' THEN 'attributes' ELSE 'columns' END,
       '', ARRAY[n.nspname, c.relname]::text[], '', jsonb_object_agg(a.attname, jsonb_strip_nulls(jsonb_build_object(
         -- A dump lists the columns of a parent before those of its heir, wherever they were.
         'position', CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
            THEN a.attnum - CASE WHEN g.numbers IS NULL THEN 0
                ELSE (SELECT count(*) FROM unnest(g.numbers) x WHERE x < a.attnum) END END::text,
         'type', format_type(a.atttypid, a.atttypmod),
         'not null', CASE WHEN c.relkind NOT IN ('v', 'm', 'c') THEN a.attnotnull END,
         'not null is validated', CASE WHEN NOT k.convalidated THEN false END,
         'not null is inherited', CASE WHEN k.connoinherit THEN false END,
         'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
         'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END,
         'expression', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
         'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
         'collation', {named_collation("a.attcollation", "t.typcollation")},
         'storage', CASE WHEN a.attstorage <> t.typstorage AND c.relkind NOT IN ('v', 'c') THEN CASE a.attstorage
            WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END END,
         'compression', CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
         'statistics target', nullif(a.attstattarget, -1)::text,
         'options', {ordered("a.attoptions")},
         'foreign options', {ordered("a.attfdwoptions")})))::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN dropped g ON g.attrelid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  -- Since PostgreSQL 18. Their names are dealt by the server unless somebody chose one.
  LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.conkey[1] = a.attnum AND k.contype = 'n'
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 GROUP BY c.oid, c.relkind, c.relname, n.nspname
"""
"""All columns of a table in one row: there may be very many."""

CONSTRAINTS = f"""
WITH disabled AS (
  SELECT tgconstraint, count(*)::text AS number FROM pg_trigger WHERE tgisinternal AND tgenabled <> 'O' GROUP BY 1)
SELECT 'constraint', '', ARRAY[n.nspname, coalesce(c.relname, t.typname), k.conname]::text[], '',
       jsonb_strip_nulls(jsonb_build_object(
         'definition', CASE WHEN k.convalidated AND NOT k.condeferrable THEN w.text
            ELSE regexp_replace(w.text, '( DEFERRABLE| INITIALLY DEFERRED| NOT ENFORCED| NOT VALID)+$', '') END,
         'validated', k.convalidated, 'enforced', position(' NOT ENFORCED' IN right(w.text, 30)) = 0,
         'deferrable', CASE WHEN k.condeferred THEN 'initially deferred' WHEN k.condeferrable THEN 'yes' ELSE 'no' END,
         'triggers disabled', g.number))::text
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
 CROSS JOIN LATERAL (SELECT pg_get_constraintdef(k.oid) AS text OFFSET 0) w
  LEFT JOIN pg_class c ON c.oid = k.conrelid
  LEFT JOIN pg_type t ON t.oid = k.contypid
  LEFT JOIN disabled g ON g.tgconstraint = k.oid
 -- A partition's share of a foreign key is made anew with the parent's, under a name of the server's choice.
 WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (k.contype <> 'f' OR k.conparentid = 0)
   AND {OWN_SCHEMA} AND {no_member("pg_class", "k.conrelid")} AND {no_member("pg_type", "k.contypid")}
"""

INDEXES = f"""
SELECT 'index', '', ARRAY[n.nspname, x.relname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'definition', pg_get_indexdef(i.indexrelid),
         'valid', i.indisvalid, 'ready', i.indisready AND i.indislive,
         'clustered on', nullif(i.indisclustered, false),
         'replica identity', nullif(i.indisreplident, false),
         'partition of', (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = x.oid)))::text
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm') AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
"""

_FIRES = "WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica' ELSE 'always' END"

ON_TABLES = f"""
SELECT 'trigger', '', ARRAY[n.nspname, c.relname, g.tgname]::text[], '', jsonb_build_object(
         'definition', pg_get_triggerdef(g.oid), 'enabled', CASE g.tgenabled {_FIRES})::text
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT g.tgisinternal AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 UNION ALL
SELECT 'rule', '', ARRAY[n.nspname, c.relname, r.rulename]::text[], '', jsonb_build_object(
         'definition', pg_get_ruledef(r.oid), 'enabled', CASE r.ev_enabled {_FIRES})::text
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE r.rulename <> '_RETURN' AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 UNION ALL
SELECT 'policy', '', ARRAY[n.nspname, c.relname, p.polname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
         'kind', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
         'roles', (SELECT jsonb_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(o) END::text
            ORDER BY pg_get_userbyid(o) COLLATE "C") FROM unnest(p.polroles) o),
         'using', pg_get_expr(p.polqual, p.polrelid),
         'check', pg_get_expr(p.polwithcheck, p.polrelid)))::text
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 UNION ALL
SELECT 'statistics object', '', ARRAY[n.nspname, x.stxname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'definition', pg_get_statisticsobjdef(x.oid), 'target', nullif(x.stxstattarget, -1)::text))::text
  FROM pg_statistic_ext x JOIN pg_namespace n ON n.oid = x.stxnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_statistic_ext", "x.oid")}
"""

SEQUENCES = f"""
SELECT 'sequence', '', ARRAY[n.nspname, c.relname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'type', format_type(s.seqtypid, NULL), 'start', s.seqstart::text, 'increment', s.seqincrement::text,
         'minimum', s.seqmin::text, 'maximum', s.seqmax::text, 'cache', s.seqcache::text, 'cycle', s.seqcycle,
         'persistence', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
         'owned by', (SELECT d.refobjid::regclass || '.' || quote_ident(a.attname)
            FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
           WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
             AND d.deptype IN ('a', 'i'))))::text
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
"""

OF_TABLES = (
    Statement("relations", RELATIONS),
    Statement("columns", COLUMNS),
    Statement("constraints", CONSTRAINTS),
    Statement("indexes", INDEXES),
    Statement("triggers, rules, policies, statistics objects", ON_TABLES),
    Statement("sequences", SEQUENCES),
)
