"""The statements that read what a database has besides tables: types, functions, extensions, publications and so on.

The form of the rows, and what is left out, is that of `checks.catalogue`. Refuses secrets: of a user mapping it reads
that it is there, of a subscription not where it leads.
"""

from __future__ import annotations

from checks.catalogue import OWN_OID, OWN_SCHEMA, Statement, named_collation, no_member, ordered

# ruff: noqa: S608 - put together from the constants of this program


def _function(oid: str) -> str:
    """The name of a function, where there is one."""
    return f"CASE WHEN {oid} <> 0 THEN {oid}::regprocedure::text END"


def _operator(oid: str) -> str:
    return f"CASE WHEN {oid} <> 0 THEN {oid}::regoperator::text END"


TYPES = f"""
SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite type'
            WHEN 'r' THEN 'range type' ELSE 'type' END,
       '', ARRAY[n.nspname, t.typname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'labels', (SELECT jsonb_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
         'base type', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
         'not null', CASE WHEN t.typtype = 'd' THEN t.typnotnull END,
         'default', coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault),
         'collation', CASE WHEN t.typtype = 'd' THEN {named_collation("t.typcollation", "b.typcollation")} END,
         'subtype', format_type(r.rngsubtype, NULL),
         'subtype operator class', (SELECT c.opcname FROM pg_opclass c WHERE c.oid = r.rngsubopc),
         'subtype collation', CASE WHEN r.rngcollation <> 0 THEN r.rngcollation::regcollation::text END,
         'canonical', {_function("r.rngcanonical::oid")}, 'difference', {_function("r.rngsubdiff::oid")},
         'multirange', format_type(r.rngmultitypid, NULL),
         'input', CASE WHEN t.typtype = 'b' THEN t.typinput::text END,
         'output', CASE WHEN t.typtype = 'b' THEN t.typoutput::text END,
         'length', CASE WHEN t.typtype = 'b' THEN t.typlen::text END,
         'category', CASE WHEN t.typtype = 'b' THEN t.typcategory::text END))::text
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_type b ON b.oid = t.typbasetype
  LEFT JOIN pg_range r ON r.rngtypid = t.oid
  LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c' OR t.typtype = 'b'
        AND NOT EXISTS (SELECT FROM pg_type m WHERE m.typarray = t.oid))
   AND {OWN_SCHEMA} AND {no_member("pg_type", "t.oid")}
"""

FUNCTIONS = f"""
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window function'
            ELSE 'function' END,
       '', ARRAY[n.nspname, p.proname]::text[], '(' || oidvectortypes(p.proargtypes) || ')',
       jsonb_strip_nulls(jsonb_build_object(
         'arguments', pg_get_function_arguments(p.oid), 'result', pg_get_function_result(p.oid),
         'language', l.lanname, 'volatility', CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable'
            ELSE 'volatile' END,
         'strict', p.proisstrict, 'security definer', p.prosecdef, 'leakproof', p.proleakproof,
         'parallel', CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
         'cost', p.procost::text, 'rows', nullif(p.prorows, 0)::text,
         'settings', {ordered("p.proconfig")}, 'support', {_function("p.prosupport::oid")}, 'library', p.probin,
         'body', CASE WHEN p.prokind <> 'a' THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) END,
         'transition', {_function("a.aggtransfn::oid")}, 'final', {_function("a.aggfinalfn::oid")},
         'combine', {_function("a.aggcombinefn::oid")}, 'serialize', {_function("a.aggserialfn::oid")},
         'deserialize', {_function("a.aggdeserialfn::oid")}, 'moving transition', {_function("a.aggmtransfn::oid")},
         'moving inverse', {_function("a.aggminvtransfn::oid")}, 'moving final', {_function("a.aggmfinalfn::oid")},
         'state', format_type(nullif(a.aggtranstype, 0), NULL), 'initial', a.agginitval,
         'moving state', format_type(nullif(a.aggmtranstype, 0), NULL), 'moving initial', a.aggminitval,
         'sort operator', {_operator("a.aggsortop")}, 'aggregate kind', nullif(a.aggkind::text, 'n')))::text
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
 WHERE {OWN_SCHEMA} AND {no_member("pg_proc", "p.oid")}
   -- A range type brings its constructors along.
   AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid
        AND i.refclassid = 'pg_type'::regclass AND i.deptype = 'i')
"""

OPERATORS = f"""
SELECT 'operator', '', ARRAY[n.nspname]::text[],
       format('.%s (%s, %s)', o.oprname, format_type(nullif(o.oprleft, 0), NULL), format_type(o.oprright, NULL)),
       jsonb_strip_nulls(jsonb_build_object(
         'function', {_function("o.oprcode::oid")}, 'result', format_type(nullif(o.oprresult, 0), NULL),
         'commutator', {_operator("o.oprcom")}, 'negator', {_operator("o.oprnegate")},
         'restrict', {_function("o.oprrest::oid")}, 'join', {_function("o.oprjoin::oid")},
         'merges', o.oprcanmerge, 'hashes', o.oprcanhash))::text
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_operator", "o.oid")}
 UNION ALL
SELECT 'operator class', '', ARRAY[n.nspname, o.opcname]::text[], ' for ' || m.amname,
       jsonb_strip_nulls(jsonb_build_object(
         'type', format_type(o.opcintype, NULL), 'stored as', format_type(nullif(o.opckeytype, 0), NULL),
         'default', o.opcdefault, 'family', f.opfname))::text
  FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
  JOIN pg_opfamily f ON f.oid = o.opcfamily
 WHERE {OWN_SCHEMA} AND {no_member("pg_opclass", "o.oid")}
 UNION ALL
SELECT 'operator family', '', ARRAY[n.nspname, f.opfname]::text[], ' for ' || m.amname,
       jsonb_strip_nulls(jsonb_build_object(
         'operators', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (SELECT format('%s %s%s', w.amopstrategy,
            w.amopopr::regoperator, CASE w.amoppurpose WHEN 'o' THEN ' for order by' END) s
            FROM pg_amop w WHERE w.amopfamily = f.oid) x),
         'functions', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (SELECT format('%s %s (%s, %s)', w.amprocnum,
            w.amproc::oid::regprocedure, format_type(w.amproclefttype, NULL), format_type(w.amprocrighttype, NULL)) s
            FROM pg_amproc w WHERE w.amprocfamily = f.oid) x)))::text
  FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace JOIN pg_am m ON m.oid = f.opfmethod
 WHERE {OWN_SCHEMA} AND {no_member("pg_opfamily", "f.oid")}
 UNION ALL
SELECT 'cast', '', '{{}}', format('%s to %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)),
       jsonb_strip_nulls(jsonb_build_object(
         'function', {_function("c.castfunc")},
         'context', CASE c.castcontext WHEN 'e' THEN 'explicit' WHEN 'a' THEN 'assignment' ELSE 'implicit' END,
         'method', CASE c.castmethod WHEN 'f' THEN 'function' WHEN 'i' THEN 'input and output' ELSE 'binary' END))::text
  FROM pg_cast c
 WHERE c.oid >= {OWN_OID} AND {no_member("pg_cast", "c.oid")}
   -- A range type brings the cast to its multirange along.
   AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_cast'::regclass AND i.objid = c.oid
        AND i.deptype = 'i')
"""

TEXT_SEARCH = f"""
SELECT 'text search configuration', '', ARRAY[n.nspname, c.cfgname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'parser', (SELECT p.prsname FROM pg_ts_parser p WHERE p.oid = c.cfgparser),
         'mappings', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (
            SELECT t.alias || ': ' || string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) AS s
              FROM pg_ts_config_map m JOIN ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype
             WHERE m.mapcfg = c.oid GROUP BY t.alias) x)))::text
  FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_ts_config", "c.oid")}
 UNION ALL
SELECT 'text search dictionary', '', ARRAY[n.nspname, d.dictname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'template', (SELECT t.tmplname FROM pg_ts_template t WHERE t.oid = d.dicttemplate),
         'options', d.dictinitoption))::text
  FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_ts_dict", "d.oid")}
 UNION ALL
SELECT 'collation', '', ARRAY[n.nspname, c.collname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'provider', c.collprovider::text, 'deterministic', c.collisdeterministic,
         'collate', to_jsonb(c) ->> 'collcollate', 'ctype', to_jsonb(c) ->> 'collctype',
         'locale', coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'),
         'rules', to_jsonb(c) ->> 'collicurules'))::text
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
   AND {OWN_SCHEMA} AND {no_member("pg_collation", "c.oid")}
"""

WHOLE = f"""
SELECT 'schema', '', ARRAY[n.nspname]::text[], '', '{{}}'
  FROM pg_namespace n WHERE {OWN_SCHEMA} AND {no_member("pg_namespace", "n.oid")}
 UNION ALL
SELECT 'extension', '', ARRAY[e.extname]::text[], '',
       jsonb_build_object('version', e.extversion, 'schema', n.nspname)::text
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 UNION ALL
SELECT 'language', '', ARRAY[l.lanname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'trusted', l.lanpltrusted, 'handler', {_function("l.lanplcallfoid")}))::text
  FROM pg_language l WHERE l.oid >= {OWN_OID} AND {no_member("pg_language", "l.oid")}
 UNION ALL
SELECT 'event trigger', '', ARRAY[t.evtname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'event', t.evtevent, 'tags', {ordered("t.evttags")}, 'function', {_function("t.evtfoid")},
         'enabled', CASE t.evtenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'on a replica'
            ELSE 'always' END))::text
  FROM pg_event_trigger t WHERE {no_member("pg_event_trigger", "t.oid")}
 UNION ALL
SELECT 'foreign-data wrapper', '', ARRAY[w.fdwname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'handler', {_function("w.fdwhandler")}, 'validator', {_function("w.fdwvalidator")},
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

PUBLICATIONS = f"""
SELECT 'publication', '', ARRAY[p.pubname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'all tables', p.puballtables, 'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
         'truncate', p.pubtruncate, 'via root', p.pubviaroot, 'generated columns', to_jsonb(p) ->> 'pubgencols',
         'tables', (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM (
            SELECT concat(r.prrelid::regclass, ' (' || (
                     SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                      WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) || ')',
                   ' WHERE ' || pg_get_expr(r.prqual, r.prrelid)) AS s
              FROM pg_publication_rel r WHERE r.prpubid = p.oid) x),
         'schemas', (SELECT jsonb_agg(r.pnnspid::regnamespace::text ORDER BY r.pnnspid::regnamespace::text COLLATE "C")
            FROM pg_publication_namespace r WHERE r.pnpubid = p.oid)))::text
  FROM pg_publication p WHERE {no_member("pg_publication", "p.oid")}
"""

OTHERS = (
    Statement("types", TYPES),
    Statement("functions", FUNCTIONS),
    Statement("operators and casts", OPERATORS),
    Statement("text search and collations", TEXT_SEARCH),
    Statement("schemas, extensions, servers and others", WHOLE),
    Statement("publications", PUBLICATIONS, since=150000),
)
