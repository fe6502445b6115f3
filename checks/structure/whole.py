"""The statements that read what belongs to a database as a whole: schemas, extensions, servers, publications and so on.

The form of the rows, and what is left out, is that of `checks.structure.catalogue`. Refuses secrets: of a user mapping
it reads that it is there, of a subscription not where it leads.
"""

from __future__ import annotations

from checks.structure.catalogue import OWN_OID, OWN_SCHEMA, Statement, no_member, ordered
from checks.structure.objects import function_of

# ruff: noqa: S608 - put together from the constants of this program

WHOLE = f"""
SELECT 'schema', '', ARRAY[n.nspname]::text[], '', '{{}}'
  FROM pg_namespace n WHERE {OWN_SCHEMA} AND {no_member("pg_namespace", "n.oid")}
 UNION ALL
SELECT 'extension', '', ARRAY[e.extname]::text[], '',
       jsonb_build_object('version', e.extversion, 'schema', n.nspname)::text
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 UNION ALL
SELECT 'language', '', ARRAY[l.lanname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'trusted', l.lanpltrusted, 'handler', {function_of("l.lanplcallfoid")}))::text
  FROM pg_language l WHERE l.oid >= {OWN_OID} AND {no_member("pg_language", "l.oid")}
 UNION ALL
SELECT 'access method', '', ARRAY[m.amname]::text[], '', jsonb_build_object(
         'kind', CASE m.amtype WHEN 't' THEN 'table' ELSE 'index' END,
         'handler', {function_of("m.amhandler::oid")})::text
  FROM pg_am m WHERE m.oid >= {OWN_OID} AND {no_member("pg_am", "m.oid")}
 UNION ALL
SELECT 'transform', '', '{{}}', format('for %s language %I', format_type(t.trftype, NULL), l.lanname),
       jsonb_strip_nulls(jsonb_build_object(
         'from SQL', {function_of("t.trffromsql::oid")}, 'to SQL', {function_of("t.trftosql::oid")}))::text
  FROM pg_transform t JOIN pg_language l ON l.oid = t.trflang WHERE {no_member("pg_transform", "t.oid")}
 UNION ALL
SELECT 'event trigger', '', ARRAY[t.evtname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'event', t.evtevent, 'tags', {ordered("t.evttags")}, 'function', {function_of("t.evtfoid")},
         'enabled', CASE t.evtenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica'
            ELSE 'always' END))::text
  FROM pg_event_trigger t WHERE {no_member("pg_event_trigger", "t.oid")}
 UNION ALL
SELECT 'foreign-data wrapper', '', ARRAY[w.fdwname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'handler', {function_of("w.fdwhandler")}, 'validator', {function_of("w.fdwvalidator")},
         'options', {ordered("w.fdwoptions")}))::text
  FROM pg_foreign_data_wrapper w WHERE {no_member("pg_foreign_data_wrapper", "w.oid")}
 UNION ALL
SELECT 'server', '', ARRAY[s.srvname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'wrapper', w.fdwname, 'type', s.srvtype, 'version', s.srvversion, 'options', {ordered("s.srvoptions")}))::text
  FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
 WHERE {no_member("pg_foreign_server", "s.oid")}
 UNION ALL
SELECT 'user mapping', '', ARRAY[m.srvname]::text[], ' for ' || m.usename, '{{}}' FROM pg_user_mappings m
 UNION ALL
SELECT 'large objects', '', '{{}}', 'all', jsonb_build_object('count', count(*)::text)::text
  FROM pg_largeobject_metadata HAVING count(*) > 0
 UNION ALL
SELECT 'subscription', '', ARRAY[s.subname]::text[], '', jsonb_build_object(
         'publications', (SELECT jsonb_agg(p ORDER BY p COLLATE "C") FROM unnest(s.subpublications) p),
         'slot', s.subslotname, 'active', s.subenabled, 'read by a superuser', u.rolsuper)::text
  FROM pg_subscription s JOIN pg_roles u ON u.rolname = current_user
 WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _publications(table: str, schemas: str) -> str:
    """All publications.

    Args:
        table: how a table in it, the pg_publication_rel `r`, is told.
        schemas: the whole schemas in it.
    """
    return f"""
SELECT 'publication', '', ARRAY[p.pubname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'all tables', p.puballtables, 'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
         'truncate', p.pubtruncate, 'via root', p.pubviaroot, 'generated columns', to_jsonb(p) ->> 'pubgencols',
         'tables', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (
            SELECT {table} AS s FROM pg_publication_rel r WHERE r.prpubid = p.oid) x),
         'schemas', {schemas}))::text
  FROM pg_publication p WHERE {no_member("pg_publication", "p.oid")}
"""


PUBLICATIONS = _publications(
    """concat(r.prrelid::regclass, ' (' || (
                     SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                      WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) || ')',
                   ' WHERE ' || pg_get_expr(r.prqual, r.prrelid))""",
    """(SELECT jsonb_agg(r.pnnspid::regnamespace::text ORDER BY r.pnnspid::regnamespace::text COLLATE "C")
            FROM pg_publication_namespace r WHERE r.pnpubid = p.oid)""",
)
PUBLICATIONS_OF_14 = _publications("r.prrelid::regclass::text", "NULL::jsonb")
"""Before PostgreSQL 15 a publication had whole tables and no schemas; these columns are not there."""

OF_THE_WHOLE = (
    Statement("schemas, extensions, servers and others", WHOLE),
    Statement("publications", PUBLICATIONS, since=150000),
    Statement("publications before PostgreSQL 15", PUBLICATIONS_OF_14, until=150000),
)
