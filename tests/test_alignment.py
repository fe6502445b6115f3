"""A copy stands at the very point of a snapshot, under load, or nobody is told that it does."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, run_sql

from drills.clusters import Cluster, make_cluster
from drills.commits import (
    Aligned,
    Alignment,
    Commit,
    Misaligned,
    NeedsMore,
    Order,
    View,
    parse_commit,
    pass_over_waiting,
)
from drills.errors import GuardError, ToolError
from drills.places import server_account
from drills.processes import has_ended, plain_environment, run_tool, spawn, stop_process
from drills.records import Verdict
from drills.recovery.base import Workspace
from drills.recovery.pages.adopt import make_superuser, open_copy, prepare_files
from drills.recovery.pages.alignment import find_target
from drills.recovery.pages.manifest import History, read_history
from drills.recovery.pages.proof import prove_alignment
from drills.recovery.pages.receiving import Receiver, receiving
from drills.recovery.pages.replay import copy_from_folder, recover_files
from drills.recovery.pages.standbys import waiting_for_standbys
from drills.sessions import STAGING_LIMITS, Access, connect, session
from drills.targets import Recovered, RecoveryTarget
from drills.tools import Tools, embedded_tools
from drills.wal import parse_lsn, show_lsn

SETTINGS = {**QUICK, "max_prepared_transactions": "20", "wal_level": "replica", "wal_keep_size": "1GB"}
Found = Aligned | NeedsMore | Misaligned
NOTE = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text"
TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history", "happened")
ENDLESS = 600
COPIES = 5 if os.environ.get("DRILLBOOK_THOROUGH") else 2
"""Seconds that a load lasts which is stopped."""
MIXED = """
\\set n random(1, 1000000000)
BEGIN;
INSERT INTO happened VALUES (:n, 'first');
SAVEPOINT one;
INSERT INTO happened VALUES (:n, 'second');
SAVEPOINT two;
INSERT INTO happened VALUES (:n, 'taken back');
ROLLBACK TO two;
COMMIT;
BEGIN;
INSERT INTO happened VALUES (:n, 'aborted');
ROLLBACK;
BEGIN;
INSERT INTO happened VALUES (:n, 'prepared');
PREPARE TRANSACTION 'p:client_id: 1;';
COMMIT PREPARED 'p:client_id: 1;';
"""


def quiet(_done: int, _total: int | None, _unit: str) -> None:
    """Nobody is told."""


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@dataclass
class Source:
    """A server with pgbench's tables, a base backup, and the WAL since."""

    cluster: Cluster
    place: Path
    tools: Tools
    receiver: Receiver | None = None
    copies: int = 0

    @property
    def wal(self) -> Path:
        """What was received."""
        return self.place / "wal"

    @property
    def history(self) -> History:
        """Where the backup begins and ends."""
        return read_history(self.place / "base" / "backup_manifest")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL."""
        return run_sql(self.cluster.address(), statement)

    def connect(self) -> psycopg.Connection:
        """Closed by whoever asks."""
        return connect(self.cluster.address(), name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS)

    def bench(self, *options: str) -> list[str]:
        """How pgbench is called."""
        return [self.cluster.tools.program("pgbench"), "--no-vacuum", *options]

    def back_up(self) -> None:
        """A base backup, without WAL."""
        done = run_tool(
            [self.cluster.tools.program("pg_basebackup"), f"--pgdata={self.place / 'base'}", "--checkpoint=fast",
             "--wal-method=none", "--no-sync"],
            environment=self.cluster.address().environment(),
            log=self.place / "pg_basebackup.log",
            deadline=120,
            account=self.cluster.account,
        )  # fmt: skip
        assert done.code == 0, done.said

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Transactions of many kinds, as fast as they go."""
        script = self.place / "mixed.sql"
        script.write_text(MIXED)
        process = spawn(
            self.bench("--builtin=tpcb-like@3", f"--file={script}@1", "--client=6", "--jobs=1", f"--time={ENDLESS}"),
            environment=plain_environment(self.cluster.address().environment()),
            log=self.place / "pgbench.log",
        )
        try:
            yield
            assert not has_ended(process, 0), (self.place / "pgbench.log").read_text()
        finally:
            stop_process(process)

    def find(self, seen: Seen, wal: Path | None = None, timeline: int = 1, stop: str = "") -> Found:
        """The target, with the WAL that is there."""
        return find_target(
            self.tools,
            wal or self.wal,
            start=self.history.start,
            timeline=timeline,
            snapshot=seen.snapshot,
            noted=seen.noted,
            log=self.place / "dump.log",
            stop=stop or self.history.end,
        )

    def wait(self, seen: Seen) -> Aligned | Misaligned:
        """As soon as there is enough WAL."""
        until = time.monotonic() + 60
        while isinstance(found := self.find(seen), NeedsMore):
            assert time.monotonic() < until, found.reason
            assert self.receiver is not None
            self.receiver.must_run()
            time.sleep(0.1)
        return found

    def archive(self, folder: Path) -> Path:
        """The WAL as it is now, every segment by its whole name."""
        folder.mkdir()
        folder.chmod(0o755)
        for path in self.wal.iterdir():
            copied = shutil.copyfile(path, folder / path.name.removesuffix(".partial"))
            own(copied)
        return folder

    @contextlib.contextmanager
    def copy(self, target: str, *, inclusive: bool) -> Iterator[tuple[psycopg.Connection, Recovered]]:
        """A copy, recovered to there, and where it says that it ended."""
        self.copies += 1
        folder = self.place / f"copy-{self.copies}"
        folder.mkdir()
        shutil.copymode(self.cluster.folder, folder)
        subprocess.run(["cp", "-a", self.place / "base", folder / "data"], check=True)  # noqa: S607
        own(folder)
        copy = prepare_files(folder, self.tools)
        wish = RecoveryTarget.model_validate({"kind": "lsn", "value": target, "inclusive": inclusive})
        try:
            recovered = recover_files(copy, wish, copy_from_folder(self.archive(folder / "archive")), quiet, 120)
            make_superuser(copy)
            open_copy(copy)
            with session(copy.address(), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
                yield connection, recovered
        finally:
            copy.destroy()

    def compare(self, seen: Seen, found: Aligned) -> tuple[Alignment, bool]:
        """The proof on a copy, and whether it holds what the snapshot saw."""
        with self.copy(found.target, inclusive=found.inclusive) as (connection, ended):
            return prove_alignment(connection, found, ended), content(connection) == seen.content


@dataclass(frozen=True)
class Seen:
    """A snapshot, and what it sees."""

    snapshot: str
    noted: str
    content: list[tuple[Any, ...]]


def own(path: Path) -> None:
    account = server_account()
    if account is not None:
        os.chown(path, account.uid, account.gid)


def content(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Of every table: how many rows, and a sum over a hash of each."""
    return [
        (table, *row)
        for table in TABLES
        for row in connection.execute(
            f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t".encode()
        )
    ]


def look(source: Source) -> Seen:
    """A snapshot, and everything measured inside it."""
    with source.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute(NOTE).fetchone()
        assert row is not None
        return Seen(row[0], row[1], content(connection))


@contextlib.contextmanager
def new_source(tools: Tools, *, next_xid: int = 0, **changes: str) -> Iterator[Source]:
    place = Path(tempfile.mkdtemp(prefix="drillbook-alignment-"))
    place.chmod(0o755)
    own(place)
    cluster = make_cluster(place / "source", tools)
    source = Source(cluster, place, tools)
    try:
        if next_xid:
            move_on(cluster, next_xid)
        cluster.start({**SETTINGS, **changes})
        source.run("CREATE TABLE happened (n int, what text)")
        done = run_tool(
            source.bench("--initialize", "--quiet"),
            environment=cluster.address().environment(),
            log=place / "pgbench.log",
            deadline=120,
        )
        assert done.code == 0, done.said
        workspace = Workspace(place / "unused", place, tools, "test", quiet)
        with receiving(cluster.address(), source.wal, workspace) as receiver:
            source.receiver = receiver
            yield source
    finally:
        cluster.destroy()
        shutil.rmtree(place)


def move_on(cluster: Cluster, next_xid: int) -> None:
    """As if production had been through that many transactions (pg_resetwal's manual says how)."""
    cluster.start(SETTINGS)
    run_sql(cluster.address(), "VACUUM (FREEZE)")
    cluster.stop()
    done = run_tool(
        [cluster.tools.program("pg_resetwal"), f"--next-transaction-id={next_xid}",
         f"--oldest-transaction-id={next_xid - 100000}", "-D", str(cluster.data)],
        environment={},
        log=cluster.log,
        deadline=60,
        account=cluster.account,
    )  # fmt: skip
    assert done.code == 0, done.said
    segment = cluster.data / "pg_xact" / f"{next_xid // (1 << 20):04X}"
    segment.write_bytes(bytes(1 << 18))
    own(segment)


@pytest.fixture(scope="module", params=["embedded", pytest.param("debian", marks=pytest.mark.thorough)])
def tools(request: pytest.FixtureRequest) -> Tools:
    if request.param == "debian" and not DEBIAN.exists():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    return embedded_tools() if request.param == "embedded" else Tools.at(DEBIAN)


@pytest.fixture(scope="module")
def source(tools: Tools) -> Iterator[Source]:
    """A server that was backed up while it was busy."""
    with new_source(tools) as made:
        with made.load():
            made.back_up()
        yield made


@pytest.fixture
def quiet_source() -> Iterator[Source]:
    """A server on which nothing happens but what the test does; not backed up yet."""
    with new_source(embedded_tools(), autovacuum="off", checkpoint_timeout="1h") as made:
        yield made


# --- under load -----------------------------------------------------------------------------------------------------


def test_every_copy_of_a_busy_server_is_what_its_snapshot_saw(source: Source) -> None:
    found: list[tuple[Seen, Aligned]] = []
    with source.load():
        while len(found) < COPIES:
            before = source.run("SELECT pg_current_wal_insert_lsn()")[0][0]
            seen = look(source)
            answer = source.wait(seen)
            if isinstance(answer, Aligned):
                found.append((seen, answer))
            moved = f"SELECT pg_current_wal_insert_lsn() - '{before}' > 200000"
            wait_until(lambda moved=moved: source.run(moved)[0][0])  # type: ignore[misc]
    for seen, aligned in found:
        proof, equal = source.compare(seen, aligned)
        assert (proof.verdict, equal) == (Verdict.PASS, True), proof.reason
        assert proof.seen_answers == {"committed": min(aligned.seen, 1000)}
        assert proof.hidden_asked > 0
        assert "committed" not in proof.hidden
        assert Alignment.model_validate_json(proof.canonical()) == proof
    assert len({content for seen, _ in found for content in seen.content if content[0] == "happened"}) == COPIES


def test_a_copy_that_went_on_behind_the_target_is_found_out(source: Source) -> None:
    with source.load():
        seen = look(source)
        aligned = source.wait(seen)
        while not isinstance(aligned, Aligned) or len(aligned.behind) < 20:
            seen = look(source) if isinstance(aligned, Misaligned) else seen
            aligned = source.wait(seen)
    with source.copy(show_lsn(aligned.behind[19].lsn), inclusive=True) as (connection, ended):
        proof = prove_alignment(connection, aligned, ended)
        assert content(connection) != seen.content
    assert proof.verdict is Verdict.FAIL
    assert proof.hidden["committed"] >= 20
    assert "does not see are committed on the copy" in proof.reason


def test_a_copy_that_stopped_before_the_target_is_found_out(source: Source) -> None:
    with source.load():
        aligned = source.wait(look(source))
        while not isinstance(aligned, Aligned):
            aligned = source.wait(look(source))
    with source.copy(show_lsn(aligned.recent[-20].lsn), inclusive=False) as (connection, ended):
        proof = prove_alignment(connection, aligned, ended)
    assert proof.verdict is Verdict.FAIL
    assert "transactions that the snapshot sees are" in proof.reason


def test_a_snapshot_around_the_wrap_of_32_bits_aligns() -> None:
    with new_source(embedded_tools(), next_xid=(1 << 32) - 1000, autovacuum="off") as made:
        made.back_up()
        with made.load():
            xmin = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - (1::bigint << 32)"
            wait_until(lambda: made.run(xmin)[0][0] >= 0)
            aligned = made.wait(seen := look(made))
            while not isinstance(aligned, Aligned):
                aligned = made.wait(seen := look(made))
        xids = [commit.xid for commit in aligned.recent]
        assert View.parse(aligned.snapshot).xmax > 1 << 32
        assert min(xids) < 1 << 32 < max(xids)
        proof, equal = made.compare(seen, aligned)
    assert (proof.verdict, equal) == (Verdict.PASS, True), proof.reason


# --- one thing after another ----------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_commit_right_behind_the_noted_position_is_not_replayed(quiet_source: Source) -> None:
    quiet_source.back_up()
    quiet_source.run("INSERT INTO happened VALUES (1, 'seen')")
    with quiet_source.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO happened VALUES (2, 'in progress')")
        seen = look(quiet_source)
        writer.execute("COMMIT")
    aligned = quiet_source.wait(seen)
    while isinstance(aligned, Aligned) and not aligned.behind:  # it is on its way to us
        aligned = quiet_source.wait(seen)
    assert isinstance(aligned, Aligned)
    assert (aligned.target, aligned.inclusive, len(aligned.behind)) == (seen.noted, False, 1)
    proof, equal = quiet_source.compare(seen, aligned)
    assert (proof.verdict, equal) == (Verdict.PASS, True), proof.reason
    assert proof.hidden == {"aborted": 1}
    later = replace(aligned, target=show_lsn(aligned.behind[0].lsn), inclusive=True)
    beside, equal = quiet_source.compare(seen, later)
    assert (beside.verdict, equal) == (Verdict.FAIL, False)


def test_a_prepared_transaction_stays_prepared_on_the_copy(quiet_source: Source) -> None:
    quiet_source.back_up()
    quiet_source.run("BEGIN; INSERT INTO happened VALUES (1, 'prepared'); PREPARE TRANSACTION 'before'")
    quiet_source.run("BEGIN; INSERT INTO happened VALUES (2, 'prepared'); PREPARE TRANSACTION 'kept'")
    quiet_source.run("COMMIT PREPARED 'before'")
    seen = look(quiet_source)
    quiet_source.run("COMMIT PREPARED 'kept'")
    quiet_source.run("INSERT INTO happened VALUES (3, 'later')")
    wait_until(lambda: isinstance(found := quiet_source.find(seen), Aligned) and len(found.behind) == 2)
    aligned = quiet_source.wait(seen)
    assert isinstance(aligned, Aligned)
    proof, equal = quiet_source.compare(seen, aligned)
    assert (proof.verdict, equal) == (Verdict.PASS, True), proof.reason
    assert proof.hidden == {"in progress": 1, "never": 1}
    assert proof.seen_answers == {"committed": 1}


def test_on_an_idle_server_the_copy_takes_all_that_is_there(quiet_source: Source) -> None:
    quiet_source.run("CHECKPOINT")
    quiet_source.back_up()
    seen = look(quiet_source)
    quiet_source.wait(seen)
    # Whatever the server has noted for itself since is taken away again.
    folder, (last, used) = quiet_source.archive(quiet_source.place / "idle"), divmod(parse_lsn(seen.noted), 1 << 24)
    for path in folder.iterdir():
        if int(path.name[16:], 16) == last:
            path.write_bytes(path.read_bytes()[:used].ljust(1 << 24, b"\0"))
        elif int(path.name[16:], 16) > last:
            path.unlink()
    aligned = quiet_source.find(seen, folder)
    assert isinstance(aligned, Aligned)
    assert (aligned.inclusive, aligned.seen, aligned.behind) == (True, 0, ())
    assert parse_lsn(aligned.target) < parse_lsn(seen.noted)
    proof, equal = quiet_source.compare(seen, aligned)
    assert (proof.verdict, proof.hidden_asked, proof.seen_asked, equal) == (Verdict.PASS, 0, 0, True)
    assert "nobody committed between" in proof.reason


WAITS = "INSERT INTO happened VALUES (1, 'waits for a standby')"
PREPARED = "BEGIN; INSERT INTO happened VALUES (1, 'waits for a standby'); PREPARE TRANSACTION '{}'"


@contextlib.contextmanager
def waiting_commit(source: Source, statement: str = WAITS) -> Iterator[None]:
    """A commit whose record is written, and which nobody sees: it waits for a standby that never comes."""

    def write() -> None:
        with source.connect() as writer:
            writer.execute("SET synchronous_commit = on")
            writer.execute(statement.encode())

    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        try:
            wait_until(lambda: source.run("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
            yield
        finally:
            source.run(cancel)
            done.result()


@pytest.fixture
def waiting_source() -> Iterator[Source]:
    """A quiet server on which those who ask for it wait for a standby."""
    with new_source(
        embedded_tools(), synchronous_standby_names="nobody", synchronous_commit="local", autovacuum="off"
    ) as made:
        yield made


def test_the_target_is_a_commit_that_was_written_and_not_seen(waiting_source: Source) -> None:
    waiting_source.back_up()
    waiting_source.run("INSERT INTO happened VALUES (0, 'seen')")
    with waiting_commit(waiting_source):
        seen = look(waiting_source)
    aligned = waiting_source.wait(seen)
    assert isinstance(aligned, Aligned)
    assert parse_lsn(aligned.target) == aligned.behind[0].lsn < parse_lsn(seen.noted)
    proof, equal = waiting_source.compare(seen, aligned)
    assert (proof.verdict, equal) == (Verdict.PASS, True), proof.reason
    beside, equal = waiting_source.compare(seen, replace(aligned, target=aligned.noted, inclusive=True))
    assert (beside.verdict, equal) == (Verdict.FAIL, False)


def test_commits_that_became_visible_out_of_order_ask_for_another_snapshot(waiting_source: Source) -> None:
    waiting_source.back_up()
    with waiting_commit(waiting_source):
        waiting_source.run("INSERT INTO happened VALUES (2, 'waits for nobody')")
        seen = look(waiting_source)
    found = waiting_source.wait(seen)
    assert isinstance(found, Misaligned)
    assert found.unseen is not None
    assert found.seen is not None
    assert found.unseen.lsn < found.seen.lsn < parse_lsn(seen.noted)
    assert f"sees transaction {found.seen}, and not {found.unseen}" in found.reason
    assert isinstance(waiting_source.wait(look(waiting_source)), Aligned)


@pytest.mark.parametrize("statement", [WAITS, "COMMIT PREPARED 'it''s'"], ids=["of its own", "that was prepared"])
def test_a_commit_from_before_the_backup_that_nobody_saw_yet_is_passed_over_or_found_on_the_copy(
    waiting_source: Source, statement: str
) -> None:
    for gid in ("it''s", "stays prepared") if statement != WAITS else ():
        waiting_source.run(PREPARED.format(gid))
    with waiting_commit(waiting_source, statement):
        waiting_source.back_up()
        with waiting_source.connect() as connection:
            waiting = waiting_for_standbys(connection)
        seen = look(waiting_source)
    assert len(waiting) == 1
    aligned = waiting_source.wait(seen)
    assert isinstance(aligned, Aligned)
    assert pass_over_waiting(aligned, ()) is aligned
    passed_over = pass_over_waiting(aligned, waiting)
    assert isinstance(passed_over, Misaligned)
    assert passed_over.waits
    # Whose role may not see that others wait goes on, and the copy gives it away.
    proof, equal = waiting_source.compare(seen, aligned)
    assert (proof.verdict, equal) == (Verdict.FAIL, False)
    assert proof.hidden["committed"] == 1
    assert "pg_read_all_stats" in proof.reason


def test_whose_prepared_transaction_waits_nobody_can_tell_by_a_statement_in_other_words(waiting_source: Source) -> None:
    for gid in ("this", "that"):
        waiting_source.run(PREPARED.format(gid))
    with waiting_commit(waiting_source, "COMMIT PREPARED E'th\\x69s'"), waiting_source.connect() as connection:
        assert len(waiting_for_standbys(connection)) == 2


def test_a_commit_that_waits_inside_of_the_wal_is_no_reason_for_another_snapshot(waiting_source: Source) -> None:
    waiting_source.back_up()
    with waiting_commit(waiting_source), waiting_source.connect() as connection:
        waiting = waiting_for_standbys(connection)
        seen = look(waiting_source)
    aligned = waiting_source.wait(seen)
    assert isinstance(aligned, Aligned)
    assert len(waiting) == 1
    assert pass_over_waiting(aligned, waiting) is aligned


# --- WAL that is not whole ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """WAL of a quiet server in a folder of the test's own: several segments, and a snapshot in the last but one."""

    source: Source
    folder: Path
    seen: Seen

    def find(self, timeline: int = 1, stop: str = "") -> Found:
        """The target, with the WAL that is left."""
        return self.source.find(self.seen, self.folder, timeline, stop)

    def segments(self) -> list[Path]:
        """In order."""
        return sorted(self.folder.iterdir())

    def of_snapshot(self) -> Path:
        """Where the noted position lies."""
        number = parse_lsn(self.seen.noted) >> 24
        return self.folder / f"{1:08X}{number >> 8:08X}{number & 255:08X}"


@pytest.fixture(scope="module")
def kept_strip() -> Iterator[Strip]:
    with new_source(embedded_tools(), autovacuum="off") as source:
        source.back_up()
        for number in range(3):
            source.run(f"INSERT INTO happened VALUES ({number}, 'before')")
            source.run("SELECT pg_switch_wal()")
        source.run("INSERT INTO happened SELECT n, 'in the same segment' FROM generate_series(1, 1000) n")
        seen = look(source)
        source.run("INSERT INTO happened VALUES (4, 'behind')")
        source.run("SELECT pg_switch_wal()")
        source.run("INSERT INTO happened VALUES (5, 'in the next segment')")
        source.wait(look(source))
        yield Strip(source, source.archive(source.place / "strip"), seen)


@pytest.fixture
def strip(kept_strip: Strip, tmp_path: Path) -> Strip:
    return replace(kept_strip, folder=Path(shutil.copytree(kept_strip.folder, tmp_path / "wal")))


def test_whole_wal_gives_a_target(strip: Strip) -> None:
    before = [(path.name, path.stat().st_mtime_ns) for path in strip.segments()]
    found = strip.find()
    assert isinstance(found, Aligned)
    assert (found.target, found.seen, len(found.behind)) == (strip.seen.noted, 4, 2)
    assert [(path.name, path.stat().st_mtime_ns) for path in strip.segments()] == before


def test_a_segment_that_is_missing_in_the_middle_is_a_hole(strip: Strip) -> None:
    strip.segments()[2].unlink()
    with pytest.raises(ToolError, match=r"hole: segment \w+ is missing"):
        strip.find()


def test_a_first_segment_that_is_missing_is_a_hole(strip: Strip) -> None:
    first = parse_lsn(strip.source.history.start) >> 24
    for path in strip.segments():
        if int(path.name[16:], 16) <= first:
            path.unlink()
    with pytest.raises(ToolError, match="hole"):
        strip.find()


@pytest.mark.parametrize("which", [2, None])
def test_a_segment_that_is_cut_short_is_damaged(strip: Strip, which: int | None) -> None:
    path = strip.of_snapshot() if which is None else strip.segments()[which]
    with path.open("r+b") as file:
        file.truncate(1 << 20)
    with pytest.raises(ToolError, match="cut short: expected 16777216 bytes, got 1048576"):
        strip.find()


@pytest.mark.parametrize("last", [False, True])
def test_a_flipped_byte_before_the_noted_position_is_a_damage_and_no_end(strip: Strip, last: bool) -> None:  # noqa: FBT001
    path = strip.of_snapshot()
    if last:  # nothing comes behind this segment
        for later in strip.segments():
            if later.name > path.name:
                later.unlink()
    with path.open("r+b") as file:
        file.seek(9000)
        found = file.read(1)
        file.seek(9000)
        file.write(bytes([found[0] ^ 255]))
    with pytest.raises(ToolError, match=r"damaged at 0/\w+, before"):
        strip.find()


def test_zeros_in_the_middle_are_a_damage_and_no_end(strip: Strip) -> None:
    with strip.of_snapshot().open("r+b") as file:
        file.seek(8192)
        file.write(bytes(8192))
    with pytest.raises(ToolError, match="damaged"):
        strip.find()


def test_wal_that_ends_before_the_noted_position_needs_more(strip: Strip) -> None:
    path = strip.of_snapshot()
    for later in strip.segments():
        if later.name > path.name:
            later.unlink()
    whole = path.read_bytes()
    path.write_bytes(whole[:16384].ljust(len(whole), b"\0"))  # torn inside of a record, as a receiver leaves it
    found = strip.find()
    assert isinstance(found, NeedsMore)
    assert "the WAL ends at" in found.reason
    path.rename(f"{path}.partial")
    assert isinstance(strip.find(), NeedsMore)
    path.with_suffix(".partial").write_bytes(whole)
    assert isinstance(strip.find(), Aligned)
    path.with_suffix(".partial").unlink()
    found = strip.find()
    assert isinstance(found, NeedsMore)
    assert "is not there yet" in found.reason


def test_no_wal_at_all_needs_more(strip: Strip, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert isinstance(replace(strip, folder=tmp_path / "empty").find(), NeedsMore)
    with pytest.raises(ToolError, match="cannot be read"):
        replace(strip, folder=tmp_path / "nowhere").find()


def test_wal_of_another_timeline_or_server_is_refused(strip: Strip) -> None:
    with pytest.raises(ToolError, match="expected WAL of timeline 3"):
        strip.find(timeline=3)
    with strip.segments()[-1].open("r+b") as file:
        file.seek(24)
        file.write(b"\1" * 8)
    with pytest.raises(ToolError, match="expected the WAL of one server"):
        strip.find()


def test_a_snapshot_from_before_the_backups_end_is_of_no_use(strip: Strip) -> None:
    found = strip.find(stop=show_lsn(parse_lsn(strip.seen.noted) + 8))
    assert isinstance(found, Misaligned)
    assert "before the backup was complete" in found.reason


# --- what the copy says ---------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_what_the_copy_cannot_say_is_no_proof(strip: Strip) -> None:
    aligned = strip.find()
    assert isinstance(aligned, Aligned)
    strip.source.receiver = None
    with strip.source.copy(aligned.target, inclusive=False) as (connection, ended):
        assert prove_alignment(connection, aligned, ended).verdict is Verdict.PASS
        foreign = prove_alignment(connection, replace(aligned, system_identifier="1"), ended)
        assert (foreign.verdict, "expected a copy of system 1" in foreign.reason) == (Verdict.FAIL, True)
        old = replace(aligned, recent=(Commit(100, aligned.recent[0].lsn), *aligned.recent))
        forgotten = prove_alignment(connection, old, ended)
        assert (forgotten.verdict, forgotten.seen_answers["forgotten"]) == (Verdict.UNKNOWN, 1)
        behind = show_lsn(parse_lsn(aligned.target) + 8)
        further = prove_alignment(connection, aligned, ended.model_copy(update={"end_lsn": behind}))
        assert (further.verdict, "expected replay to end" in further.reason) == (Verdict.FAIL, True)


# --- reasoning ------------------------------------------------------------------------------------------------------


def lined(what: str, tx: int = 0) -> bytes:
    return (
        f"rmgr: Transaction len (rec/tot):     34/    34, tx: {tx:10}, lsn: 0/01710570, prev 0/01710530, desc: {what}\n"
    ).encode()


def ordered(snapshot: str, *commits: tuple[int, int], noted: int = 1000) -> Order:
    order = Order(View.parse(snapshot), noted)
    for xid, lsn in commits:
        order.add(Commit(xid, lsn))
    return order


def test_lines_of_pg_waldump_are_understood_or_refused() -> None:
    view, at = View.parse("750:760:750"), 0x1710570
    moment = "2026-11-22 07:36:36.615020 UTC"
    assert parse_commit(lined(f"COMMIT {moment}; subxacts: 755 756", 754), view) == Commit(754, at)
    assert parse_commit(lined(f"COMMIT_PREPARED 757: {moment}"), view) == Commit(757, at)
    for other in (f"ABORT {moment}", f"ABORT_PREPARED 757: {moment}", f"PREPARE gid COMMIT 7: {moment}"):
        assert parse_commit(lined(other, 758), view) is None
    assert parse_commit(b"first record is after 0/1, at 0/28, skipping over 39 bytes\n", view) is None
    assert parse_commit(lined("INSERT off: 1", 7).replace(b"Transaction", b"Heap       "), view) is None
    for strange in (f"COMMIT {moment}", f"COMMIT_PREPARED {moment}", "UNKNOWN (70) "):
        with pytest.raises(ToolError, match="not understood"):
            parse_commit(lined(strange), view)
    with pytest.raises(ToolError, match="not understood"):
        parse_commit(b"rmgr: Transaction in another way\n", view)


def test_a_snapshot_sees_what_it_says() -> None:
    view = View.parse("10:20:10,15")
    assert [xid for xid in range(8, 22) if not view.sees(xid)] == [10, 15, 20, 21]
    with pytest.raises(ToolError, match="expected a snapshot"):
        View.parse("10:20")


def test_a_snapshot_of_a_standby_is_refused() -> None:
    with pytest.raises(GuardError, match="names no transaction in progress"):
        View.parse("10:12:")


@pytest.mark.parametrize(
    ("xmax", "told", "meant"),
    [
        (760, 754, 754),
        ((1 << 32) + 5, 7, (1 << 32) + 7),
        ((1 << 32) + 5, 4294967290, 4294967290),
        ((1 << 32) - 5, 4, (1 << 32) + 4),
        ((7 << 32) + 5, 4294967290, (6 << 32) + 4294967290),
        ((7 << 32) + 2**31, 3, (7 << 32) + 3),
    ],
)
def test_numbers_of_32_bits_are_widened_next_to_the_snapshot(xmax: int, told: int, meant: int) -> None:
    assert View.parse(f"{xmax}:{xmax}:").widen(told) == meant


def test_commits_in_order_keep_only_the_last_and_the_first_behind() -> None:
    commits = [(xid, xid) for xid in range(3, 5000)]
    order = ordered("2500:2500:", *commits, noted=2500)
    assert order.conflict is None
    assert (order.seen, order.recent[0], order.recent[-1]) == (2497, Commit(1500, 1500), Commit(2499, 2499))
    assert (order.behind[0], len(order.behind), order.ended) == (Commit(2500, 2500), 1000, True)


def test_a_seen_commit_behind_an_unseen_one_names_both() -> None:
    order = ordered("10:20:10", (9, 100), (10, 200), (21, 250), (11, 300))
    assert order.conflict == Misaligned(
        "the snapshot sees transaction 11 at 0/12C, and not 10 at 0/C8, which the WAL has before it",
        unseen=Commit(10, 200),
        seen=Commit(11, 300),
    )


def test_a_vacuum_that_no_snapshot_names_asks_for_another_snapshot() -> None:
    order = ordered("20:20:", (9, 100), (15, 1000))
    assert order.conflict is not None
    assert "a VACUUM was under way" in order.conflict.reason
