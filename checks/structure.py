"""Structure: whatever a schema is made of is in the copy as it was in the snapshot, and nothing else is.

Owns the comparison; the statements are in `checks.catalogue` and its neighbours. Refuses to take two spellings for two
things where a restore is known to spell anew. Guarantees that locks which reading takes (those of a SELECT) are given
back at once, and that what is not compared is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from checks.asking import Log
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, named
from checks.catalogue import OF_TABLES, Statement
from checks.catalogue_access import ACCESS, COLLATION_VERSION, DATABASE_SETTINGS, DEFAULT_PRIVILEGES, OWNED
from checks.catalogue_objects import OTHERS
from checks.spelling import respelled
from drills.errors import CheckError
from drills.measures import Item, Measures
from drills.records import Verdict

STATEMENTS: tuple[Statement, ...] = (*OF_TABLES, *OTHERS, *ACCESS)
ASKED = "structure: "
"""What the names of all statements begin with."""
LEFT_OUT = {OWNED, DEFAULT_PRIVILEGES, DATABASE_SETTINGS}
"""Kinds that `pg_restore --no-owner --no-privileges` without `--create` does not bring."""
_KEYS = ("kind", "name")
_ABSENT = "absent"
_SUBSCRIPTION = "subscription"
_BESIDE = {"active", "read by a superuser"}
"""Of a subscription: what source and copy need not have in common."""
_ORDER = "another version of the library may order texts in another way"
_MOST = 120
"""Characters of a value that are shown."""
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
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
            if connection.info.server_version >= statement.since:
                for (lot,) in log.ask(connection, ASKED + statement.name, _LOTS.format(statement.sql.strip())):
                    found += map(_item, json.loads(lot))
    return tuple(sorted(found, key=lambda item: (item.kind, item.name)))


def _item(row: Sequence[Any]) -> Item:
    kind, prefix, path, suffix, definition = row
    return Item(kind=kind, name=prefix + _dotted(path) + suffix, definition=definition)


def _dotted(path: Sequence[str]) -> str:
    """A name for people, quoted where any part of it needs that."""
    if all(_PLAIN.fullmatch(part) for part in path):
        return ".".join(path)
    return sql.Identifier(*path).as_string()


def compare_structure(expected: Measures, actual: Measures, *, owners: bool) -> Answer:
    """Item by item, each difference in words.

    Args:
        expected: of the source's snapshot.
        actual: of the copy.
        owners: whether owners, grants and the database's settings were restored; if not, they are not compared.

    Raises:
        CheckError: one side was not read; every database has some structure.
    """
    for told, measures in (("in the source: there is nothing to compare", expected), ("in the copy", actual)):
        if not measures.structure:
            raise CheckError(f"the structure was not read {told}")
    left, right = (_definitions(side, owners=owners) for side in (expected, actual))
    rows = [row for key in sorted({*left, *right}) for row in _judge(*key, left.get(key), right.get(key))]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict = Verdict.worst(found[VERDICT])
    reason = _reason(rows, verdict)
    return Answer(
        verdict,
        reason if owners else f"{reason}; owners, grants and settings of the database were left out on purpose",
        expected=f"{len(left)} items",
        actual=f"{len(right)} items",
        difference=_counted(rows),
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith(ASKED)),
    )


def _definitions(measures: Measures, *, owners: bool) -> dict[tuple[str, str], str]:
    """Every item that is compared, by kind and name."""
    items = [item for item in measures.structure if owners or item.kind not in LEFT_OUT]
    found = {(item.kind, item.name): item.definition for item in items}
    if len(found) < len(items):
        raise CheckError("ambiguous: two items of one kind have the same name")
    return found


def _reason(rows: Sequence[Sequence[Any]], verdict: Verdict) -> str:
    if verdict is Verdict.PASS:
        return f"all {len(rows)} items are as expected and nothing else is there"
    told = [f"{kind} {name}: {said}" for kind, name, _, _, said, judged in rows if judged is verdict]
    return named(told)


def _counted(rows: Sequence[Sequence[Any]]) -> str:
    sides = [(row[2], row[3]) for row in rows if row[-1] is not Verdict.PASS]
    missing = sum(there == _ABSENT for _, there in sides)
    unexpected = sum(wanted == _ABSENT for wanted, _ in sides)
    return f"{missing} missing, {unexpected} unexpected, {len(sides) - missing - unexpected} different"


def _judge(kind: str, name: str, wanted: str | None, there: str | None) -> Iterator[tuple[object, ...]]:
    """One item, or those that it holds: kind, name, expected, actual, difference, verdict.

    Equal texts are not looked into: there may be 100,000 of them.
    """
    if wanted is not None and wanted == there and kind != _SUBSCRIPTION:
        yield kind, name, _cut(wanted), _cut(wanted), "none", Verdict.PASS
    elif kind in _OF_MANY and wanted is not None and there is not None:
        left, right = json.loads(wanted), json.loads(there)
        for one in sorted({*left, *right}):
            yield _judge_one(_OF_MANY[kind], f"{name}.{_dotted([one])}", left.get(one), right.get(one))
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
    return kind, name, _outline(wanted, differing), _outline(there, differing), said, verdict


def _one_sided(kind: str, wanted: dict[str, Any] | None) -> tuple[str, Verdict]:
    """What only one side has; the source, if it is `wanted`."""
    said = "unexpected" if wanted is None else "missing"
    if kind == COLLATION_VERSION:
        return f"{said}; {_ORDER}", Verdict.UNKNOWN
    if kind == "index" and wanted is not None and not wanted["valid"]:
        return "left out: no dump holds an index that is not valid", Verdict.PASS
    if kind == _SUBSCRIPTION and wanted is not None and not wanted["read by a superuser"]:
        return "missing: pg_dump leaves subscriptions out unless a superuser runs it", Verdict.UNKNOWN
    return said, Verdict.FAIL


def _two_sided(kind: str, wanted: dict[str, Any], there: dict[str, Any], differing: list[str]) -> tuple[str, Verdict]:
    if not differing:
        return "none", Verdict.PASS
    told = "; ".join(_told(key, wanted.get(key), there.get(key)) for key in differing)
    return (f"{told}; {_ORDER}", Verdict.UNKNOWN) if kind == COLLATION_VERSION else (told, Verdict.FAIL)


def _differing(wanted: dict[str, Any], there: dict[str, Any]) -> list[str]:
    keys = sorted({*wanted, *there} - _BESIDE)
    return [key for key in keys if respelled(wanted.get(key)) != respelled(there.get(key))]


# --- in words -------------------------------------------------------------------------------------------------------


def _outline(definition: dict[str, Any] | None, differing: Sequence[str]) -> str:
    """A definition on one line, cut; where something differs, that alone."""
    if definition is None:
        return _ABSENT
    shown = {key: definition.get(key) for key in differing or definition}
    return _cut("; ".join(f"{key}: {_value(value)}" for key, value in shown.items())) or "there"


def _told(key: str, wanted: Any, there: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if isinstance(wanted, list) or isinstance(there, list):
        return f"{key}: {_of_lists(wanted or [], there or [])}"
    if isinstance(wanted, str) and isinstance(there, str) and max(len(wanted), len(there)) > _MOST // 2:
        return f"{key}: {_of_texts(wanted, there)}"
    return f"{key}: {_value(wanted)} expected, {_value(there)} found"


def _of_lists(wanted: list[str], there: list[str]) -> str:
    told = [f"{_cut(value)} missing" for value in wanted if value not in there]
    told += [f"{_cut(value)} unexpected" for value in there if value not in wanted]
    return ", ".join(told) or f"in another order: {_value(wanted)} expected, {_value(there)} found"


def _of_texts(wanted: str, there: str) -> str:
    """Where two long texts part."""
    left, right = wanted.split("\n"), there.split("\n")
    number = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)
    if number is None:
        more = len(right) - len(left)
        return f"the same as far as line {min(len(left), len(right))}, then {abs(more)} lines {_side(more)}"
    one, other = _around(left[number], right[number])
    return f"{f'line {number + 1}: ' if len(left) > 1 else ''}{one} expected, {other} found"


def _side(more: int) -> str:
    return "too many" if more > 0 else "missing"


def _around(one: str, other: str) -> tuple[str, str]:
    """Two lines from shortly before where they part."""
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, at - _MOST // 4)
    left, right = (("…" if begin else "") + _cut(line[begin:], _MOST // 2) for line in (one, other))
    return left, right


def _value(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return " ".join(_value(one) for one in value.values())
    return "none" if value is None else _cut(value)


def _cut(text: str, most: int = _MOST) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
