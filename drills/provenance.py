"""Where a plan comes from: its digest, and what git knows of it.

Refuses nothing: a plan outside version control has a digest and no commit. Guarantees that what git could not say is
left open, never guessed, and that asking changes nothing in the repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import datetime
from pathlib import Path

from drills.records import Provenance

_NEEDED = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
"""All that git is told: no secret of a plan, and no GIT_DIR of a hook, which would point at another repository."""

_GIT = ("git", "--no-optional-locks", "--literal-pathspecs")
"""Whichever git the person uses."""


def trace(path: Path, text: bytes) -> Provenance:
    """The provenance of the plan at this path, whose bytes these are."""
    digest = hashlib.sha256(text).hexdigest()
    if _git(path, "rev-parse", "--is-inside-work-tree") != "true":
        return Provenance(path=str(path), sha256=digest)
    log = _git(path, "log", "-1", "--no-show-signature", "--format=%H%x00%an <%ae>%x00%cI", "--", path.resolve().name)
    commit, _, rest = (log or "").partition("\0")
    author, _, when = rest.partition("\0")
    # Said outright, because a person's settings may leave untracked files out.
    changes = _git(path, "status", "--porcelain", "--untracked-files=normal")
    return Provenance(
        path=str(path),
        sha256=digest,
        commit=commit,
        author=author,
        committed=datetime.fromisoformat(when) if when else None,
        # A plan that no commit holds is not clean, even where git was told to ignore it.
        dirty=True if not commit else None if changes is None else bool(changes),
    )


def _git(path: Path, *arguments: str) -> str | None:
    """What git answers beside this file; None where there is no git, no repository, or no answer."""
    folder = path.resolve().parent
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
            env={name: os.environ[name] for name in _NEEDED if name in os.environ},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
