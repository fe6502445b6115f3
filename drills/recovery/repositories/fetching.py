"""Fetching one file of WAL out of a repository: by a server that recovers, and by the drill, through one script.

Guarantees that an archive which cannot be read is never taken for the end of the archive: to PostgreSQL nearly every
exit code of a restore_command means that there is no such file (Continuous Archiving), so the tools are run by a script
that turns their failures into a code which stops it; and that a segment which is cut short is an error.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from drills.errors import ToolError
from drills.places import server_account
from drills.processes import last_words, run_tool

NOT_THERE = 1
_WAL_NAME = re.compile(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history")
_SMALLEST_SEGMENT = 1 << 20
"""Bytes; a segment is a power of two of at least these (initdb, --wal-segsize)."""
_FETCH_DEADLINE = 600.0


def write_script(place: Path, what: str, body: str) -> Path:
    """The script that fetches one file of WAL: $name is what it is called, $to the absolute path where it has to be.

    It ends with 0 when the file is there, with `NOT_THERE` when the archive has none of this name, and with
    `UNREADABLE` when the archive could not be asked. A secret never stands in it: the tool has them by environment.
    """
    script = place / "fetch-wal"
    text = (
        f"#!/bin/sh\n# Fetches WAL of {what}: fetch-wal NAME PATH.\n"
        f"name=$1\ncase $2 in /*) to=$2 ;; *) to=$PWD/$2 ;; esac\n{body}\n"
    )
    if not script.exists() or script.read_text() != text:
        # A shell that runs it reads on in the file that it has opened.
        half = place / f"fetch-wal-{secrets.token_hex(4)}"
        half.write_text(text)
        half.chmod(0o755)
        half.rename(script)
    return script


def command_of(script: Path) -> str:
    """The restore_command that runs this script."""
    return f'/bin/sh {shlex.quote(str(script)).replace("%", "%%")} %f "%p"'


def fetch(script: Path, name: str, to: Path, environment: Mapping[str, str], log: Path) -> bool:
    """Have the script put a file of WAL there; False when the archive has none of this name.

    Raises:
        ToolError: the archive cannot be read, or this is no name of WAL.
    """
    if not _WAL_NAME.fullmatch(name):
        raise ToolError(f"expected the name of a WAL segment or of a timeline's history, got {name!r}")
    part = script.parent / f"{name}-{secrets.token_hex(4)}"
    try:
        done = run_tool(
            ["/bin/sh", str(script), name, str(part)],
            environment=environment,
            log=log,
            deadline=_FETCH_DEADLINE,
            account=server_account(),
        )
        if done.code == NOT_THERE:
            return False
        if done.code:
            raise ToolError(
                f"the archive of WAL cannot be read: {last_words(done.said)}",
                hint=f"all that was said is in raw/{log.name}",
            )
        size = part.stat().st_size
        if not name.endswith(".history") and (size < _SMALLEST_SEGMENT or size & (size - 1)):
            raise ToolError(
                f"the archive has {name} cut short: {size} bytes are not a segment",
                hint="its copying was interrupted, or the archive's disk was full",
            )
        shutil.move(part, to)
    finally:
        part.unlink(missing_ok=True)
    return True
