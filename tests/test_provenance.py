"""What git is asked about a plan, and what is said where git has no answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drills.provenance import trace

NOBODY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Ines Amaral",
    "GIT_AUTHOR_EMAIL": "ines@example.com",
    "GIT_COMMITTER_NAME": "Somebody Else",
    "GIT_COMMITTER_EMAIL": "else@example.com",
    "GIT_COMMITTER_DATE": "2026-03-01T10:00:00+02:00",
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan two folders down in a repository that has nothing else to commit."""
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "repository" / "plans"
    folder.mkdir(parents=True)
    path = folder / "billing.yaml"
    path.write_bytes(b"version: 1\n")
    git(folder, "init", "--quiet")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message", "the plan")
    return path


def git(path: Path, *arguments: str) -> str:
    command = ["git", "-C", str(path.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_plan_has_commit_author_and_instant(plan: Path) -> None:
    found = trace(plan, b"version: 1\n")
    assert found.path == str(plan)
    assert found.sha256 == hashlib.sha256(b"version: 1\n").hexdigest()
    assert found.commit == git(plan, "rev-parse", "HEAD")
    assert found.author == "Ines Amaral <ines@example.com>"
    assert found.committed == datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    assert found.dirty is False


def test_the_commit_is_the_newest_that_touched_the_plan_not_the_newest_of_all(plan: Path) -> None:
    touched = git(plan, "rev-parse", "HEAD")
    (plan.parent / "other.yaml").write_text("x")
    git(plan, "add", ".")
    git(plan, "commit", "--quiet", "--message", "another plan")
    assert trace(plan, b"").commit == touched != git(plan, "rev-parse", "HEAD")


def test_a_changed_plan_is_dirty(plan: Path) -> None:
    plan.write_bytes(b"version: 2\n")
    assert trace(plan, b"version: 2\n").dirty is True


def test_a_change_in_another_folder_of_the_repository_is_dirty(plan: Path) -> None:
    (plan.parent.parent / "drills.py").write_text("pass")
    assert trace(plan, b"").dirty is True


def test_untracked_files_count_even_where_settings_hide_them(plan: Path) -> None:
    git(plan, "config", "status.showUntrackedFiles", "no")
    (plan.parent / "new.yaml").write_text("x")
    assert trace(plan, b"").dirty is True


def test_an_untracked_plan_has_no_commit_and_is_dirty(plan: Path) -> None:
    new = plan.parent / "new.yaml"
    new.write_text("x")
    found = trace(new, b"x")
    assert (found.commit, found.author, found.committed, found.dirty) == ("", "", None, True)


def test_an_ignored_plan_is_not_clean(plan: Path) -> None:
    (plan.parent / ".gitignore").write_text("local.yaml\n")
    git(plan, "add", ".")
    git(plan, "commit", "--quiet", "--message", "ignore")
    local = plan.parent / "local.yaml"
    local.write_text("x")
    assert git(plan, "status", "--porcelain") == ""
    assert trace(local, b"x").dirty is True


def test_a_plan_in_a_repository_without_commits_is_dirty(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("x")
    git(path, "init", "--quiet")
    found = trace(path, b"x")
    assert (found.commit, found.dirty) == ("", True)


def test_outside_git_nothing_is_said_but_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    path = tmp_path / "deep" / "plan.yaml"
    path.parent.mkdir()
    found = trace(path, b"x")
    assert found.sha256 == hashlib.sha256(b"x").hexdigest()
    assert (found.commit, found.author, found.committed, found.dirty) == ("", "", None, None)


def test_without_git_nothing_is_said_but_the_digest(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(plan.parent))
    found = trace(plan, b"x")
    assert (found.commit, found.dirty) == ("", None)


def test_a_status_that_git_cannot_give_is_unknown_never_clean(plan: Path) -> None:
    index = Path(git(plan, "rev-parse", "--absolute-git-dir")) / "index"
    index.write_bytes(b"not an index")
    found = trace(plan, b"version: 1\n")
    assert found.commit
    assert found.dirty is None


def test_a_link_is_followed_to_the_plan_that_git_knows(plan: Path, tmp_path: Path) -> None:
    link = tmp_path / "current.yaml"
    link.symlink_to(plan)
    assert trace(link, b"").commit == git(plan, "rev-parse", "HEAD")


def test_a_name_with_wildcards_means_itself(plan: Path) -> None:
    star = plan.parent / "*.yaml"
    star.write_text("x")
    assert trace(star, b"x").commit == ""


def test_an_author_whose_name_is_not_utf8_does_not_stop_the_drill(plan: Path) -> None:
    git(plan, "-c", "i18n.commitEncoding=binary", "commit", "--quiet", "--amend", "--no-edit",
        "--author", os.fsdecode(b"In\xeas <ines@example.com>"))  # fmt: skip
    assert trace(plan, b"").author.endswith("<ines@example.com>")


def test_the_variables_of_a_git_hook_do_not_lead_elsewhere(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(plan, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(plan.parent / "nowhere"))
    assert trace(plan, b"").commit == commit


def test_asking_leaves_the_index_as_it_was(plan: Path) -> None:
    index = Path(git(plan, "rev-parse", "--absolute-git-dir")) / "index"
    os.utime(plan, (0, 0))
    before = index.read_bytes()
    trace(plan, b"")
    assert index.read_bytes() == before
