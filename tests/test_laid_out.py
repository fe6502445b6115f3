"""What a base backup laid out is looked at before it is touched, and never leads out of its folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_archiving import Archiving, adopt, archive_all, back_up, own, quiet, scalar
from fix_postgres import run_sql

from drills.clusters import destroy_cluster
from drills.errors import ClusterError
from drills.recovery.pages.adopt import adopt_cluster, prepare_files
from drills.targets import RecoveryTarget, TargetKind


def refused(archiving: Archiving, folder: Path) -> ClusterError:
    """It is refused, and not one file was changed for that."""
    before = sorted(str(path) for path in (folder / "data").rglob("*"))
    with pytest.raises(ClusterError) as caught:
        prepare_files(folder, archiving.cluster.tools)
    assert sorted(str(path) for path in (folder / "data").rglob("*")) == before
    assert caught.value.hint
    return caught.value


def test_a_tablespace_outside_of_the_copys_folder_is_refused(archiving: Archiving, folder: Path) -> None:
    elsewhere = folder.parent / "productions"
    elsewhere.mkdir()
    link = folder / "data" / "pg_tblspc" / "16999"
    link.symlink_to(elsewhere)
    assert f"{link} leads to {elsewhere}" in refused(archiving, folder).message
    link.unlink()
    (folder / "data" / "tablespace_map").write_text(f"16998 {folder}/spaces/one\n16999 {elsewhere}\n")
    assert f"tablespace_map: {elsewhere} leads to" in refused(archiving, folder).message
    (folder / "data" / "tablespace_map").write_text(f"16999 {folder}/../productions\n")
    assert "outside of" in refused(archiving, folder).message
    (folder / "data" / "tablespace_map").unlink()
    (folder / "data" / "pg_wal" / "archive_status").rmdir()
    (folder / "data" / "pg_wal" / "archive_status").symlink_to(elsewhere)
    assert "leads to" in refused(archiving, folder).message


def test_files_that_are_no_base_backup_are_refused(archiving: Archiving, folder: Path) -> None:
    data = folder / "data"
    label = (data / "backup_label").read_bytes()
    (data / "backup_label").unlink()
    assert (
        "has no backup_label, and was copied from a server that was in production" in refused(archiving, folder).message
    )
    (data / "backup_label").write_bytes(label)
    (data / "PG_VERSION").write_text("9\n")
    assert "expected" in refused(archiving, folder).message
    (data / "PG_VERSION").unlink()
    assert "is not a data directory" in refused(archiving, folder).message


def test_a_directory_that_a_server_runs_in_is_refused(archiving: Archiving) -> None:
    source = archiving.cluster
    with pytest.raises(ClusterError, match="a server or a tool runs in"):
        prepare_files(source.folder, source.tools)
    assert scalar(source.address(), "SHOW archive_mode") == "on"


# --- last, since they leave tablespaces in production's WAL ---------------------------------------------------------


@contextlib.contextmanager
def new_tablespace(archiving: Archiving, name: str) -> Iterator[Path]:
    """A tablespace of production's with a table in it."""
    place = archiving.place / name
    place.mkdir(mode=0o700)
    own(archiving.cluster, place)
    address = archiving.cluster.address()
    run_sql(address, f"CREATE TABLESPACE {name} LOCATION '{place}'")
    run_sql(address, f"CREATE TABLE in_{name} TABLESPACE {name} AS SELECT 1 AS n")
    try:
        yield place
    finally:
        run_sql(address, f"DROP TABLE in_{name}")
        run_sql(address, f"DROP TABLESPACE {name}")


@pytest.fixture
def beside(archiving: Archiving) -> Iterator[Path]:
    """A folder for a copy, of a production that goes on archiving."""
    with tempfile.TemporaryDirectory(prefix="drillbook-copy-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "copy"
        destroy_cluster(Path(name) / "copy")


@pytest.mark.parametrize("mapped", [False, True], ids=["by a link", "by a map"])
def test_a_tablespace_inside_of_the_folder_comes_along_and_goes_with_it(
    archiving: Archiving, beside: Path, *, mapped: bool
) -> None:
    source = archiving.cluster
    name = f"space{int(mapped)}"
    with new_tablespace(archiving, name) as place:
        beside.mkdir()
        own(source, beside)
        options = [f"--tablespace-mapping={place}={beside}/{name}", "-X", "stream"]
        back_up(source, beside / "data", archiving.place / "backups", options)
        if mapped:
            link = next((beside / "data" / "pg_tblspc").iterdir())
            (beside / "data" / "tablespace_map").write_text(f"{link.name} {link.readlink()}\n")
            link.unlink()
        adopted = adopt_cluster(
            beside,
            source.tools,
            target=RecoveryTarget(kind=TargetKind.IMMEDIATE),
            restore_command="false",
            progress=quiet,
            deadline=60,
        )
        address = adopted.cluster.address()
        assert run_sql(address, f"SELECT n FROM in_{name}") == [(1,)]
        assert str(beside) in scalar(
            address, f"SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = '{name}'"
        )
        destroy_cluster(beside)
        adopted.cluster.reap()
        assert not beside.exists()
        assert run_sql(source.address(), f"SELECT n FROM in_{name}") == [(1,)]


def test_a_tablespace_that_production_made_after_the_backup_is_never_followed_to_its_path(
    archiving: Archiving, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archiving.cluster
    with new_tablespace(archiving, "later") as place:
        run_sql(source.address(), "CHECKPOINT")
        archive_all(source, archiving.place)
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        archiving.lay_out(beside)
        with pytest.raises(ClusterError, match="could not create symbolic link") as caught:
            adopt(archiving, beside, archiving.latest())
        assert "must not follow it to production's path" in caught.value.hint
        assert list((beside / "data" / "pg_tblspc").iterdir()) == []
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
        destroy_cluster(beside)
        # With the door open, it is followed; that is found before anybody uses the copy, and would be too late.
        monkeypatch.setattr("drills.recovery.pages.replay.close_tablespaces", lambda _laid: None)
        archiving.lay_out(beside)
        with pytest.raises(ClusterError, match=rf"files of the copy lie outside of .* leads to {place}"):
            adopt(archiving, beside, archiving.latest())
        destroy_cluster(beside)
        assert run_sql(source.address(), "SELECT n FROM in_later") == [(1,)]
