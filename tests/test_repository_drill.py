"""Whole drills from repositories that were there: of pgBackRest, of Barman, and of WAL-G where it is not installed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_debian import DEBIAN
from fix_postgres import SHOP, Database, new_database, open_sessions, run_sql
from fix_repository import Production, debian_tools, flip, look, own, production
from test_basebackup import CLOSED
from test_drill import OUTAGE, nothing_is_left, result_of, run_drill

from drills.places import server_account
from drills.processes import plain_environment, spawn, stop_process
from drills.record import Record
from drills.records import Basis, Outcome, Verdict
from drills.recovery.repositories.pgbackrest import Pgbackrest
from drills.sessions import STAGING_LIMITS, Access, connect
from drills.wal import parse_lsn
from flows.runtime import Drill
from flows.stages.physical_backup import wal_place
from reports.bundle import bundle_path

CIPHER = "planted-Cipher/of the repository"
_FAR = 20 << 24
"""Bytes of WAL, twenty segments of it, that lie between backup and drill at most."""
LOAD = """\\set id random(1000, 100000000)
BEGIN;
INSERT INTO invoice VALUES (:id, 1 + :id % 20, 'EUR', now(), :id / 100.0) ON CONFLICT (id) DO NOTHING;
SAVEPOINT one;
UPDATE customer SET name = 'customer ' || :id WHERE id = 1 + :id % 20;
RELEASE one;
SAVEPOINT two;
DELETE FROM invoice WHERE id = 1 + :id % 500;
ROLLBACK TO two;
COMMIT;
"""


@dataclass(frozen=True)
class Kept:
    """A shop whose server archives into a repository, which holds a backup of it."""

    source: Production
    database: Database
    recovery: dict[str, Any]
    """How a plan names that repository."""
    take: Callable[[], object]
    """Take another backup."""
    taken: list[str] = field(default_factory=list)
    """Where the WAL was when backups were taken."""

    def refresh(self) -> None:
        """Take a backup unless the last one is a few segments of WAL old at most."""
        here = self.source.position()
        if not self.taken or parse_lsn(here) - parse_lsn(self.taken[-1]) > _FAR:
            self.take()
            self.taken.append(self.source.position())

    def plan(self, recovery: Mapping[str, Any] | None = None, **changes: object) -> dict[str, Any]:
        """A plan for a drill from it."""
        told = self.recovery | {"jobs": 2} | dict(recovery or {})
        quick: dict[str, Any] = {"negative_control": {"enabled": False}}
        return self.database.plan(recovery=told, **(quick | changes))

    def newest(self, pattern: str) -> list[Path]:
        """Files of the repository, in the order of their names."""
        return sorted(self.source.repository.rglob(pattern), key=lambda path: path.name)

    @property
    def stop(self) -> Path:
        """While this file is there, nothing is archived."""
        return self.source.place / "stop"


def shop_on(it: Production) -> Database:
    """The shop on a server whose WAL is archived every other second, as long as there is any."""
    it.sql("ALTER SYSTEM SET archive_timeout = '2s'")
    it.sql("SELECT pg_reload_conf()")
    return new_database(it.cluster, SHOP)


@contextmanager
def pgbackrest_of(*more: str, **secrets: str) -> Iterator[Kept]:
    """A repository of pgBackRest with one full backup."""
    tools = debian_tools("pgbackrest")

    def command(place: Path, what: str) -> list[str]:
        return [
            "pgbackrest", what, "--no-config", "--stanza=shop", f"--repo1-path={place / 'repository'}", *more,
            f"--lock-path={place / 'lock'}", f"--log-path={place / 'log'}", f"--pg1-path={place / 'cluster' / 'data'}",
            "--log-level-console=warn",
        ]  # fmt: skip

    def archive(place: Path) -> str:
        told = "".join(f"{name}='{value}' " for name, value in secrets.items())
        return f"test ! -e {place}/stop && {told}{' '.join(command(place, 'archive-push'))} %p"

    with production(tools, archive) as it:
        database = shop_on(it)
        it.extra.update(secrets)
        reached = [f"--pg1-port={it.cluster.port}", "--pg1-user=drillbook"]
        options = [*reached, "--start-fast", "--repo1-retention-full=9"]
        it.run([*command(it.place, "stanza-create"), "--no-online"])

        def take() -> str:
            return it.run([*command(it.place, "backup"), *options, "--type=full"])

        yield Kept(it, database, {"method": "pgbackrest", "stanza": "shop", "repo_path": str(it.repository)}, take)


@pytest.fixture(scope="module")
def stanza() -> Iterator[Kept]:
    with pgbackrest_of() as kept:
        yield kept


@pytest.fixture(scope="module")
def barman_home() -> Iterator[Kept]:
    tools = debian_tools("barman")

    def archive(place: Path) -> str:
        return f"test ! -e {place}/stop && cp %p {place}/repository/shop/incoming/%f"

    with production(tools, archive) as it:
        database = shop_on(it)
        own(it.repository / "shop")
        own(it.repository / "shop" / "incoming")
        account = server_account()
        reach = f"host=127.0.0.1 port={it.cluster.port} user=drillbook"
        config = it.place / "barman.conf"
        config.write_text(
            f"[barman]\nbarman_home = {it.repository}\nbarman_lock_directory = {it.place / 'lock'}\n"
            f"barman_user = {account.name if account else psutil.Process().username()}\n"
            f"log_file = {it.place / 'log' / 'barman.log'}\n"
            f"[shop]\ndescription = shop\nconninfo = {reach} dbname=postgres\nstreaming_conninfo = {reach}\n"
            f"backup_method = postgres\narchiver = on\ncompression = gzip\nimmediate_checkpoint = true\n"
            f"path_prefix = {DEBIAN}\nstreaming_wals_directory = {it.repository}/shop/streaming\n"
        )
        command = ["barman", f"--config={config}"]
        it.add_rows()
        it.run([*command, "archive-wal", "shop"])

        def take() -> str:
            return it.run([*command, "backup", "--wait", "--wait-timeout=60", "shop"])

        yield Kept(it, database, {"method": "barman", "server": "shop", "config": str(config)}, take)


def at_hand(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """With its password in the environment, and a backup so young that its tools need not fetch WAL for minutes."""
    kept.refresh()
    for name, value in kept.database.environment.items():
        monkeypatch.setenv(name, value)
    return kept


@pytest.fixture
def backrest(stanza: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The repository of pgBackRest."""
    return at_hand(stanza, monkeypatch)


@pytest.fixture(params=["stanza", "barman_home"], ids=["pgbackrest", "barman"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Each of the repositories."""
    return at_hand(request.getfixturevalue(request.param), monkeypatch)


@contextmanager
def under_load(kept: Kept, tmp_path: Path) -> Iterator[None]:
    """A few transactions a second, and one that stays open all the time."""
    (tmp_path / "load.sql").write_text(LOAD)
    told = ["--no-vacuum", "--client=3", "--jobs=1", "--rate=60", "--time=600", "--max-tries=100"]
    load = spawn(
        [str(DEBIAN / "pgbench"), *told, f"--file={tmp_path / 'load.sql'}", kept.database.name],
        environment=plain_environment(kept.database.owner.environment()),
        log=tmp_path / "pgbench.log",
    )
    opened = connect(kept.database.owner, name="open", access=Access.READ_WRITE, limits=STAGING_LIMITS)
    try:
        opened.autocommit = False
        opened.execute("INSERT INTO note VALUES (8, 'never committed'); SAVEPOINT s; DELETE FROM note WHERE id = 9")
        yield
        assert load.poll() is None, (tmp_path / "pgbench.log").read_text()
    finally:
        opened.rollback()
        opened.close()
        stop_process(load)


@pytest.fixture
def busy(kept: Kept, tmp_path: Path) -> Iterator[Kept]:
    """Under load."""
    with under_load(kept, tmp_path):
        yield kept


@pytest.fixture
def busy_backrest(backrest: Kept, tmp_path: Path) -> Iterator[Kept]:
    """The one of pgBackRest, under load."""
    with under_load(backrest, tmp_path):
        yield backrest


def nothing_is_open(kept: Kept) -> None:
    """No session of a drill, no slot, nobody who receives WAL."""
    assert open_sessions(kept.database.owner) == []
    for view in ("pg_replication_slots", "pg_stat_replication"):
        assert run_sql(kept.database.owner, f"SELECT * FROM {view}") == [], view


def hints(record: Record) -> str:
    """What the problems say is to be done."""
    return " | ".join(problem.hint for problem in record.problems)


def test_under_load_every_row_is_equal_and_the_repository_is_only_read(home: Path, busy: Kept) -> None:
    done: dict[str, tuple[int, ...]] = {}

    def note(_drill: Drill) -> None:
        done.update(look(busy.source.repository))

    record = run_drill(
        home, busy.plan({"max_age": "1h"}, outages=[OUTAGE], objectives={"rto": "5min", "rpo": "5min"}), {"look": note}
    )
    assert record.reasons == ()
    assert (record.verdict, record.outcome) == (Verdict.PASS, Outcome.FINISHED)
    assert {result.verdict for results in record.checks.values() for result in results} == {Verdict.PASS}
    assert result_of(record, "alignment").basis is Basis.WAL
    assert result_of(record, "content").basis is Basis.WAL
    assert result_of(record, "age of the backup").compared == 1
    assert record.alignment is not None
    assert record.alignment.hidden_asked > 0
    nothing_is_left(home, record)
    nothing_is_open(busy)
    # Production goes on adding WAL; what was there before is as it was.
    now = look(busy.source.repository)
    changed = [path for path in done if now.get(path) != done[path] and not Path(path).is_dir()]
    assert [path for path in changed if not Path(path).name.startswith("archive.info")] == []


@pytest.mark.thorough
def test_a_backup_that_is_too_old_fails_by_a_check_of_its_own(home: Path, busy: Kept) -> None:
    record = run_drill(home, busy.plan({"max_age": "1ms"}))
    assert record.verdict is Verdict.FAIL
    assert result_of(record, "age of the backup").verdict is Verdict.FAIL
    assert {result.name for result in record.checks["after restore"] if result.verdict is not Verdict.PASS} == {
        "age of the backup"
    }
    nothing_is_left(home, record)


@contextmanager
def missing(path: Path) -> Iterator[None]:
    """A file that is away for a while."""
    away = path.with_name(f".{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


def test_a_segment_that_is_missing_between_backup_and_snapshot_is_a_fail_that_says_what_to_do(
    home: Path, busy: Kept
) -> None:
    with contextlib.ExitStack() as stack:

        def lose(drill: Drill) -> None:
            first = min(path.name for path in wal_place(drill).iterdir() if len(path.name) == 24)
            own_wal = [path for path in busy.newest("0*") if path.is_file() and path.name[:24] < first]
            segments = [path for path in own_wal if "backup" not in path.name and len(path.name.split("-")[0]) == 24]
            stack.enter_context(missing(segments[-1]))

        busy.source.sql("SELECT pg_switch_wal()")
        record = run_drill(home, busy.plan(), {"restore": lose})
    assert record.verdict is Verdict.FAIL
    assert "a segment of WAL before it is missing" in hints(record), record.problems
    assert record.copy_of_it is None
    nothing_is_left(home, record)


@pytest.mark.thorough
def test_a_flipped_byte_in_the_backup_is_found_by_the_restore(home: Path, busy_backrest: Kept) -> None:
    record = run_drill(home, busy_backrest.plan(), {"restore": lambda _drill: flip_newest(busy_backrest)})
    busy_backrest.taken.clear()
    assert record.verdict is Verdict.FAIL
    assert record.problems[0].stage == "restore"
    assert record.problems[0].hint
    nothing_is_left(home, record)


def flip_newest(kept: Kept) -> None:
    """A byte of the largest file of the newest backup is another one."""
    backups = [path for path in kept.source.repository.rglob("*") if path.is_dir() and "base" in path.name]
    files = [path for folder in backups for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    newest = max(files, key=lambda path: (path.stat().st_mtime_ns // 10**10, path.stat().st_size))
    flip(newest)


@pytest.mark.parametrize("kind", ["latest", "time"])
def test_another_point_than_the_snapshot_is_held_against_closed_periods(
    home: Path, busy_backrest: Kept, kind: str
) -> None:
    to = {"latest": True} if kind == "latest" else {"time": datetime.now(UTC).isoformat()}
    record = run_drill(home, busy_backrest.plan({"to": to}, checks=CLOSED))
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert result_of(record, "closed invoices").basis is Basis.CLOSED_PERIOD
    assert record.alignment is None
    nothing_is_left(home, record)


def test_a_point_that_is_archived_needs_no_wal_of_now(home: Path, busy_backrest: Kept) -> None:
    point = busy_backrest.source.position()
    busy_backrest.source.add_rows()
    busy_backrest.stop.touch()
    try:
        record = run_drill(home, busy_backrest.plan({"to": {"lsn": point}, "wal_patience": "2s"}, checks=CLOSED))
    finally:
        busy_backrest.stop.unlink()
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    assert record.alignment is None
    nothing_is_left(home, record)


@pytest.mark.parametrize(
    ("point", "stage", "hint"),
    [("0/1", "backup", "mend recovery.to"), ("FF/0", "restore", "choose an earlier target")],
)
def test_a_point_that_no_backup_leads_to_is_a_fail_that_says_what_to_do(
    home: Path, busy_backrest: Kept, point: str, stage: str, hint: str
) -> None:
    record = run_drill(home, busy_backrest.plan({"to": {"lsn": point}}, checks=CLOSED))
    assert record.verdict is Verdict.FAIL
    assert record.problems[0].stage == stage
    assert hint in hints(record)
    nothing_is_left(home, record)
    nothing_is_open(busy_backrest)


def test_an_empty_repository_is_unknown_and_says_what_to_do(home: Path, backrest: Kept) -> None:
    record = run_drill(home, backrest.plan({"repo_path": str(own(backrest.source.place / "empty"))}))
    assert record.verdict is Verdict.UNKNOWN
    assert "mend recovery.stanza, or say where its repository is" in hints(record)
    nothing_is_left(home, record)


def test_wal_that_is_never_archived_is_unknown_after_the_patience(home: Path, busy_backrest: Kept) -> None:
    busy_backrest.stop.touch()
    try:
        record = run_drill(home, busy_backrest.plan({"wal_patience": "2s"}))
    finally:
        busy_backrest.stop.unlink()
    assert record.verdict is Verdict.UNKNOWN
    assert "the WAL of the snapshot did not come within 2 s" in record.problems[0].message
    assert "find out why WAL is late" in hints(record)
    nothing_is_left(home, record)
    nothing_is_open(busy_backrest)


@pytest.mark.thorough
def test_production_that_fills_segments_faster_than_they_are_fetched_does_not_keep_the_drill_waiting(
    home: Path, backrest: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fetched = Pgbackrest.fetch_wal, list[str]()

    def fetch(method: Pgbackrest, name: str, to: Path) -> bool:
        backrest.source.add_rows()  # one more segment is in the archive
        fetched.append(name)
        assert len(fetched) < 30
        return real(method, name, to)

    monkeypatch.setattr(Pgbackrest, "fetch_wal", fetch)
    record = run_drill(home, backrest.plan())
    assert record.reasons == ()
    assert record.verdict is Verdict.PASS
    nothing_is_left(home, record)


def test_a_repository_of_another_system_is_unknown_and_nothing_is_restored(
    home: Path, backrest: Kept, shop: Database
) -> None:
    record = run_drill(home, shop.plan(recovery=backrest.recovery))
    assert record.verdict is Verdict.UNKNOWN
    assert "another system" in record.problems[0].message
    assert "name the repository of" in hints(record)
    assert record.copy_of_it is None
    nothing_is_left(home, record)


@pytest.mark.parametrize(
    ("change", "said", "verdict"),
    [
        ({"stanza": "other"}, "mend recovery.stanza", Verdict.UNKNOWN),
        ({"backup": "20200101-000000F"}, "mend recovery.backup", Verdict.FAIL),
        ({"before": "2020-01-01T00:00:00Z"}, "mend recovery.before", Verdict.FAIL),
        ({"repo_path": "/nonexistent"}, "recovery.repo_path", Verdict.UNKNOWN),
    ],
)
def test_no_backup_as_asked_for_is_a_fail_and_a_repository_that_cannot_be_read_is_unknown(
    home: Path, backrest: Kept, change: dict[str, str], said: str, verdict: Verdict
) -> None:
    record = run_drill(home, backrest.plan(change))
    assert record.verdict is verdict
    assert record.problems[0].stage == "backup"
    assert said in hints(record)
    nothing_is_left(home, record)


def test_walg_that_is_not_installed_is_unknown_with_a_hint(
    home: Path, shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if shutil.which("wal-g") is not None:
        monkeypatch.setenv("PATH", str(tmp_path))
    config = tmp_path / "wal-g.json"
    config.write_text("{}")
    record = run_drill(home, shop.plan(recovery={"method": "walg", "config": str(config)}))
    assert record.verdict is Verdict.UNKNOWN
    assert "wal-g is not on the path" in record.problems[0].message
    assert "install WAL-G, built for PostgreSQL" in hints(record)
    nothing_is_left(home, record)


def test_the_secret_of_an_encrypted_repository_is_written_nowhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CIPHER", CIPHER)
    seen: set[str] = set()

    def look_at_processes(drill: Drill) -> None:
        advance = drill.progress.advance

        def tell(done: int, total: int | None, unit: str, about: str = "") -> None:
            for process in psutil.process_iter(["pid", "cmdline"]):
                seen.add(" ".join(process.info["cmdline"] or []))
            advance(done, total, unit, about)

        monkeypatch.setattr(drill.progress, "advance", tell)

    with pgbackrest_of("--repo1-cipher-type=aes-256-cbc", PGBACKREST_REPO1_CIPHER_PASS=CIPHER) as kept:
        at_hand(kept, monkeypatch)
        config = kept.source.place / "pgbackrest.conf"
        config.write_text(f"[global]\nrepo1-path={kept.source.repository}\nrepo1-cipher-type=aes-256-cbc\n")
        told = {"repo_path": None, "config": str(config), "secrets": {"repo1-cipher-pass": "env:TEST_CIPHER"}}
        recovery = {key: value for key, value in (kept.recovery | told).items() if value is not None}
        with under_load(kept, tmp_path):
            record = run_drill(home, kept.plan() | {"recovery": recovery}, {"restore": look_at_processes})
        assert record.reasons == ()
        assert record.verdict is Verdict.PASS
        nothing_is_left(home, record)
    own_lines = {line for line in seen if record.drill in line}
    assert any("fetch-wal" in line or "restore" in line for line in own_lines), own_lines
    everything = "".join(own_lines) + "".join(
        path.read_text(errors="replace") for path in home.parent.rglob("*") if path.is_file()
    )
    assert record.drill in everything
    assert list(bundle_path(record).rglob("pgbackrest-restore.log"))
    assert CIPHER not in everything
