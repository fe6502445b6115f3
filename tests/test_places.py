"""What is put where the servers' account can get to it is whole, or is swept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fix_home import halted, kill

from drills.places import half_copies, server_tools
from drills.tools import Tools
from flows.sweep import sweep

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")


@ROOT
def test_a_copy_of_tools_is_swept_once_its_process_is_killed_and_not_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drills.places._COMMON", tmp_path)
    one = tmp_path / "closed" / "one"
    for below in ("bin", "share"):
        (one / below).mkdir(parents=True)
    (one / "share" / "postgres.bki").touch()
    for name in ("postgres", "pg_dump"):
        (one / "bin" / name).write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 18.1'\n")
        (one / "bin" / name).chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    tools = Tools.at(one / "bin")
    child = halted(lambda: server_tools(tools), monkeypatch, shutil, "copytree")
    (half,) = half_copies()
    assert [(swept.drill, swept.what) for swept in sweep(home)] == [(half.name, "is running")]
    assert half.exists()
    kill(child)
    assert [(swept.drill, swept.what) for swept in sweep(home)] == [(half.name, "had not begun; removed")]
    assert list(half.parent.iterdir()) == []
    assert list(sweep(home)) == []
    copied = server_tools(tools)
    assert copied.folder.is_relative_to(half.parent)
    assert list(sweep(home)) == []
    assert (copied.folder / "postgres").exists()


@ROOT
def test_a_place_of_somebody_else_is_not_swept(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drills.places._COMMON", tmp_path)
    common = tmp_path / f"drillbook-{os.geteuid()}"
    (common / ".copying-x").mkdir(parents=True)
    common.chmod(0o777)
    assert list(sweep(home)) == []
    assert (common / ".copying-x").exists()
    common.chmod(0o755)
    assert [swept.what for swept in sweep(home)] == ["had not begun; removed"]
