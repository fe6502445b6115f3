"""One fixture module for each real resource."""

from __future__ import annotations

pytest_plugins = [
    "fix_home",
    "fix_postgres",
    "fix_prefect",
    "fix_archiving",
    "fix_aws",
    "fix_bench",
    "fix_repository",
    "fix_thorough",
]
