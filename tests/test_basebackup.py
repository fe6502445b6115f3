"""Drills on production's own pages: recovered to the commit at which the source was measured, and equal to the row."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import QUICK, SHOP, Database, end_cluster, new_cluster, new_database, open_sessions, run_sql
from test_drill import OUTAGE, nothing_is_left, result_of, run_drill

from checks.measure import measure
from drills import plan
from drills.clusters import Cluster
from drills.commits import Aligned, Misaligned, NeedsMore, pass_over_waiting
from drills.errors import ToolError
from drills.events import SnapshotTaken
from drills.journal import read_journal
from drills.places import server_account
from drills.plan import Plan
from drills.processes import plain_environment, spawn, stop_process
from drills.record import Record
from drills.records import Basis, Outcome, Verdict
from drills.recovery.base import Workspace
from drills.recovery.pages.alignment import find_target
from drills.recovery.pages.basebackup import BaseBackup
from drills.recovery.pages.receiving import receiving
from drills.wal import parse_lsn
from flows.runtime import JOURNAL, Drill
from flows.stages.shared import staging_place
from reports.bundle import bundle_path

AS_NEEDED = {"max_wal_senders": "3", "max_replication_slots": "2"}
"""As many as README says that a base backup needs to spare."""
CLOSED = {
    "row_counts": False,
    "content": {"compare": False},
    "sequences": False,
    "totals": [
        {
            "name": "closed invoices",
            "table": "invoice",
            "amount": "amount",
            "by": {"currency": "currency"},
            "closed": {"column": "posted", "until": "end of previous month"},
        }
    ],
}


@dataclass(frozen=True)
class Shop:
    """A server of the tests' own with a shop on it, whose pages may be had by a role of their own."""

    cluster: Cluster
    database: Database

    def plan(self, recovery: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
        """A plan for a base backup of it."""
        backup = self.database.url(self.cluster.address()).replace("drillbook@", "backup@")
        told = {"method": "basebackup", "jobs": 2, "address": backup, "password": "env:BACKUP_PASSWORD"}
        quick: dict[str, Any] = {"negative_control": {"enabled": False}}
        return self.database.plan(recovery=told | (recovery or {}), **(quick | changes))


@pytest.fixture(scope="module")
def server() -> Iterator[Shop]:
    """For all of these tests."""
    cluster = new_cluster(QUICK | AS_NEEDED | {"summarize_wal": "on", "max_prepared_transactions": "5"})
    try:
        run_sql(cluster.address(), "CREATE ROLE backup LOGIN REPLICATION PASSWORD 'backup-password'")
        yield Shop(cluster, new_database(cluster, SHOP))
    finally:
        end_cluster(cluster)


@pytest.fixture
def pages(server: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """With its passwords in the environment."""
    monkeypatch.setenv("BACKUP_PASSWORD", "backup-password")
    for name, value in server.database.environment.items():
        monkeypatch.setenv(name, value)
    return server


@contextmanager
def under_load(shop: Shop, tmp_path: Path) -> Iterator[None]:
    """Invoices are added, changed and taken away, with savepoints and rollbacks, in some sessions at once."""
    script = tmp_path / "load.sql"
    script.write_text(
        "\\set id random(1000, 100000000)\nBEGIN;\n"
        "INSERT INTO invoice VALUES (:id, 1 + :id % 20, 'EUR', now(), :id / 100.0) ON CONFLICT (id) DO NOTHING;\n"
        "SAVEPOINT one;\nUPDATE invoice SET amount = amount + 0.01 WHERE id = 1 + :id % 500;\nRELEASE one;\n"
        "SAVEPOINT two;\nDELETE FROM invoice WHERE id = 1 + :id % 500;\nROLLBACK TO two;\nCOMMIT;\n"
    )
    told = ["--no-vacuum", "--client=4", "--jobs=1", "--time=600", "--max-tries=100", f"--file={script}"]
    load = spawn(
        [shop.cluster.tools.program("pgbench"), *told, shop.database.name],
        environment=plain_environment(shop.database.owner.environment()),
        log=tmp_path / "pgbench.log",
    )
    try:
        yield
        assert load.poll() is None, (tmp_path / "pgbench.log").read_text()
    finally:
        stop_process(load)


def nothing_is_open(shop: Shop) -> None:
    """No session of a drill, no slot, nobody who receives WAL."""
    assert open_sessions(shop.database.owner) == []
    for view in ("pg_replication_slots", "pg_stat_replication"):
        assert run_sql(shop.database.owner, f"SELECT * FROM {view}") == [], view


def test_a_copy_of_the_pages_is_equal_and_nothing_is_left(home: Path, pages: Shop) -> None:
    goals = {"rto": "5min", "rpo": "5min"}
    record = run_drill(home, pages.plan(outages=[OUTAGE], objectives=goals, negative_control={"enabled": True}))
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert {result.verdict for results in record.checks.values() for result in results} == {Verdict.PASS}
    assert result_of(record, "alignment").basis is Basis.WAL
    assert result_of(record, "content").basis is Basis.WAL
    assert result_of(record, "page checksums").verdict is Verdict.PASS
    assert record.alignment is not None
    assert record.snapshot is not None
    assert record.alignment.snapshot == record.snapshot.xmin_xmax
    assert record.quarantine is not None
    assert record.outages[0].lost == 0
    nothing_is_left(home, record)
    nothing_is_open(pages)


def test_under_load_every_row_is_equal_with_transactions_prepared_and_open(
    home: Path, pages: Shop, tmp_path: Path
) -> None:
    prepared = "BEGIN; INSERT INTO note VALUES (7, 'prepared'); PREPARE TRANSACTION 'half'"
    run_sql(pages.database.owner, prepared)
    try:
        with under_load(pages, tmp_path):
            records = [run_drill(home, pages.plan({"incrementals": number})) for number in (0, 1)]
    finally:
        run_sql(pages.database.owner, "ROLLBACK PREPARED 'half'")
    for record in records:
        assert record.reasons == ()
        assert record.verdict is Verdict.PASS
        assert record.alignment is not None
        assert record.alignment.behind > 0  # commits that the snapshot does not see, left out of the copy
        nothing_is_left(home, record)
    nothing_is_open(pages)


def test_a_copy_that_was_not_proved_aligned_is_unknown(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(drill: Drill) -> None:
        drill.aligned = None

    record = run_drill(home, pages.plan(), {"restore": forget})
    assert record.verdict is Verdict.UNKNOWN
    assert "the check alignment, after restore" in " ".join(record.reasons)


def test_a_copy_that_went_too_far_fails(home: Path, pages: Shop, tmp_path: Path) -> None:
    """Recovery told to go to the end of the WAL: the transactions behind the snapshot are in the copy."""

    def go_on(drill: Drill) -> None:
        assert drill.target is not None
        assert drill.aligned is not None
        last = f"{drill.aligned.behind[-1]}".rsplit(" ", 1)[-1]
        drill.target = drill.target.model_copy(update={"value": last, "inclusive": True})

    with under_load(pages, tmp_path):
        record = run_drill(home, pages.plan(objectives={"rto": "5min"}), {"restore": go_on})
    assert record.verdict is Verdict.FAIL
    assert record.objectives[0].verdict is Verdict.UNKNOWN  # its checks have not passed
    assert result_of(record, "alignment").verdict is Verdict.FAIL
    assert "does not see are committed on the copy" in result_of(record, "alignment").reason


def cut(name: str, size: int | None) -> Callable[[Drill], None]:
    """A file of the WAL cut to a size, or taken away: the first or the last one."""

    def damage(drill: Drill) -> None:
        found = sorted(path for path in staging_place(drill).with_name("wal").iterdir() if len(path.name) == 24)
        assert drill.aligned is not None
        needed = f"{1:08X}{0:08X}{parse_lsn(drill.aligned.start) // 2**24:08X}"
        path = next(path for path in found if path.name == needed) if name == "first" else found[-1]
        # What the backup brought along itself is not asked for.
        for segment in (staging_place(drill) / "data" / "pg_wal").glob("0*"):
            segment.unlink()
        if size is None:
            path.unlink()
        else:
            os.truncate(path, size)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut("first", None), "missing"),
        pytest.param(cut("first", 5_000_000), "cut off", marks=pytest.mark.thorough),
        pytest.param(cut("last", None), "missing", marks=pytest.mark.thorough),
    ],
    ids=["the first is missing", "the first is cut", "the last is missing"],
)
def test_wal_that_is_not_there_is_a_fail_that_says_what_to_do(
    home: Path, pages: Shop, damage: Callable[[Drill], None], said: str
) -> None:
    run_sql(pages.database.owner, "SELECT pg_switch_wal(); INSERT INTO note SELECT 1, 'x' WHERE false")
    record = run_drill(home, pages.plan(), {"restore": damage})
    assert record.verdict is Verdict.FAIL
    assert said in " ".join(problem.hint for problem in record.problems), record.problems
    nothing_is_left(home, record)


def test_a_flipped_byte_in_the_backup_is_found_before_anything_is_made_of_it(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = BaseBackup._take

    def flip(method: BaseBackup, *told: Any) -> Any:
        done = take(method, *told)
        with (told[1] / "global" / "pg_control").open("r+b") as file:
            file.seek(4000)
            file.write(b"\x01")
        return done

    monkeypatch.setattr(BaseBackup, "_take", flip)
    record = run_drill(home, pages.plan())
    assert record.verdict is Verdict.UNKNOWN
    assert "pg_verifybackup ended with 1" in " ".join(record.reasons)
    assert "checksum mismatch" in " ".join(record.reasons)
    assert "set the backup aside and look at the source's disks" in record.problems[0].hint
    assert record.copy_of_it is None
    nothing_is_left(home, record)


@pytest.mark.parametrize(
    "to", [{"latest": True}, pytest.param({"name": "before the release"}, marks=pytest.mark.thorough)]
)
def test_another_point_than_the_snapshot_is_held_against_closed_periods(
    home: Path, pages: Shop, to: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = BaseBackup.back_up

    def mark(method: BaseBackup, *told: Any) -> Any:
        done = take(method, *told)
        run_sql(pages.database.owner, "SELECT pg_create_restore_point('before the release')")
        return done

    monkeypatch.setattr(BaseBackup, "back_up", mark)
    record = run_drill(home, pages.plan({"to": to}, checks=CLOSED))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert result_of(record, "closed invoices").basis is Basis.CLOSED_PERIOD
    assert record.alignment is None


@pytest.mark.thorough
def test_a_point_behind_the_end_of_the_wal_is_a_fail(home: Path, pages: Shop) -> None:
    record = run_drill(home, pages.plan({"to": {"lsn": "FF/0"}}, checks=CLOSED))
    assert record.verdict is Verdict.FAIL
    assert "choose an earlier target" in " ".join(problem.hint for problem in record.problems)


def refused(home: Path, plan: dict[str, Any]) -> Record:
    """A drill that did not begin."""
    record = run_drill(home, plan)
    assert record.outcome is Outcome.REFUSED
    return record


def test_a_role_that_may_not_have_the_pages_is_refused(home: Path, pages: Shop) -> None:
    plan = pages.plan()
    plan["recovery"] = {"method": "basebackup"}
    record = refused(home, plan)
    assert "needs REPLICATION" in record.problems[0].hint


def test_a_wrong_password_of_the_second_role_is_told_by_a_hint_that_fits(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_PASSWORD", "wrong-password")
    problem = refused(home, pages.plan()).problems[0]
    assert "password authentication failed" in problem.message
    assert "look at recovery.password" in problem.hint
    assert "REPLICATION" not in problem.hint


def test_base_backups_of_another_server_are_refused(home: Path, pages: Shop, staging: Cluster) -> None:
    run_sql(staging.address(), "CREATE ROLE backup LOGIN REPLICATION PASSWORD 'backup-password'")
    try:
        address = pages.database.url(staging.address()).replace("drillbook@", "backup@")
        record = refused(home, pages.plan({"address": address}))
    finally:
        run_sql(staging.address(), "DROP ROLE backup")
    assert "another system" in record.problems[0].hint


def test_a_source_whose_commits_would_wait_for_the_drill_is_refused(home: Path, pages: Shop) -> None:
    owner = pages.cluster.address()
    run_sql(owner, "ALTER SYSTEM SET synchronous_standby_names = '*'")
    try:
        run_sql(owner, "SELECT pg_reload_conf()")
        record = refused(home, pages.plan())
    finally:
        run_sql(owner, "ALTER SYSTEM RESET synchronous_standby_names")
        run_sql(owner, "SELECT pg_reload_conf()")
    assert "no commit waits for the receiver" in record.problems[0].message


def test_a_plan_for_another_point_has_to_name_what_can_be_compared(pages: Shop) -> None:
    with pytest.raises(ValueError, match="of another time"):
        Plan.model_validate(pages.plan({"to": {"latest": True}}))
    open_total = CLOSED | {"totals": [{"name": "all", "table": "invoice", "amount": "amount"}]}
    with pytest.raises(ValueError, match="closing rule"):
        Plan.model_validate(pages.plan({"to": {"latest": True}}, checks=open_total))


@pytest.mark.thorough
def test_a_standby_as_the_source_is_refused_since_it_names_nobody_in_progress(home: Path, pages: Shop) -> None:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    standby = Cluster(place / "cluster", pages.cluster.tools, pages.cluster.account, pages.cluster.password)
    workspace = Workspace(standby.folder, place, pages.cluster.tools, "test", lambda *_: None)
    method = BaseBackup(plan.BaseBackup(method="basebackup"), {})
    try:
        method.back_up(pages.cluster.address(), workspace)
        (standby.data / "standby.signal").touch()
        standby.start(QUICK | {"max_prepared_transactions": "5"})
        address = pages.database.url(standby.address(pages.database.name)).replace("drillbook@", "backup@")
        told = pages.plan({"address": address})
        reader = pages.database.reader.parts["user"]
        told["source"]["address"] = address.replace("backup@", f"{reader}@")
        record = refused(home, told)
    finally:
        end_cluster(standby)
    assert "source is a primary" in record.problems[0].message


def test_the_rpo_counts_from_the_snapshot_however_late_its_wal_comes(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def find(*told: Any, **more: Any) -> Any:
        asked.append(time.monotonic())
        return NeedsMore("not yet") if asked[-1] < asked[0] + 3 else find_target(*told, **more)

    monkeypatch.setattr("flows.stages.aligning.find_target", find)
    record = run_drill(home, pages.plan(objectives={"rpo": "1s"}))
    assert record.objectives[0].measured_seconds is not None
    assert record.objectives[0].measured_seconds > 2
    assert record.objectives[0].verdict is Verdict.FAIL


def test_production_keeps_no_wal_while_it_is_measured(home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def look(*told: Any) -> Any:
        seen.append(run_sql(pages.database.owner, "SELECT slot_name FROM pg_replication_slots"))
        return measure(*told)

    monkeypatch.setattr("flows.stages.expecting.measure", look)
    assert run_drill(home, pages.plan()).verdict is Verdict.PASS
    assert seen == [[]]


@pytest.mark.thorough
def test_what_was_received_production_need_not_keep(pages: Shop, tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    workspace = Workspace(place / "copy", place, pages.cluster.tools, "test", lambda *_: None)
    kept = "SELECT restart_lsn FROM pg_replication_slots"
    with receiving(pages.cluster.address(), place / "wal", workspace) as receiver:
        before = run_sql(pages.database.owner, kept)[0][0]
        run_sql(pages.database.owner, "SELECT pg_switch_wal(); CREATE TABLE more (n int); DROP TABLE more")
        until = time.monotonic() + 30
        while run_sql(pages.database.owner, kept)[0][0] == before and time.monotonic() < until:
            receiver.must_run()
        assert run_sql(pages.database.owner, kept)[0][0] > before
        receiver.stop()
    nothing_is_open(pages)
    shutil.rmtree(place)


def test_a_chain_of_backups_with_a_tablespace_is_put_together_in_the_drill_s_own_folder(
    home: Path, pages: Shop
) -> None:
    owner, place = pages.cluster.address(), pages.cluster.folder.parent / "space"
    place.mkdir()
    if (account := server_account()) is not None:
        os.chown(place, account.uid, account.gid)
    run_sql(owner, f"CREATE TABLESPACE apart LOCATION '{place}'")
    pages.database.run("CREATE TABLE apart (id int PRIMARY KEY) TABLESPACE apart; INSERT INTO apart VALUES (1)")
    there = sorted(path for path in place.rglob("*"))
    try:
        record = run_drill(home, pages.plan({"incrementals": 2}))
        assert sorted(path for path in place.rglob("*")) == there
    finally:
        pages.database.run("DROP TABLE apart")
        run_sql(owner, "DROP TABLESPACE apart")
        shutil.rmtree(place)
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert record.backup is not None
    combining = next(words for words in record.backup.commands if words[0].endswith("pg_combinebackup"))
    mapped = [word for word in combining if word.startswith("--tablespace-mapping=")]
    assert len(mapped) == 1
    assert str(place) not in mapped[0]
    nothing_is_left(home, record)


def test_a_flipped_byte_in_the_last_incremental_backup_is_found_before_it_is_combined(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = BaseBackup._take

    def flip(method: BaseBackup, *told: Any) -> Any:
        done = take(method, *told)
        if told[1].name == "data":
            path = max(told[1].rglob("INCREMENTAL.*"), key=lambda path: path.stat().st_size)
            whole = path.read_bytes()
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        return done

    monkeypatch.setattr(BaseBackup, "_take", flip)
    run_sql(pages.database.owner, "UPDATE invoice SET amount = amount")
    record = run_drill(home, pages.plan({"incrementals": 1}))
    assert record.verdict is Verdict.UNKNOWN
    assert "checksum mismatch" in " ".join(record.reasons)
    assert "set the backup aside and look at the source's disks" in record.problems[0].hint


@pytest.mark.thorough
def test_pages_of_a_standby_do(home: Path, pages: Shop) -> None:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    standby = Cluster(place / "cluster", pages.cluster.tools, pages.cluster.account, pages.cluster.password)
    workspace = Workspace(standby.folder, place, pages.cluster.tools, "test", lambda *_: None)
    reached = f"host=127.0.0.1 port={pages.cluster.port} user=backup password=backup-password"
    try:
        BaseBackup(plan.BaseBackup(method="basebackup"), {}).back_up(pages.cluster.address(), workspace)
        (standby.data / "standby.signal").touch()
        standby.start(QUICK | {"max_prepared_transactions": "5", "primary_conninfo": reached})
        address = pages.database.url(standby.address(pages.database.name)).replace("drillbook@", "backup@")
        record = run_drill(home, pages.plan({"address": address}))
    finally:
        end_cluster(standby)
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@contextmanager
def settings_of_source(shop: Shop, **settings: str) -> Iterator[None]:
    """Changed by ALTER SYSTEM, and in force, for as long as this lasts."""
    owner = shop.cluster.address()

    def reload(*statements: str) -> None:
        loaded = run_sql(owner, "SELECT pg_conf_load_time()")
        for statement in (*statements, "SELECT pg_reload_conf()"):
            run_sql(owner, statement)
        until = time.monotonic() + 30
        while run_sql(owner, "SELECT pg_conf_load_time()") == loaded:
            assert time.monotonic() < until

    reload(*(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()))
    try:
        yield
    finally:
        reload(*(f"ALTER SYSTEM RESET {name}" for name in settings))


@contextmanager
def waiting_commit(shop: Shop) -> Iterator[None]:
    """A commit that waits for a standby which never comes, and a role for drills that may see that."""
    owner, reader = shop.cluster.address(), shop.database.reader.parts["user"]

    def write() -> None:
        run_sql(shop.database.owner, "SET synchronous_commit = on; INSERT INTO note VALUES (1, 'waits')")

    with settings_of_source(shop, synchronous_standby_names="nobody", synchronous_commit="local"):
        run_sql(owner, f"GRANT pg_read_all_stats TO {reader}")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(write)
            try:
                until = time.monotonic() + 30
                while not run_sql(owner, WAITING):
                    assert time.monotonic() < until
                yield
            finally:
                run_sql(owner, CANCEL)
                done.result()
                run_sql(owner, f"REVOKE pg_read_all_stats FROM {reader}")
                run_sql(shop.database.owner, "DELETE FROM note")


def test_a_commit_that_waits_for_a_standby_since_before_the_backup_is_waited_for(home: Path, pages: Shop) -> None:
    """Until it is seen, no snapshot has what the backup has."""
    passed_over = threading.Event()

    def look(found: Aligned, waits: tuple[int, ...]) -> Aligned | Misaligned:
        judged = pass_over_waiting(found, waits)
        if isinstance(judged, Misaligned) and not passed_over.is_set():
            passed_over.set()
            run_sql(pages.cluster.address(), CANCEL)
        return judged

    with waiting_commit(pages), pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.stages.aligning.pass_over_waiting", look)
        record = run_drill(home, pages.plan({"wal_patience": "10s"}))
    assert passed_over.is_set(), record
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    nothing_is_left(home, record)


def test_a_commit_that_waits_for_a_standby_for_ever_is_unknown_and_named(home: Path, pages: Shop) -> None:
    with waiting_commit(pages):
        (waiting,) = run_sql(pages.cluster.address(), WAITING.replace("pid", "backend_xid"))
        record = run_drill(home, pages.plan({"wal_patience": "4s"}))
        assert run_sql(pages.cluster.address(), WAITING), "it waits no longer"
    assert record.verdict is Verdict.UNKNOWN
    assert record.copy_of_it is None
    (problem,) = record.problems
    assert f"none of 20 snapshots has a place of its own in the WAL: transaction {waiting[0]} waits" in problem.message
    assert "do they wait for a standby?" in problem.hint
    entries = read_journal(home / "drills" / record.drill / JOURNAL).entries
    taken = [entry.elapsed or 0.0 for entry in entries if isinstance(entry.body, SnapshotTaken)]
    assert len(taken) == 20
    assert 3 < taken[-1] - taken[0] < 12, taken
    nothing_is_left(home, record)
    nothing_is_open(pages)


def test_of_several_snapshots_the_first_with_a_place_is_measured_and_the_others_are_let_go(
    home: Path, pages: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Any] = []
    held: list[Any] = []
    reader = pages.database.reader.parts["user"]

    def pass_over(found: Aligned, waits: tuple[int, ...]) -> Aligned | Misaligned:
        judged.append(found)
        if len(judged) > 1:
            return pass_over_waiting(found, waits)
        time.sleep(1.5)
        return Misaligned("the first one is passed over")

    def look(*told: Any) -> Any:
        held.extend(
            run_sql(
                pages.cluster.address(),
                f"SELECT pid FROM pg_stat_activity WHERE usename = '{reader}' AND state = 'idle in transaction'",
            )
        )
        return measure(*told)

    monkeypatch.setattr("flows.stages.aligning.pass_over_waiting", pass_over)
    monkeypatch.setattr("flows.stages.expecting.measure", look)
    # The leader and those that measure: no more are let in.
    run_sql(pages.cluster.address(), f"ALTER ROLE {reader} CONNECTION LIMIT 3")
    try:
        record = run_drill(home, pages.plan({"jobs": 2}, objectives={"rpo": "5min"}))
    finally:
        run_sql(pages.cluster.address(), f"ALTER ROLE {reader} CONNECTION LIMIT -1")
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert len(judged) == 2
    # The second is as old as the first, whenever it was looked at.
    assert (record.objectives[0].measured_seconds or 0) > 1.5
    assert len(held) == 1
    nothing_is_open(pages)


def test_commits_that_come_to_wait_while_wal_is_received_end_the_receiving(pages: Shop) -> None:
    place = Path(tempfile.mkdtemp(prefix="drillbook-server-"))
    place.chmod(0o755)
    workspace = Workspace(place / "copy", place, pages.cluster.tools, "test", lambda *_: None)
    until = time.monotonic() + 30
    with receiving(pages.cluster.address(), place / "wal", workspace) as receiver:
        receiver.must_run()
        with settings_of_source(pages, synchronous_standby_names="*", synchronous_commit="local"):
            # Whatever the drill does at the time: nobody asks.
            while run_sql(pages.cluster.address(), "SELECT 1 FROM pg_stat_replication"):
                assert time.monotonic() < until
        with pytest.raises(ToolError) as raised:
            receiver.must_run()
    found = raised.value
    assert "production's commits would wait for the drill" in found.message
    assert "so that * is none of them" in found.hint
    shutil.rmtree(place)
    nothing_is_open(pages)


def test_commits_that_come_to_wait_while_the_backup_is_taken_end_it(home: Path, pages: Shop) -> None:
    until = time.monotonic() + 60
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_drill, home, pages.plan({"max_rate": "200kB"}))
        while not run_sql(pages.cluster.address(), "SELECT 1 FROM pg_stat_replication WHERE state = 'backup'"):
            assert time.monotonic() < until
        with settings_of_source(pages, synchronous_standby_names="*", synchronous_commit="local"):
            record = done.result(60)
    assert record.verdict is Verdict.UNKNOWN
    assert "production's commits would wait for the drill" in record.problems[0].message
    nothing_is_left(home, record)
    nothing_is_open(pages)


def test_a_source_whose_commits_came_to_wait_for_the_drill_is_left_alone(home: Path, pages: Shop) -> None:
    """The guard saw nothing of it; production's settings were changed afterwards."""
    with ExitStack() as held:

        def change(_: Drill) -> None:
            held.enter_context(settings_of_source(pages, synchronous_standby_names="*", synchronous_commit="local"))

        record = run_drill(home, pages.plan(), {"back_up": change})
    assert record.verdict is Verdict.UNKNOWN
    assert "no commit waits for the receiver" in record.problems[0].message
    assert not (bundle_path(record) / "raw" / "pg_receivewal.log").exists()
    nothing_is_left(home, record)
    nothing_is_open(pages)


@pytest.mark.parametrize("to", [{"time": "2026-01-01T00:00:00Z"}, {"lsn": "0/1"}])
def test_a_point_that_lies_before_the_backup_which_is_to_be_taken_is_refused(
    home: Path, pages: Shop, to: dict[str, str]
) -> None:
    record = refused(home, pages.plan({"to": to}, checks=CLOSED))
    assert "the point of recovery lies ahead" in record.problems[0].message
    assert "recover from a repository that has an older one" in record.problems[0].hint


def test_a_role_that_may_not_log_in_to_the_database_is_refused(home: Path, pages: Shop) -> None:
    """For replication no database counts; for the session that has WAL kept, that of the address does."""
    owner, name = pages.cluster.address(), pages.cluster.address().parts["dbname"]
    run_sql(owner, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    try:
        record = refused(home, pages.plan())
    finally:
        run_sql(owner, f"GRANT CONNECT ON DATABASE {name} TO PUBLIC")
    assert "does not have CONNECT privilege" in record.problems[0].message
    assert "needs CONNECT on the database of its address" in record.problems[0].hint


def test_unlogged_tables_do_not_come_with_the_pages_and_a_plan_may_give_them_up(home: Path, pages: Shop) -> None:
    pages.database.run("CREATE UNLOGGED TABLE cache (id serial); INSERT INTO cache SELECT generate_series(1, 9)")
    try:
        missed = run_drill(home, pages.plan())
        given_up = run_drill(home, pages.plan(checks={"unlogged": False}))
    finally:
        pages.database.run("DROP TABLE cache")
    assert missed.verdict is Verdict.FAIL
    for name in ("row counts", "content"):
        assert "public.cache: " in result_of(missed, name).reason
        assert "no physical copy has what was in there" in result_of(missed, name).reason
    assert (given_up.verdict, given_up.reasons) == (Verdict.PASS, ())
    assert "given up by the plan: public.cache" in result_of(given_up, "content").reason


def test_an_idle_source_at_the_beginning_of_a_segment_is_backed_up(home: Path, pages: Shop) -> None:
    """Where archive_timeout leaves a quiet server: nothing is sent before something is written."""
    owner = pages.cluster.address()
    run_sql(owner, "CHECKPOINT")
    run_sql(owner, "SELECT pg_switch_wal()")
    until = time.monotonic() + 30
    while run_sql(owner, "SELECT pg_current_wal_lsn() - '0/0' FROM pg_settings LIMIT 1")[0][0] % (16 << 20):
        assert time.monotonic() < until
        run_sql(owner, "SELECT pg_switch_wal()")
    record = run_drill(home, pages.plan())
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    nothing_is_left(home, record)
