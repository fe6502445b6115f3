"""Going over everything that has pages, many objects in one statement.

Guarantees that an object on which the server raises an error hides no other, and that what could not be looked at is
UNKNOWN: where a statement is ended, those of it are, and where the server went away, all that were to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from checks.asking import Log
from checks.base import named
from checks.borrowed import SCHEMA
from checks.names import qualified
from checks.sharing import Advance
from drills.errors import ConnectError, DrillbookError
from drills.records import Verdict
from drills.secrets import VAULT

_HEAPS = {"r": "heap", "m": "heap", "t": "TOAST heap"}
_BTREE = "B-tree"
_TOGETHER = 200
"""Objects in one statement at most."""
_BYTES_TOGETHER = 256 * 2**20
_DAMAGED = ("XX", "58")
"""Classes of SQLSTATE that speak of damage: internal error, data corrupted, index corrupted; the system's I/O."""
OBJECTS = """
WITH owner AS (
    SELECT c.oid, coalesce(p.oid, c.oid) AS root FROM pg_class c LEFT JOIN pg_class p ON p.reltoastrelid = c.oid)
SELECT c.oid::bigint, c.relkind::text, n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text,
       coalesce(a.amname::text, ''), coalesce(i.indisvalid AND i.indisready, true), s.size
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_am a ON a.oid = c.relam
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  JOIN owner o ON o.oid = coalesce(i.indrelid, c.oid)
  JOIN pg_class r ON r.oid = o.root
  JOIN pg_namespace rn ON rn.oid = r.relnamespace,
       LATERAL (SELECT coalesce(sum(pg_relation_size(c.oid, fork)), 0)::bigint AS size
                  FROM unnest(ARRAY['main', 'fsm', 'vm', 'init']) fork) s
 WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence <> 't'
 ORDER BY rn.nspname ~ '^pg_' OR rn.nspname = 'information_schema', 5, 6, 3, 4
"""
"""Everything that has pages, that of the catalogue last."""
_GOING_OVER = """
CREATE FUNCTION {schema}.go_over(objects oid[]) RETURNS TABLE (object oid, faults bigint, state text, said text)
LANGUAGE plpgsql AS $body$
DECLARE
    fork text;
    detail text;
BEGIN
    FOREACH object IN ARRAY objects LOOP
        faults := 0; state := ''; said := '';
        BEGIN
            {body}
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
            said := concat_ws(': ', said, nullif(detail, ''));
        END;
        RETURN NEXT;
    END LOOP;
END
$body$
"""


@dataclass(frozen=True)
class Paged:
    """Something that has pages."""

    oid: int
    name: str
    kind: str
    size: int
    """Bytes."""
    own: bool
    """Of the copy, not of the catalogue that every database has."""
    left_out: str
    """Why amcheck has nothing for it; empty where it has."""
    table: str = ""
    """The table that it belongs to or is, for people."""


@dataclass(frozen=True)
class Finding:
    """What going over an object found."""

    thing: Paged
    verdict: Verdict
    said: str

    @property
    def row(self) -> tuple[object, ...]:
        """Keys, expected, actual, difference, verdict."""
        told = {Verdict.PASS: "none", Verdict.FAIL: "damaged", Verdict.UNKNOWN: "not looked at"}[self.verdict]
        return self.thing.name, self.thing.kind, "sound", self.said or "sound", told, self.verdict


def list_objects(connection: psycopg.Connection, log: Log, name: str) -> list[Paged]:
    """Everything that has pages, the copy's own first."""
    return [_object(row) for row in log.ask(connection, f"{name}: what has pages", OBJECTS)]


def _object(row: tuple[Any, ...]) -> Paged:
    """What it is, and is called. A TOAST table is called by what it belongs to: its own name is a number."""
    oid, relkind, schema, name, root_schema, root, method, valid, size = row
    inside = schema == "pg_toast"
    kind = {"i": _BTREE if method == "btree" else f"{method} index", "S": "sequence"}.get(relkind, "")
    kind = f"TOAST {kind}" if inside and kind else kind or _HEAPS[relkind]
    left_out = ""
    if relkind == "S":
        left_out = "sequences"
    elif relkind == "i" and (method != "btree" or not valid):
        left_out = f"indexes that are {'invalid' if not valid else method}"
    elif relkind != "i" and method != "heap":
        left_out = f"tables that are {method}"
    told = qualified(root_schema, root) if inside else qualified(schema, name)
    own = not root_schema.startswith("pg_") and root_schema != "information_schema"
    return Paged(oid, told, kind, size, own, left_out, qualified(root_schema, root))


def go_over(
    connection: psycopg.Connection,
    log: Log,
    name: str,
    body: str,
    tool: str,
    objects: Sequence[Paged],
    advance: Advance,
) -> list[Finding]:
    """All of them, many in one statement. What ends a statement leaves those of it UNKNOWN, and the others alone."""
    schema = sql.Identifier(SCHEMA).as_string()
    function = _GOING_OVER.format(schema=schema, body=body.format(tool=sql.Identifier(tool).as_string()))
    log.tell(connection, f"{name}: its function", function)
    found: list[Finding] = []
    for some in _portions(objects):
        statement = f"SELECT * FROM {schema}.go_over('{{{','.join(str(one.oid) for one in some)}}}')"  # noqa: S608 - numbers
        try:
            with connection.transaction():
                rows = log.ask(connection, f"{name}: {named([one.name for one in some])}", statement)
            found += [_judge(one, *row[1:]) for one, row in zip(some, rows, strict=True)]
        except ConnectError as error:
            return found + [Finding(one, Verdict.UNKNOWN, error.message) for one in objects[len(found) :]]
        except DrillbookError as error:
            found += [Finding(one, Verdict.UNKNOWN, error.message) for one in some]
        advance(len(found), len(objects), "relations")
    return found


def _portions(objects: Sequence[Paged]) -> Iterator[list[Paged]]:
    """As many as one statement takes, in their order."""
    portion: list[Paged] = []
    for one in objects:
        if portion and (len(portion) == _TOGETHER or sum(two.size for two in portion) + one.size > _BYTES_TOGETHER):
            yield portion
            portion = []
        portion.append(one)
    yield portion


def _judge(one: Paged, faults: int, state: str, said: str) -> Finding:
    told = VAULT.redact(said)
    if faults:
        return Finding(one, Verdict.FAIL, f"{faults} faults: {told}")
    if not state:
        return Finding(one, Verdict.PASS, "")
    if state.startswith(_DAMAGED):
        return Finding(one, Verdict.FAIL, told)
    return Finding(one, Verdict.UNKNOWN, f"{told} (SQLSTATE {state})")
