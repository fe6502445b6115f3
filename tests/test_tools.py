"""Tools of the server's own version, at a place where whoever runs servers can run them."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from drills import places
from drills.errors import GuardError, ToolError
from drills.places import open_place, reachable, server_account, server_tools
from drills.tools import EMBEDDED, Tools, choose_tools, embedded_tools

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")


def fake_tools(folder: Path, version: str, *, code: int = 0) -> Path:
    """A folder with a pg_dump that says this version."""
    folder.mkdir(parents=True)
    program = folder / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\nexit {code}\n")
    program.chmod(0o755)
    return folder


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any tools of PostgreSQL but what a test puts under this folder, and on the PATH in `path`."""
    monkeypatch.setattr("drills.tools._SYSTEM", (str(tmp_path / "system" / "{}" / "bin"),))
    monkeypatch.setattr("drills.tools.EMBEDDED", tmp_path / "embedded")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/sbin:/sbin")
    return tmp_path


@pytest.mark.parametrize(("version", "age"), [("16.9", "older"), ("19beta1", "newer")])
def test_tools_of_another_major_version_are_refused_with_what_was_expected(
    tmp_path: Path, version: str, age: str
) -> None:
    folder = fake_tools(tmp_path / "bin", version)
    with pytest.raises(GuardError) as refused:
        choose_tools(str(folder), 18, "db.example.com")
    assert refused.value.message == f"tools {age} than the server: expected PostgreSQL 18, got {version} in {folder}"
    assert "tools:" in refused.value.hint


def test_a_version_is_read_with_what_distributions_add_to_it(tmp_path: Path) -> None:
    tools = Tools.at(fake_tools(tmp_path / "bin", "16.3 (Debian 16.3-1.pgdg120+1)"))
    assert (tools.major, tools.version) == (16, "16.3")


def test_a_folder_without_usable_tools_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no usable pg_dump in") as refused:
        Tools.at(tmp_path)
    assert "tools:" in refused.value.hint
    with pytest.raises(ToolError, match="expected a version from"):
        Tools.at(fake_tools(tmp_path / "odd", "one"))


def test_a_missing_program_is_named_with_the_package_that_has_it(tmp_path: Path) -> None:
    tools = Tools.at(fake_tools(tmp_path / "bin", "18.1"))
    assert tools.program("pg_dump") == str(tmp_path / "bin" / "pg_dump")
    with pytest.raises(ToolError, match="initdb is missing in") as refused:
        tools.program("initdb")
    assert "PostgreSQL 18" in refused.value.hint


def test_a_relative_folder_is_found_from_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tools(tmp_path / "bin", "18.1")
    monkeypatch.chdir(tmp_path)
    assert Path(choose_tools("bin", 18, "x").program("pg_dump")).is_absolute()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "/var/run/postgresql", "127.0.0.1,localhost"])
def test_auto_takes_the_embedded_tools_for_this_machine(host: str) -> None:
    assert choose_tools("auto", embedded_tools().major, host).folder == EMBEDDED / "bin"


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.7", "127.0.0.1,db.example.com", ""])
def test_auto_never_takes_tools_without_tls_for_another_machine(bare: Path, host: str) -> None:
    fake_tools(bare / "embedded" / "bin", "18.1")
    with pytest.raises(GuardError, match="expected PostgreSQL 18, got none"):
        choose_tools("auto", 18, host)
    system = fake_tools(bare / "system" / "18" / "bin", "18.2")
    assert choose_tools("auto", 18, host).folder == system


def test_auto_goes_past_tools_that_do_not_run_or_are_of_another_version_and_names_them(bare: Path) -> None:
    fake_tools(bare / "embedded" / "bin", "18.1", code=1)
    fake_tools(bare / "system" / "17" / "bin", "17.5")
    fake_tools(bare / "path", "16.1")
    assert choose_tools("auto", 17, "localhost").version == "17.5"
    with pytest.raises(GuardError) as refused:
        choose_tools("auto", 18, "localhost")
    assert "no usable pg_dump" in refused.value.message
    assert "16.1 in" in refused.value.message


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only its owner may enter."""
    (tmp_path / "closed").mkdir(mode=0o700)
    return tmp_path / "closed"


@pytest.fixture
def common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where things go that the servers' account could not reach, in a place of the test's own."""
    monkeypatch.setattr("drills.places._COMMON", tmp_path)
    return tmp_path / f"drillbook-{os.geteuid()}"


@ROOT
def test_a_place_that_servers_reach_is_kept_and_another_is_moved(home: Path, closed: Path, common: Path) -> None:
    assert open_place(home / "drills" / "DR-1") == home / "drills" / "DR-1"
    assert open_place(closed / "DR-1" / "staging") == common / "DR-1-staging"
    assert stat.S_IMODE(common.stat().st_mode) == 0o755


@ROOT
def test_a_link_into_a_closed_place_does_not_make_it_reachable(home: Path, closed: Path) -> None:
    (closed / "inside").mkdir()
    (home / "link").symlink_to(closed / "inside")
    assert reachable(home / "new")
    assert not reachable(home / "link" / "new")


@ROOT
def test_a_strict_umask_does_not_close_the_common_place(closed: Path, common: Path) -> None:
    before = os.umask(0o077)
    try:
        open_place(closed / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE(common.stat().st_mode) == 0o755


@ROOT
@pytest.mark.parametrize("trap", ["foreign", "open", "link", "file", "dead link"])
def test_a_common_place_that_is_not_ours_alone_is_refused(closed: Path, common: Path, trap: str) -> None:
    account = server_account()
    assert account is not None
    if trap in {"foreign", "open"}:
        common.mkdir()
    if trap == "foreign":
        os.chown(common, account.uid, account.gid)
    if trap == "open":
        common.chmod(0o777)
    if trap == "link":
        common.symlink_to(common.parent)
    if trap == "file":
        common.touch()
    if trap == "dead link":
        common.symlink_to(common / "nowhere")
    with pytest.raises(ToolError, match="is not ours alone"):
        open_place(closed / "DR-1" / "staging")


@ROOT
def test_tools_in_a_closed_place_are_copied_once_each(closed: Path, common: Path) -> None:
    copies = []
    for name in ("one", "two"):
        folder = fake_tools(closed / name / "bin", "18.1")
        (folder / "postgres").write_text(name)
        (closed / name / "share").mkdir()
        (closed / name / "share" / "postgres.bki").touch()
        copies.append(server_tools(Tools.at(folder)))
        assert server_tools(Tools.at(folder)) == copies[-1]
    assert [(copy.folder / "postgres").read_text() for copy in copies] == ["one", "two"]
    assert len(list(common.iterdir())) == 2


@ROOT
def test_a_persons_folder_is_not_copied_because_tools_are_in_it(closed: Path, common: Path) -> None:
    tools = Tools.at(fake_tools(closed / "bin", "18.1"))
    (closed / "diary").write_text("secret")
    with pytest.raises(ToolError, match="cannot run the tools") as refused:
        server_tools(tools)
    assert "every user" in refused.value.hint
    assert not common.exists() or list(common.iterdir()) == []


def test_an_ordinary_user_runs_servers_as_himself(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_account() is None
    assert reachable(closed / "x")
    assert open_place(closed) == closed


def test_a_port_is_none_that_the_kernel_gives_away() -> None:
    low = int(places._EPHEMERAL.read_text().split()[0])
    assert all(places.free_port() < low for _ in range(50))


@ROOT
def test_the_wheels_programs_run_from_a_checkout_that_is_closed_to_the_servers(closed: Path, common: Path) -> None:
    """They find their libraries by a path relative to themselves, which has to hold where they are copied to."""
    package = EMBEDDED.parent
    shutil.copytree(package, closed / package.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs", symlinks=True)
    copied = server_tools(Tools.at(closed / package.name / EMBEDDED.name / "bin"))
    assert copied.folder.is_relative_to(common)
    assert copied.version == embedded_tools().version
    assert server_tools(Tools.at(closed / package.name / EMBEDDED.name / "bin")) == copied
