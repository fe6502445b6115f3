"""Damages to the structure of a database: whatever a schema is made of, besides its tables and sequences."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks.negative.found import (
    COLUMN,
    ORDINARY,
    RELATION,
    ROUTINE,
    ROUTINE_NAME,
    SMALLEST,
    THIS,
    THIS_COLUMN,
    THIS_TYPE,
    TYPE,
    Found,
    on_columns,
    on_relations,
    places,
)
from checks.negative.planting import Damage

# ruff: noqa: S608 - put together from the constants of this program


def _structure(meaning: str, found: Found) -> Damage:
    return Damage(meaning, "structure", found.find)


def _of_owners(meaning: str, found: Found) -> Damage:
    return Damage(meaning, "structure", found.find, of_owners=True)


_CONSTRAINT = f"pg_constraint k CROSS JOIN {RELATION} AND c.oid = k.conrelid"
_OF_CONSTRAINT = f"format('%s on %s', k.conname, {THIS})"
_INDEX = f"""pg_index i CROSS JOIN {RELATION} AND c.oid = i.indexrelid
  LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = i.indrelid"""
_TRIGGER = f"pg_trigger g CROSS JOIN {RELATION} AND c.oid = g.tgrelid AND NOT g.tgisinternal AND g.tgparentid = 0"
_OF_TRIGGER = f"format('%s on %s', g.tgname, {THIS})"
_POLICY = f"pg_policy y CROSS JOIN {RELATION} AND c.oid = y.polrelid"
_LABELS = f"""{TYPE} AND t.typtype = 'e' CROSS JOIN LATERAL (SELECT array_agg(enumlabel::text ORDER BY enumsortorder)
       AS l FROM pg_enum WHERE enumtypid = t.oid) e"""
_RENAME = "format('ALTER TYPE %s RENAME VALUE %L TO %L', " + THIS_TYPE + ", {}, {})"

STRUCTURE: Mapping[str, Damage] = MappingProxyType(
    {
        "dropped index": _structure(
            "an index is not there",
            places(THIS, f"CASE WHEN k.oid IS NULL THEN format('DROP INDEX %s', {THIS}) ELSE"
                " format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', i.indrelid::regclass, k.conname) END",
                _INDEX, "NOT c.relispartition", "k.oid IS NOT NULL"),
        ),
        "invalid index": _structure(
            "an index is there and no query uses it",
            places(THIS, "format('UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = %s', c.oid)",
                _INDEX, "i.indisvalid AND c.relkind = 'i'"),
        ),
        "dropped constraint": _structure(
            "a constraint is not there",
            places(_OF_CONSTRAINT, f"format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', {THIS}, k.conname)",
                _CONSTRAINT, "k.contype IN ('c', 'f', 'u', 'p', 'x') AND k.coninhcount = 0",
                "array_position(ARRAY['c', 'f', 'u', 'x', 'p'], k.contype::text)"),
        ),
        "constraint not validated": _structure(
            "a constraint holds for new rows only",
            places(_OF_CONSTRAINT, f"format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s NOT VALID',"
                f" {THIS}, k.conname, k.conname, pg_get_constraintdef(k.oid))",
                _CONSTRAINT, "k.contype IN ('c', 'f') AND k.convalidated AND c.relkind = 'r' AND k.coninhcount = 0"),
        ),
        "disabled trigger": _structure(
            "a trigger is there and does not fire",
            places(_OF_TRIGGER, f"format('ALTER TABLE %s DISABLE TRIGGER %I', {THIS}, g.tgname)", _TRIGGER,
                "g.tgenabled <> 'D' AND c.relkind IN ('r', 'p')"),
        ),
        "dropped trigger": _structure(
            "a trigger is not there",
            places(_OF_TRIGGER, f"format('DROP TRIGGER %I ON %s', g.tgname, {THIS})", _TRIGGER),
        ),
        "dropped default": _structure(
            "a column has no default", on_columns("DROP DEFAULT", "a.atthasdef AND a.attgenerated = ''")
        ),
        "widened column": _structure(
            "a column takes larger values than it did",
            places(THIS_COLUMN, f"""format('ALTER TABLE %s ALTER %I TYPE %s', {THIS}, a.attname, CASE a.atttypid
       WHEN 'varchar'::regtype THEN format('varchar(%s)', a.atttypmod - 3)
       WHEN 'numeric'::regtype THEN format('numeric(%s,%s)', ((a.atttypmod - 4) >> 16) + 1, (a.atttypmod - 4) & 2047)
       ELSE 'bigint' END)""", COLUMN, "a.attidentity = '' AND (a.atttypid = 'int4'::regtype OR a.atttypmod <> -1"
                " AND a.atttypid IN ('varchar'::regtype, 'numeric'::regtype))", "a.atttypid = 'int4'::regtype"),
        ),
        "dropped NOT NULL": _structure(
            "a column takes NULL that did not", on_columns("DROP NOT NULL", "a.attnotnull AND a.attidentity = ''")
        ),
        "dropped column": _structure(
            "a column is not there",
            places(THIS_COLUMN, f"format('ALTER TABLE %s DROP %I CASCADE', {THIS}, a.attname)", COLUMN),
        ),
        "unexpected column": _structure(
            "a column is there that nobody expects",
            on_relations("ALTER TABLE %s ADD drillbook_damage int", ORDINARY, SMALLEST),
        ),
        "generated column made plain": _structure(
            "a column is not computed any more", on_columns("DROP EXPRESSION", "a.attgenerated = 's'")
        ),
        "identity made optional": _structure(
            "a column that numbers itself takes other numbers",
            on_columns("SET GENERATED BY DEFAULT", "a.attidentity = 'a'"),
        ),
        "redefined view": _structure(
            "a view shows no rows",
            places(THIS, f"format('CREATE OR REPLACE VIEW %s AS SELECT * FROM (%s) v WHERE false', {THIS},"
                " rtrim(pg_get_viewdef(c.oid), ';'))", RELATION, "c.relkind = 'v'"),
        ),
        "changed function body": _structure(
            "a function has another body",
            places(ROUTINE_NAME, "regexp_replace(pg_get_functiondef(p.oid), '\\$(function|procedure)\\$\\s*$',"
                " E'\\n-- damaged\\n$\\\\1$')", f"{ROUTINE} JOIN pg_language l ON l.oid = p.prolang",
                "l.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL AND p.prokind IN ('f', 'p')"),
        ),
        "dropped function": _structure(
            "a function is not there",
            places(ROUTINE_NAME, f"format('DROP ROUTINE %s CASCADE', {ROUTINE_NAME})", ROUTINE),
        ),
        "dropped policy": _structure(
            "a policy is not there, so that people see other rows",
            places(f"format('%s on %s', y.polname, {THIS})", f"format('DROP POLICY %I ON %s', y.polname, {THIS})",
                _POLICY),
        ),
        "row security off": _structure(
            "the policies of a table hold for nobody",
            on_relations("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", "c.relkind IN ('r', 'p') AND c.relrowsecurity"),
        ),
        "unexpected grant": _of_owners(
            "everybody may delete rows", on_relations("GRANT DELETE ON %s TO PUBLIC", ORDINARY)
        ),
        "revoked grant": _of_owners(
            "a role lacks a right that it had",
            places(THIS, f"format('REVOKE ALL ON %s FROM %s CASCADE', {THIS},"
                " CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)",
                f"{RELATION} CROSS JOIN LATERAL aclexplode(c.relacl) x",
                "c.relkind IN ('r', 'p', 'v', 'm') AND x.grantee <> c.relowner AND x.grantor = c.relowner"),
        ),
        "another owner": _of_owners(
            "a table belongs to another role",
            places(THIS, f"format('ALTER TABLE %s OWNER TO %I', {THIS}, r.rolname)",
                f"{RELATION} JOIN pg_roles r ON r.oid <> c.relowner", ORDINARY, "r.rolname ~ '^pg_', r.rolname"),
        ),
        "default privileges": _of_owners(
            "tables to come may be read by everybody",
            places("current_user::text", "'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC'",
                "(SELECT) one"),
        ),
        "enum labels exchanged": _structure(
            "two labels of an enum stand in each other's place",
            places(THIS_TYPE, ", ".join([_RENAME.format("l[1]", "'drillbook damage'"), _RENAME.format("l[2]", "l[1]"),
                                       _RENAME.format("'drillbook damage'", "l[2]")]),
                _LABELS, "cardinality(l) > 1"),
        ),
        "enum label added": _structure(
            "an enum has one more label",
            places(THIS_TYPE, f"format('ALTER TYPE %s ADD VALUE ''drillbook damage''', {THIS_TYPE})", _LABELS),
        ),
        "dropped domain constraint": _structure(
            "a domain takes values that it did not",
            places(THIS_TYPE, f"format('ALTER DOMAIN %s DROP CONSTRAINT %I', {THIS_TYPE}, k.conname)",
                f"{TYPE} JOIN pg_constraint k ON k.contypid = t.oid AND k.contype = 'c'"),
        ),
        "materialized view without data": _structure(
            "a materialized view was not filled",
            on_relations("REFRESH MATERIALIZED VIEW %s WITH NO DATA", "c.relkind = 'm' AND c.relispopulated"),
        ),
        "missing extension": _structure(
            "an extension is not there",
            places("e.extname::text", "format('DROP EXTENSION %I CASCADE', e.extname)", "pg_extension e", "",
                "e.extname = 'plpgsql'"),
        ),
        "changed comment": _structure(
            "a comment says something else", on_relations("COMMENT ON TABLE %s IS ''drillbook damage''", ORDINARY)
        ),
        "dropped publication": _structure(
            "a publication is not there",
            places("p.pubname::text", "format('DROP PUBLICATION %I', p.pubname)", "pg_publication p"),
        ),
        "dropped statistics object": _structure(
            "the planner lacks statistics that somebody asked for",
            places("s.stxname::text", "format('DROP STATISTICS %I.%I', n.nspname, s.stxname)",
                "pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace"),
        ),
        "dropped rule": _structure(
            "a rule is not there",
            places(f"format('%s on %s', r.rulename, {THIS})", f"format('DROP RULE %I ON %s', r.rulename, {THIS})",
                f"pg_rewrite r CROSS JOIN {RELATION} AND c.oid = r.ev_class", "r.rulename <> '_RETURN'"),
        ),
        "detached partition": _structure(
            "a partition stands alone, and its table lacks its rows",
            places(THIS, f"format('ALTER TABLE %s DETACH PARTITION %s', i.inhparent::regclass, {THIS})",
                f"pg_inherits i CROSS JOIN {RELATION} AND c.oid = i.inhrelid", "c.relispartition AND c.relkind = 'r'"),
        ),
        "heir without parent": _structure(
            "a table does not inherit from another any more",
            places(THIS, f"format('ALTER TABLE %s NO INHERIT %s', {THIS}, i.inhparent::regclass)",
                f"pg_inherits i CROSS JOIN {RELATION} AND c.oid = i.inhrelid",
                "NOT c.relispartition AND c.relkind = 'r'"),
        ),
        "storage parameter": _structure(
            "a table is kept by other parameters",
            on_relations("ALTER TABLE %s SET (fillfactor = 51)", "c.relkind = 'r'"),
        ),
        "replica identity": _structure(
            "a table tells replicas other things of its rows",
            places(THIS, f"format('ALTER TABLE %s REPLICA IDENTITY %s', {THIS},"
                " CASE c.relreplident WHEN 'n' THEN 'FULL' ELSE 'NOTHING' END)", RELATION, "c.relkind = 'r'"),
        ),
    }
)  # fmt: skip
