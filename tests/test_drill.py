"""Whole drills on real servers: what is found, how it ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_postgres import SHOP, Database, drop_database, new_database, open_sessions, run_sql, write_plan

from drills.addresses import Address
from drills.clusters import Cluster
from drills.planfile import read_plan
from drills.processes import run_tool
from drills.record import Record
from drills.records import Outcome, Verdict
from drills.recovery.dumps.dump import _size
from flows.cli import entry, exit_code
from flows.index import drill_named
from flows.progress import Silent
from flows.rehearsal import rehearse
from flows.runtime import Drill, open_drill
from flows.stages import checks as stage_of_checks
from reports.bundle import bundle_path
from reports.verify import verify

OUTAGE = {
    "kind": "kill_server",
    "name": "server killed",
    "writers": 2,
    "steady": "200ms",
    "down": "100ms",
    "rto": "1min",
}


def run_drill(home: Path, plan: dict[str, Any], before: dict[str, Callable[[Drill], None]] | None = None) -> Record:
    """Run a plan; `before` does something to a drill ahead of the stage of that name."""
    drill = open_drill(read_plan(write_plan(home, plan)), requester=None, home=home, progress=Silent())

    def step(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:
        if before and stage.__name__ in before:
            before.pop(stage.__name__)(drill)
        return stage(drill, *values)

    return rehearse(drill, step)


def nothing_is_left(home: Path, record: Record) -> None:
    """No server, no data, no lock, no session; and the bundle is whole."""
    assert record.left == ()
    assert not list((home / "locks").glob("*"))
    assert [path.name for path in (home / "drills" / record.drill).iterdir()] == ["journal.jsonl"]
    for process in psutil.process_iter(["cmdline"]):
        assert not any(record.drill in part for part in process.info["cmdline"] or [])
    assert verify(bundle_path(record)).faults == ()


def on_copy(statement: str) -> Callable[[Drill], None]:
    """Damage to the copy."""

    def damage(drill: Drill) -> None:
        assert drill.copy is not None
        run_sql(drill.copy, statement)

    return damage


def result_of(record: Record, name: str) -> Any:
    return next(result for result in record.checks["after restore"] if result.name == name)


def test_a_sound_copy_passes_and_nothing_is_left(home: Path, shop: Database) -> None:
    record = run_drill(home, shop.plan(outages=[OUTAGE], objectives={"rto": "5min", "rpo": "5min"}))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert record.outcome is Outcome.FINISHED
    assert set(record.checks) == {"after restore", "negative control", "after server killed"}
    assert {result.verdict for results in record.checks.values() for result in results} == {Verdict.PASS}
    assert result_of(record, "row counts").actual == "3 tables, 520 rows"
    assert record.outages[0].acknowledged_before > 0
    assert record.outages[0].lost == 0
    assert [objective.verdict for objective in record.objectives] == [Verdict.PASS] * 4
    nothing_is_left(home, record)
    assert open_sessions(shop.owner) == []


def test_a_copy_on_a_staging_server_that_is_there_passes_and_is_dropped(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    record = run_drill(
        home, shop.plan(staging={"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"})
    )
    assert record.reasons == ()
    assert record.copy_of_it is not None
    assert not record.copy_of_it.made
    nothing_is_left(home, record)
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []
    assert open_sessions(staging.address()) == []


def test_a_copy_on_a_given_server_has_the_locale_provider_of_its_source(
    home: Path, production: Cluster, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    builtin = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
    shop = new_database(production, SHOP, builtin)
    for key, value in {**shop.environment, "STAGING_PASSWORD": staging.password}.items():
        monkeypatch.setenv(key, value)
    record = run_drill(
        home, shop.plan(staging={"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"})
    )
    drop_database(shop)
    assert record.reasons == ()
    assert result_of(record, "structure").verdict is Verdict.PASS
    assert record.backup is not None
    assert record.backup.surroundings is not None
    assert (record.backup.surroundings.provider, record.backup.surroundings.locale) == ("b", "C.UTF-8")


def test_amcheck_with_a_role_that_is_no_superuser_says_what_can_be_done(
    home: Path, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", "maker-of-databases")
    run_sql(staging.address(), "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'maker-of-databases'")
    run_sql(staging.address(), "GRANT EXECUTE ON FUNCTION pg_control_system() TO maker")
    maker = Address({**staging.address().parts, "user": "maker"})
    record = run_drill(home, shop.plan(staging={"address": shop.url(maker), "password": "env:STAGING_PASSWORD"}))
    run_sql(staging.address(), "REVOKE ALL ON FUNCTION pg_control_system() FROM maker; DROP ROLE maker")
    found = result_of(record, "amcheck")
    assert found.verdict is Verdict.UNKNOWN
    assert "superuser" in found.reason
    assert "`amcheck: false`" in found.reason


def test_what_production_writes_during_the_backup_makes_no_difference(home: Path, shop: Database) -> None:
    def write(_drill: Drill) -> None:
        shop.run("INSERT INTO invoice SELECT 1000 + n, 1, 'EUR', now(), 5 FROM generate_series(1, 50) n")
        shop.run("DELETE FROM invoice WHERE id < 9")

    record = run_drill(home, shop.plan(), {"restore": write})
    assert record.verdict is Verdict.PASS


def test_a_drill_ends_in_the_rows_and_columns_that_differ(home: Path, shop: Database) -> None:
    def write(_drill: Drill) -> None:
        shop.run("UPDATE invoice SET amount = 99999")

    def damage(drill: Drill) -> None:
        on_copy("UPDATE invoice SET amount = amount + 0.01 WHERE id = 7; DELETE FROM customer WHERE id = 99")(drill)
        on_copy("DELETE FROM invoice WHERE id = 11")(drill)

    record = run_drill(home, shop.plan(), {"restore": write, "check": damage})
    assert record.verdict is Verdict.FAIL
    result = result_of(record, "rows of public.invoice")
    assert (result.verdict, result.kind, result.basis) == (Verdict.FAIL, "rows", "snapshot")
    expected = shop_amount(7), shop_amount(11)
    assert result.difference == f"1 changed, 1 missing; amount {Decimal('0.01') - expected[1]:+f}"
    found = {line.key: (line.expected, line.actual, line.difference) for line in result.lines}
    assert found["changed · id = 7 · amount"] == (str(expected[0]), str(expected[0] + Decimal("0.01")), "+0.01")
    assert found["missing · id = 11"][1:] == (None, "missing")
    assert f"amount = {expected[1]}" in str(found["missing · id = 11"][0])
    assert {one.name for one in record.checks["after restore"] if one.kind == "rows"} == {"rows of public.invoice"}
    report = (bundle_path(record) / "report.html").read_text()
    assert "rows of public.invoice" in report
    assert "changed · id = 7 · amount" in report
    nothing_is_left(home, record)


def shop_amount(number: int) -> Decimal:
    """What the shop's invoice of this number is over."""
    return number * 37 % 10007 + Decimal("0.01") * (number % 100)


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE invoice SET amount = amount + 0.01 WHERE id = 7", "invoices by currency"),
        ("DELETE FROM invoice WHERE id = 7", "row counts"),
        ("TRUNCATE invoice", "row counts"),
        ("DROP TABLE note", "tables"),
        ("CREATE TABLE stowaway (n int)", "tables"),
        (
            "ALTER TABLE invoice DROP CONSTRAINT invoice_customer_fkey; DELETE FROM customer WHERE id = 3",
            "every invoice has a customer",
        ),
        ("UPDATE invoice SET amount = NULL WHERE amount = 0", "invoices by currency"),
    ],
)
def test_a_damaged_copy_fails_the_check_that_claims_it(home: Path, shop: Database, damage: str, check: str) -> None:
    shop.run("UPDATE invoice SET amount = 0 WHERE id = 11")
    record = run_drill(home, shop.plan(), {"check": on_copy(damage)})
    assert record.verdict is Verdict.FAIL
    assert exit_code(record) == 1
    assert result_of(record, check).verdict is Verdict.FAIL
    assert result_of(record, check).differing >= 1
    assert any(check in reason for reason in record.reasons)
    nothing_is_left(home, record)


def test_a_cent_is_shown_to_the_cent(home: Path, shop: Database) -> None:
    record = run_drill(home, shop.plan(), {"check": on_copy("UPDATE invoice SET amount = amount + 0.01 WHERE id = 7")})
    found = result_of(record, "invoices by currency")
    assert found.difference == "0.01"
    assert (found.lines[0].key, found.lines[0].difference) == ("USD", "0.01")
    assert found.lines[1].verdict is Verdict.PASS


def test_a_program_that_writes_to_the_copy_spoils_no_check(home: Path, shop: Database) -> None:
    adds = """import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("DELETE FROM note")
    connection.execute("CREATE TABLE left_by_a_program ()")
"""
    plan = shop.plan(outages=[OUTAGE], negative_control={"enabled": True})
    smoke = [
        {"kind": "command", "name": "writes", "run": [sys.executable, "-c", adds]},
        {"kind": "sql", "name": "customers", "sql": "SELECT count(*) FROM customer", "min": 1},
    ]
    record = run_drill(home, {**plan, "checks": {**plan["checks"], "smoke": smoke}})
    asked = {name: [result.name for result in results] for name, results in record.checks.items()}
    assert (record.verdict, record.reasons) == (Verdict.PASS, ())
    assert asked.pop("by programs") == ["writes"]
    assert list(record.checks)[-1] == "by programs"
    assert not any("writes" in names for names in asked.values())
    assert all("customers" in asked[name] for name in ("after restore", "after server killed"))
    nothing_is_left(home, record)


def test_an_outage_on_a_damaged_copy_is_found_by_the_round_after_it(home: Path, shop: Database) -> None:
    record = run_drill(home, shop.plan(outages=[OUTAGE]), {"injure": on_copy("DELETE FROM invoice WHERE id = 7")})
    assert record.verdict is Verdict.FAIL
    assert {result.verdict for result in record.checks["after restore"]} == {Verdict.PASS}
    assert any("after server killed" in reason for reason in record.reasons)


def test_a_missed_objective_is_a_fail(home: Path, shop: Database) -> None:
    record = run_drill(home, shop.plan(objectives={"rto": "1ms"}))
    assert record.verdict is Verdict.FAIL
    assert record.objectives[0].measured_seconds is not None
    assert record.reasons[0].startswith("FAIL: RTO")


def test_a_check_whose_sql_fails_is_unknown(home: Path, shop: Database) -> None:
    checks = {
        "totals": [{"name": "bad total", "table": "invoice", "amount": "amount / (id - 7)"}],
        "invariants": [{"name": "bad invariant", "sql": "SELECT FROM invoice WHERE 1 / (id - 7) > 9"}],
    }
    record = run_drill(home, shop.plan(checks=checks))
    assert record.verdict is Verdict.UNKNOWN
    assert exit_code(record) == 2
    for name in ("bad total", "bad invariant"):
        assert "division by zero" in result_of(record, name).reason
    assert result_of(record, "row counts").verdict is Verdict.PASS
    nothing_is_left(home, record)


def test_a_slip_in_a_statement_of_the_plan_is_told_before_anything_is_made(home: Path, shop: Database) -> None:
    checks = {
        "totals": [{"name": "bad total", "table": "invoice", "amount": "amout"}],
        "invariants": [{"name": "bad invariant", "sql": "SELECT FROM no_such_table"}],
    }
    record = run_drill(home, shop.plan(checks=checks))
    assert (record.verdict, record.outcome) == (Verdict.UNKNOWN, Outcome.REFUSED)
    assert 'checks.totals[0] (bad total): column "amout" does not exist' in record.reasons[0]
    assert 'checks.invariants[0] (bad invariant): relation "no_such_table" does not exist' in record.reasons[0]
    assert record.made == ()
    nothing_is_left(home, record)


def test_an_empty_database_proves_nothing(home: Path, shop: Database) -> None:
    shop.run("TRUNCATE customer, invoice, note")
    record = run_drill(home, shop.plan())
    assert record.verdict is Verdict.UNKNOWN
    assert "nothing" in result_of(record, "row counts").reason
    assert "nothing to look at" in result_of(record, "every invoice has a customer").reason


def test_a_table_dropped_from_the_dumps_list_is_missing(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_tool

    def without_notes(arguments: list[str], **kwargs: Any) -> Any:
        if arguments[0].endswith("pg_restore"):
            listed = subprocess.run(
                [arguments[0], "--list", arguments[-1]], capture_output=True, text=True, check=True
            ).stdout
            kept = home / "list"
            kept.write_text("\n".join(line for line in listed.splitlines() if " note " not in line))
            arguments = [*arguments[:-1], f"--use-list={kept}", arguments[-1]]
        return real(arguments, **kwargs)

    monkeypatch.setattr("drills.recovery.dumps.dump.run_tool", without_notes)
    record = run_drill(home, shop.plan())
    assert record.verdict is Verdict.FAIL
    assert result_of(record, "tables").reason == "missing: public.note"


def test_a_dump_that_was_changed_is_not_restored(home: Path, shop: Database) -> None:
    def change(drill: Drill) -> None:
        file = next((drill.folder / "dump").glob("*.dat"))
        file.write_bytes(file.read_bytes() + b" ")

    record = run_drill(home, shop.plan(), {"restore": change})
    assert record.verdict is Verdict.FAIL
    assert "changed after it was taken" in record.problems[0].message
    nothing_is_left(home, record)


def test_a_server_that_goes_away_during_the_dump_is_unknown(
    home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new_database(
        cluster, SHOP + "CREATE TABLE wide AS SELECT n, repeat('x', 2000) FROM generate_series(1, 50000) n;"
    )
    for key, value in database.environment.items():
        monkeypatch.setenv(key, value)
    real = _size

    def kill_when_it_writes(folder: Path) -> int:
        size = real(folder)
        if size:
            cluster.kill()
        return size

    monkeypatch.setattr("drills.recovery.dumps.dump._size", kill_when_it_writes)
    record = run_drill(home, database.plan())
    assert cluster.process is None
    assert record.verdict is Verdict.UNKNOWN
    assert record.outcome is Outcome.BROKEN_OFF
    assert record.problems
    assert exit_code(record) == 2
    nothing_is_left(home, record)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a tmpfs of 90 MB; an ordinary user cannot mount one, and has the guard's own test of `disk_limit`."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    place = Path("/tmp") / f"drillbook-small-{tmp_path.name}"  # noqa: S108 - it must be reachable for the servers
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m,mode=755", "tmpfs", place], check=True)  # noqa: S607
    try:
        monkeypatch.setenv("DRILLBOOK_HOME", str(place / "home"))
        monkeypatch.chdir(tmp_path)
        (place / "home").mkdir()
        yield place
    finally:
        subprocess.run(["umount", place], check=True)  # noqa: S607
        place.rmdir()


def fill(place: Path, left: int) -> None:
    """Leave so many bytes free."""
    found = os.statvfs(place)
    with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        file.write(bytes(max(found.f_bavail * found.f_frsize - left, 0)))


def test_a_full_disk_during_the_restore_fails(small_disk: Path, shop: Database) -> None:
    shop.run("CREATE TABLE wide AS SELECT n, md5(n::text) || md5((-n)::text) AS said FROM generate_series(1, 100000) n")
    record = run_drill(small_disk / "home", shop.plan(), {"restore": lambda _drill: fill(small_disk, 45_000_000)})
    assert record.verdict is Verdict.FAIL
    assert any("No space left" in reason for reason in record.reasons), record.reasons
    nothing_is_left(small_disk / "home", record)


def test_a_disk_so_full_that_the_journal_cannot_be_written_still_leaves_a_report(
    small_disk: Path, shop: Database
) -> None:
    record = run_drill(small_disk / "home", shop.plan(), {"check": lambda _drill: fill(small_disk, 0)})
    assert (record.verdict, record.outcome) == (Verdict.UNKNOWN, Outcome.BROKEN_OFF)
    assert "No space left" in record.problems[0].message
    nothing_is_left(small_disk / "home", record)


def test_a_copy_that_would_not_fit_is_refused(home: Path, shop: Database) -> None:
    record = run_drill(home, shop.plan(staging={"disk_limit": "1MB"}))
    assert record.outcome is Outcome.REFUSED
    assert exit_code(record) == 3
    assert "room for backup and copy" in record.reasons[0]
    nothing_is_left(home, record)


def test_staging_that_is_production_under_another_name_is_refused(
    home: Path, shop: Database, production: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", production.password)
    address = shop.url(production.address()).replace("127.0.0.1", "localhost")
    record = run_drill(home, shop.plan(staging={"address": address, "password": "env:STAGING_PASSWORD"}))
    assert record.outcome is Outcome.REFUSED
    assert "staging is not production" in record.reasons[0]
    assert run_sql(production.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []


def test_a_role_that_could_write_is_refused_or_noted_as_the_plan_says(home: Path, shop: Database) -> None:
    shop.run(f"GRANT UPDATE (amount) ON invoice TO {shop.reader.parts['user']}")
    refused = run_drill(home, shop.plan())
    assert refused.outcome is Outcome.REFUSED
    assert "may write to invoice" in refused.reasons[0]
    source = shop.plan()["source"] | {"writable_role": "warn"}
    noted = run_drill(home, shop.plan(source=source))
    assert noted.verdict is Verdict.PASS
    assert any(finding.verdict is Verdict.UNKNOWN and "may write" in finding.found for finding in noted.findings)


def test_a_second_drill_of_the_same_database_is_refused(home: Path, shop: Database) -> None:
    second: list[Record] = []
    first = run_drill(home, shop.plan(), {"restore": lambda _drill: second.append(run_drill(home, shop.plan()))})
    assert first.verdict is Verdict.PASS
    assert second[0].outcome is Outcome.REFUSED
    assert first.drill in second[0].reasons[0]
    nothing_is_left(home, first)


@pytest.mark.parametrize("fault", ["missing database", "wrong password", "no secret"])
def test_a_source_that_cannot_be_reached_is_refused_without_its_secret(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    planted = "planted-Wr0ng/pass word"
    plan = shop.plan()
    if fault == "missing database":
        plan["source"]["address"] = plan["source"]["address"].replace(f"/{shop.name}", "/not_there")
    if fault == "wrong password":
        monkeypatch.setenv("SHOP_PASSWORD", planted)
    if fault == "no secret":
        monkeypatch.delenv("SHOP_PASSWORD")
    code = entry(["run", str(write_plan(home, plan)), "--no-prefect"])
    assert code == 3
    said = "".join(capfd.readouterr())
    expected = {
        "missing database": "does not exist",
        "wrong password": "password authentication failed",
        "no secret": "SHOP_PASSWORD",
    }
    assert expected[fault] in said
    written = said + "".join(path.read_text() for path in home.parent.rglob("*") if path.is_file())
    assert planted not in written
    assert shop.environment["SHOP_PASSWORD"] not in written


def test_no_secret_is_written_anywhere_by_a_whole_drill(home: Path, shop: Database) -> None:
    seen: list[str] = []

    def look_at_processes(drill: Drill) -> None:
        seen.extend(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        assert drill.cluster is not None
        seen.append(drill.cluster.password)

    record = run_drill(home, shop.plan(outages=[OUTAGE]), {"check": look_at_processes})
    made = seen.pop()
    assert any(record.drill in line for line in seen)
    everything = "\n".join(seen) + "".join(
        path.read_text(errors="replace") for path in home.parent.rglob("*") if path.is_file()
    )
    assert record.drill in everything
    for secret in (made, shop.environment["SHOP_PASSWORD"]):
        assert secret not in everything


def test_the_command_line_prints_the_record_and_ends_with_its_code(
    home: Path, shop: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = str(write_plan(home, shop.plan()))
    assert entry(["run", plan, "--no-prefect", "--json", "--requester", "someone"]) == 0
    record = Record.model_validate(json.loads(capfd.readouterr().out))
    assert (record.verdict, record.requester) == (Verdict.PASS, "someone")
    bundle = bundle_path(record)
    assert json.loads((bundle / "drill.json").read_bytes())["drill"] == record.drill
    assert entry(["verify", str(bundle)]) == 0
    assert entry(["show", record.drill[-4:]]) == 0
    assert entry(["list"]) == 0
    assert record.drill in capfd.readouterr().out
    assert entry(["sweep"]) == 0


def test_ctrl_c_ends_a_drill_with_its_report_and_code_four(home: Path, shop: Database) -> None:
    def stop(_drill: Drill) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_drill(home, shop.plan(), {"check": stop})
    record = drill_named(next((home / "drills").iterdir()).name)
    assert record.outcome is Outcome.INTERRUPTED
    assert record.verdict is Verdict.UNKNOWN
    assert exit_code(record) == 4
    nothing_is_left(home, record)


def test_an_error_nobody_thought_of_is_unknown_and_still_testifies(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by pw-" + "0" * 16)

    monkeypatch.setattr(stage_of_checks, "run_checks", break_down)
    record = run_drill(home, shop.plan())
    assert record.verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError" in record.problems[0].message
    nothing_is_left(home, record)


def test_a_home_that_servers_cannot_reach_is_no_obstacle(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("DRILLBOOK_HOME", str(place))
    monkeypatch.chdir(tmp_path)
    record = run_drill(place, shop.plan())
    assert record.verdict is Verdict.PASS
    nothing_is_left(place, record)
    assert not list(Path("/var/tmp").glob(f"drillbook-*/*{record.drill}*"))  # noqa: S108


def test_help_answers_without_the_slow_imports() -> None:
    slow = "{'prefect', 'pandas', 'psycopg'}"
    code = f"import sys; from flows.cli import entry; entry(['--help']); print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
