"""The statements that read who may do what, what is said about things, and the database around them.

The form of the rows, and what is left out, is that of `checks.structure.catalogue`. Refuses values of settings that may
be secrets.
"""

from __future__ import annotations

from checks.structure.catalogue import OWN_OID, OWN_SCHEMA, Statement, no_member, ordered

# ruff: noqa: S608 - put together from the constants of this program

OWNED = "owner and grants"
DEFAULT_PRIVILEGES = "default privileges"
DATABASE_SETTINGS = "database settings"
COLLATION_VERSION = "collation version"

_THIS = "(SELECT oid FROM pg_database WHERE datname = current_database())"


def _granted(acl: str, owner: str) -> str:
    """Who may do what, one line for each; who granted it is named where that is not the owner."""
    return f"""(SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (
        SELECT concat(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END, ': ',
               string_agg(concat(x.privilege_type, CASE WHEN x.is_grantable THEN ' with grant option' END,
                 CASE WHEN x.grantor <> {owner} THEN ' by ' || pg_get_userbyid(x.grantor) END),
                 ', ' ORDER BY x.privilege_type COLLATE "C", x.grantor)) AS s
          FROM aclexplode({acl}) x GROUP BY x.grantee) lines)"""


# What can have an owner or grants; `letter` is what acldefault calls its kind.
_HOLDERS = """
SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence '
            WHEN 'f' THEN 'foreign table ' ELSE 'table ' END AS kind, 'pg_class'::regclass AS class, c.oid,
       c.relnamespace AS schema, c.relname::text AS name, '' AS suffix, c.relowner AS owner,
       c.relacl AS acl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS letter
  FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
 UNION ALL
SELECT 'routine ', 'pg_proc'::regclass, p.oid, p.pronamespace, p.proname, '(' || oidvectortypes(p.proargtypes) || ')',
       p.proowner, p.proacl, 'f' FROM pg_proc p
 UNION ALL
SELECT 'type ', 'pg_type'::regclass, t.oid, t.typnamespace, t.typname, '',
       t.typowner, t.typacl, 'T'
  FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c'
    OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type m WHERE m.typarray = t.oid)
 UNION ALL
SELECT 'schema ', 'pg_namespace'::regclass, n.oid, n.oid, NULL, '', n.nspowner, n.nspacl, 'n'
  FROM pg_namespace n
 UNION ALL
SELECT 'collation ', 'pg_collation'::regclass, oid, collnamespace, collname, '', collowner, NULL, NULL
  FROM pg_collation WHERE collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
 UNION ALL
SELECT 'operator ', 'pg_operator'::regclass, o.oid, o.oprnamespace, NULL, format('.%s (%s, %s)', o.oprname,
       format_type(nullif(o.oprleft, 0), NULL), format_type(o.oprright, NULL)), o.oprowner, NULL, NULL
  FROM pg_operator o
 UNION ALL
SELECT 'text search configuration ', 'pg_ts_config'::regclass, oid, cfgnamespace, cfgname, '', cfgowner, NULL, NULL
  FROM pg_ts_config
 UNION ALL
SELECT 'text search dictionary ', 'pg_ts_dict'::regclass, oid, dictnamespace, dictname, '', dictowner, NULL, NULL
  FROM pg_ts_dict
 UNION ALL
SELECT 'statistics object ', 'pg_statistic_ext'::regclass, oid, stxnamespace, stxname, '', stxowner, NULL, NULL
  FROM pg_statistic_ext
 UNION ALL
SELECT 'conversion ', 'pg_conversion'::regclass, oid, connamespace, conname, '', conowner, NULL, NULL
  FROM pg_conversion
 UNION ALL
SELECT 'operator class ', 'pg_opclass'::regclass, o.oid, o.opcnamespace, o.opcname, ' for ' || m.amname, o.opcowner,
       NULL, NULL FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
 UNION ALL
SELECT 'operator family ', 'pg_opfamily'::regclass, f.oid, f.opfnamespace, f.opfname, ' for ' || m.amname, f.opfowner,
       NULL, NULL FROM pg_opfamily f JOIN pg_am m ON m.oid = f.opfmethod
"""

_WITHOUT_SCHEMA = f"""
SELECT 'foreign-data wrapper ' AS kind, 'pg_foreign_data_wrapper'::regclass AS class, oid, fdwname::text AS name,
       fdwowner AS owner, coalesce(fdwacl, acldefault('F', fdwowner)) AS acl FROM pg_foreign_data_wrapper
 UNION ALL
SELECT 'server ', 'pg_foreign_server'::regclass, oid, srvname, srvowner, coalesce(srvacl, acldefault('S', srvowner))
  FROM pg_foreign_server
 UNION ALL
SELECT 'language ', 'pg_language'::regclass, oid, lanname, lanowner, coalesce(lanacl, acldefault('l', lanowner))
  FROM pg_language WHERE oid >= {OWN_OID}
 UNION ALL
SELECT 'publication ', 'pg_publication'::regclass, oid, pubname, pubowner, NULL FROM pg_publication
 UNION ALL
SELECT 'event trigger ', 'pg_event_trigger'::regclass, oid, evtname, evtowner, NULL FROM pg_event_trigger
"""

_WHOSE = "'owner', pg_get_userbyid(o.owner), 'grants'"
_IS_MEMBER = "EXISTS (SELECT FROM pg_depend e WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')"

OWNERS_AND_GRANTS = f"""
WITH holder AS ({_HOLDERS})
SELECT '{OWNED}', o.kind, array_remove(ARRAY[n.nspname, o.name]::text[], NULL), o.suffix,
       jsonb_strip_nulls(jsonb_build_object({_WHOSE},
         {_granted("coalesce(o.acl, acldefault(o.letter, o.owner))", "o.owner")}))::text
  FROM holder o JOIN pg_namespace n ON n.oid = o.schema
 WHERE {OWN_SCHEMA} AND NOT {_IS_MEMBER}
   AND NOT (o.class = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_depend i WHERE i.classid = o.class
        AND i.objid = o.oid AND i.refclassid = 'pg_type'::regclass AND i.deptype = 'i'))
 UNION ALL
SELECT '{OWNED}', o.kind, ARRAY[o.name], '',
       jsonb_strip_nulls(jsonb_build_object({_WHOSE}, {_granted("o.acl", "o.owner")}))::text
  FROM ({_WITHOUT_SCHEMA}) o
 WHERE NOT {_IS_MEMBER}
 UNION ALL
SELECT '{OWNED}', 'column ', ARRAY[n.nspname, c.relname, a.attname]::text[], '',
       jsonb_strip_nulls(jsonb_build_object('grants', {_granted("a.attacl", "c.relowner")}))::text
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE cardinality(a.attacl) > 0 AND NOT a.attisdropped AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
 UNION ALL
SELECT '{OWNED}', '', '{{}}', 'this database',
       jsonb_build_object('owner', pg_get_userbyid(d.datdba),
         'grants', {_granted("coalesce(d.datacl, acldefault('d', d.datdba))", "d.datdba")})::text
  FROM pg_database d WHERE d.oid = {_THIS}
 UNION ALL
SELECT '{OWNED}', 'large objects of ', ARRAY[pg_get_userbyid(l.lomowner)], '',
       jsonb_build_object('count', count(*)::text)::text
  FROM pg_largeobject_metadata l GROUP BY l.lomowner
 UNION ALL
SELECT '{OWNED}', 'large objects granted to ', ARRAY[CASE x.grantee WHEN 0 THEN 'PUBLIC'
         ELSE pg_get_userbyid(x.grantee) END]::text[], ': ' || x.privilege_type,
       jsonb_build_object('count', count(*)::text)::text
  FROM pg_largeobject_metadata l, aclexplode(l.lomacl) x WHERE x.grantee <> l.lomowner
 GROUP BY x.grantee, x.privilege_type
 UNION ALL
SELECT '{DEFAULT_PRIVILEGES}',
       CASE a.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines'
         WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END || ' of ',
       ARRAY[pg_get_userbyid(a.defaclrole)]::text[], coalesce(' in ' || quote_ident(n.nspname), ''),
       jsonb_strip_nulls(jsonb_build_object('grants', {_granted("a.defaclacl", "a.defaclrole")}))::text
  FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
"""


def _beyond(acl: str, owner: str) -> str:
    """Grants to others than the owner."""
    return f"""SELECT concat(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END, ': ',
        x.privilege_type, CASE WHEN x.is_grantable THEN ' with grant option' END) AS s
        FROM aclexplode({acl}) x WHERE x.grantee <> {owner}"""


_NOW = _beyond("o.acl", "o.owner")
_AT_FIRST = _beyond("coalesce(i.initprivs, acldefault(o.letter, o.owner))", "o.owner")

GRANTS_ON_OTHERS = f"""
WITH holder AS ({_HOLDERS})
SELECT '{OWNED}', o.kind, array_remove(ARRAY[n.nspname, o.name]::text[], NULL), o.suffix,
       jsonb_strip_nulls(jsonb_build_object(
         'granted', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM ({_NOW} EXCEPT {_AT_FIRST}) x),
         'revoked', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM ({_AT_FIRST} EXCEPT {_NOW}) x)))::text
  FROM holder o JOIN pg_namespace n ON n.oid = o.schema
  LEFT JOIN pg_init_privs i ON i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = 0
 WHERE o.acl IS NOT NULL AND o.acl IS DISTINCT FROM i.initprivs
   AND (n.nspname = 'pg_catalog' OR {_IS_MEMBER})
"""
"""What was granted on the server's own objects and on an extension's, beyond what initdb and the extension did."""

COMMENTS = f"""
SELECT 'comment', '', '{{}}'::text[],
       CASE WHEN k.oid IS NULL THEN i.type || ' ' || i.identity
            ELSE format('the NOT NULL of %s.%I', k.conrelid::regclass, a.attname) END,
       jsonb_build_object('text', d.description)::text
  FROM pg_description d
 CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
  LEFT JOIN pg_constraint k ON d.classoid = 'pg_constraint'::regclass AND k.oid = d.objoid AND k.contype = 'n'
       AND k.conrelid <> 0
  LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
 WHERE (d.objoid >= {OWN_OID} OR d.classoid = 'pg_namespace'::regclass AND d.objoid = to_regnamespace('public'))
   AND coalesce(i.schema, '') !~ '^pg_' AND NOT (i.type = 'schema' AND i.identity ~ '^pg_')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
"""

SECURITY_LABELS = f"""
SELECT 'security label', '', '{{}}'::text[], format('%s %s by %s', i.type, i.identity, l.provider),
       jsonb_build_object('label', l.label)::text
  FROM pg_seclabel l
 CROSS JOIN LATERAL pg_identify_object(l.classoid, l.objoid, l.objsubid) i
 WHERE coalesce(i.schema, '') !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = l.classoid AND e.objid = l.objoid AND e.deptype = 'e')
 UNION ALL
SELECT '{DATABASE_SETTINGS}', '', '{{}}', 'security label by ' || l.provider, jsonb_build_object('label', l.label)::text
  FROM pg_shseclabel l WHERE l.classoid = 'pg_database'::regclass AND l.objoid = {_THIS}
"""

DATABASE = f"""
SELECT 'database', '', '{{}}'::text[], 'this database', jsonb_strip_nulls(jsonb_build_object(
         'encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
         'provider', to_jsonb(d) ->> 'datlocprovider',
         'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
         'rules', to_jsonb(d) ->> 'daticurules'))::text
  FROM pg_database d WHERE d.oid = {_THIS}
 UNION ALL
SELECT '{DATABASE_SETTINGS}', '', '{{}}', 'this database', jsonb_build_object(
         'connection limit', d.datconnlimit::text, 'template', d.datistemplate, 'connections allowed', d.datallowconn,
         'comment', shobj_description(d.oid, 'pg_database'))::text
  FROM pg_database d WHERE d.oid = {_THIS}
 UNION ALL
SELECT '{DATABASE_SETTINGS}', '', '{{}}',
       CASE s.setrole WHEN 0 THEN 'of all roles' ELSE 'of ' || pg_get_userbyid(s.setrole) END,
       jsonb_build_object('settings', {ordered("s.setconfig")})::text
  FROM pg_db_role_setting s WHERE s.setdatabase = {_THIS}
"""

COLLATION_VERSIONS = f"""
SELECT DISTINCT '{COLLATION_VERSION}', 'collation ', ARRAY[n.nspname, c.collname]::text[], '',
       jsonb_build_object('provider', c.collprovider::text, 'version', pg_collation_actual_version(c.oid))::text
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE pg_collation_actual_version(c.oid) IS NOT NULL AND {no_member("pg_collation", "c.oid")}
   AND (c.oid >= {OWN_OID} OR c.oid IN (SELECT attcollation FROM pg_attribute WHERE attrelid >= {OWN_OID}))
"""

DATABASE_VERSION = f"""
SELECT '{COLLATION_VERSION}', '', '{{}}'::text[], 'this database', jsonb_build_object(
         'provider', d.datlocprovider::text, 'version', pg_database_collation_actual_version(d.oid))::text
  FROM pg_database d WHERE d.oid = {_THIS} AND pg_database_collation_actual_version(d.oid) IS NOT NULL
"""

ACCESS = (
    Statement("owners, grants, default privileges", OWNERS_AND_GRANTS),
    Statement("grants on what extensions and the server bring", GRANTS_ON_OTHERS),
    Statement("comments", COMMENTS),
    Statement("security labels", SECURITY_LABELS),
    Statement("database", DATABASE),
    Statement("collation versions", COLLATION_VERSIONS),
    Statement("collation version of the database", DATABASE_VERSION, since=150000),
)
