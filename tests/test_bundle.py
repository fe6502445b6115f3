"""The bundle: whole or not there, and every change to it is found."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import SHOP, Database, drop_database, new_database, write_plan

from drills.clusters import Cluster
from drills.errors import EvidenceError
from drills.planfile import read_plan
from drills.record import Record
from flows.cli import entry
from flows.progress import Silent
from flows.rehearsal import rehearse
from flows.runtime import Drill, open_drill
from flows.sweep import sweep
from reports.bundle import bundle_path, publish, published_at
from reports.verify import verify


@dataclass(frozen=True)
class Run:
    """One drill that all tests here look at: its record, its working folder, and the role that read the source."""

    record: Record
    folder: Path
    reader: str


@pytest.fixture(scope="module")
def run(production: Cluster) -> Iterator[Run]:
    place = Path(tempfile.mkdtemp(prefix="drillbook-bundle-"))
    place.chmod(0o755)
    database = new_database(production, SHOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_PASSWORD", database.environment["SHOP_PASSWORD"])
        file = read_plan(write_plan(place, database.plan(evidence={"folder": str(place / "evidence")})))
        drill = open_drill(file, requester=None, home=place, progress=Silent())
        yield Run(rehearse(drill), drill.folder, database.reader.parts["user"])
    drop_database(database)
    shutil.rmtree(place)


@pytest.fixture
def record(run: Run) -> Record:
    return run.record


@pytest.fixture
def bundle(run: Run, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(bundle_path(run.record), tmp_path / run.record.drill))


def test_it_lands_by_database_quarter_and_drill_and_holds_everything(record: Record) -> None:
    bundle = bundle_path(record)
    quarter = f"{record.opened.year}Q{(record.opened.month + 2) // 3}"
    assert bundle.parts[-4:] == ("evidence", "shop", quarter, record.drill)
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    top = "SHA256SUMS checks.csv drill.json expectations.json journal.jsonl plan.yaml queries.jsonl report.html"
    assert {*top.split(), "raw/pg_dump.log", "raw/pg_restore.log", "raw/staging-server.log"} <= found
    compared = {result.csv.path for results in record.checks.values() for result in results if result.csv}
    assert {name for name in found if name.startswith("reconcile/")} == compared
    assert len(compared) > 4
    assert not [path for path in bundle.rglob("*") if path.is_file() and path.stat().st_mode & 0o222]
    assert verify(bundle).faults == ()


def test_sha256sum_alone_can_check_it(bundle: Path) -> None:
    command = [str(shutil.which("sha256sum")), "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_drill_json_is_the_record_and_checks_csv_has_a_line_for_each_check(bundle: Path, record: Record) -> None:
    assert Record.model_validate_json((bundle / "drill.json").read_bytes()) == record
    with (bundle / "checks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    results = [result for results in record.checks.values() for result in results]
    assert [(row["name"], row["verdict"]) for row in rows] == [
        (result.name, result.verdict.value) for result in results
    ]
    assert {row["round"] for row in rows} == {"after restore", "negative control"}


def test_every_query_is_kept_with_its_role_and_instants(bundle: Path, run: Run) -> None:
    queries = [json.loads(line) for line in (bundle / "queries.jsonl").read_text().splitlines()]
    counted = [query for query in queries if query["name"] == "content of public.invoice"]
    assert counted[0]["role"] == run.reader
    assert {query["role"] for query in counted[1:]} == {"drillbook"}
    assert all(query["started"] <= query["ended"] for query in queries)


def _change(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        path = bundle / name
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b"PASS", b"FAIL", 1) + b" ")

    return change


def _remove(bundle: Path) -> None:
    (bundle / "checks.csv").unlink()


def _add(bundle: Path) -> None:
    (bundle / "raw" / "more.log").write_text("more")


def _link(bundle: Path) -> None:
    (bundle / "checks.csv").rename(bundle.parent / "elsewhere.csv")
    (bundle / "checks.csv").symlink_to(bundle.parent / "elsewhere.csv")


@pytest.mark.parametrize(
    "damage",
    [
        *map(_change, ("report.html", "drill.json", "journal.jsonl", "plan.yaml", "raw/pg_dump.log", "SHA256SUMS")),
        _remove,
        _add,
        _link,
    ],
)
def test_every_change_is_a_fault_and_exit_code_one(
    bundle: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(bundle)
    assert verify(bundle).faults
    assert entry(["verify", str(bundle)]) == 1
    assert "not the evidence that was filed" in capfd.readouterr().err


def reseal(bundle: Path) -> None:
    """What somebody does who wants nothing to be seen: compute the digests anew."""
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    names.remove("SHA256SUMS")
    done = subprocess.run([str(shutil.which("sha256sum")), *names], cwd=bundle, capture_output=True, check=True)
    (bundle / "SHA256SUMS").chmod(0o644)
    (bundle / "SHA256SUMS").write_bytes(done.stdout)


@pytest.mark.parametrize("name", ["drill.json", "journal.jsonl", "plan.yaml", "expectations.json"])
def test_a_change_with_new_digests_is_still_found(bundle: Path, name: str) -> None:
    _change(name)(bundle)
    reseal(bundle)
    assert verify(bundle).faults


@pytest.mark.parametrize("name", ["report.html", "checks.csv", "plan.yaml", "drill.json", "journal.jsonl"])
def test_a_file_of_every_bundle_removed_together_with_its_line_is_found(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    reseal(bundle)
    assert f"SHA256SUMS: {name} is not listed" in verify(bundle).faults
    assert entry(["verify", str(bundle)]) == 1


def test_a_reconciliation_changed_with_new_digests_is_still_found(bundle: Path) -> None:
    path = next(bundle.glob("reconcile/*/invoices*.csv"))
    _change(path.relative_to(bundle).as_posix())(bundle)
    reseal(bundle)
    assert any("not the file that the journal speaks of" in fault for fault in verify(bundle).faults)


def test_a_tail_cut_off_the_journal_is_found(bundle: Path) -> None:
    path = bundle / "journal.jsonl"
    path.chmod(0o644)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    reseal(bundle)
    assert any("expected the last entry to close" in fault for fault in verify(bundle).faults)


def test_what_is_no_bundle_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EvidenceError, match="is not a bundle"):
        verify(tmp_path)
    assert entry(["verify", str(tmp_path)]) == 2
    assert "report.html" in capfd.readouterr().err


def test_evidence_that_cannot_be_written_is_kept_and_published_by_a_sweep(home: Path, shop: Database) -> None:
    """The folder becomes unwritable after the guard has looked: a file stands where a folder should be."""
    drill = open_drill(read_plan(write_plan(home, shop.plan())), requester=None, home=home, progress=Silent())

    def step(stage: Callable[..., Any], drill: Drill, *values: object) -> Any:
        if stage.__name__ == "check":
            (home.parent / "evidence").write_text("in the way")
        return stage(drill, *values)

    with pytest.raises(EvidenceError, match="cannot be written"):
        rehearse(drill, step)
    assert (drill.folder / "expectations.json").exists()
    os.unlink(home.parent / "evidence")  # noqa: PTH108
    results = list(sweep(home))
    assert [result.what for result in results] == ["closed"]
    assert results[0].record is not None
    assert verify(bundle_path(results[0].record)).faults == ()


def test_a_bundle_is_never_overwritten(run: Run, bundle: Path) -> None:
    filed = bundle_path(run.record)
    digest = (filed / "SHA256SUMS").read_bytes()
    # The same once more is the work of a process that died before it could say that it was done.
    assert publish(bundle, run.record)[0] == filed
    (bundle / "raw" / "pg_dump.log").chmod(0o644)
    (bundle / "raw" / "pg_dump.log").write_text("another story")
    with pytest.raises(EvidenceError, match="another bundle"):
        publish(bundle, run.record)
    assert (filed / "SHA256SUMS").read_bytes() == digest
    assert [path.name for path in filed.parent.iterdir()] == [run.record.drill]


def test_the_working_folder_says_where_the_bundle_is(run: Run) -> None:
    assert published_at(run.folder) == bundle_path(run.record)
