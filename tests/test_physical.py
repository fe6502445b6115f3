"""A physical copy is recovered to its target, or says why not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fix_archiving import Archiving, adopt, ended, quiet, rows_of, scalar
from fix_postgres import run_sql

from drills.clusters import processes_using
from drills.errors import ClusterError
from drills.recovery.pages.adopt import prepare_files
from drills.recovery.pages.laid_out import LaidOut
from drills.recovery.pages.replay import copy_from_folder, recover_files
from drills.targets import RecoveryTarget, TargetKind


@pytest.mark.parametrize(
    ("kind", "value", "inclusive", "rows", "reason"),
    [
        ("lsn", "position of 2", True, [0, 1, 2], "LSN"),
        ("lsn", "position of 2", False, [0, 1, 2], "LSN"),
        ("time", "moment of 3", True, [0, 1, 2, 3], "before"),
        ("name", "after row 1", True, [0, 1], 'at restore point "after row 1"'),
        ("latest", "", True, [0, 1, 2, 3, 4], "no recovery target specified"),
        ("immediate", "", True, [0], "reached consistency"),
    ],
)
def test_a_recovery_ends_at_its_target(
    archiving: Archiving, folder: Path, *, kind: str, value: str, inclusive: bool, rows: list[int], reason: str
) -> None:
    what, _, row = value.partition(" of ")
    moments = {"position": archiving.positions, "moment": archiving.moments}
    found = moments[what][int(row)] if row else value
    reach = archiving.end if kind == "latest" else ""
    target = RecoveryTarget(kind=TargetKind(kind), value=found, inclusive=inclusive, reach=reach)
    adopted = adopt(archiving, folder, target)
    with ended(adopted) as copy:
        assert rows_of(adopted) == rows
        assert adopted.recovered.timeline == 2
        assert adopted.recovered.reason.startswith(reason) or reason in adopted.recovered.reason
        assert adopted.recovered.segments > 0
        prepared = run_sql(copy.address(), "SELECT gid FROM pg_prepared_xacts")
        assert prepared == ([("held",)] if kind == "latest" else [])
        if kind == "latest":
            run_sql(copy.address(), "COMMIT PREPARED 'held'")
            assert rows_of(adopted) == [*rows, 100]
            committed = "SELECT count(pg_xact_commit_timestamp(xmin)) FROM happened WHERE n BETWEEN 1 AND 4"
            assert scalar(copy.address(), committed) == 4
            assert scalar(copy.address(), "SELECT count(*) FROM pg_replication_origin_status") == 20


@pytest.mark.parametrize(
    ("kind", "value", "said", "hint"),
    [
        ("lsn", "0/1", "stop point is before consistent recovery point", "before the backup's end"),
        ("time", "2020-01-01T00:00:00+00:00", "cannot be had: the backup holds everything up to", "older backup"),
        (
            "lsn",
            "FF/0",
            "recovery ended before configured recovery target was reached",
            "behind the end of the archive",
        ),
        ("name", "never made", "recovery ended before configured recovery target", "behind the end of the archive"),
    ],
)
def test_a_target_that_cannot_be_had_is_an_error_that_says_why(
    archiving: Archiving, folder: Path, kind: str, value: str, said: str, hint: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        adopt(archiving, folder, RecoveryTarget(kind=TargetKind(kind), value=value))
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert processes_using(folder) == []


@contextlib.contextmanager
def archive_without(archiving: Archiving, row: int, damage: Callable[[Path], None]) -> Iterator[Path]:
    """A copy of the archive in which something befell the segment that holds this row."""
    with tempfile.TemporaryDirectory(prefix="drillbook-archive-") as name:
        archive = Path(name) / "wal"
        shutil.copytree(archiving.archive, archive)
        for path in (Path(name), archive, *archive.iterdir()):
            path.chmod(0o755)
        damage(archive / archiving.segments[row])
        yield archive


def flip(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.seek(40)
        file.write(bytes(200))


def cut(segment: Path) -> None:
    os.truncate(segment, 8192)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "recovery to latest ended too early: expected WAL up to"),
        (flip, "recovery to latest ended too early: expected WAL up to"),
        (cut, "has wrong size"),
        (lambda segment: segment.parent.chmod(0o700), "could not restore file"),
    ],
    ids=["missing", "flipped", "cut", "closed"],
)
def test_wal_that_is_missing_or_damaged_in_the_middle_does_not_pass_for_the_archives_end(
    archiving: Archiving, folder: Path, damage: Callable[[Path], None], said: str
) -> None:
    if said == "could not restore file" and archiving.cluster.account is None:
        pytest.skip("only root runs servers as somebody whom a folder can be closed to")
    with archive_without(archiving, 3, damage) as archive, pytest.raises(ClusterError) as caught:
        adopt(archiving, folder, archiving.latest(), archive)
    assert said in caught.value.message
    assert caught.value.hint
    assert processes_using(folder) == []


def test_a_gap_before_a_target_is_an_error_too(archiving: Archiving, folder: Path) -> None:
    target = RecoveryTarget(kind=TargetKind.LSN, value=archiving.positions[4])
    with archive_without(archiving, 3, Path.unlink) as archive, pytest.raises(ClusterError) as caught:
        adopt(archiving, folder, target, archive)
    assert "recovery ended before configured recovery target was reached" in caught.value.message
    assert "missing or damaged" in caught.value.hint


def test_an_instant_just_before_the_backup_is_refused_and_one_just_after_is_not(
    archiving: Archiving, folder: Path
) -> None:
    said = LaidOut(folder, archiving.cluster.tools, archiving.cluster.account).control()["Time of latest checkpoint"]
    checkpoint = datetime.strptime(said, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    early = RecoveryTarget(kind=TargetKind.TIME, value=checkpoint.isoformat())
    with pytest.raises(ClusterError, match="the backup holds everything up to"):
        adopt(archiving, folder, early)
    fresh = archiving.lay_out(folder.parent / "second")
    late = RecoveryTarget(kind=TargetKind.TIME, value=archiving.moments[1])
    with ended(adopt(archiving, fresh, late)) as copy:
        assert run_sql(copy.address(), "SELECT max(n) FROM happened") == [(1,)]


def test_without_what_the_data_needs_a_recovery_ends(archiving: Archiving, folder: Path) -> None:
    """What `settings_needed` is for: a server's defaults have room for ten origins."""
    cluster = prepare_files(folder, archiving.cluster.tools)
    cluster.held = {name: value for name, value in cluster.held.items() if "replication_" not in name}
    with pytest.raises(ClusterError, match="could not find free replication state"):
        recover_files(cluster, archiving.latest(), copy_from_folder(archiving.archive), quiet, 60)
    assert not cluster.running
