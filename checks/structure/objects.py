"""The statements that read what a database has besides tables: types, functions, operators, text search and so on.

The form of the rows, and what is left out, is that of `checks.structure.catalogue`. What is no type, no routine, no
operator and not of text search is in `checks.structure.whole`. The texts of functions are code, and they are in the
evidence.
"""

from __future__ import annotations

from checks.structure.catalogue import OWN_OID, OWN_SCHEMA, Statement, named_collation, no_member, ordered

# ruff: noqa: S608 - put together from the constants of this program


def function_of(oid: str) -> str:
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
         'canonical', {function_of("r.rngcanonical::oid")}, 'difference', {function_of("r.rngsubdiff::oid")},
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
         'settings', {ordered("p.proconfig")}, 'support', {function_of("p.prosupport::oid")}, 'library', p.probin,
         'body', CASE WHEN p.prokind <> 'a' THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) END,
         'transition', {function_of("a.aggtransfn::oid")}, 'final', {function_of("a.aggfinalfn::oid")},
         'combine', {function_of("a.aggcombinefn::oid")}, 'serialize', {function_of("a.aggserialfn::oid")},
         'deserialize', {function_of("a.aggdeserialfn::oid")}, 'moving transition', {function_of("a.aggmtransfn::oid")},
         'moving inverse', {function_of("a.aggminvtransfn::oid")}, 'moving final', {function_of("a.aggmfinalfn::oid")},
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
         'function', {function_of("o.oprcode::oid")}, 'result', format_type(nullif(o.oprresult, 0), NULL),
         'commutator', {_operator("o.oprcom")}, 'negator', {_operator("o.oprnegate")},
         'restrict', {function_of("o.oprrest::oid")}, 'join', {function_of("o.oprjoin::oid")},
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
         'function', {function_of("c.castfunc")},
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
SELECT 'text search parser', '', ARRAY[n.nspname, p.prsname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'start', {function_of("p.prsstart::oid")}, 'token', {function_of("p.prstoken::oid")},
         'end', {function_of("p.prsend::oid")}, 'headline', {function_of("p.prsheadline::oid")},
         'types', {function_of("p.prslextype::oid")}))::text
  FROM pg_ts_parser p JOIN pg_namespace n ON n.oid = p.prsnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_ts_parser", "p.oid")}
 UNION ALL
SELECT 'text search template', '', ARRAY[n.nspname, t.tmplname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'init', {function_of("t.tmplinit::oid")}, 'lexize', {function_of("t.tmpllexize::oid")}))::text
  FROM pg_ts_template t JOIN pg_namespace n ON n.oid = t.tmplnamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_ts_template", "t.oid")}
 UNION ALL
SELECT 'conversion', '', ARRAY[n.nspname, c.conname]::text[], '', jsonb_strip_nulls(jsonb_build_object(
         'from', pg_encoding_to_char(c.conforencoding), 'to', pg_encoding_to_char(c.contoencoding),
         'function', {function_of("c.conproc::oid")}, 'default', c.condefault))::text
  FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
 WHERE {OWN_SCHEMA} AND {no_member("pg_conversion", "c.oid")}
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

OTHERS = (
    Statement("types", TYPES),
    Statement("functions", FUNCTIONS),
    Statement("operators and casts", OPERATORS),
    Statement("text search, conversions and collations", TEXT_SEARCH),
)
