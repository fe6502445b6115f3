"""What the documents say is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
