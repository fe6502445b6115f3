"""Recovery from a repository of Barman, with the real tool, from a home that is only read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fix_debian import DEBIAN
from fix_repository import (
    Production,
    counts_of,
    debian_tools,
    flip,
    look,
    own,
    production,
    recovered,
    workspace,
)

from drills.errors import ClusterError, GuardError, NoBackupError, ToolError
from drills.places import server_account
from drills.plans.repository import Barman as Plan
from drills.records import Verdict
from drills.recovery.repositories.barman import Barman
from drills.tools import Tools, embedded_tools

NO_MANIFEST = "no manifest"


@dataclass(frozen=True)
class Kept:
    """A home of Barman's with two backups, WAL packed by gzip, and a segment that Barman has not filed yet."""

    source: Production
    tools: Tools
    first: str
    newest: str
    between: datetime
    end: str
    """How far the archive goes."""
    counts: dict[str, object]

    @property
    def home(self) -> Path:
        """Barman's home."""
        return self.source.repository

    def method(self, desk: Path, home: Path | None = None, **plan: Any) -> Barman:
        """The method at this desk, for the home or a copy of it."""
        config = self.source.place / "barman.conf"
        if home is not None:
            config = desk / "barman.conf"
            text = (self.source.place / "barman.conf").read_text()
            config.write_text(text.replace(str(self.home), str(home)))
        wish = Plan.model_validate({"method": "barman", "server": "shop", "config": str(config)} | plan)
        return Barman(wish, self.source.server, self.tools, desk / "repository", desk / "raw")

    def copy(self, desk: Path) -> Path:
        """A copy of the home, to be damaged."""
        target = desk / "damaged"
        shutil.copytree(self.home, target, symlinks=True)
        if (account := server_account()) is not None:
            for path in (target, *target.rglob("*")):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
        return target


def configure(it: Production, programs: Path = DEBIAN) -> None:
    account = server_account()
    reach = f"host=127.0.0.1 port={it.cluster.port} user=drillbook"
    further = own(it.place / "barman.d")
    (it.place / "barman.conf").write_text(
        f"[barman]\nbarman_home = {it.repository}\nbarman_user = {account.name if account else os.environ['USER']}\n"
        f"barman_lock_directory = {it.place / 'lock'}\nlog_file = {it.place / 'log' / 'barman.log'}\n"
        f'configuration_files_directory = "{further}"\npre_recovery_script = touch {it.place / "hooked"}\n'
    )
    (further / "shop.conf").write_text(
        f"[shop]\ndescription = shop\nconninfo = {reach} dbname=postgres\nstreaming_conninfo = {reach}\n"
        f"backup_method = postgres\narchiver = on\ncompression = gzip\nimmediate_checkpoint = true\n"
        f"path_prefix = {programs}\n"
        f"streaming_wals_directory = {it.repository}/shop/streaming\n"
    )


def barman(it: Production, *arguments: str) -> str:
    return it.run(["barman", f"--config={it.place / 'barman.conf'}", *arguments])


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    tools = debian_tools("barman")
    with production(tools, lambda place: f"cp %p {place / 'repository' / 'shop' / 'incoming'}/%f") as it:
        own(it.repository / "shop")
        own(it.repository / "shop" / "incoming")
        configure(it)
        it.add_rows()
        barman(it, "archive-wal", "shop")
        barman(it, "backup", "--wait", "--wait-timeout=60", "shop")
        it.add_rows("elsewhere")
        between = datetime.now(UTC)
        barman(it, "backup", "--wait", "--wait-timeout=60", "shop")
        it.add_rows()
        barman(it, "archive-wal", "shop")
        it.add_rows("elsewhere")
        first, newest = sorted(path.name for path in (it.repository / "shop" / "base").iterdir())
        yield Kept(it, tools, first, newest, between, it.archived(), it.counts())


@pytest.fixture
def chain() -> Iterator[Kept]:
    """A home with a full backup and an incremental one upon it, which Barman takes since 3.11, of PostgreSQL 17."""
    if shutil.which("barman") is None or version_of("barman") < (3, 11):
        pytest.skip("needs Barman 3.11")
    tools = embedded_tools()
    with production(tools, lambda place: f"cp %p {place / 'repository' / 'shop' / 'incoming'}/%f") as it:
        own(it.repository / "shop")
        own(it.repository / "shop" / "incoming")
        configure(it, it.cluster.tools.folder)
        it.sql("ALTER SYSTEM SET summarize_wal = on")
        it.sql("SELECT pg_reload_conf()")
        it.add_rows()
        barman(it, "archive-wal", "shop")
        labels: list[str] = []
        for told in ((), ("--incremental=latest",)):
            barman(it, "backup", *told, "shop")
            it.add_rows("elsewhere")
            barman(it, "archive-wal", "shop")
            it.sql("UPDATE item SET said = said WHERE id = 1")
            labels.append(max(path.name for path in (it.repository / "shop" / "base").iterdir()))
            barman(it, "check-backup", "shop", labels[-1])
        first, newest = labels
        yield Kept(it, tools, first, newest, datetime.now(UTC), it.archived(), it.counts())


def version_of(program: str) -> tuple[int, ...]:
    said = subprocess.check_output([program, "--version"], text=True)
    return tuple(int(part) for part in said.split()[0].split(".")[:2])


def test_an_incremental_backup_is_put_together_in_the_drill_s_place_and_verified(chain: Kept, desk: Path) -> None:
    before = look(chain.home)
    method = chain.method(desk)
    assert method.pick().label == chain.newest
    taken = method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, chain.tools))
    assert taken.log.verdict is Verdict.PASS, taken.log.reason
    verify = "pg_verifybackup"
    run = [Path(arguments[0]).name for arguments in taken.backup.commands]
    assert run == ["read", verify, verify, "barman", verify]
    with recovered(method, chain.tools, desk / "copy", chain.end) as copy:
        assert counts_of(copy) == chain.counts
    assert look(chain.home) == before
    # Of this file one page was changed since, so that a new one is made of both; the byte is in another page.
    (path,) = chain.source.sql("SELECT pg_relation_filepath('item')")[0]
    flip(chain.home / "shop" / "base" / chain.first / "data" / str(path))
    with pytest.raises(ToolError, match=r"pg_verifybackup ended with 1: .*checksum mismatch for file"):
        method.lay_out(method.pick(), desk / "other" / "data", workspace(desk, chain.tools))


def test_the_newest_backup_is_brought_back_with_every_row_and_barman_s_home_stays_as_it_was(
    kept: Kept, desk: Path
) -> None:
    before = look(kept.source.place / "repository") | look(kept.source.place / "lock") | look(kept.source.place / "log")
    method = kept.method(desk, jobs=2)
    backup = method.pick()
    assert (backup.method, backup.label, backup.timeline) == ("barman", kept.newest, 1)
    assert backup.start_lsn < backup.stop_lsn
    taken = method.lay_out(backup, desk / "copy" / "data", workspace(desk, kept.tools))
    assert (taken.log.verdict, taken.log.reason) == (Verdict.PASS, "barman ended with 0 and said nothing to look into")
    assert taken.backup.files > 900
    assert [Path(arguments[0]).name for arguments in taken.backup.commands] == ["read", "barman", "pg_verifybackup"]
    with recovered(method, kept.tools, desk / "copy", kept.end) as copy:
        assert counts_of(copy) == kept.counts
    after = look(kept.source.place / "repository") | look(kept.source.place / "lock") | look(kept.source.place / "log")
    assert after == before
    assert not (kept.source.place / "hooked").exists(), "a hook of production's was run"


def test_a_backup_is_picked_by_its_name_or_by_an_instant(kept: Kept, desk: Path) -> None:
    assert kept.method(desk, backup=kept.first).pick().label == kept.first
    assert kept.method(desk, before=kept.between).pick().label == kept.first
    assert kept.method(desk, before=datetime(2100, 1, 1, tzinfo=UTC)).pick().label == kept.newest
    assert kept.method(desk, to={"time": kept.between}).pick().label == kept.first
    first = kept.method(desk, backup=kept.first).pick()
    assert kept.method(desk, to={"lsn": first.stop_lsn}).pick().label == kept.first


def test_a_backup_that_is_not_there_is_named(kept: Kept, desk: Path) -> None:
    with pytest.raises(NoBackupError, match=f"holds no backup 20200101T000000: expected one of {kept.newest}, "):
        kept.method(desk, backup="20200101T000000").pick()
    with pytest.raises(NoBackupError, match=f"no backup from before 2020-01-01 .*: the oldest, {kept.first}, is of 20"):
        kept.method(desk, before=datetime(2020, 1, 1, tzinfo=UTC)).pick()


def test_a_server_that_barman_does_not_know_is_named(kept: Kept, desk: Path) -> None:
    with pytest.raises(ToolError, match="knows no server other: expected one of shop"):
        kept.method(desk, server="other").pick()
    with pytest.raises(ToolError, match=r"configuration /nonexistent cannot be read: .*No such file"):
        kept.method(desk, config="/nonexistent").pick()


def test_an_empty_home_is_no_backup(kept: Kept, desk: Path) -> None:
    with pytest.raises(ToolError, match=r"the backups of shop in .* cannot be read"):
        kept.method(desk, own(desk / "empty")).pick()
    (desk / "empty" / "shop" / "base").mkdir(parents=True)
    with pytest.raises(NoBackupError, match="holds no backup"):
        kept.method(desk, desk / "empty").pick()


def test_a_home_of_another_system_is_refused_also_where_barman_did_not_note_it(kept: Kept, desk: Path) -> None:
    damaged = kept.copy(desk)
    method = kept.method(desk, damaged)
    other = replace(method, source=method.source.model_copy(update={"system_identifier": "7000000000000000001"}))
    with pytest.raises(GuardError, match=r"another system: expected system identifier 70+1, got 7"):
        other.pick()
    info = damaged / "shop" / "base" / kept.newest / "backup.info"
    lines = info.read_text().splitlines(keepends=True)
    info.write_text("".join("systemid=None\n" if line.startswith("systemid=") else line for line in lines))
    with pytest.raises(GuardError, match=r"another system: expected system identifier 70+1, got 7"):
        other.lay_out(other.pick(), desk / "copy" / "data", workspace(desk, kept.tools))


def note(damaged: Path, label: str, changes: dict[str, str]) -> None:
    """Have Barman's note of a backup say something else."""
    info = damaged / "shop" / "base" / label / "backup.info"
    lines = (line.split("=", 1) for line in info.read_text().splitlines())
    info.write_text("".join(f"{name}={value}\n" for name, value in (dict(lines) | changes).items()))


@pytest.mark.parametrize("status", ["STARTED", "WAITING_FOR_WALS"])
def test_a_backup_that_is_being_taken_is_passed_over_which_is_told_and_cannot_be_named(
    kept: Kept, desk: Path, status: str
) -> None:
    damaged = kept.copy(desk)
    note(damaged, kept.newest, {"status": status})
    picked = kept.method(desk, damaged).pick()
    assert (picked.label, picked.details) == (kept.first, {"passed over, not complete": kept.newest})
    with pytest.raises(NoBackupError, match=f"the backup {kept.newest} in .* is not sound: it is not complete"):
        kept.method(desk, damaged, backup=kept.newest).pick()
    assert kept.method(desk, damaged, backup=kept.first).pick().details == {}


@pytest.mark.parametrize("changes", [{}, {"end_time": "None"}, {"end_time": "None", "begin_time": "None"}])
def test_a_newest_backup_that_failed_is_not_passed_over_for_an_older_one(
    kept: Kept, desk: Path, changes: dict[str, str]
) -> None:
    damaged = kept.copy(desk)
    note(damaged, kept.newest, {"status": "FAILED", "error": "the disk is full"} | changes)
    with pytest.raises(NoBackupError, match=f"{kept.newest} in .* is not sound: its status is FAILED: the disk is"):
        kept.method(desk, damaged).pick()
    assert kept.method(desk, damaged, backup=kept.first).pick().label == kept.first


def test_an_encrypted_backup_is_refused_before_anything_is_laid_out(kept: Kept, desk: Path) -> None:
    damaged = kept.copy(desk)
    note(damaged, kept.newest, {"encryption": "gpg"})
    note(damaged, kept.first, {"encryption": "None"})
    with pytest.raises(ToolError, match=f"the backup {kept.newest} in .* is encrypted") as caught:
        kept.method(desk, damaged).pick()
    assert "recovery.backup" in caught.value.hint
    assert kept.method(desk, damaged, backup=kept.first).pick().label == kept.first


@pytest.mark.parametrize("name", ["..", "-rf $HOME 'x'"])
def test_a_tablespace_lies_in_the_copy_whatever_it_is_called(kept: Kept, desk: Path, name: str) -> None:
    damaged, outside = kept.copy(desk), own(desk / "outside")
    (oid,) = kept.source.sql("SELECT oid::text FROM pg_tablespace WHERE spcname = 'space'")[0]
    note(damaged, kept.newest, {"tablespaces": repr([(name, int(str(oid)), str(outside / "own"))])})
    method = kept.method(desk, damaged)
    method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))
    laid = desk / "copy" / "tablespaces" / str(oid)
    assert (desk / "copy" / "data" / "pg_tblspc" / str(oid)).resolve() == laid
    assert any(laid.iterdir())
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in (desk / "copy").iterdir()) == ["data", "tablespaces"]


@pytest.mark.parametrize("name", ["a:b", "/nowhere/space", "x/../../space"])
def test_a_tablespace_that_barman_would_lay_out_elsewhere_is_refused(kept: Kept, desk: Path, name: str) -> None:
    damaged = kept.copy(desk)
    note(damaged, kept.newest, {"tablespaces": repr([(name, 16384, "/nowhere")])})
    method = kept.method(desk, damaged)
    with pytest.raises(ToolError, match=f"the tablespace '{name}': expected a name without : and /"):
        method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))


@pytest.mark.parametrize("where", ["data", "tablespace"])
def test_a_flipped_byte_in_a_file_of_the_backup_is_found(kept: Kept, desk: Path, where: str) -> None:
    damaged = kept.copy(desk)
    base = damaged / "shop" / "base" / kept.newest
    folder = base / "data" / "base" if where == "data" else next(path for path in base.iterdir() if path.name.isdigit())
    flip(max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size))
    method = kept.method(desk, damaged)
    with pytest.raises(ToolError, match=r"pg_verifybackup ended with 1: .*checksum mismatch for file") as caught:
        method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))
    assert "set this backup aside" in caught.value.hint


def test_a_file_that_is_missing_in_the_backup_is_found(kept: Kept, desk: Path) -> None:
    damaged = kept.copy(desk)
    (damaged / "shop" / "base" / kept.newest / "data" / "pg_xact" / "0000").unlink()
    method = kept.method(desk, damaged)
    with pytest.raises(ToolError, match=r"pg_verifybackup ended with 1: .*pg_xact/0000"):
        method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))


def test_a_backup_without_a_manifest_is_unknown_unless_the_plan_accepts_it(kept: Kept, desk: Path) -> None:
    damaged = kept.copy(desk)
    (damaged / "shop" / "base" / kept.newest / "data" / "backup_manifest").unlink()
    method = kept.method(desk, damaged)
    taken = method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))
    assert taken.log.verdict is Verdict.UNKNOWN
    assert "whether its files are as they were cannot be verified" in taken.log.reason
    accepting = kept.method(desk, damaged, accept_warnings=[NO_MANIFEST])
    taken = accepting.lay_out(accepting.pick(), desk / "other" / "data", workspace(desk, kept.tools))
    assert taken.log.verdict is Verdict.PASS


def test_wal_is_fetched_before_anything_is_laid_out_and_what_is_not_there_is_said_to_be_so(
    kept: Kept, desk: Path
) -> None:
    before = look(kept.home)
    method = kept.method(desk)
    filed = sorted(path.name for path in (kept.home / "shop" / "wals").rglob("0*") if len(path.name) == 24)
    waiting = sorted(path.name for path in (kept.home / "shop" / "incoming").iterdir())
    assert filed
    assert waiting
    for name in (filed[0], waiting[-1]):
        assert method.fetch_wal(name, desk / "segment")
        assert (desk / "segment").stat().st_size == 16 << 20
    assert not method.fetch_wal("0000000100000FFF000000FF", desk / "none")
    assert not method.fetch_wal("00000009.history", desk / "none")
    assert not (desk / "none").exists()
    assert look(kept.home) == before


def segments(home: Path) -> list[Path]:
    return sorted(path for path in (home / "shop" / "wals").rglob("0*") if len(path.name) == 24)


def test_an_archive_that_cannot_be_read_is_not_one_that_ends(kept: Kept, desk: Path) -> None:
    damaged = kept.copy(desk)
    method = kept.method(desk, damaged)
    path = segments(damaged)[-1]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ToolError, match="the archive of WAL cannot be read: "):
        method.fetch_wal(path.name, desk / "segment")
    path.write_bytes(bytes.fromhex("10D1") + bytes(70_000))
    with pytest.raises(ToolError, match="cut short: 70002 bytes are not a segment"):
        method.fetch_wal(path.name, desk / "segment")
    shutil.rmtree(damaged / "shop" / "wals")
    with pytest.raises(ToolError, match="the archive of WAL cannot be read: cannot read "):
        method.fetch_wal(path.name, desk / "segment")


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_segment_that_is_missing_or_damaged_does_not_pass_for_the_end_of_the_archive(
    kept: Kept, desk: Path, damage: str
) -> None:
    home = kept.copy(desk)
    path = segments(home)[-1]
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    method = kept.method(desk, home)
    method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, kept.tools))
    told = r"ended too early|ended before" if damage == "missing" else "could not restore file"
    with pytest.raises(ClusterError, match=told), recovered(method, kept.tools, desk / "copy", kept.end):
        pass


def test_without_the_tool_the_message_says_what_to_install(
    kept: Kept, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(desk))
    with pytest.raises(ToolError, match="barman is not on the path") as caught:
        kept.method(desk).pick()
    assert caught.value.hint == "install the package barman on the machine that runs the drill"
