"""Whole drills from dumps that somebody else made, held against closed periods of the source as it is now."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import SHOP, Database, drop_database, new_database, open_sessions, run_sql
from test_basebackup import CLOSED
from test_drill import OUTAGE, nothing_is_left, on_copy, result_of, run_drill

from drills.clusters import Cluster
from drills.planned import EMPTIED
from drills.processes import plain_environment
from drills.record import Record
from drills.records import Basis, Outcome, Verdict
from drills.tools import embedded_tools
from flows.runtime import Drill

FORMS = {
    "custom": ["--format=custom"],
    "directory": ["--format=directory"],
    "tar": ["--format=tar"],
    "plain": ["--format=plain", "--verbose"],
    "terse": ["--format=plain"],
    "plain.gz": ["--format=plain", "--verbose"],
    "created": ["--format=plain", "--verbose", "--create"],
}
OPEN_PERIOD = """
INSERT INTO invoice SELECT 1000 + n, 1, 'EUR', now(), 5 FROM generate_series(1, 50) n;
UPDATE customer SET name = 'another' WHERE id = 3;
INSERT INTO note VALUES (1, 'since the dump');
"""
"""What production writes after the dump was made; no invoice of a closed month is among it."""
NO_NOTES = [{"table": "public.note", "reason": "nobody wrote a note before the dump"}]


@pytest.fixture
def sold(production: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The shop, whose dump is made by its owner."""
    database = new_database(production, SHOP)
    for name, value in database.environment.items():
        monkeypatch.setenv(name, value)
    yield database
    drop_database(database)


def dump(database: Database, place: Path, form: str = "custom", more: Sequence[str] = ()) -> Path:
    """What pg_dump makes of it."""
    path = place / f"the dump.{form}"
    command = [embedded_tools().program("pg_dump"), *FORMS[form], *more, f"--file={path}"]
    subprocess.run(command, env=plain_environment(database.owner.environment()), check=True, timeout=60)
    if form == "plain.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def plan(database: Database, path: Path | str, recovery: dict[str, Any] | None = None, **changes: object) -> Any:
    """A plan for a drill from this dump."""
    told = {"method": "dump_file", "path": str(path)} | (recovery or {})
    quick: dict[str, Any] = {"negative_control": {"enabled": False}, "checks": CLOSED | {"may_be_empty": NO_NOTES}}
    return database.plan(recovery=told, **(quick | changes))


def is_sound(home: Path, record: Record) -> None:
    """It passed by its closed total, and nothing is left."""
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert result_of(record, "closed invoices").basis is Basis.CLOSED_PERIOD
    assert result_of(record, "closed invoices").compared > 0
    assert result_of(record, "age of the backup").verdict is Verdict.PASS
    assert record.snapshot is None
    nothing_is_left(home, record)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in {"terse", "created"}])
def test_a_dump_of_each_format_passes_whatever_open_periods_hold_since(
    home: Path, sold: Database, tmp_path: Path, form: str
) -> None:
    path = dump(sold, tmp_path, form)
    before = {each: each.stat() for each in (path, *path.rglob("*"))}
    sold.run(OPEN_PERIOD)
    record = run_drill(home, plan(sold, path, {"max_age": "1h"}))
    is_sound(home, record)
    assert {each: each.stat() for each in (path, *path.rglob("*"))}.keys() == before.keys()
    assert [each.stat().st_mtime_ns for each in before] == [each.st_mtime_ns for each in before.values()]
    assert open_sessions(sold.owner) == []


def test_with_outages_and_its_negative_control_it_passes_as_well(home: Path, sold: Database, tmp_path: Path) -> None:
    path = dump(sold, tmp_path)
    sold.run(OPEN_PERIOD)
    goals = {"rto": "5min", "rpo": "5min"}
    negative = {"enabled": True}
    record = run_drill(home, plan(sold, path, outages=[OUTAGE], objectives=goals, negative_control=negative))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert set(record.checks) == {"after restore", "negative control", "after server killed"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE invoice SET amount = amount + 0.01 WHERE id = 77",
        "DELETE FROM invoice WHERE id = 77",
        "INSERT INTO invoice SELECT 9999, customer, currency, posted, amount FROM invoice WHERE id = 77",
        "TRUNCATE invoice",
    ],
)
def test_a_closed_row_that_is_altered_in_the_copy_fails(
    home: Path, sold: Database, tmp_path: Path, damage: str
) -> None:
    record = run_drill(home, plan(sold, dump(sold, tmp_path)), {"check": on_copy(damage)})
    assert record.verdict is Verdict.FAIL
    assert result_of(record, "closed invoices").verdict is Verdict.FAIL
    nothing_is_left(home, record)


def test_a_table_whose_rows_the_dump_left_out_is_no_pass_though_every_total_passes(
    home: Path, sold: Database, tmp_path: Path
) -> None:
    sold.run("CREATE TABLE ledger (n int); INSERT INTO ledger SELECT generate_series(1, 20000)")
    sold.run("INSERT INTO note SELECT n, 'a note' FROM generate_series(1, 20) n")
    without = dump(sold, tmp_path, more=["--exclude-table-data=public.ledger", "--exclude-table-data=public.note"])
    record = run_drill(home, plan(sold, without))
    assert record.verdict is Verdict.UNKNOWN
    assert [reason.partition(",")[0] for reason in record.reasons] == [f"UNKNOWN: {EMPTIED}"]
    assert result_of(record, "closed invoices").verdict is Verdict.PASS
    result = result_of(record, EMPTIED)
    assert (result.verdict, result.differing) == (Verdict.UNKNOWN, 1)
    assert "none in the copy: public.ledger;" in result.reason
    assert "as the plan allows: public.note (nobody wrote a note before the dump)" in result.reason
    nothing_is_left(home, record)


def test_the_tables_that_no_total_reads_are_named_where_all_is_well(home: Path, sold: Database, tmp_path: Path) -> None:
    result = result_of(run_drill(home, plan(sold, dump(sold, tmp_path))), EMPTIED)
    assert (result.verdict, result.basis) == (Verdict.PASS, Basis.CLOSED_PERIOD)
    assert "all that is known of 1, which no total reads: public.customer" in result.reason


def test_an_invariant_that_the_source_does_not_take_any_more_is_put_to_the_older_copy(
    home: Path, sold: Database, tmp_path: Path
) -> None:
    path = dump(sold, tmp_path)
    sold.run("ALTER TABLE customer RENAME name TO called")
    invariants = [{"name": "all have a name", "sql": "SELECT FROM customer WHERE name IS NULL"}]
    checks = CLOSED | {"may_be_empty": NO_NOTES, "invariants": invariants, "structure": False}
    record = run_drill(home, plan(sold, path, checks=checks))
    assert record.reasons == ()
    assert result_of(record, "all have a name").verdict is Verdict.PASS
    found = next(finding for finding in record.findings if finding.name == "statements of the plan can be prepared")
    assert found.verdict is Verdict.UNKNOWN
    assert 'checks.invariants[0] (all have a name): column "name" does not exist' in found.found


def test_a_closed_row_that_production_altered_since_the_dump_fails(home: Path, sold: Database, tmp_path: Path) -> None:
    path = dump(sold, tmp_path)
    sold.run("UPDATE invoice SET amount = amount + 0.01 WHERE id = 77")
    record = run_drill(home, plan(sold, path))
    assert record.verdict is Verdict.FAIL
    assert result_of(record, "closed invoices").difference.lstrip("-") == "0.01"


def test_a_plain_dump_that_is_cut_fails_before_anything_is_restored(home: Path, sold: Database, tmp_path: Path) -> None:
    path = dump(sold, tmp_path, "plain")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n", whole.index(b"COPY public.invoice") + 800) + 1])
    record = run_drill(home, plan(sold, path))
    assert record.verdict is Verdict.FAIL
    assert "the dump is not whole" in record.problems[0].message
    assert "have a new dump made" in record.problems[0].hint
    assert record.copy_of_it is None
    nothing_is_left(home, record)


@pytest.mark.parametrize("form", ["custom", "tar", "plain.gz"])
def test_a_dump_whose_end_is_missing_fails(home: Path, sold: Database, tmp_path: Path, form: str) -> None:
    path = dump(sold, tmp_path, form)
    path.write_bytes(path.read_bytes()[: -1024 if form == "tar" else -100])
    record = run_drill(home, plan(sold, path))
    assert record.verdict is Verdict.FAIL
    nothing_is_left(home, record)


@pytest.mark.parametrize("form", ["custom", "directory", "plain"])
def test_another_dump_than_the_plan_names_is_not_restored(
    home: Path, sold: Database, tmp_path: Path, form: str
) -> None:
    record = run_drill(home, plan(sold, dump(sold, tmp_path, form), {"sha256": "0" * 64}))
    assert record.verdict is Verdict.UNKNOWN
    assert "not the one that the plan names" in record.problems[0].message
    assert "nothing was restored" in record.problems[0].hint
    assert record.copy_of_it is None
    nothing_is_left(home, record)


def test_a_dump_that_is_not_there_is_a_fail(home: Path, sold: Database, tmp_path: Path) -> None:
    record = run_drill(home, plan(sold, tmp_path / "none"))
    assert record.verdict is Verdict.FAIL
    assert "check recovery.path" in record.problems[0].hint
    nothing_is_left(home, record)


def test_a_dump_that_changes_before_it_is_restored_fails(home: Path, sold: Database, tmp_path: Path) -> None:
    path = dump(sold, tmp_path)

    def change(_drill: Drill) -> None:
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    record = run_drill(home, plan(sold, path), {"restore": change})
    assert record.verdict is Verdict.FAIL
    assert "changed after it was picked" in record.problems[0].message
    nothing_is_left(home, record)


@pytest.fixture
def owned(production: Cluster, sold: Database) -> Iterator[Database]:
    """The shop, in a database that belongs to a role and has grants and settings, as those of production do."""
    name, owner = sold.owner.parts["dbname"], production.address()
    run_sql(owner, "CREATE ROLE app")
    try:
        run_sql(owner, f"ALTER DATABASE {name} OWNER TO app")
        run_sql(owner, f"REVOKE TEMP ON DATABASE {name} FROM PUBLIC")
        run_sql(owner, f"ALTER DATABASE {name} SET work_mem = '5MB'")
        run_sql(owner, f"COMMENT ON DATABASE {name} IS 'the shop'")
        yield sold
    finally:
        run_sql(owner, f"ALTER DATABASE {name} OWNER TO {production.address().parts['user']}")
        run_sql(owner, "DROP ROLE app")


def test_what_a_dump_that_does_not_make_its_database_cannot_hold_is_not_compared_and_that_is_said(
    home: Path, owned: Database, tmp_path: Path
) -> None:
    told = {"negative_control": {"enabled": True}}
    record = run_drill(home, plan(owned, dump(owned, tmp_path, "plain"), **told))
    is_sound(home, record)
    said = "the dump does not make its database: owner, grants and settings of the database are not"
    assert result_of(record, "structure").reason.endswith(f"; {said} compared")
    assert record.copy_of_it is not None
    assert [deviation.startswith(said) for deviation in record.copy_of_it.deviations] == [True]


@pytest.mark.parametrize(
    ("form", "change", "what"),
    [
        ("created", None, ""),
        ("custom", None, ""),
        ("created", "OWNER TO CURRENT_USER", "owner and grants this database"),
        ("created", "SET work_mem = '6MB'", "database settings of all roles"),
        ("custom", "OWNER TO CURRENT_USER", "owner and grants this database"),
    ],
)
def test_a_dump_that_makes_its_database_is_held_against_its_owner_grants_and_settings(
    home: Path, owned: Database, production: Cluster, tmp_path: Path, form: str, change: str | None, what: str
) -> None:
    path = dump(owned, tmp_path, form)
    if change is not None:
        run_sql(production.address(), f"ALTER DATABASE {owned.owner.parts['dbname']} {change}")
    record = run_drill(home, plan(owned, path))
    found = result_of(record, "structure")
    assert "does not make its database" not in found.reason
    assert (record.verdict, what in found.reason) == (Verdict.PASS if change is None else Verdict.FAIL, True)
    nothing_is_left(home, record)


def make_older(path: Path, age: timedelta) -> None:
    """As if it had been written then."""
    then = (datetime.now(UTC) - age).timestamp()
    os.utime(path, (then, then))


def test_an_old_dump_fails_by_its_age_and_by_the_objective_and_by_nothing_else(
    home: Path, sold: Database, tmp_path: Path
) -> None:
    path = dump(sold, tmp_path, "terse")
    make_older(path, timedelta(hours=30))
    record = run_drill(home, plan(sold, path, {"max_age": "26h"}, objectives={"rpo": "26h", "rto": "5min"}))
    assert record.verdict is Verdict.FAIL
    found = record.checks["after restore"]
    assert [result.name for result in found if result.verdict is not Verdict.PASS] == ["age of the backup"]
    rpo = next(objective for objective in record.objectives if objective.name == "RPO")
    assert rpo.verdict is Verdict.FAIL
    assert rpo.measured_seconds is not None
    assert rpo.measured_seconds == pytest.approx(30 * 3600, abs=120)
    nothing_is_left(home, record)


def test_the_objective_counts_the_age_of_the_dump_where_the_plan_limits_none(
    home: Path, sold: Database, tmp_path: Path
) -> None:
    path = dump(sold, tmp_path, "terse")
    make_older(path, timedelta(hours=30))
    failed = run_drill(home, plan(sold, path, objectives={"rpo": "29h"}))
    assert failed.verdict is Verdict.FAIL
    assert "RPO" in " ".join(failed.reasons)
    # The time of a file says only that the dump is not younger.
    unsure = run_drill(home, plan(sold, path, objectives={"rpo": "31h"}))
    assert unsure.verdict is Verdict.UNKNOWN
    assert [reason for reason in unsure.reasons if not reason.startswith("UNKNOWN: RPO: at least 1080")] == []


def test_a_dump_that_does_not_say_when_it_was_begun_never_passes_a_limit_of_age(
    home: Path, sold: Database, tmp_path: Path
) -> None:
    """The time of its file is new with each copy of it."""
    record = run_drill(home, plan(sold, dump(sold, tmp_path, "terse"), {"max_age": "1h"}))
    assert record.verdict is Verdict.UNKNOWN
    assert "--verbose" in " ".join(record.reasons)
    assert len(record.reasons) == 1
    nothing_is_left(home, record)


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_staging_server_that_is_there_gets_the_copy_and_loses_it_again(
    home: Path, sold: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    monkeypatch.setenv("STAGING_PASSWORD", staging.password)
    path = dump(sold, tmp_path, form)
    sold.run(OPEN_PERIOD)
    where = {"address": sold.url(staging.address()), "password": "env:STAGING_PASSWORD"}
    record = run_drill(home, plan(sold, path, staging=where))
    is_sound(home, record)
    assert record.copy_of_it is not None
    assert not record.copy_of_it.made
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr_%'") == []
    assert open_sessions(staging.address()) == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], object]]:
    """A bucket as moto plays it."""
    moto = import_module("moto")
    for name, value in {"DEFAULT_REGION": "us-east-1", "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with moto.mock_aws():
        import boto3  # noqa: PLC0415 - under moto only

        client = boto3.client("s3")
        client.create_bucket(Bucket="backups")
        yield lambda key, body: client.put_object(Bucket="backups", Key=key, Body=body)


@pytest.mark.parametrize("form", ["custom", "directory", "plain.gz"])
def test_a_dump_in_s3_passes_and_is_not_kept(
    home: Path, sold: Database, tmp_path: Path, bucket: Callable[[str, bytes], object], form: str
) -> None:
    path = dump(sold, tmp_path, form)
    sold.run(OPEN_PERIOD)
    if path.is_dir():
        for file in path.iterdir():
            bucket(f"shop/dump/{file.name}", file.read_bytes())
    else:
        bucket("shop/dump", path.read_bytes())
    record = run_drill(home, plan(sold, f"s3://backups/shop/dump{'/' if path.is_dir() else ''}", {"max_age": "1h"}))
    is_sound(home, record)


def test_a_dump_that_is_not_in_s3_is_a_fail(home: Path, sold: Database, bucket: Callable[[str, bytes], object]) -> None:
    bucket("shop/another", b"")
    record = run_drill(home, plan(sold, "s3://backups/shop/dump"))
    assert record.verdict is Verdict.FAIL
    assert "there is no dump s3://backups/shop/dump" in record.problems[0].message
    nothing_is_left(home, record)


def test_a_plan_for_a_dump_has_to_name_what_can_be_compared(home: Path, sold: Database, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="of another time"):
        run_drill(home, plan(sold, dump(sold, tmp_path), checks={"totals": CLOSED["totals"]}))
