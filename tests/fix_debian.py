"""The PostgreSQL that tests run on besides the embedded one: Debian's, or that of DRILLBOOK_SECOND_POSTGRES."""

from __future__ import annotations

import os
import re
from pathlib import Path


def find_debian(home: Path) -> Path:
    """The programs of PostgreSQL 15, or of the newest that there is instead; those of 15 where there is none."""
    usual = home / "15" / "bin"
    others = [path.parent for path in home.glob("*/bin/postgres") if path.parent.parent.name.isdigit()]
    newest = max(others, key=lambda path: int(path.parent.name), default=usual)
    return usual if (usual / "postgres").exists() else newest


DEBIAN = Path(os.environ.get("DRILLBOOK_SECOND_POSTGRES") or find_debian(Path("/usr/lib/postgresql")))
DEBIAN_MAJOR = int(re.findall(r"\d+", DEBIAN.parent.name)[0])
