"""The demo's plan, and where its tests find a PostgreSQL of the distribution."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_debian import find_debian

from drills.clusters import Cluster
from drills.planfile import read_plan
from drills.plans.repository import Pgbackrest
from drills.tools import embedded_tools
from flows.demo import Bank


@pytest.mark.parametrize("name", ["plain", "a: b #c", 'qu"ote\\'])
def test_the_demo_s_plan_names_the_repository_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    cluster = Cluster(tmp_path / name, embedded_tools(), None, "")
    plan = read_plan(Bank(cluster, "pgbackrest").plan).plan
    assert isinstance(plan.recovery, Pgbackrest)
    assert plan.recovery.repo_path == str(tmp_path / name / "repository")


@pytest.mark.parametrize(("there", "found"), [([], "15"), (["15", "17"], "15"), (["9", "17", "common"], "17")])
def test_another_version_of_the_distribution_s_stands_in_for_15(tmp_path: Path, there: list[str], found: str) -> None:
    for name in there:
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "postgres").touch()
    assert find_debian(tmp_path) == tmp_path / found / "bin"
