"""A stand-in for a data directory, for tools that speak of a system's WAL only when they have seen its pg_control.

Owns nothing but that one file: that of a new cluster of the same major version, with the system identifier of the
source. No server can be started on it, and none is.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from drills.errors import ToolError
from drills.places import make_folder, server_account, server_tools
from drills.processes import last_words, run_tool
from drills.tools import Tools

_CASTAGNOLI = 0x82F63B78
_HEAD = 16
"""Bytes before which no version has its checksum: identifier, version of the file, version of the catalogue."""
_LARGEST = 512
"""PG_CONTROL_MAX_SAFE_SIZE: all that counts lies in one sector."""


def make_stand_in(folder: Path, system_identifier: str, tools: Tools, log: Path) -> None:
    """Put `global/pg_control` of this system into a folder that is not there yet.

    Raises:
        ToolError: initdb failed, or its file has another form than is known.
    """
    model = folder.with_name(f"{folder.name}-model")
    done = run_tool(
        [server_tools(tools).program("initdb"), "-D", str(model), "--no-sync", "--auth=reject", "--locale=C"],
        environment={},
        log=log,
        deadline=300,
        account=server_account(),
    )
    if done.code:
        raise ToolError(f"initdb ended with {done.code}: {last_words(done.said)}")
    place_control(folder, give_identity((model / "global" / "pg_control").read_bytes(), int(system_identifier)))
    shutil.rmtree(model)


def place_control(folder: Path, content: bytes) -> None:
    """The stand-in with this pg_control."""
    make_folder(folder)
    file = make_folder(folder / "global") / "pg_control"
    file.write_bytes(content)
    file.chmod(0o644)
    (folder / "PG_VERSION").touch(mode=0o644)


def give_identity(control: bytes, system_identifier: int) -> bytes:
    """A pg_control with another system identifier, which comes first in it, and the checksum that goes with that.

    The checksum is CRC-32C over everything before it (PostgreSQL, pg_control.h); where it lies differs by version, and
    is where it is right.

    Raises:
        ToolError: it is right nowhere.
    """
    at = _find_checksum(control)
    changed = struct.pack("=Q", system_identifier) + control[8:at]
    return changed + struct.pack("=I", _crc32c(changed)) + control[at + 4 :]


def _find_checksum(control: bytes) -> int:
    state = _feed(0xFFFFFFFF, control[:_HEAD])
    for at in range(_HEAD, min(len(control), _LARGEST) - 4, 4):
        if struct.unpack_from("=I", control, at)[0] == state ^ 0xFFFFFFFF:
            return at
        state = _feed(state, control[at : at + 4])
    raise ToolError("pg_control has no checksum where one is expected", hint="is its disk failing?")


def _crc32c(content: bytes) -> int:
    return _feed(0xFFFFFFFF, content) ^ 0xFFFFFFFF


def _feed(state: int, content: bytes) -> int:
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (_CASTAGNOLI if state & 1 else 0)
    return state
