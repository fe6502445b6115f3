"""Recovery from a repository of pgBackRest, with the real tool, from a repository that is only read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fix_repository import (
    Production,
    counts_of,
    debian_tools,
    flip,
    look,
    own,
    production,
    recovered,
    tell_environment,
    told_environment,
    workspace,
)

from drills.errors import ClusterError, GuardError, NoBackupError, SecretError, ToolError
from drills.places import make_folder, server_account
from drills.plans.repository import Pgbackrest as Plan
from drills.records import Server, Verdict
from drills.recovery.repositories.pgbackrest import Pgbackrest
from drills.recovery.repositories.standin import give_identity, make_stand_in
from drills.tools import Tools, embedded_tools

CIPHER = "correct horse battery staple"
SOURCE = Server(
    address="r@h:1/d", system_identifier="7000000000000000001", version="18", major=18, database="d", role="r", size=1
)


@dataclass(frozen=True)
class Stanza:
    """A repository with two backups: a full one, and an incremental one that is younger."""

    source: Production
    tools: Tools
    full: str
    newest: str
    between: datetime
    end: str
    """How far the archive goes."""
    counts: dict[str, object]

    def method(self, desk: Path, repository: Path | None = None, **plan: Any) -> Pgbackrest:
        """The method at this desk, for the repository or a copy of it."""
        told = {"method": "pgbackrest", "stanza": "shop", "repo_path": str(repository or self.source.repository)}
        wish = Plan.model_validate(told | {"restore_timeout": "1min"} | plan)
        return Pgbackrest(wish, self.source.server, self.tools, desk / "repository", desk / "raw")

    def copy(self, desk: Path) -> Path:
        """A copy of the repository, to be damaged."""
        target = desk / "damaged"
        shutil.copytree(self.source.repository, target, symlinks=True)
        if (account := server_account()) is not None:
            for path in (target, *target.rglob("*")):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
        return target


def options(place: Path, *more: str) -> list[str]:
    repository = () if any("repo1-path" in option for option in more) else (f"--repo1-path={place / 'repository'}",)
    return [
        "pgbackrest", "--no-config", "--stanza=shop", *repository,
        f"--lock-path={place / 'lock'}", f"--log-path={place / 'log'}", f"--pg1-path={place / 'cluster' / 'data'}",
        "--log-level-console=warn", *more,
    ]  # fmt: skip


def pgbackrest(it: Production, command: str, *more: str) -> str:
    reached = [f"--pg1-port={it.cluster.port}", "--pg1-user=drillbook"] if command != "info" else []
    arguments = options(it.place, *reached, *more)
    return it.run([arguments[0], command, *arguments[1:]])


@pytest.fixture(scope="module")
def stanza() -> Iterator[Stanza]:
    tools = debian_tools("pgbackrest")
    with production(tools, lambda place: " ".join([*options(place), "archive-push", "%p"])) as it:
        pgbackrest(it, "stanza-create", "--no-online")
        it.add_rows()
        notes = own(it.place / "notes")
        (notes / "note").write_text("kept beside the data")
        if (account := server_account()) is not None:
            os.chown(notes / "note", account.uid, account.gid)
        (it.cluster.data / "notes").symlink_to(notes)
        pgbackrest(it, "backup", "--type=full", "--start-fast", "--repo1-retention-full=9")
        it.add_rows("elsewhere")
        between = datetime.now(UTC)
        pgbackrest(it, "backup", "--type=incr", "--start-fast", "--repo1-retention-full=9")
        it.add_rows()
        end = it.archived()
        labels = sorted(path.name for path in (it.repository / "backup" / "shop").iterdir() if path.name[0] == "2")
        full, newest = labels
        yield Stanza(it, tools, full, newest, between, end, it.counts())


def test_the_newest_backup_is_brought_back_with_every_row_and_the_repository_stays_as_it_was(
    stanza: Stanza, desk: Path
) -> None:
    before = look(stanza.source.place / "repository")
    method = stanza.method(desk)
    backup = method.pick()
    assert (backup.method, backup.label, backup.timeline) == ("pgbackrest", stanza.newest, 1)
    assert backup.taken is not None
    assert backup.start_lsn < backup.stop_lsn
    assert backup.size > 1_000_000
    taken = method.lay_out(backup, desk / "copy" / "data", workspace(desk, stanza.tools))
    assert taken.log.verdict is Verdict.PASS
    assert taken.backup.files > 900
    assert [arguments[1] for arguments in taken.backup.commands] == ["info", "restore"]
    with recovered(method, stanza.tools, desk / "copy", stanza.end) as copy:
        assert counts_of(copy) == stanza.counts
    assert look(stanza.source.place / "repository") == before


STEERING = """\
[global]
repo1-path={repository}
archive-async=y
spool-path={outside}/spool
log-path={outside}/log
log-level-file=debug
log-subprocess=y
lock-path={outside}/lock
cmd={outside}/pgbackrest
[global:restore]
delta=y
force=y
link-all=y
[shop]
pg1-path=/var/lib/postgresql/main
pg1-host=nowhere.invalid
pg1-host-user=postgres
pg1-user=postgres
[shop:restore]
link-map=notes={outside}/notes
tablespace-map=space={outside}/space
db-exclude=postgres
db-include=template1
archive-mode=off
{recovering}
"""
RECOVERING = ["type=immediate\nrecovery-option=archive_cleanup_command=touch {outside}/cleaned"]
RECOVERING += [
    "type=time\ntarget=2020-01-01 00:00:00+00\ntarget-action=shutdown\ntarget-timeline=7\ntarget-exclusive=y"
]


@pytest.mark.parametrize("recovering", RECOVERING)
def test_what_a_configuration_says_of_restoring_does_not_steer_a_drill(
    stanza: Stanza, desk: Path, recovering: str
) -> None:
    outside = own(desk / "outside")
    # What production's own archiving notes down on its machine, and a restore there clears away.
    for below in ("spool", "spool/archive", "spool/archive/shop", "spool/archive/shop/out"):
        own(outside / below)
    (outside / "spool/archive/shop/out/000000010000000000000001.ok").touch()
    before = look(outside)
    said = STEERING.format(repository=stanza.source.repository, outside=outside, recovering=recovering)
    (desk / "pgbackrest.conf").write_text(said.replace("{outside}", str(outside)))
    method = stanza.method(desk, repo_path=None, config=str(desk / "pgbackrest.conf"), jobs=2)
    assert method.fetch_wal("000000010000000000000001", desk / "segment")
    method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, stanza.tools))
    assert look(outside) == before
    inside = [path for path in (desk / "copy").rglob("*") if path.is_symlink()]
    assert all(path.resolve().is_relative_to(desk / "copy") for path in inside), inside
    assert (desk / "copy" / "data" / "notes" / "note").read_text() == "kept beside the data"
    with recovered(method, stanza.tools, desk / "copy", stanza.end) as copy:
        assert counts_of(copy) == stanza.counts
    assert look(outside) == before


def test_a_backup_is_picked_by_its_name_or_by_an_instant(stanza: Stanza, desk: Path) -> None:
    assert stanza.method(desk, backup=stanza.full).pick().label == stanza.full
    assert stanza.method(desk, before=stanza.between).pick().label == stanza.full
    assert stanza.method(desk, before=datetime(2100, 1, 1, tzinfo=UTC)).pick().label == stanza.newest


def test_a_backup_is_picked_that_leads_to_the_point(stanza: Stanza, desk: Path) -> None:
    full, newest = stanza.method(desk, backup=stanza.full).pick(), stanza.method(desk).pick()
    assert stanza.method(desk, to={"time": stanza.between}).pick().label == stanza.full
    assert stanza.method(desk, to={"lsn": full.stop_lsn}).pick().label == stanza.full
    for point in ({"lsn": newest.stop_lsn}, {"time": datetime.now(UTC)}, {"latest": True}, {"name": "somewhere"}):
        assert stanza.method(desk, to=point).pick().label == stanza.newest
    for point, said in (({"lsn": full.start_lsn}, "lsn"), ({"time": datetime(2020, 1, 1, tzinfo=UTC)}, "time 2020")):
        with pytest.raises(NoBackupError, match=f"no backup that leads to the {said}.*: the oldest, {stanza.full}, is"):
            stanza.method(desk, to=point).pick()


def test_a_backup_that_is_not_there_is_named(stanza: Stanza, desk: Path) -> None:
    with pytest.raises(NoBackupError, match=f"holds no backup 20200101-000000F: expected one of {stanza.newest}, "):
        stanza.method(desk, backup="20200101-000000F").pick()
    with pytest.raises(NoBackupError, match=f"no backup from before 2020-01-01 .*: the oldest, {stanza.full}, is of"):
        stanza.method(desk, before=datetime(2020, 1, 1, tzinfo=UTC)).pick()


def test_an_empty_repository_is_no_backup(stanza: Stanza, desk: Path) -> None:
    with pytest.raises(ToolError, match=r"the stanza shop in .*/empty is not there: missing stanza path"):
        stanza.method(desk, own(desk / "empty")).pick()
    with pytest.raises(ToolError, match=r"the stanza other in .* is not there"):
        stanza.method(desk, stanza="other").pick()


def test_a_stanza_without_a_backup_is_said_to_have_none(stanza: Stanza, desk: Path) -> None:
    other = own(desk / "other")
    pgbackrest(stanza.source, "stanza-create", "--no-online", f"--repo1-path={other}")
    with pytest.raises(NoBackupError, match=r"the stanza shop in .* holds no backup"):
        stanza.method(desk, other).pick()


def test_a_repository_of_another_system_is_refused(stanza: Stanza, desk: Path) -> None:
    method = stanza.method(desk)
    identifier = method.source.system_identifier
    other = replace(method, source=method.source.model_copy(update={"system_identifier": "7000000000000000001"}))
    with pytest.raises(
        GuardError, match=f"another system: expected system identifier 70+1, got {identifier}"
    ) as caught:
        other.pick()
    assert "name the repository of" in caught.value.hint


def test_a_repository_that_may_not_be_read_is_said_to_be_so(stanza: Stanza, desk: Path) -> None:
    if server_account() is None:
        pytest.skip("not root: there is nobody else whom the repository could belong to")
    (desk / "closed").mkdir(mode=0o700)
    with pytest.raises(ToolError, match="cannot be read") as caught:
        stanza.method(desk, desk / "closed").pick()
    assert "the account that servers run as must be able to read it" in caught.value.hint


@pytest.mark.parametrize("name", ["pg_data/base", pytest.param("pg_tblspc", marks=pytest.mark.thorough)])
def test_a_flipped_byte_in_a_file_of_the_backup_is_found(stanza: Stanza, desk: Path, name: str) -> None:
    damaged = stanza.copy(desk)
    backups = damaged / "backup" / "shop"
    files = [path for label in (stanza.full, stanza.newest) for path in (backups / label / name).rglob("*.gz")]
    path = max(files, key=lambda path: path.stat().st_size)
    flip(path)
    method = stanza.method(desk, damaged, backup=path.relative_to(backups).parts[0])
    with pytest.raises(ToolError, match=r"pgbackrest ended with \d+: .*(restor|checksum|inflate|data)") as caught:
        method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, stanza.tools))
    assert "raw/pgbackrest-restore.log" in caught.value.hint


def segments(repository: Path) -> list[Path]:
    return sorted(path for path in (repository / "archive").rglob("*-*.gz") if len(path.name.split("-")[0]) == 24)


def test_wal_is_fetched_before_anything_is_laid_out_and_what_is_not_there_is_said_to_be_so(
    stanza: Stanza, desk: Path
) -> None:
    before = look(stanza.source.repository)
    method = stanza.method(desk)
    name = segments(stanza.source.repository)[0].name.split("-")[0]
    assert method.fetch_wal(name, desk / "segment")
    assert (desk / "segment").stat().st_size == 16 << 20
    assert not method.fetch_wal("0000000100000FFF000000FF", desk / "none")
    assert not method.fetch_wal("00000009.history", desk / "none")
    assert not (desk / "none").exists()
    assert look(stanza.source.repository) == before
    with pytest.raises(ToolError, match="expected the name of a WAL segment"):
        method.fetch_wal("--help", desk / "none")


def test_an_archive_that_cannot_be_read_is_not_one_that_ends(stanza: Stanza, desk: Path) -> None:
    damaged = stanza.copy(desk)
    method = stanza.method(desk, damaged)
    path = segments(damaged)[-1]
    flip(path)
    with pytest.raises(ToolError, match="the archive of WAL cannot be read: "):
        method.fetch_wal(path.name.split("-")[0], desk / "segment")
    shutil.rmtree(damaged / "archive")
    with pytest.raises(ToolError, match="the archive of WAL cannot be read: "):
        method.fetch_wal(path.name.split("-")[0], desk / "segment")


def test_a_missing_segment_does_not_pass_for_the_end_of_the_archive(stanza: Stanza, desk: Path) -> None:
    damaged = stanza.copy(desk)
    segments(damaged)[-1].unlink()
    method = stanza.method(desk, damaged)
    method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, stanza.tools))
    with (
        pytest.raises(ClusterError, match=r"ended too early|ended before"),
        recovered(method, stanza.tools, desk / "copy", stanza.end),
    ):
        pass


def test_a_damaged_segment_ends_the_recovery_with_an_error(stanza: Stanza, desk: Path) -> None:
    damaged = stanza.copy(desk)
    flip(segments(damaged)[-1])
    method = stanza.method(desk, damaged)
    method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, stanza.tools))
    with (
        pytest.raises(ClusterError, match="could not restore file"),
        recovered(method, stanza.tools, desk / "copy", stanza.end),
    ):
        pass


def test_nothing_is_laid_out_over_what_is_there(stanza: Stanza, desk: Path) -> None:
    method = stanza.method(desk)
    (desk / "copy" / "data").mkdir(parents=True)
    with pytest.raises(ToolError, match="is there already"):
        method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, stanza.tools))


def test_a_backup_that_its_repository_has_errors_for_is_not_passed_over(stanza: Stanza, desk: Path) -> None:
    it, other = stanza.source, own(desk / "other")
    it.sql("CREATE TABLE IF NOT EXISTS spoiled AS SELECT g FROM generate_series(1, 1000) g")
    it.sql("CHECKPOINT")
    path = it.cluster.data / str(it.sql("SELECT pg_relation_filepath('spoiled')")[0][0])
    sound = path.read_bytes()
    flip(path)
    try:
        pgbackrest(it, "stanza-create", "--no-online", f"--repo1-path={other}")
        pgbackrest(
            it, "backup", "--start-fast", "--repo1-retention-full=9", "--no-archive-check", f"--repo1-path={other}"
        )
    finally:
        path.write_bytes(sound)
    with pytest.raises(NoBackupError, match="is not sound: pages whose checksum was wrong when it was taken"):
        stanza.method(desk, other).pick()


def test_without_the_tool_the_message_says_what_to_install(
    stanza: Stanza, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(desk))
    with pytest.raises(ToolError, match="pgbackrest is not on the path") as caught:
        stanza.method(desk).pick()
    assert caught.value.hint == "install the package pgbackrest on the machine that runs the drill"


@pytest.fixture(scope="module")
def sealed() -> Iterator[tuple[Production, Tools, str]]:
    """An encrypted repository, which a configuration file tells of without its secret."""
    tools = debian_tools("pgbackrest")
    cipher = ["--repo1-cipher-type=aes-256-cbc"]
    archive = f"PGBACKREST_REPO1_CIPHER_PASS='{CIPHER}' "
    with production(tools, lambda place: archive + " ".join([*options(place, *cipher), "archive-push", "%p"])) as it:
        it.extra["PGBACKREST_REPO1_CIPHER_PASS"] = CIPHER
        pgbackrest(it, "stanza-create", "--no-online", *cipher)
        it.add_rows()
        pgbackrest(it, "backup", "--type=full", "--start-fast", "--repo1-retention-full=9", *cipher)
        it.add_rows()
        (it.place / "pgbackrest.conf").write_text(
            f"[global]\nrepo1-path={it.repository}\nrepo1-cipher-type=aes-256-cbc\narchive-async=y\n"
            f"spool-path=/nowhere\nlog-path={it.place / 'log'}\n[shop]\npg1-path=/var/lib/postgresql/15/main\n"
        )
        yield it, tools, it.archived()


def sealed_method(it: Production, tools: Tools, desk: Path) -> Pgbackrest:
    told = {"method": "pgbackrest", "stanza": "shop", "config": str(it.place / "pgbackrest.conf"), "jobs": 2}
    wish = Plan.model_validate(told | {"secrets": {"repo1-cipher-pass": "env:TEST_CIPHER"}})
    return Pgbackrest(wish, it.server, tools, desk / "repository", desk / "raw")


def test_an_encrypted_repository_is_read_and_its_secret_is_written_nowhere(
    sealed: tuple[Production, Tools, str], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, tools, end = sealed
    monkeypatch.setenv("TEST_CIPHER", CIPHER)
    before = look(it.repository) | look(it.place / "log") | look(it.place / "lock")
    method = sealed_method(it, tools, desk)
    assert method.fetch_wal("000000010000000000000001", desk / "segment")
    taken = method.lay_out(method.pick(), desk / "copy" / "data", workspace(desk, tools))
    assert CIPHER not in str(taken)
    with recovered(method, tools, desk / "copy", end, method.environment()) as copy:
        assert counts_of(copy) == it.counts()
        for path in (*desk.rglob("fetch-wal"), *desk.rglob("*.log"), desk / "copy" / "log"):
            assert CIPHER not in path.read_text()
    assert look(it.repository) | look(it.place / "log") | look(it.place / "lock") == before


def test_a_wrong_or_missing_secret_is_an_error(
    sealed: tuple[Production, Tools, str], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, tools, _ = sealed
    with pytest.raises(SecretError, match="TEST_CIPHER is not set"):
        sealed_method(it, tools, desk).pick()
    monkeypatch.setenv("TEST_CIPHER", "some other horse")
    with pytest.raises(ToolError, match=r"cannot be read: \[(Format|Crypto)Error\]"):
        sealed_method(it, tools, desk).pick()


def test_who_it_is_for_aws_reaches_the_tool_and_the_script_and_nothing_else_of_the_person_does(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Kubernetes, where pgBackRest's repo1-s3-key-type is web-id."""
    tell_environment(desk, "pgbackrest", 1)
    identity = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/drill", "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token"}
    others = {
        "AWS_SECRET_ACCESS_KEY": "of-the-person",
        "AWS_PROFILE": "person",
        "PATH": f"{desk / 'bin'}:/usr/bin:/bin",
    }
    for name, value in (identity | others).items():
        monkeypatch.setenv(name, value)
    told = {"method": "pgbackrest", "stanza": "shop", "config": "/etc/pgbackrest.conf"}
    method = Pgbackrest(Plan.model_validate(told), SOURCE, embedded_tools(), desk / "repository", desk / "raw")
    with pytest.raises(ToolError, match="pgbackrest ended with 1"):
        method.pick()
    make_folder(desk / "repository" / "system")
    assert not method.fetch_wal("000000010000000000000001", desk / "x")
    for name in ("info", "wal"):
        said = told_environment(desk / "raw" / f"pgbackrest-{name}.log")
        assert {name: value for name, value in said.items() if name.startswith("AWS_")} == identity
    monkeypatch.delenv("AWS_ROLE_ARN")
    assert method.environment() == {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/token"}


def test_the_stand_in_for_a_source_is_one_for_the_embedded_version_too(desk: Path) -> None:
    place = make_folder(desk / "place")
    make_stand_in(place / "system", "7000000000000000001", embedded_tools(), desk / "raw" / "initdb.log")
    assert [path.name for path in place.iterdir()] == ["system"]
    control = (place / "system" / "global" / "pg_control").read_bytes()
    assert int.from_bytes(control[:8], "little") == 7000000000000000001
    with pytest.raises(ToolError, match="has no checksum where one is expected"):
        give_identity(bytes([control[0] ^ 1]) + control[1:], 1)
