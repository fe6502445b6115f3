"""Structure: whatever a schema is made of is in the copy as it was in the snapshot, and nothing else is.

Owns the comparison; the statements are in `checks.structure.catalogue` and its neighbours. Refuses to take two
spellings for two things where a restore is known to spell anew. Guarantees that locks which reading takes (those of a
SELECT) are given back at once, and that what is not compared is said. The texts of functions, views, triggers, and
comments are code of the source's, and they are in the evidence as they are; secrets in them are masked on both sides
alike, so that a difference within a mask is not seen: how many masks there are is said.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg

from checks.asking import Log
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, named
from checks.structure.access import ACCESS, COLLATION_VERSION, DATABASE_SETTINGS, DEFAULT_PRIVILEGES, OWNED
from checks.structure.catalogue import NOT_SHOWN, OF_TABLES, Statement
from checks.structure.objects import OTHERS
from checks.structure.spelling import respelled
from checks.structure.whole import OF_THE_WHOLE
from checks.structure.words import ABSENT, cut, dotted, outline, told
from drills.errors import CheckError
from drills.measures import Item, Measures
from drills.records import Verdict
from drills.secrets import VAULT

STATEMENTS: tuple[Statement, ...] = (*OF_TABLES, *OTHERS, *OF_THE_WHOLE, *ACCESS)
ASKED = "structure: "
"""What the names of all statements begin with."""
LEFT_OUT = {OWNED, DEFAULT_PRIVILEGES, DATABASE_SETTINGS}
"""Kinds that `pg_restore --no-owner --no-privileges` without `--create` does not bring."""
_THE_DATABASE = "this database"
"""What owner and grants of the database itself are called."""
_KEYS = ("kind", "name")
_SUBSCRIPTION = "subscription"
_EXTENSION = "extension"
_BESIDE = {"active", "read by a superuser"}
"""Of a subscription: what source and copy need not have in common."""
_ORDER = "another version of the library may order texts in another way"
_NO_VERSION = "a dump does not say which version of an extension it had, and a restore installs the server's default"
_PARTITIONED = " ON ONLY "
"""In the definition of a partitioned table's index, which is dumped whether it is valid or not."""
_KEY = secrets.token_bytes(32)
"""Of this process, in which source and copy are read."""
_SETTINGS = (
    "SELECT set_config('search_path', 'pg_catalog', true), set_config('jit', 'off', true),"
    " set_config('work_mem', '64MB', true)"
)
_LOTS = """SELECT json_agg(json_build_array(kind, prefix, path, suffix, definition))::text
  FROM (SELECT *, row_number() OVER () / 1000 AS lot FROM ({}) item (kind, prefix, path, suffix, definition)) numbered
 GROUP BY lot"""
"""A thousand items travel as one row: to take 100,000 rows one by one costs more than to read the catalogue."""
_OF_MANY = {"columns": "column", "attributes": "attribute"}
"""Kinds whose definition holds many things by their names, and what one of these is."""


def read_structure(connection: psycopg.Connection, log: Log) -> tuple[Item, ...]:
    """Everything that the catalogue says of the database, in the order of kind and name.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: the server went away.
    """
    found: list[Item] = []
    with connection.transaction(force_rollback=True):
        log.ask(connection, f"{ASKED}settings", _SETTINGS)
        for statement in STATEMENTS:
            if statement.since <= connection.info.server_version < statement.until:
                for (lot,) in log.ask(connection, ASKED + statement.name, _LOTS.format(statement.sql.strip())):
                    found += map(_item, json.loads(lot))
    return tuple(sorted(found, key=lambda item: (item.kind, item.name)))


def _item(row: Sequence[Any]) -> Item:
    kind, prefix, path, suffix, definition = row
    return Item(kind=kind, name=prefix + dotted(path) + suffix, definition=_masked(definition))


def _masked(definition: str) -> str:
    """The same without a secret that the vault knows or recognizes. Value by value, so that it stays JSON."""
    values = json.loads(definition)
    masked = _redacted(values)
    return definition if masked == values else json.dumps(masked, ensure_ascii=False)


def _redacted(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, str):
        masked = VAULT.redact(value)
        return masked if masked == value else f"{masked} [masked; as a whole {_fingerprint(value)}]"
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return {key: _redacted(one) for key, one in value.items()} if isinstance(value, dict) else value


def _fingerprint(text: str) -> str:
    """By a key that nobody else has: texts that look alike behind their masks are told apart, and none is guessed."""
    return hmac.new(_KEY, text.encode(), "sha256").hexdigest()[:16]


def compare_structure(
    expected: Measures, actual: Measures, *, owners: bool, database: bool = True, held: bool = False
) -> Answer:
    """Item by item, each difference in words.

    Args:
        expected: of the source's snapshot.
        actual: of the copy.
        owners: whether owners, grants and the database's settings were restored; if not, they are not compared.
        held: whether nothing replicates on the copy although its catalogue is production's own (see the quarantine of
            physical copies): then a subscription is as it has to be where it is as it was.
        database: whether the backup makes its database; if not, its owner, grants and settings are not compared.

    Raises:
        CheckError: one side was not read; every database has some structure.
    """
    for side, measures in (("in the source: there is nothing to compare", expected), ("in the copy", actual)):
        if not measures.structure:
            raise CheckError(f"the structure was not read {side}")
    left, right = (_definitions(side, owners=owners, database=database) for side in (expected, actual))
    rows = [row for key in sorted({*left, *right}) for row in _judge(*key, left.get(key), right.get(key), held)]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict = Verdict.worst(found[VERDICT])
    reason = _reason(rows, verdict) + _unshown(left, right)
    return Answer(
        verdict,
        reason + _left_out(owners=owners, database=database),
        expected=f"{len(left)} items",
        actual=f"{len(right)} items",
        difference=_counted(rows),
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith(ASKED)),
    )


def _left_out(*, owners: bool, database: bool) -> str:
    if not owners:
        return "; owners, grants and settings of the database were left out on purpose"
    return (
        ""
        if database
        else "; the dump does not make its database: owner, grants and settings of the database are not compared"
    )


def _definitions(measures: Measures, *, owners: bool, database: bool) -> dict[tuple[str, str], str]:
    """Every item that is compared, by kind and name."""
    items = [item for item in measures.structure if owners or item.kind not in LEFT_OUT]
    if not database:
        items = [
            one for one in items if one.kind != DATABASE_SETTINGS and (one.kind, one.name) != (OWNED, _THE_DATABASE)
        ]
    found = {(item.kind, item.name): item.definition for item in items}
    if len(found) < len(items):
        raise CheckError("ambiguous: two items of one kind have the same name")
    return found


def _reason(rows: Sequence[Sequence[Any]], verdict: Verdict) -> str:
    if verdict is Verdict.PASS:
        return f"all {len(rows)} items are as expected and nothing else is there"
    lines = [f"{kind} {name}: {said}" for kind, name, _, _, said, judged in rows if judged is verdict]
    return named(lines)


def _unshown(*sides: Mapping[Any, str]) -> str:
    """How much was compared as a mask only: two masks are equal, whatever they hide."""
    count = max(sum(text.count(NOT_SHOWN) for text in side.values()) for side in sides)
    return f"; {count} values that may be secrets are not shown and were not compared" if count else ""


def _counted(rows: Sequence[Sequence[Any]]) -> str:
    sides = [(row[2], row[3]) for row in rows if row[-1] is not Verdict.PASS]
    missing = sum(there == ABSENT for _, there in sides)
    unexpected = sum(wanted == ABSENT for wanted, _ in sides)
    return f"{missing} missing, {unexpected} unexpected, {len(sides) - missing - unexpected} different"


def _judge(
    kind: str,
    name: str,
    wanted: str | None,
    there: str | None,
    held: bool,  # noqa: FBT001 - as `compare_structure` says
) -> Iterator[tuple[object, ...]]:
    """One item, or those that it holds: kind, name, expected, actual, difference, verdict.

    Equal texts are not looked into: there may be 100,000 of them.
    """
    if wanted is not None and wanted == there and (held or kind != _SUBSCRIPTION):
        yield kind, name, cut(wanted), cut(wanted), "none", Verdict.PASS
    elif kind in _OF_MANY and wanted is not None and there is not None:
        left, right = json.loads(wanted), json.loads(there)
        for one in sorted({*left, *right}):
            yield _judge_one(_OF_MANY[kind], f"{name}.{dotted([one])}", left.get(one), right.get(one))
    else:
        yield _judge_one(kind, name, *(None if side is None else json.loads(side) for side in (wanted, there)))


def _judge_one(kind: str, name: str, wanted: dict[str, Any] | None, there: dict[str, Any] | None) -> tuple[object, ...]:
    differing: list[str] = []
    if wanted is None or there is None:
        said, verdict = _one_sided(kind, wanted)
    else:
        differing = _differing(wanted, there)
        said, verdict = _two_sided(kind, wanted, there, differing)
    if kind == _SUBSCRIPTION and there is not None and there["active"]:
        said, verdict = "active on a copy: it takes part in production's replication", Verdict.FAIL
    return kind, name, outline(wanted, differing), outline(there, differing), said, verdict


def _one_sided(kind: str, wanted: dict[str, Any] | None) -> tuple[str, Verdict]:
    """What only one side has; the source, if it is `wanted`."""
    said = "unexpected" if wanted is None else "missing"
    if kind == COLLATION_VERSION:
        return f"{said}; {_ORDER}", Verdict.UNKNOWN
    if kind == "index" and wanted is not None and not wanted["valid"] and _PARTITIONED not in wanted["definition"]:
        return "left out: no dump holds an index that is not valid", Verdict.PASS
    if kind == _SUBSCRIPTION and wanted is not None and not wanted["read by a superuser"]:
        return "missing: pg_dump leaves subscriptions out unless a superuser runs it", Verdict.UNKNOWN
    return said, Verdict.FAIL


def _two_sided(kind: str, wanted: dict[str, Any], there: dict[str, Any], differing: list[str]) -> tuple[str, Verdict]:
    if not differing:
        return "none", Verdict.PASS
    said = "; ".join(told(key, wanted.get(key), there.get(key)) for key in differing)
    if kind == COLLATION_VERSION:
        return f"{said}; {_ORDER}", Verdict.UNKNOWN
    if kind == _EXTENSION and differing == ["version"]:
        return f"{said}; {_NO_VERSION}", Verdict.UNKNOWN
    return said, Verdict.FAIL


def _differing(wanted: dict[str, Any], there: dict[str, Any]) -> list[str]:
    keys = sorted({*wanted, *there} - _BESIDE)
    return [key for key in keys if respelled(wanted.get(key)) != respelled(there.get(key))]
