"""What pg_dump and pg_restore say, and what is made of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from drills.records import Verdict
from drills.recovery.base import ToolLog, judge_log

CIRCULAR = """\
pg_dump: warning: there are circular foreign-key constraints on this table:
pg_dump: detail: node
pg_dump: hint: You might not be able to restore the dump without using --disable-triggers or temporarily dropping the \
constraints.
pg_dump: hint: Consider using a full dump instead of a --data-only dump to avoid this problem.
"""
DENIED = """\
pg_dump: error: query failed: ERROR:  permission denied for table payroll
pg_dump: detail: Query was: LOCK TABLE public.payroll IN ACCESS SHARE MODE
"""
IGNORED = """\
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 2; 3079 16384 EXTENSION hstore (no owner)
pg_restore: error: could not execute query: ERROR:  extension "hstore" is not available
DETAIL:  Could not open extension control file "/usr/share/postgresql/extension/hstore.control": No such file.
HINT:  The extension must first be installed on the system where PostgreSQL is running.
Command was: CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;
pg_restore: warning: errors ignored on restore: 1
"""


def judge(said: str, code: int = 0, *accepted: str, tool: str = "pg_restore") -> ToolLog:
    return judge_log(tool, said, code, accepted, Path("log"))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "\n  \n",
        'pg_restore: creating TABLE "public.error_log"\npg_restore: processing data for table "public.error_log"',
        'pg_restore: creating COMMENT "public.TABLE could_not_fail"',
        'pg_restore: creating VIEW "public.warning"',
        'NOTICE:  table "error" does not exist, skipping',
        'pg_restore: NOTICE:  table "fatal error: warning" does not exist, skipping',
        "pg_restore: hint: an error would say so",
        "backup successfully verified",
        "pg_restore: detail: ERROR would be told otherwise",
    ],
)
def test_a_run_that_says_nothing_of_weight_passes(said: str) -> None:
    found = judge(said)
    assert (found.verdict, found.errors, found.warnings) == (Verdict.PASS, (), ())


@pytest.mark.parametrize(
    "line",
    [
        "pg_restore: error: could not read from input file: end of file",
        "pg_restore: fatal: could not open TOC file",
        'pg_restore: [archiver (db)] could not execute query: ERROR:  relation "x" already exists',
        'pg_restore: [archiver (db)] connection to database "x" failed: FATAL:  no',
        'ERROR:  duplicate key value violates unique constraint "invoice_pkey"',
        "PANIC:  could not write to file",
        "2026-11-21 22:09:00.123 P00  ERROR: [055]: unable to load info file",
        "pg_restore: error:",
        "WARNING: errors ignored on restore: 3",
        "pg_restore: warning: errors ignored on restore: 1",
    ],
)
def test_an_error_fails_whatever_the_exit_code(line: str) -> None:
    for code in (0, 1):
        found = judge(f'pg_restore: creating TABLE "public.x"\n{line}\n', code)
        assert (found.verdict, found.errors) == (Verdict.FAIL, (line,))
        assert line in found.reason


def test_an_error_cannot_be_accepted() -> None:
    found = judge(IGNORED, 1, "errors ignored", "could not execute", "hstore")
    assert found.verdict is Verdict.FAIL


def test_an_error_is_told_once_and_neither_its_details_nor_the_tally_count_again() -> None:
    found = judge(IGNORED, 1)
    assert found.errors == ('pg_restore: error: could not execute query: ERROR:  extension "hstore" is not available',)
    assert found.warnings == ()
    assert found.reason == f"pg_restore ended with 1: {found.errors[0]}"
    assert judge(DENIED, 1, tool="pg_dump").errors == (DENIED.splitlines()[0],)


def test_a_warning_is_unknown_and_its_details_and_hints_are_no_further_warnings() -> None:
    found = judge(CIRCULAR, 0, tool="pg_dump")
    assert found.verdict is Verdict.UNKNOWN
    assert found.warnings == (CIRCULAR.splitlines()[0],)
    assert found.reason == f"pg_dump warned: {CIRCULAR.splitlines()[0]}"


def test_a_warning_that_the_plan_accepts_passes_and_another_does_not() -> None:
    assert judge(CIRCULAR, 0, "circular foreign-key", tool="pg_dump").verdict is Verdict.PASS
    other = "pg_dump: warning: could not resolve dependency loop among these items:"
    found = judge(CIRCULAR + other, 0, "circular foreign-key", tool="pg_dump")
    assert (found.verdict, found.warnings) == (Verdict.UNKNOWN, (other,))


def test_a_warning_of_the_server_is_one_too() -> None:
    found = judge('pg_restore: WARNING:  no privileges were granted for "public"')
    assert found.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "line",
    ["double free or corruption (out)", "sh: warning: setlocale: LC_ALL: cannot change locale", "lz4: write failed"],
)
def test_what_a_library_says_is_looked_into_when_it_sounds_wrong(line: str) -> None:
    assert judge(line).verdict is Verdict.UNKNOWN
    assert judge(line, 0, line.split(maxsplit=1)[0]).verdict is Verdict.PASS


def test_an_exit_code_without_a_word_fails() -> None:
    found = judge("", 3)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "pg_restore ended with 3: it said nothing")


def test_an_exit_code_is_told_with_the_last_line_where_no_line_is_an_error() -> None:
    found = judge("pg_restore: connecting to database for restore\npg_restore: processing item 7", 1)
    assert (found.verdict, found.errors) == (Verdict.FAIL, ())
    assert found.reason == "pg_restore ended with 1: pg_restore: processing item 7"


def test_accepted_warnings_do_not_heal_an_exit_code() -> None:
    assert judge(CIRCULAR, 1, "circular foreign-key", tool="pg_dump").verdict is Verdict.FAIL


def test_a_killed_tool_is_told_by_its_signal() -> None:
    found = judge("", -signal.SIGKILL)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "pg_restore was killed by signal 9: it said nothing")
