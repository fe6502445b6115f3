"""Sequences: each stands in the copy where it stood while the backup was taken, and ahead of the column that it feeds.

Sequences are not part of any transaction (CREATE SEQUENCE, Notes): a snapshot does not hold their values. So a value is
read before and after everything else, and the copy's must lie between the two. Guarantees that a sequence which would
give a value that its column already has fails, whatever the bracket says; and that one which could not be read is
UNKNOWN.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from checks.asking import Log, OpenSession
from checks.base import ACTUAL, DIFFERENCE, EXPECTED, SIDE, VERDICT, Answer, frame, join, named
from checks.lots import in_lots
from checks.names import identifier, qualified
from checks.sequence_ends import End, read_ends
from checks.structure.catalogue import OWN_SCHEMA, no_member
from drills.errors import CheckError
from drills.measures import Measures, SequenceState
from drills.records import Verdict

ASKED = "sequences"
"""What the names of all statements begin with."""
LOGGED_AHEAD = 32
"""SEQ_LOG_VALS in sequence.c: a sequence that came out of the WAL may stand so many values further."""
_KEYS = ("sequence",)
_NEXT = r"^\(?nextval\(''.+''::regclass\)\)?(::[a-z ]+)?$"

# The columns that a sequence feeds: those that own it, and those whose default is its next value and nothing else.
_SEQUENCES = f"""
WITH feeds AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number, true AS owns
    FROM pg_depend d
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
     AND d.refobjsubid > 0
   UNION ALL
  SELECT d.refobjid, f.adrelid, f.adnum, false
    FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
     AND pg_get_expr(f.adbin, f.adrelid) ~ '{_NEXT}')
SELECT coalesce(json_agg(json_build_array(
         n.nspname, c.relname, s.seqincrement, s.seqcycle, s.seqmin, s.seqmax, has_sequence_privilege(c.oid, 'SELECT'),
         f.owns, t.nspname, r.relname, a.attname,
         a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype), c.relpersistence = 'u')
         ORDER BY n.nspname, c.relname, f.owns DESC, t.nspname, r.relname, a.attname), '[]')::text
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (feeds f JOIN pg_class r ON r.oid = f.relation AND r.relkind IN ('r', 'p')
             JOIN pg_namespace t ON t.oid = r.relnamespace
             JOIN pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number) ON f.sequence = c.oid
 WHERE c.relpersistence <> 't' AND {OWN_SCHEMA} AND {no_member("pg_class", "c.oid")}
"""  # noqa: S608 - put together from the constants of this program
"""One row, so that an answer without a sequence is told from none."""


def read_sequences(connection: psycopg.Connection, log: Log) -> tuple[SequenceState, ...]:
    """Where every sequence stands now. One that cannot be read says so in its place.

    Raises:
        CheckError: the catalogue cannot be read.
        ConnectError: the server went away.
    """
    known: dict[tuple[str, str], list[list[Any]]] = {}
    for row in json.loads(log.ask(connection, ASKED, _SEQUENCES.strip())[0][0]):
        known.setdefault((row[0], row[1]), []).append(row[2:])
    readable = [name for name, rows in known.items() if rows[0][4]]
    stands = dict(
        zip(readable, in_lots(connection, log, f"{ASKED}: where they stand", readable, _value_of), strict=True)
    )
    refused = CheckError("permission denied: the role may not SELECT from it")
    return tuple(_state(name, rows, stands.get(name, refused)) for name, rows in known.items())


def _value_of(name: tuple[str, str]) -> str:
    return f"SELECT last_value, is_called FROM {identifier(*name)}"  # noqa: S608 - quoted


def _state(name: tuple[str, str], rows: list[list[Any]], stands: tuple[Any, ...] | CheckError) -> SequenceState:
    increment, cycle, lowest, highest = rows[0][:4]
    following = None
    if not isinstance(stands, CheckError):
        last, called = stands
        following = last + increment if called else last
        if cycle and not lowest <= following <= highest:
            following = lowest if increment > 0 else highest
    return SequenceState(
        name=qualified(*name),
        low=following,
        high=following,
        increment=increment,
        cycle=cycle,
        feeds=tuple(dict.fromkeys((row[6], row[7], row[8]) for row in rows if row[9])),
        unlogged=rows[0][10],
        error=stands.message if isinstance(stands, CheckError) else "",
    )


def bracket(before: Sequence[SequenceState], after: Sequence[SequenceState]) -> tuple[SequenceState, ...]:
    """Both readings of the source as one. What was made or dropped between them could not be read twice."""
    later = {state.name: state for state in after}
    found = [
        state.model_copy(update={"high": later[state.name].high, "error": state.error or later[state.name].error})
        if state.name in later
        else state.model_copy(update={"high": None, "error": "dropped while the backup was taken"})
        for state in before
    ]
    known = {state.name for state in before}
    made = {"low": None, "error": "made while the backup was taken"}
    return tuple(found) + tuple(state.model_copy(update=made) for state in after if state.name not in known)


def compare_sequences(
    expected: Measures, actual: Measures, open_session: OpenSession, log: Log, *, from_wal: bool = False
) -> Answer:
    """Sequence by sequence: the next value lies in the bracket, and beyond what is in the column.

    Args:
        expected: of the source, both readings in one (see `bracket`).
        actual: of the copy.
        open_session: a session on the copy, which is asked for the largest value of every column.
        log: of the copy.
        from_wal: whether the copy is a physical one, whose sequences the WAL may have moved ahead.

    Raises:
        CheckError: one side was not read.
        ConnectError: the copy cannot be reached.
    """
    for side, measures in (("in the source", expected), ("in the copy", actual)):
        if not any(query.name == ASKED and query.rows for query in measures.queries):
            raise CheckError(f"the sequences were not read {side}")
    with open_session() as connection:
        ends = read_ends(connection, log, actual.sequences, f"{ASKED}: largest values")
    left = frame([(state.name, state) for state in expected.sequences], [*_KEYS, EXPECTED])
    right = frame([(state.name, state) for state in actual.sequences], [*_KEYS, ACTUAL])
    ahead = LOGGED_AHEAD if from_wal else 0
    rows = [_judge(row, ends.get(row["sequence"], []), ahead) for row in join(left, right, _KEYS)]
    if not rows:
        rows = [("all of the database", "no sequence", "no sequence", "none", Verdict.PASS)]
    found = frame(rows, [*_KEYS, EXPECTED, ACTUAL, DIFFERENCE, VERDICT])
    verdict = Verdict.worst(found[VERDICT])
    wrong = [f"{row[0]}: {row[3]}" for row in rows if row[4] is verdict]
    return Answer(
        verdict,
        _fine(len(expected.sequences)) if verdict is Verdict.PASS else named(wrong),
        expected=f"{len(expected.sequences)} sequences",
        actual=f"{len(actual.sequences)} sequences",
        difference=f"{len(wrong)} sequences" if verdict is not Verdict.PASS else "0 sequences",
        frame=found,
        keys=_KEYS,
        seconds=sum(query.seconds for query in actual.queries if query.name.startswith(ASKED)),
    )


def _fine(count: int) -> str:
    if not count:
        return "neither the source nor the copy has a sequence"
    return f"all {count} sequences stand where they stood, and ahead of their columns"


def _judge(row: dict[str, Any], ends: Sequence[End], ahead: int) -> tuple[object, ...]:
    """One sequence: name, bracket, next value, difference, verdict."""
    wanted, there = row[EXPECTED], row[ACTUAL]
    if row[SIDE] == "left_only":
        return row["sequence"], _span(wanted), None, "missing", Verdict.FAIL
    if row[SIDE] == "right_only":
        return row["sequence"], None, there.low, "unexpected", Verdict.FAIL
    shown = row["sequence"], _span(wanted), there.low
    found = [*_against_bracket(wanted, there, ahead), *_against_ends(there, ends)]
    verdict = Verdict.worst([Verdict.PASS, *(verdict for _, verdict in found)])
    return *shown, "; ".join(said for said, _ in found) or "none", verdict


def _span(state: SequenceState) -> str:
    if state.low is None or state.high is None:
        return f"not read: {state.error}"
    return f"{state.low}" if state.low == state.high else f"{state.low} to {state.high}"


def _against_bracket(wanted: SequenceState, there: SequenceState, ahead: int) -> Iterator[tuple[str, Verdict]]:
    """What is wrong with the next value, held against those before and after."""
    if wanted.increment != there.increment:
        yield f"counts by {there.increment}, {wanted.increment} expected", Verdict.FAIL
        return
    if wanted.low is None or wanted.high is None or there.low is None:
        yield f"not read: {wanted.error or there.error}", Verdict.UNKNOWN
        return
    sign = 1 if wanted.increment > 0 else -1
    low, high, found = sign * wanted.low, sign * wanted.high, sign * there.low
    if high < low:
        if not wanted.cycle or high < found < low:
            yield "cannot be judged: the source's own was set back while the backup was taken", Verdict.UNKNOWN
    elif found < low:
        yield f"{low - found} behind", Verdict.FAIL
    elif found > high + ahead * abs(wanted.increment):
        yield f"{found - high} ahead", Verdict.FAIL


def _against_ends(there: SequenceState, ends: Sequence[End]) -> Iterator[tuple[str, Verdict]]:
    """Whether a value comes that a column already has. One that cycles is meant to give values again."""
    if there.cycle or there.low is None:
        return
    for (schema, table, column), (end, foreign) in zip(there.feeds, ends, strict=True):
        name = f"{qualified(schema, table)}.{column}"
        if foreign:
            yield f"foreign parts of {qualified(schema, table)} were not asked", Verdict.PASS
        if isinstance(end, str):
            yield f"not compared with {name}: {end}", Verdict.UNKNOWN
        elif end is None:
            continue
        elif not end.is_finite():
            yield f"not compared with {name}, which holds {end}", Verdict.UNKNOWN
        elif (there.low - end) * (1 if there.increment > 0 else -1) <= 0:
            yield f"behind {name}, which has {end:f} already", Verdict.FAIL
