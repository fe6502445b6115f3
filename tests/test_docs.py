"""What the documents say is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml

from drills.plan import Method
from drills.planfile import parse_plan, read_plan
from flows import cli
from flows.demo import PLAN

ROOT = Path(__file__).parent.parent


def test_the_readmes_plan_can_run_and_has_no_more_than_twenty_lines() -> None:
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert text is not None
    assert len(text[1].splitlines()) <= 20
    plan = parse_plan(text[1].encode(), "README.md")
    assert plan.checks.totals
    assert plan.outages
    assert plan.requester


def test_the_readme_has_a_recovery_section_of_every_method_and_each_can_run() -> None:
    blocks = [
        yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ]
    sections = next(block for block in blocks if isinstance(block, list))
    closing = next(block for block in blocks if isinstance(block, dict) and list(block) == ["checks"])
    source = {"address": "postgresql://drillbook@db.internal:5432/billing"}
    for section in sections:
        exact = section["method"] in {"dump", "stream", "basebackup", "pgbackrest", "barman"}
        plan = {"version": 1, "database": "billing", "owner": "sre", "source": source, "recovery": section}
        read = parse_plan(yaml.safe_dump(plan | ({} if exact else closing), sort_keys=False).encode(), "README.md")
        assert read.recovery.aligned == exact
    told = {get_args(method.model_fields["method"].annotation)[0] for method in get_args(Method)}
    assert {section["method"] for section in sections} | {"aurora"} == told
    assert all(f"`{method}`" in (ROOT / "README.md").read_text() for method in told)


@pytest.mark.parametrize("path", sorted((ROOT / "drills" / "catalog").glob("*.yaml")), ids=lambda path: path.name)
def test_every_plan_of_the_catalogue_can_run(path: Path) -> None:
    assert read_plan(path).plan.database == path.stem


def test_the_demos_plan_is_in_the_catalogue() -> None:
    assert PLAN == ROOT / "drills" / "catalog" / "bank.yaml"


def test_the_readme_names_every_command_and_exit_code() -> None:
    readme = (ROOT / "README.md").read_text()
    names = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert names == {"demo", "run", "list", "show", "verify", "sweep"}
    assert all(name in readme for name in names)
    for code in (cli.PASSED, cli.FAILED, cli.NOT_KNOWN, cli.REFUSED, cli.INTERRUPTED):
        assert f"| {code} |" in readme


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_generated_reference_is_unchanged() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pins_name_no_package_index() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    assert "--hash=sha256:" in pins
    assert not re.search(r"https?://|index-url|find-links", pins)


def test_every_module_of_drills_is_either_word_or_hand() -> None:
    """Else the contracts of imports would not speak of it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    split = next(contract for contract in contracts if contract["name"] == "words never import hands")
    seen = next(contract for contract in contracts if contract["name"].startswith("checks and reports see"))
    words, hands = set(split["source_modules"]), set(split["forbidden_modules"])
    modules = {path.parent if path.stem == "__init__" else path for path in (ROOT / "drills").glob("*/__init__.py")}
    modules |= {path for path in (ROOT / "drills").glob("*.py") if path.stem != "__init__"}
    assert {f"drills.{module.stem}" for module in modules} == words | hands
    assert words & hands == set()
    assert set(seen["forbidden_modules"]) == hands


@pytest.mark.parametrize("name", ["plan.md", "checks.md"])
def test_a_generated_page_has_a_title(name: str) -> None:
    assert any(line.startswith("# ") for line in (ROOT / "docs" / name).read_text().splitlines()[:3])
