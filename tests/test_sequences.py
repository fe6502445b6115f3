"""Sequences: the copy's stand where the source's stood, and none gives a value that its column has already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from fix_postgres import Database, drop_database, new_database
from fix_structure import damaged, look_at, looked_at, opening

from checks.asking import Log
from checks.base import Answer, Question, answer
from checks.sequences import bracket, compare_sequences, read_sequences
from drills.clusters import Cluster
from drills.errors import CheckError
from drills.measures import Measures, SequenceState
from drills.records import Basis, Verdict

NUMBERS = """
CREATE SCHEMA "Odd Schema";
CREATE TABLE invoice (id serial PRIMARY KEY, said text);
INSERT INTO invoice (said) SELECT 'x' FROM generate_series(1, 9);
CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY, at numeric); INSERT INTO entry (at) VALUES (1), (2), (3);
CREATE TABLE down (id int PRIMARY KEY); CREATE SEQUENCE sinking INCREMENT -2 MAXVALUE -10 MINVALUE -90 OWNED BY down.id;
INSERT INTO down SELECT nextval('sinking') FROM generate_series(1, 4);
CREATE SEQUENCE shared; CREATE TABLE left_side (n bigint DEFAULT nextval('shared'));
CREATE TABLE right_side (n numeric(9) DEFAULT nextval('shared'), said text DEFAULT 'N-' || nextval('shared'));
INSERT INTO left_side DEFAULT VALUES; INSERT INTO right_side (said) VALUES ('N-7');
CREATE SEQUENCE untouched START 7; CREATE SEQUENCE round MAXVALUE 3 CYCLE; CREATE TABLE turn (id int);
ALTER SEQUENCE round OWNED BY turn.id; INSERT INTO turn SELECT nextval('round') FROM generate_series(1, 4);
CREATE SEQUENCE "Odd Schema"."It's (odd)"; CREATE SEQUENCE full_up MAXVALUE 2;
SELECT nextval('full_up'), nextval('full_up'), setval('"Odd Schema"."It''s (odd)"', 9223372036854775806);
CREATE TABLE "Odd Schema"."T" ("N" bigint DEFAULT nextval('"Odd Schema"."It''s (odd)"'));
CREATE TABLE parted (id serial, at int) PARTITION BY RANGE (at); CREATE TABLE parted_1 PARTITION OF parted DEFAULT;
INSERT INTO parted (at) VALUES (1), (2);
"""


@pytest.fixture(scope="module")
def numbers(production: Cluster) -> Iterator[Database]:
    """Sequences of every kind."""
    database = new_database(production, NUMBERS)
    yield database
    drop_database(database)


@pytest.fixture(scope="module")
def expected(numbers: Database) -> Measures:
    """What was read in the source; the database is its own copy, until a test damages it."""
    return look_at(numbers.reader)


def named(measures: Measures) -> dict[str, SequenceState]:
    return {state.name: state for state in measures.sequences}


def after(database: Database, expected: Measures, damage: str, *, from_wal: bool = False) -> Answer:
    """The answer for a copy to which this was done. ALTER SEQUENCE is undone at the end, where setval would not be."""
    with damaged(database.owner, damage) as connection:
        actual = looked_at(connection)
        return compare_sequences(expected, actual, lambda: nullcontext(connection), Log("o", "7/x"), from_wal=from_wal)


def line(found: Answer, name: str) -> tuple[str, Verdict]:
    """What is said of one sequence."""
    assert found.frame is not None
    row = found.frame[found.frame["sequence"] == name].to_dict("records")[0]
    return row["difference"], row["verdict"]


def test_the_next_value_of_every_sequence_is_read_exactly(expected: Measures) -> None:
    found = {name: state.low for name, state in named(expected).items()}
    assert (found["public.invoice_id_seq"], found["public.sinking"], found["public.shared"]) == (10, -18, 3)
    assert (found["public.untouched"], found["public.round"], found["public.entry_id_seq"]) == (7, 2, 4)
    assert (found['"Odd Schema"."It\'s (odd)"'], found["public.full_up"]) == (9223372036854775807, 3)


def test_what_a_sequence_feeds_is_its_owner_and_the_plain_defaults(expected: Measures) -> None:
    states = named(expected)
    assert states["public.invoice_id_seq"].feeds == (("public", "invoice", "id"),)
    assert states["public.shared"].feeds == (("public", "left_side", "n"), ("public", "right_side", "n"))
    assert states['"Odd Schema"."It\'s (odd)"'].feeds == (("Odd Schema", "T", "N"),)
    assert states["public.untouched"].feeds == ()


def test_a_sound_copy_passes(numbers: Database, expected: Measures, tmp_path: Path) -> None:
    actual = look_at(numbers.reader)
    log = Log("reader", "7/x")
    result = answer(
        Question(
            "sequences",
            "sequences",
            Basis.SNAPSHOT,
            [],
            lambda: compare_sequences(expected, actual, opening(numbers.reader), log),
        ),
        tmp_path / "reconcile" / "round",
    )
    assert (result.verdict, result.differing) == (Verdict.PASS, 0)
    assert (
        result.reason == f"all {len(expected.sequences)} sequences stand where they stood, and ahead of their columns"
    )
    assert [query.name for query in log.queries] == [
        "sequences: largest values: foreign tables",
        "sequences: largest values",
    ]
    assert Measures.model_validate_json(expected.canonical()) == expected


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("public.invoice_id_seq", "ALTER SEQUENCE invoice_id_seq RESTART 3", "7 behind; behind public.invoice.id, "),
        ("public.invoice_id_seq", "ALTER SEQUENCE invoice_id_seq RESTART 9", "1 behind; behind public.invoice.id, "),
        ("public.invoice_id_seq", "ALTER SEQUENCE invoice_id_seq RESTART 11", "1 ahead"),
        ("public.invoice_id_seq", "INSERT INTO invoice VALUES (10)", "behind public.invoice.id, which has 10 al"),
        ("public.entry_id_seq", "ALTER TABLE entry ALTER id RESTART", "3 behind; behind public.entry.id, which has 3"),
        ("public.sinking", "ALTER SEQUENCE sinking RESTART -10", "8 behind; behind public.down.id, "),
        ("public.sinking", "ALTER SEQUENCE sinking RESTART -20", "2 ahead"),
        ("public.sinking", "INSERT INTO down VALUES (-18)", "behind public.down.id, which has -18 al"),
        ("public.shared", "INSERT INTO right_side VALUES (99, '')", "behind public.right_side.n, which has 99"),
        ("public.untouched", "ALTER SEQUENCE untouched RESTART 8", "1 ahead"),
        ("public.untouched", "ALTER SEQUENCE untouched INCREMENT 2", "counts by 2, 1 expected"),
        ("public.untouched", "DROP SEQUENCE untouched", "missing"),
        ("public.more", "CREATE SEQUENCE more", "unexpected"),
        ("public.round", "ALTER SEQUENCE round RESTART 3", "1 ahead"),
        ("public.parted_id_seq", "ALTER SEQUENCE parted_id_seq RESTART 2", "1 behind; behind public.parted.id, which"),
    ],
)  # fmt: skip
def test_a_damage_fails_and_is_named(numbers: Database, expected: Measures, name: str, damage: str, said: str) -> None:
    found = after(numbers, expected, damage)
    difference, verdict = line(found, name)
    assert (found.verdict, verdict, difference.startswith(said)) == (Verdict.FAIL, Verdict.FAIL, True), difference
    assert f"{name}: {said}" in found.reason


def test_a_value_within_the_bracket_passes_and_one_outside_fails(numbers: Database, expected: Measures) -> None:
    later = [state.model_copy(update={"low": 30, "high": 30}) for state in expected.sequences]
    wide = expected.model_copy(update={"sequences": bracket(expected.sequences, later)})
    for value, verdict in ((10, Verdict.PASS), (30, Verdict.PASS), (31, Verdict.FAIL)):
        found = after(numbers, wide, f"ALTER SEQUENCE invoice_id_seq RESTART {value}")
        assert line(found, "public.invoice_id_seq")[1] is verdict


def test_a_sequence_that_came_out_of_the_wal_may_stand_a_little_further(numbers: Database, expected: Measures) -> None:
    for value, verdict in ((42, Verdict.PASS), (43, Verdict.FAIL)):
        found = after(numbers, expected, f"ALTER SEQUENCE invoice_id_seq RESTART {value}", from_wal=True)
        assert line(found, "public.invoice_id_seq")[1] is verdict
    found = after(numbers, expected, "ALTER SEQUENCE invoice_id_seq RESTART 9", from_wal=True)
    assert found.verdict is Verdict.FAIL


def changed(measures: Measures, name: str, **changes: object) -> Measures:
    """Another state of one sequence."""
    states = [state.model_copy(update=changes) if state.name == name else state for state in measures.sequences]
    return measures.model_copy(update={"sequences": tuple(states)})


def test_a_source_that_was_set_back_meanwhile_leaves_nothing_to_judge_by(numbers: Database, expected: Measures) -> None:
    found = after(numbers, changed(expected, "public.untouched", low=90, high=5), "SELECT 1")
    assert (found.verdict, line(found, "public.untouched")[1]) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert "was set back while the backup was taken" in found.reason


def test_one_that_cycled_meanwhile_may_stand_at_either_end(numbers: Database, expected: Measures) -> None:
    for low, high, verdict in ((3, 2, Verdict.PASS), (2, 1, Verdict.PASS), (3, 1, Verdict.UNKNOWN)):
        found = after(numbers, changed(expected, "public.round", low=low, high=high), "SELECT 1")
        assert line(found, "public.round")[1] is verdict


def test_what_was_made_or_dropped_meanwhile_is_unknown_where_the_copy_has_it(
    numbers: Database, expected: Measures
) -> None:
    others = tuple(state for state in expected.sequences if state.name != "public.untouched")
    for before, afterwards in ((expected.sequences, others), (others, expected.sequences)):
        both = expected.model_copy(update={"sequences": bracket(before, afterwards)})
        found = after(numbers, both, "SELECT 1")
        difference, verdict = line(found, "public.untouched")
        assert (found.verdict, verdict) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
        assert re.search("(dropped|made) while the backup was taken", difference)


def test_a_sequence_that_may_not_be_read_is_unknown_and_leaves_the_others(
    numbers: Database, expected: Measures
) -> None:
    numbers.run("CREATE ROLE short_of_rights; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO short_of_rights")
    numbers.run("REVOKE SELECT ON SEQUENCE untouched FROM short_of_rights")
    try:
        with damaged(numbers.owner, "SET LOCAL ROLE short_of_rights") as connection:
            states = read_sequences(connection, Log("short", "7/x"))
    finally:
        numbers.run("DROP OWNED BY short_of_rights; DROP ROLE short_of_rights")
    found = {state.name: state for state in states}
    assert (found["public.untouched"].low, found["public.invoice_id_seq"].low) == (None, 10)
    assert "permission denied" in found["public.untouched"].error
    judged = after(numbers, expected.model_copy(update={"sequences": states}), "SELECT 1")
    assert line(judged, "public.untouched")[1] is Verdict.UNKNOWN
    assert judged.verdict is Verdict.UNKNOWN


def test_a_column_that_cannot_be_asked_is_unknown_and_leaves_the_others(numbers: Database, expected: Measures) -> None:
    lost = changed(expected, "public.invoice_id_seq", feeds=(("public", "nowhere", "id"),))
    answered = compare_sequences(expected, lost, opening(numbers.reader), Log("reader", "7/x"))
    difference, verdict = line(answered, "public.invoice_id_seq")
    assert (verdict, "not compared with public.nowhere.id" in difference) == (Verdict.UNKNOWN, True)
    assert (answered.verdict, line(answered, "public.entry_id_seq")[1]) == (Verdict.UNKNOWN, Verdict.PASS)


FOREIGN = (
    "CREATE FOREIGN DATA WRAPPER remote; CREATE SERVER far FOREIGN DATA WRAPPER remote;"
    " CREATE FOREIGN TABLE parted_far PARTITION OF parted FOR VALUES FROM (100) TO (200) SERVER far;"
    " CREATE FOREIGN TABLE invoice_far () INHERITS (invoice) SERVER far"
)


def test_foreign_parts_of_a_table_are_not_asked_and_the_others_are(numbers: Database, expected: Measures) -> None:
    with damaged(numbers.owner, FOREIGN) as connection, pytest.raises(psycopg.Error, match="has no handler"):
        connection.execute("SELECT max(id) FROM parted")
    found = after(numbers, expected, FOREIGN)
    assert found.verdict is Verdict.PASS
    for name, table in (("public.parted_id_seq", "parted"), ("public.invoice_id_seq", "invoice")):
        assert line(found, name) == (f"foreign parts of public.{table} were not asked", Verdict.PASS)
    found = after(numbers, expected, f"{FOREIGN}; INSERT INTO parted VALUES (3, 1); INSERT INTO invoice VALUES (10)")
    for name, said in (
        ("public.parted_id_seq", "parted.id, which has 3"),
        ("public.invoice_id_seq", "id, which has 10"),
    ):
        difference, verdict = line(found, name)
        assert (verdict, said in difference) == (Verdict.FAIL, True)


def test_not_a_number_in_a_column_is_unknown(numbers: Database, expected: Measures) -> None:
    found = after(numbers, expected, "INSERT INTO right_side VALUES ('NaN', '')")
    assert line(found, "public.shared") == ("not compared with public.right_side.n, which holds NaN", Verdict.UNKNOWN)


def test_no_sequence_on_either_side_is_something_that_was_looked_at(numbers: Database, expected: Measures) -> None:
    none = expected.model_copy(update={"sequences": ()})
    found = compare_sequences(none, none, opening(numbers.reader), Log("reader", "7/x"))
    assert (found.verdict, found.reason) == (Verdict.PASS, "neither the source nor the copy has a sequence")
    unread = none.model_copy(update={"queries": ()})
    with pytest.raises(CheckError, match="the sequences were not read in the copy"):
        compare_sequences(none, unread, opening(numbers.reader), Log("reader", "7/x"))
    with pytest.raises(CheckError, match="the sequences were not read in the source"):
        compare_sequences(unread, none, opening(numbers.reader), Log("reader", "7/x"))
    # A statement that failed is in the log as well, without a row.
    failed = [query.model_copy(update={"rows": 0}) for query in none.queries]
    with pytest.raises(CheckError, match="the sequences were not read in the copy"):
        compare_sequences(
            none, none.model_copy(update={"queries": failed}), opening(numbers.reader), Log("reader", "7/x")
        )
