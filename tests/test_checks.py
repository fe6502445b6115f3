"""From a comparison to a result: what passes, what does not, and what is written down of it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from checks.base import Answer, Question, answer, frame, join, shown
from checks.expectations import expect, read_expectations, write_expectations
from checks.row_counts import compare_row_counts, emptied
from checks.tables import compare_tables
from drills.errors import CheckError, ConnectError
from drills.measures import Expectations, Measures, Relation, TableCount
from drills.records import Basis, Snapshot, Verdict, utc_now
from drills.results import LINES_KEPT, CheckResult

COLUMNS = ["key", "expected", "actual", "difference", "verdict"]


def found(verdict: Verdict, *rows: tuple[object, ...]) -> Answer:
    return Answer(verdict, "because", "1", "2", "3", frame(rows, COLUMNS), ("key",))


def put(ask: Callable[[], Answer], folder: Path, name: str = "a check") -> CheckResult:
    return answer(Question(name, "totals", Basis.SNAPSHOT, ["SELECT 1"], ask), folder / "reconcile" / "after-restore")


def fields_of(result: CheckResult, folder: Path) -> list[list[str]]:
    """The CSV as any reader of RFC 4180 sees it."""
    assert result.csv is not None
    content = (folder / result.csv.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == result.csv.sha256
    assert len(content) == result.csv.size
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def counted(**rows: int | None) -> Measures:
    """Tables with so many rows; None could not be counted."""
    counts = tuple(
        TableCount(table=f"public.{table}", rows=number, error="" if number is not None else "permission denied")
        for table, number in rows.items()
    )
    return Measures(relations=(), counts=counts, totals=(), queries=())


def related(*relations: tuple[str, str]) -> Measures:
    told = tuple(Relation(kind=kind, name=name) for kind, name in relations)
    return Measures(relations=told, counts=(), totals=(), queries=())


# --- answers --------------------------------------------------------------------------------------------------------


def test_a_check_that_crashes_is_unknown_and_says_how(tmp_path: Path) -> None:
    def crash() -> Answer:
        raise ZeroDivisionError("by nothing")

    result = put(crash, tmp_path)
    assert (result.verdict, result.compared, result.csv) == (Verdict.UNKNOWN, 0, None)
    assert result.reason == "the check crashed: ZeroDivisionError: by nothing"


@pytest.mark.parametrize("error", [CheckError("no right", hint="grant it"), ConnectError("no right", hint="grant it")])
def test_a_check_that_cannot_be_asked_is_unknown_with_its_hint(tmp_path: Path, error: Exception) -> None:
    def refuse() -> Answer:
        raise error

    result = put(refuse, tmp_path)
    assert (result.verdict, result.reason, result.expected) == (
        Verdict.UNKNOWN,
        "no right (grant it)",
        "not measured",
    )


def test_a_pass_over_nothing_is_unknown(tmp_path: Path) -> None:
    empty = put(lambda: found(Verdict.PASS), tmp_path)
    assert (empty.verdict, empty.reason) == (Verdict.UNKNOWN, "there was nothing to compare")
    frameless = put(lambda: Answer(Verdict.PASS, "fine", "1", "1", "0"), tmp_path)
    assert frameless.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("line", [Verdict.FAIL, Verdict.UNKNOWN])
def test_a_pass_over_a_line_that_did_not_pass_is_unknown(tmp_path: Path, line: Verdict) -> None:
    result = put(lambda: found(Verdict.PASS, ("a", 1, 1, 0, Verdict.PASS), ("b", 1, 2, 1, line)), tmp_path)
    assert result.verdict is Verdict.UNKNOWN
    assert "contradicts itself" in result.reason


def test_a_frame_without_verdicts_is_unknown_and_stops_nothing(tmp_path: Path) -> None:
    result = put(lambda: Answer(Verdict.FAIL, "", "", "", "", frame([(1,)], ["key"]), ("key",)), tmp_path)
    assert (result.verdict, result.lines) == (Verdict.UNKNOWN, ())


def test_lines_that_differ_come_first_and_a_record_holds_only_so_many(tmp_path: Path) -> None:
    rows = [(f"k{n}", n, n, 0, Verdict.PASS) for n in range(LINES_KEPT)] + [("late", 1, 2, 1, Verdict.FAIL)]
    result = put(lambda: found(Verdict.FAIL, *rows), tmp_path)
    assert (result.lines[0].key, result.lines[0].verdict) == ("late", Verdict.FAIL)
    assert (len(result.lines), result.compared, result.differing) == (LINES_KEPT, LINES_KEPT + 1, 1)
    assert len(fields_of(result, tmp_path)) == LINES_KEPT + 2
    only_bad = put(lambda: found(Verdict.FAIL, *[(n, 1, 2, 1, Verdict.FAIL) for n in range(LINES_KEPT * 2)]), tmp_path)
    assert (len(only_bad.lines), only_bad.differing) == (LINES_KEPT, LINES_KEPT * 2)


def test_the_csv_gives_back_every_text_as_it_was(tmp_path: Path) -> None:
    odd = ["nan", "NA", "001", "", " x ", 'say "hi"', "a,b", "two\nlines", "a\rreturn", "=1+1", "Zoë ☃", "1e5", "None"]
    result = put(lambda: found(Verdict.FAIL, *[(text, 7, None, text, Verdict.FAIL) for text in odd]), tmp_path)
    assert fields_of(result, tmp_path) == [COLUMNS, *([text, "7", "", text, "FAIL"] for text in odd)]
    assert [line.key for line in result.lines] == odd
    assert result.lines[0].actual is None


def test_in_the_csv_an_empty_text_is_not_an_absent_one(tmp_path: Path) -> None:
    result = put(lambda: found(Verdict.FAIL, ("k", "", None, "", Verdict.FAIL)), tmp_path)
    assert result.csv is not None
    assert (tmp_path / result.csv.path).read_text() == 'key,expected,actual,difference,verdict\nk,"",,"",FAIL\n'


def test_checks_whose_names_read_alike_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["sum: a/b", "sum - a b", "../../etc/passwd", "Сумма", "合計", "..."]
    results = [put(lambda: found(Verdict.PASS, ("a", 1, 1, 0, Verdict.PASS)), tmp_path, name) for name in names]
    paths = {result.csv.path for result in results if result.csv}
    assert len(paths) == len(names)
    assert all(path.startswith("reconcile/after-restore/") and ".." not in path for path in paths)


def test_a_csv_that_cannot_be_written_takes_a_pass_away_and_leaves_a_fail(tmp_path: Path) -> None:
    (tmp_path / "reconcile").write_text("a file where the folder should be")
    passed = put(lambda: found(Verdict.PASS, ("a", 1, 1, 0, Verdict.PASS)), tmp_path)
    failed = put(lambda: found(Verdict.FAIL, ("a", 1, 2, 1, Verdict.FAIL)), tmp_path)
    assert (passed.verdict, failed.verdict) == (Verdict.UNKNOWN, Verdict.FAIL)
    assert "because; its CSV could not be written" in passed.reason


def test_null_and_the_text_null_are_told_apart() -> None:
    texts = [None, "NULL", "'NULL'", "null", "", "NULLS"]
    assert [shown(text) for text in texts] == ["NULL", "'NULL'", "''NULL''", "null", "", "NULLS"]


def test_a_key_that_stands_twice_is_not_compared() -> None:
    side = frame([("a", 1), ("a", 2)], ["key", "expected"])
    with pytest.raises(CheckError, match="a stands more than once among the expected values"):
        join(side, frame([("a", 1)], ["key", "actual"]), ["key"])


# --- row counts and tables ------------------------------------------------------------------------------------------


def test_equal_row_counts_pass() -> None:
    result = compare_row_counts(counted(a=7, empty=0), counted(a=7, empty=0))
    assert (result.verdict, result.reason) == (Verdict.PASS, "all 2 tables have the expected number of rows")
    assert (result.expected, result.difference) == ("2 tables, 7 rows", "0 rows")


@pytest.mark.parametrize(
    ("actual", "difference"),
    [
        (counted(a=6, b=1), "-1"),
        (counted(a=8, b=1), "1"),
        (counted(a=0, b=1), "-7"),
        (counted(b=1), "the table is missing"),
        (counted(a=7, b=1, c=0), "the table is unexpected"),
    ],
)
def test_another_row_count_fails_and_stays_an_integer(tmp_path: Path, actual: Measures, difference: str) -> None:
    result = put(lambda: compare_row_counts(counted(a=7, b=1), actual), tmp_path)
    assert (result.verdict, result.differing) == (Verdict.FAIL, 1)
    assert result.lines[0].difference == difference
    fields = {field for row in fields_of(result, tmp_path) for field in row}
    assert "7" in fields
    assert not {field for field in fields if field.endswith(".0")}


def test_rows_that_moved_between_tables_fail_although_the_whole_is_equal() -> None:
    result = compare_row_counts(counted(a=7, b=1), counted(a=1, b=7))
    assert (result.verdict, result.difference) == (Verdict.FAIL, "0 rows")


@pytest.mark.parametrize(("expected", "actual"), [(7, None), (None, 7), (None, None)])
def test_a_table_that_could_not_be_counted_is_unknown(tmp_path: Path, expected: int | None, actual: int | None) -> None:
    result = put(lambda: compare_row_counts(counted(a=expected, b=1), counted(a=actual, b=1)), tmp_path)
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "public.a: could not be counted")
    assert result.lines[0].difference == "not counted: permission denied"
    assert result.difference == "not measured"


def test_a_table_is_emptied_when_its_rows_are_gone_and_not_when_nobody_could_count_them() -> None:
    wanted = counted(a=7, b=7, c=7, d=0, e=None, f=7)
    assert emptied(wanted, counted(a=0, b=1, c=None, d=0, e=0)) == {"public.a": 7, "public.f": 7}


def test_a_wrong_count_outranks_one_that_is_not_known() -> None:
    result = compare_row_counts(counted(a=7, b=1), counted(a=None, b=2))
    assert (result.verdict, result.reason) == (Verdict.FAIL, "public.b: not the expected number of rows")


def test_tables_without_a_row_and_no_tables_prove_nothing() -> None:
    assert compare_row_counts(counted(a=0), counted(a=0)).verdict is Verdict.UNKNOWN
    nothing = compare_row_counts(counted(), counted())
    assert (nothing.verdict, "no tables" in nothing.reason) == (Verdict.UNKNOWN, True)
    assert compare_row_counts(counted(), counted(a=0)).verdict is Verdict.FAIL
    assert compare_row_counts(counted(a=0), counted(a=1)).verdict is Verdict.FAIL


def test_the_same_tables_pass_and_none_at_all_is_unknown() -> None:
    shop = related(("table", "public.a"), ("view", "public.v"))
    assert compare_tables(shop, shop).verdict is Verdict.PASS
    nothing = compare_tables(related(), related())
    assert (nothing.verdict, nothing.reason) == (Verdict.UNKNOWN, "the snapshot has no tables")


def test_missing_and_unexpected_tables_fail_by_name_and_kind() -> None:
    wanted = related(*[("table", f"public.t{n}") for n in range(5)], ("view", "public.v"))
    there = related(("table", "public.t0"), ("table", "public.v"))
    result = compare_tables(wanted, there)
    assert result.verdict is Verdict.FAIL
    assert result.reason == "missing: public.t1, public.t2, public.t3 and 2 more; unexpected: public.v"
    turned = compare_tables(related(("view", "public.v")), related(("table", "public.v")))
    assert turned.reason == "missing: public.v (view); unexpected: public.v"


# --- expectations ---------------------------------------------------------------------------------------------------


def expectations() -> Expectations:
    snapshot = Snapshot(name="0-1", taken=utc_now(), wal_lsn="0/1", xmin_xmax="1:1:")
    return expect(snapshot, {"TimeZone": "UTC"}, counted(a=7, b=None))


def test_expectations_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = expectations()
    assert read_expectations(tmp_path, write_expectations(written, tmp_path)) == written


def test_expectations_that_were_changed_or_are_gone_are_refused(tmp_path: Path) -> None:
    reference = write_expectations(expectations(), tmp_path)
    file = tmp_path / reference.path
    file.write_bytes(file.read_bytes().replace(b'"rows":7', b'"rows":6'))
    with pytest.raises(CheckError, match="was changed after it was written"):
        read_expectations(tmp_path, reference)
    file.unlink()
    with pytest.raises(CheckError, match="cannot be read"):
        read_expectations(tmp_path, reference)
