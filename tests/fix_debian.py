"""Where Debian's PostgreSQL is: the tests run on one besides the embedded one."""

from __future__ import annotations

from pathlib import Path


def find_debian(home: Path) -> Path:
    """The programs of PostgreSQL 15, or of the newest that there is instead; those of 15 where there is none."""
    usual = home / "15" / "bin"
    others = [path.parent for path in home.glob("*/bin/postgres") if path.parent.parent.name.isdigit()]
    newest = max(others, key=lambda path: int(path.parent.name), default=usual)
    return usual if (usual / "postgres").exists() else newest


DEBIAN = find_debian(Path("/usr/lib/postgresql"))
DEBIAN_MAJOR = int(DEBIAN.parent.name)
