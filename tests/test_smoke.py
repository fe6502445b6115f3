"""Smoke checks on a real database: queries, commands, and an application that is started on it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from fix_checks import a_log, opening
from fix_postgres import SHOP, Database, drop_database, new_database
from psycopg.conninfo import conninfo_to_dict
from pydantic import TypeAdapter, ValidationError

from checks.asking import Log
from checks.base import answer
from checks.smoke import program_questions, smoke_questions
from drills.addresses import Address
from drills.applications import Applications, database_url, end_applications, leave_out_unmasked
from drills.clusters import Cluster
from drills.plans.smoke import Smoke
from drills.probes import NoReply, Ran, Reply
from drills.processes import spawn, stop_process
from drills.records import Verdict
from drills.results import CheckResult
from drills.secrets import Vault

DRILL = f"DR-20260101T000000Z-smoke-{os.getpid():08x}"
"""Its programs are found by it on the whole machine, where another worker may be at the same tests."""
SMOKE: TypeAdapter[Any] = TypeAdapter(Smoke)
SITE = """
import http.server, os, sys, time
begun = time.monotonic()
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        early = time.monotonic() - begun < float(os.environ.get("WARM_UP", "0"))
        status = 503 if early else {"/broken": 500, "/moved": 302}.get(self.path, 200)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"20 customers of " + os.environ["PGDATABASE"].encode())
        if self.path == "/drip":
            for _ in range(600):
                self.wfile.write(b"."); self.wfile.flush(); time.sleep(0.1)
    def log_message(self, *told):
        print(*told, flush=True)
print("password", os.environ["PGPASSWORD"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Shop).serve_forever()
"""


@pytest.fixture(scope="module")
def books(production: Cluster) -> Iterator[Database]:
    database = new_database(production, SHOP)
    yield database
    drop_database(database)


def applications(database: Database, place: Path) -> Applications:
    return Applications(database.owner, DRILL, place / "raw", place)


def asked(
    database: Database,
    place: Path,
    *,
    emptied: dict[str, int] | None = None,
    log: Log | None = None,
    **wish: Any,
) -> CheckResult:
    """One smoke check, put to the database."""
    check = SMOKE.validate_python({"name": "smoke", **wish})
    by_statement = smoke_questions([check], opening(database.reader), log or a_log(), emptied or {})
    questions = [*by_statement, *program_questions([check], applications(database, place))]
    assert len(questions) == 1
    return answer(questions[0], place / "reconcile" / "round")


def script(place: Path, text: str) -> str:
    path = place / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def site(place: Path, shell: str = 'exec "$PYTHON" site.py') -> list[str]:
    (place / "site.py").write_text(SITE)
    return [script(place, f"PYTHON={sys.executable}\n{shell}")]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def marked() -> list[int]:
    """Whatever still runs that a smoke check of these tests has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DRILLBOOK_PROBE", "").startswith(DRILL):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert marked() == []


# --- sql ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "wish"),
    [
        ("SELECT count(*) FROM customer", {"expect": 20}),
        ("SELECT count(*) FROM customer", {"min": 20, "max": "20.0"}),
        ("SELECT count(*) FROM customer", {"min": 1}),
        ("SELECT sum(amount) FROM invoice", {"max": "1e9"}),
        ("SELECT sum(amount) * 1e30 + 0.01 FROM invoice", {"min": "2e36"}),
        ("SELECT bool_and(amount > 0) FROM invoice", {"expect": "true"}),
        ("SELECT name FROM customer WHERE id = 7", {"expect": "customer 7"}),
        ("SELECT 'infinity'::float8", {"min": 7}),
        ("SELECT 1", {"expect": 1}),
    ],
)
def test_the_expected_value_or_range_passes(books: Database, tmp_path: Path, sql: str, wish: dict[str, Any]) -> None:
    result = asked(books, tmp_path, kind="sql", sql=sql, **wish)
    assert (result.verdict, result.difference, result.compared) == (Verdict.PASS, "none", 1), result.reason


@pytest.mark.parametrize(
    ("sql", "wish", "difference"),
    [
        ("SELECT count(*) FROM customer", {"expect": 21}, "-1"),
        ("SELECT count(*) FROM customer", {"min": 21}, "1 below the least"),
        ("SELECT count(*) FROM customer", {"max": "19.99"}, "0.01 above the greatest"),
        ("SELECT 9::bigint FROM customer LIMIT 1", {"min": 10}, "1 below the least"),
        ("SELECT 1e40 + 0.01 FROM customer LIMIT 1", {"max": "1e40"}, "0.01 above the greatest"),
        ("SELECT sum(amount) FROM invoice WHERE false", {"min": 0}, "not a number"),
        ("SELECT 'NaN'::numeric FROM invoice LIMIT 1", {"min": 0}, "not a number"),
        ("SELECT name FROM customer WHERE id = 7", {"expect": "customer 8"}, "other value"),
    ],
)
def test_another_value_fails(books: Database, tmp_path: Path, sql: str, wish: dict[str, Any], difference: str) -> None:
    result = asked(books, tmp_path, kind="sql", sql=sql, **wish)
    assert (result.verdict, result.difference) == (Verdict.FAIL, difference)


@pytest.mark.parametrize(
    ("sql", "wish", "reason"),
    [
        ("SELECT name FROM customer LIMIT 1", {"min": 1}, "the statement gives no number, and `min` and `max` are"),
        ("SELECT id FROM customer", {"expect": 1}, "expected one row with one column, got 20 rows"),
        ("SELECT id FROM customer WHERE false", {"expect": 1}, "got 0 rows"),
        ("SELECT count(*) FROM nowhere", {"expect": 1}, "nowhere"),
        ("DELETE FROM customer RETURNING 1", {"expect": 1}, "permission denied for table customer"),
        ("SELECT 1; DROP TABLE note", {"expect": 1}, "cannot insert multiple commands"),
    ],
)
def test_a_value_that_cannot_be_judged_is_unknown(
    books: Database, tmp_path: Path, sql: str, wish: dict[str, Any], reason: str
) -> None:
    result = asked(books, tmp_path, kind="sql", sql=sql, **wish)
    assert (result.verdict, result.compared) == (Verdict.UNKNOWN, 0)
    assert reason in result.reason


def test_what_passes_over_a_table_that_lost_its_rows_is_unknown(books: Database, tmp_path: Path) -> None:
    wishes: list[dict[str, Any]] = [
        {"kind": "sql", "sql": "SELECT count(*) FROM note", "max": 5},
        {"kind": "within", "sql": "SELECT * FROM note", "limit": "1min", "rows": "any"},
        {"kind": "within", "sql": "SELECT count(*) FROM note", "limit": "1min"},
    ]
    for wish in wishes:
        assert asked(books, tmp_path, **wish).verdict is Verdict.PASS
        result = asked(books, tmp_path, emptied={"public.note": 7}, **wish)
        assert (result.verdict, "7 rows of public.note in the snapshot" in result.reason) == (Verdict.UNKNOWN, True)
    failing = asked(books, tmp_path, emptied={"public.note": 7}, kind="sql", sql="SELECT count(*) FROM note", min=1)
    assert failing.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "wish", [{"kind": "sql", "max": 5}, {"kind": "within", "limit": "1min"}], ids=["sql", "within"]
)
def test_a_table_that_lost_its_rows_is_seen_inside_a_function(
    production: Cluster, tmp_path: Path, wish: dict[str, Any]
) -> None:
    opaque = """CREATE TABLE gone (id int); CREATE FUNCTION opaque() RETURNS bigint LANGUAGE plpgsql
    AS 'BEGIN RETURN (SELECT count(*) FROM gone); END'"""
    database = new_database(production, opaque)
    sound, emptied = (
        asked(database, tmp_path, sql="SELECT opaque()", emptied=e, **wish) for e in ({}, {"public.gone": 7})
    )
    drop_database(database)
    assert sound.verdict is Verdict.PASS, sound.reason
    assert (emptied.verdict, "7 rows of public.gone in the snapshot" in emptied.reason) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize(
    "wish", [{"kind": "sql", "expect": 0}, {"kind": "within", "limit": "1min"}], ids=["sql", "within"]
)
def test_a_foreign_table_is_refused(production: Cluster, tmp_path: Path, wish: dict[str, Any]) -> None:
    far = """CREATE EXTENSION file_fdw; CREATE SERVER far FOREIGN DATA WRAPPER file_fdw;
    CREATE FOREIGN TABLE rates (rate text) SERVER far OPTIONS (filename '/dev/null')"""
    database = new_database(production, far)
    result = asked(database, tmp_path, sql="SELECT count(*) FROM rates", **wish)
    drop_database(database)
    assert (result.verdict, "public.rates, which no backup holds" in result.reason) == (Verdict.UNKNOWN, True)


# --- within ---------------------------------------------------------------------------------------------------------


def test_a_query_within_its_time_passes_and_the_session_keeps_its_own_limit(books: Database, tmp_path: Path) -> None:
    log = a_log()
    sql = "SELECT i.* FROM invoice i JOIN customer c ON c.id = i.customer"
    result = asked(books, tmp_path, log=log, kind="within", sql=sql, limit="5s")
    assert (result.verdict, result.lines[1].actual) == (Verdict.PASS, "500"), result.reason
    assert result.reason.startswith("500 rows in 0.")
    kept = [(query.sql, query.rows) for query in log.queries if query.name == "smoke"]
    assert kept == [(sql, 500)]
    assert [query.sql for query in log.queries if "SET LOCAL" in query.sql] == [
        "SET LOCAL statement_timeout = 5000",
        "SET LOCAL statement_timeout = '1min'",
    ]


def test_a_query_over_its_time_is_cancelled_and_fails(books: Database, tmp_path: Path) -> None:
    started = time.monotonic()
    sql = "SELECT pg_sleep(60), id FROM customer"
    result = asked(books, tmp_path, kind="within", sql=sql, limit="300ms")
    assert time.monotonic() - started < 10
    assert (result.verdict, result.reason) == (Verdict.FAIL, "had not ended after 300ms and was cancelled")
    assert (result.expected, result.actual, result.difference) == ("within 300ms", "cancelled after 300ms", "too slow")


def test_an_answer_that_drips_in_is_timed_to_its_last_row(books: Database, tmp_path: Path) -> None:
    sql = "SELECT pg_sleep(0.02), id FROM customer"  # 20 rows, each in time
    assert asked(books, tmp_path, kind="within", sql=sql, limit="200ms").verdict is Verdict.FAIL
    assert asked(books, tmp_path, kind="within", sql=sql, limit="20s").verdict is Verdict.PASS


def test_an_answer_without_rows_fails_unless_any_answer_will_do(books: Database, tmp_path: Path) -> None:
    wish: dict[str, Any] = {"kind": "within", "sql": "SELECT * FROM customer WHERE id < 0", "limit": "1min"}
    result = asked(books, tmp_path, **wish)
    assert (result.verdict, result.difference) == (Verdict.FAIL, "no row")
    assert asked(books, tmp_path, **wish, rows="any").verdict is Verdict.PASS


def test_a_cancellation_by_somebody_else_is_no_verdict_on_the_copy(books: Database, tmp_path: Path) -> None:
    sql = "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1), id FROM customer"
    result = asked(books, tmp_path, kind="within", sql=sql, limit="1min")
    assert (result.verdict, "canceling statement" in result.reason) == (Verdict.UNKNOWN, True)


# --- command --------------------------------------------------------------------------------------------------------

CONNECTS = """
import os, psycopg
for url in (os.environ["DATABASE_URL"], ""):
    with psycopg.connect(url) as connection:
        print(connection.execute("SELECT count(*) FROM customer").fetchone()[0], "customers")
        connection.execute("CREATE TEMP TABLE session_may_write ()")
print("as", os.environ["PGUSER"], os.environ["PGHOST"], os.environ["PGPORT"], os.environ["PGDATABASE"])
"""


def test_a_command_finds_the_copy_by_its_environment_and_passes(books: Database, tmp_path: Path) -> None:
    result = asked(books, tmp_path, kind="command", run=[sys.executable, "-c", CONNECTS], matches="^20 customers$")
    assert (result.verdict, [line.key for line in result.lines]) == (Verdict.PASS, ["exit code", "time", "output"]), (
        result.reason
    )
    said = next((tmp_path / "raw").iterdir()).read_text()
    parts = books.owner.parts
    assert said == f"20 customers\n20 customers\nas drillbook 127.0.0.1 {parts['port']} {books.name}\n"
    assert books.owner.password not in result.model_dump_json()


def test_a_command_that_says_the_password_has_it_masked_everywhere(books: Database, tmp_path: Path) -> None:
    run = ["sh", "-c", 'echo "$PGPASSWORD"; echo "$DATABASE_URL" >&2; exit 3']
    result = asked(books, tmp_path, kind="command", run=run, matches="nothing")
    assert result.verdict is Verdict.FAIL
    for text in (result.model_dump_json(), next((tmp_path / "raw").iterdir()).read_text()):
        assert books.owner.password not in text
        assert "[secret]" in text


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ("echo first; echo last; exit 3", "ended with exit code 3 after "),
        ("echo first; echo last; exit 3", "; it said: last"),
        ("kill -SEGV $$", "was ended by signal 11 after "),
        ("echo 19 customers", "; its output does not match ^20 customers$; it said: 19 customers"),
        ("echo 120 customers", "; its output does not match ^20 customers$"),
        ("true", "; its output does not match ^20 customers$; it said nothing"),
    ],
)
def test_a_command_that_fails_or_says_something_else_fails(
    books: Database, tmp_path: Path, shell: str, reason: str
) -> None:
    result = asked(books, tmp_path, kind="command", run=["sh", "-c", shell], matches="^20 customers$")
    assert (result.verdict, reason in result.reason) == (Verdict.FAIL, True), result.reason


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_a_command_over_its_limit_is_stopped_with_all_that_it_started_and_fails(
    books: Database, tmp_path: Path, ignores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drills.applications.stop_process", lambda process: stop_process(process, patience=0.3))
    # One child in the same group, one in a session of its own, and one whose parent has gone.
    children = "sleep 600 & setsid sleep 601 & (setsid sleep 602 &) ;"
    shell = f"{ignores}{children} echo waiting; sleep 603; sleep 604"
    result = asked(books, tmp_path, kind="command", run=["sh", "-c", shell], limit="500ms")
    assert (result.verdict, result.actual) == (Verdict.FAIL, "stopped after 500ms")
    assert result.reason == "had not ended after 500ms and was stopped; it said: waiting"
    assert marked() == []


def test_what_a_command_leaves_running_when_it_ends_by_itself_is_ended(books: Database, tmp_path: Path) -> None:
    run = ["sh", "-c", "(setsid sleep 600 &); sleep 0.1; exit 0"]
    assert asked(books, tmp_path, kind="command", run=run).verdict is Verdict.PASS
    assert marked() == []


@pytest.mark.parametrize("run", [["no-such-program-here"], ["./nothing"], ["/nowhere/nothing"]])
def test_a_program_that_is_not_there_is_unknown_with_a_hint(books: Database, tmp_path: Path, run: list[str]) -> None:
    served = {"kind": "http", "start": run, "url": "http://127.0.0.1:{port}/"}
    wishes: list[dict[str, Any]] = [{"kind": "command", "run": run}, served]
    for wish in wishes:
        result = asked(books, tmp_path, **wish)
        assert result.verdict is Verdict.UNKNOWN
        assert result.reason.startswith(f"there is no program {run[0]} (install it where the drill runs")


def test_a_program_that_cannot_be_started_is_unknown(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    result = asked(books, tmp_path, kind="command", run=[str(path)])
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "broken could not be started: Exec format error")


def test_a_relative_path_is_found_in_the_directory_where_it_runs(books: Database, tmp_path: Path) -> None:
    script(tmp_path, "pwd")
    result = asked(books, tmp_path, kind="command", run=["./program"], matches=f"^{tmp_path}$")
    assert result.verdict is Verdict.PASS, result.reason


# --- http -----------------------------------------------------------------------------------------------------------


def test_an_application_that_answers_passes_and_is_stopped(books: Database, tmp_path: Path) -> None:
    url = "http://127.0.0.1:{port}/?q=1"
    text = f"20 customers of {books.name}"
    result = asked(books, tmp_path, kind="http", start=site(tmp_path), url=url, contains=text)
    assert (result.verdict, result.expected, result.actual) == (Verdict.PASS, "200", "200"), result.reason
    assert result.sql.endswith("-- GET http://127.0.0.1:{port}/?q=1")
    said = next((tmp_path / "raw").iterdir()).read_text()
    assert "password [secret]" in said
    assert books.owner.password not in said


def test_an_application_that_is_still_starting_is_asked_again(books: Database, tmp_path: Path) -> None:
    start = site(tmp_path, 'sleep 0.5; WARM_UP=0.5 exec "$PYTHON" site.py')
    url = "http://127.0.0.1:{port}/"
    assert asked(books, tmp_path, kind="http", start=start, url=url).verdict is Verdict.PASS
    start = site(tmp_path, 'WARM_UP=600 exec "$PYTHON" site.py')
    result = asked(books, tmp_path, kind="http", start=start, url=url, limit="2s")
    assert result.verdict is Verdict.FAIL
    assert result.reason.startswith("no answer within 2s: status 503; it said: ")
    assert asked(books, tmp_path, kind="http", start=start, url=url, status=503).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("path", "wish", "reason"),
    [
        ("/broken", {}, "status 500 after "),
        ("/moved", {}, ", expected 200"),
        ("/", {"contains": "21 customers"}, "the answer does not contain '21 customers'"),
        ("/drip", {"limit": "2s"}, "no answer within 2s: no whole answer within "),
    ],
)
def test_another_answer_fails(books: Database, tmp_path: Path, path: str, wish: dict[str, Any], reason: str) -> None:
    url = f"http://127.0.0.1:{{port}}{path}"
    started = time.monotonic()
    result = asked(books, tmp_path, kind="http", start=site(tmp_path), url=url, **wish)
    assert (result.verdict, reason in result.reason) == (Verdict.FAIL, True), result.reason
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        (
            "echo no licence; exit 3",
            "the application ended with exit code 3 before it was stopped; it said: no licence",
        ),
        ('"$PYTHON" site.py & sleep 1; exit 0', "the application ended with exit code 0 before it was stopped"),
        ("sleep 600", "no answer within 3s: ConnectionRefusedError"),
    ],
)
def test_an_application_that_does_not_answer_fails(books: Database, tmp_path: Path, shell: str, reason: str) -> None:
    (tmp_path / "site.py").write_text(SITE.replace("print(", "time.sleep(2);print(", 1))
    start = [script(tmp_path, f"PYTHON={sys.executable}\n{shell}")]
    result = asked(books, tmp_path, kind="http", start=start, url="http://127.0.0.1:{port}/", limit="3s")
    assert (result.verdict, reason in result.reason) == (Verdict.FAIL, True), result.reason


def test_an_application_that_ignores_sigterm_and_lets_go_of_its_children_is_stopped(
    books: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drills.applications.stop_process", lambda process: stop_process(process, patience=0.3))
    start = site(tmp_path, "trap '' TERM; (setsid sleep 600 &); setsid sleep 601 & \"$PYTHON\" site.py")
    assert asked(books, tmp_path, kind="http", start=start, url="http://127.0.0.1:{port}/").verdict is Verdict.PASS
    assert marked() == []


@dataclass(frozen=True)
class Slow:
    """A probe, and an application, that give what is asked for after more time than was allowed."""

    seconds: float
    port: int = 1

    def run(self, name: str, arguments: Sequence[str], limit: float) -> Ran:  # noqa: ARG002 - as the real one
        """It has ended well."""
        return Ran(0, self.seconds, "done")

    @contextmanager
    def serving(self, name: str, arguments: Sequence[str]) -> Iterator[Slow]:  # noqa: ARG002 - as the real one
        """It runs."""
        yield self

    def get(self, url: str, limit: float) -> Reply:  # noqa: ARG002 - as the real one
        """What was asked for, late."""
        time.sleep(self.seconds)
        return Reply(200, "up")

    def ended(self) -> None:
        """It has not."""

    def said(self) -> str:
        """Nothing."""
        return ""


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "command", "run": ["x"]},
        {"kind": "http", "start": ["x"], "url": "http://127.0.0.1:{port}/", "contains": "up"},
    ],
    ids=["command", "http"],
)
@pytest.mark.parametrize(("seconds", "verdict"), [(0.35, Verdict.FAIL), (0.01, Verdict.PASS)])
def test_what_came_right_but_after_the_limit_fails(
    tmp_path: Path, wish: dict[str, Any], seconds: float, verdict: Verdict
) -> None:
    check = SMOKE.validate_python({"name": "smoke", "limit": "200ms", **wish})
    result = answer(next(program_questions([check], Slow(seconds))), tmp_path / "reconcile" / "round")
    assert (result.verdict, "the limit is 200ms" in result.reason) == (verdict, verdict is Verdict.FAIL)
    assert [line.difference for line in result.lines].count("too slow") == (verdict is Verdict.FAIL)


def test_the_answer_has_what_connecting_left_of_the_limit(
    books: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = HTTPConnection.connect

    def slowly(connection: HTTPConnection) -> None:
        time.sleep(0.8)
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", slowly)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        found = applications(books, tmp_path).get(f"http://127.0.0.1:{silent.getsockname()[1]}/", 1)
        assert isinstance(found, NoReply)
        assert time.monotonic() - started < 1.5


def test_what_leaves_its_parent_its_group_and_its_environment_is_ended_and_its_parents_children_with_it(
    books: Database, tmp_path: Path
) -> None:
    bystander = spawn(["sleep", "600"], environment={"PATH": os.environ["PATH"]}, log=tmp_path / "log")
    away = "(env -i setsid sh -c 'echo $$; /bin/sleep 601 & echo $!; wait' >pids &); while ! grep -c . pids; do :; done"
    run = ["sh", "-c", f"{away}; sleep 0.2"]
    result = asked(books, tmp_path, kind="command", run=run)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    alive = bystander.poll() is None
    stop_process(bystander)
    assert (result.verdict, len(pids), alive) == (Verdict.PASS, 2, True), result.reason
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_the_log_of_a_program_whose_drill_was_killed_is_left_out(books: Database, tmp_path: Path) -> None:
    asked(books, tmp_path, kind="command", run=["echo", "first round"])
    drill = os.fork()
    if drill == 0:
        try:
            applications(books, tmp_path).run("smoke", ["sh", "-c", 'echo "$PGPASSWORD"; sleep 600'], 60)
        finally:
            os._exit(1)
    until = time.monotonic() + 10
    while not any(books.owner.password in path.read_text() for path in (tmp_path / "raw").iterdir()):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(drill, signal.SIGKILL)
    os.waitpid(drill, 0)
    end_applications(DRILL)
    leave_out_unmasked(tmp_path / "raw")
    (log,) = (tmp_path / "raw").iterdir()
    assert log.name.startswith("smoke-")
    assert log.suffix == ".log"
    first, sentence = log.read_text().splitlines()
    assert (first, sentence.startswith("[left out: the drill was killed")) == ("first round", True)


def test_an_error_while_asking_leaves_no_application_behind(
    books: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Applications, "get", broken)
    result = asked(books, tmp_path, kind="http", start=site(tmp_path), url="http://127.0.0.1:{port}/")
    assert (result.verdict, "ZeroDivisionError" in result.reason) == (Verdict.UNKNOWN, True)
    assert marked() == []


def test_what_a_killed_drill_left_is_found_and_ended_and_nobody_elses(books: Database, tmp_path: Path) -> None:
    drill = os.fork()
    if drill == 0:
        try:
            applications(books, tmp_path).run(
                "left", ["sh", "-c", "trap '' TERM; (setsid sleep 600 &) ; sleep 600"], 60
            )
        finally:
            os._exit(1)
    until = time.monotonic() + 10
    while len(marked()) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(drill, signal.SIGKILL)
    os.waitpid(drill, 0)
    left = marked()
    assert left
    end_applications("DR-20260101T000000Z-other-0000")
    assert marked() == left
    end_applications(DRILL)
    assert all(is_gone(pid) for pid in left)


@pytest.mark.parametrize(
    ("parts", "password"),
    [
        ({"host": "db.internal", "port": "5433", "user": "o'neil@x", "dbname": "a/b c"}, "p@ss/w:rd %&?#'"),
        ({"host": "::1", "user": "u", "dbname": "d", "sslmode": "require"}, "x"),
        ({"host": "/run/postgresql", "port": "5432", "user": "u", "dbname": "d"}, "x"),
        ({"host": "a,b", "port": "1,2", "user": "u", "dbname": "d", "options": "-c jit=off"}, "x"),
        ({"host": "h", "dbname": "d"}, ""),
    ],
)
def test_the_url_of_the_copy_says_to_libpq_what_the_address_says(parts: dict[str, str], password: str) -> None:
    vault = Vault()
    vault.know(password)
    url = database_url(Address(parts, password))
    assert conninfo_to_dict(url) == {**parts, **({"password": password} if password else {})}
    assert not password or f":{quote(password, safe='')}@" not in vault.redact(url)


# --- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"kind": "sql", "sql": "SELECT 1"}, "expected either `expect`, or `min` and `max`"),
        ({"kind": "sql", "sql": "SELECT 1", "expect": 1, "min": 0}, "expected either `expect`"),
        ({"kind": "sql", "sql": "SELECT 1", "min": "one"}, "expected a number, got 'one'"),
        ({"kind": "sql", "sql": "SELECT 1", "min": 2, "max": 1}, "nothing lies between 2 and 1"),
        ({"kind": "within", "sql": "SELECT 1"}, "Field required"),
        ({"kind": "command", "run": []}, "at least 1 item"),
        ({"kind": "command", "run": ["x"], "matches": "("}, "is not a regular expression"),
        ({"kind": "command", "run": ["x"], "matches": ".*"}, "matches any output"),
        ({"kind": "http", "start": ["x"], "url": "http://h/"}, "expected {port} in the URL"),
        ({"kind": "http", "url": "http://h:7/"}, "a server that the drill does not start on the copy says nothing"),
        ({"kind": "http", "start": [], "url": "http://h:{port}/"}, "missing: a server that the drill does not start"),
        ({"kind": "http", "start": ["x"], "url": "ftp://h:{port}/"}, "expected a URL such as"),
        ({"kind": "http", "start": ["x"], "url": "http://u:p@h:{port}/"}, "expected a URL such as"),
        ({"kind": "http", "start": ["x"], "url": "http://h:x{port}/"}, "expected a URL such as"),
        ({"kind": "http", "start": ["x"], "url": "http:///{port}"}, "expected a URL such as"),
        ({"kind": "http", "start": ["x"], "url": "http://h:{port}/a b"}, "expected a URL such as"),
        ({"kind": "ping"}, "does not match any of the expected tags"),
    ],
)
def test_what_could_never_pass_or_never_fail_is_refused(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SMOKE.validate_python({"name": "smoke", **wish})
    assert said in str(caught.value)
