"""Recovery from a storage of WAL-G: with the real program where it is installed, and what is said where it is not."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fix_repository import (
    counts_of,
    debian_tools,
    look,
    production,
    recovered,
    tell_environment,
    told_environment,
    workspace,
)
from pydantic import TypeAdapter

from drills.errors import ToolError
from drills.plans import repository as plan_repository
from drills.plans.repository import Walg as Plan
from drills.records import Server, Verdict
from drills.recovery.base import ToolLog
from drills.recovery.repositories.barman import Barman
from drills.recovery.repositories.existing import open_repository
from drills.recovery.repositories.pgbackrest import Pgbackrest
from drills.recovery.repositories.walg import Walg, map_spaces, read_list
from drills.tools import embedded_tools

ENTRY = {
    "backup_name": "base_00000002000000000000000E", "time": "2026-11-20T01:00:09Z",
    "wal_file_name": "00000002000000000000000E", "start_time": "2026-11-20T01:00:01.5Z",
    "finish_time": "2026-11-20T01:00:08.25Z", "date_fmt": "%Y-%m-%dT%H:%M:%S.%fZ", "hostname": "db", "data_dir": "/d",
    "pg_version": 150000, "start_lsn": 4529848360, "finish_lsn": 4529848600, "is_permanent": False,
    "system_identifier": 7000000000000000001, "uncompressed_size": 24037844, "compressed_size": 6691164,
}  # fmt: skip
SOURCE = Server(
    address="r@h:1/d", system_identifier="7000000000000000001", version="18", major=18, database="d", role="r", size=1
)


def method(desk: Path, config: Path, **plan: object) -> Walg:
    wish = Plan.model_validate({"method": "walg", "config": str(config)} | plan)
    return Walg(wish, SOURCE, embedded_tools(), desk / "storage", desk / "raw")


def test_without_the_program_every_step_says_what_to_install(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(desk))
    asked = method(desk, desk / "wal-g.json")
    for step in (asked.pick, asked.restore_command, lambda: asked.fetch_wal("000000010000000000000001", desk / "x")):
        with pytest.raises(ToolError, match="wal-g is not on the path") as caught:
            step()
        assert caught.value.hint == "install WAL-G, built for PostgreSQL, on the machine that runs the drill"


def test_wal_is_fetched_one_file_at_a_time_and_what_production_fetched_in_advance_is_left_alone(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_environment(desk, "wal-g", 74)
    monkeypatch.setenv("PATH", f"{desk / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KEY", "of-the-storage")
    monkeypatch.setenv("WALG_PREFETCH_DIR", "/of/production")
    asked = method(desk, desk / "wal-g.json", secrets={"WALG_LIBSODIUM_KEY": "env:KEY"})
    assert not asked.fetch_wal("000000010000000000000001", desk / "x")
    told = told_environment(desk / "raw" / "wal-g-wal.log")
    place = desk / "storage"
    assert (told["HOME"], told["WALG_PREFETCH_DIR"]) == (str(place), str(place / "prefetch"))
    assert (told["WALG_DOWNLOAD_CONCURRENCY"], told["WALG_LIBSODIUM_KEY"]) == ("1", "[secret]")


@pytest.mark.parametrize(
    ("told", "method"),
    [
        ({"method": "pgbackrest", "stanza": "shop", "repo_path": "/srv"}, Pgbackrest),
        ({"method": "barman", "server": "shop"}, Barman),
        ({"method": "walg", "config": "/etc/wal-g.json"}, Walg),
    ],
)
def test_the_plan_says_which_method_opens_the_repository(desk: Path, told: dict[str, str], method: type) -> None:
    section: TypeAdapter[Any] = TypeAdapter(plan_repository.Pgbackrest | plan_repository.Barman | plan_repository.Walg)
    opened = open_repository(section.validate_python(told), SOURCE, embedded_tools(), desk / "place", desk / "raw")
    assert type(opened) is method


def test_a_list_is_read_with_numbers_or_texts_for_places_in_the_wal() -> None:
    later = ENTRY | {
        "backup_name": "base_00000002000000000000001A",
        "start_lsn": "0/1A000028",
        "finish_lsn": "0/1A000100",
    }
    (first, second) = read_list("INFO: 2026/11/20 01:02:03 List backups\n" + json.dumps([ENTRY, later]))
    assert (first.start_lsn, first.stop_lsn, first.timeline) == ("1/E000028", "1/E000118", 2)
    assert (second.start_lsn, second.system_identifier) == ("0/1A000028", "7000000000000000001")
    assert first.taken is not None
    assert first.taken.isoformat() == "2026-11-20T01:00:08.250000+00:00"
    assert read_list("INFO: 2026/11/20 01:02:03 No backups found\n") == []


@pytest.mark.parametrize("said", ["", "INFO: nothing", '[{"backup_name": "base_1"}]', "[1]"])
def test_a_list_that_cannot_be_read_is_an_error(said: str) -> None:
    with pytest.raises(ToolError, match="said nothing that can be read"):
        read_list(said)


def test_every_tablespace_gets_a_place_of_the_drill_s() -> None:
    sentinel = json.dumps(
        {"LSN": 1, "Spec": {"base_prefix": "/d", "tablespaces": ["16384"], "16384": {"loc": "/prod"}}}
    )
    assert map_spaces(sentinel, Path("/copy/data"), Path("/copy/tablespaces")) == {
        "base_prefix": "/copy/data",
        "tablespaces": ["16384"],
        "16384": {"loc": "/copy/tablespaces/16384", "link": "pg_tblspc/16384"},
    }
    assert map_spaces('{"Spec": null}', Path("/c/data"), Path("/c/tablespaces")) is None
    for said in ("", "{}", "ERROR: no such object"):
        with pytest.raises(ToolError, match="does not say which tablespaces it has"):
            map_spaces(said, Path("/c/data"), Path("/c/tablespaces"))


@pytest.mark.parametrize(
    ("accepted", "verdict"),
    [((), Verdict.UNKNOWN), (("the backup has no digests",), Verdict.PASS), (("something else",), Verdict.UNKNOWN)],
)
def test_that_nothing_can_be_verified_is_a_warning_that_the_plan_may_accept(
    desk: Path, accepted: tuple[str, ...], verdict: Verdict
) -> None:
    """As the README says of it."""
    asked = method(desk, desk / "wal-g.json", accept_warnings=accepted)
    said = ToolLog("wal-g", Verdict.PASS, "", (), (), desk / "raw" / "wal-g-fetch.log")
    assert asked._unverified(said, "digests").verdict is verdict
    worse = asked._unverified(replace(said, warnings=("WARNING: odd",)), "digests")
    assert "WARNING: odd" in worse.warnings


def test_the_newest_backup_is_brought_back_with_every_row(desk: Path) -> None:
    if shutil.which("wal-g") is None:
        pytest.skip("wal-g is not on the path")
    tools = debian_tools()
    with production(tools, lambda place: f"wal-g --config={place / 'wal-g.json'} wal-push %p") as it:
        (it.place / "wal-g.json").write_text(json.dumps({"WALG_FILE_PREFIX": str(it.repository)}))
        it.add_rows()
        it.run(["wal-g", f"--config={it.place / 'wal-g.json'}", "backup-push", str(it.cluster.data)])
        it.add_rows("elsewhere")
        before = look(it.repository)
        wish = Plan.model_validate({"method": "walg", "config": str(it.place / "wal-g.json")})
        walg = Walg(wish, it.server, tools, desk / "storage", desk / "raw")
        taken = walg.lay_out(walg.pick(), desk / "copy" / "data", workspace(desk, tools))
        assert taken.log.verdict is Verdict.UNKNOWN, "nothing could be verified, and nobody accepts that"
        assert not walg.fetch_wal("0000000100000FFF000000FF", desk / "none")
        with recovered(walg, tools, desk / "copy", it.archived()) as copy:
            assert counts_of(copy) == it.counts()
        assert look(it.repository) == before
