"""Segments of WAL in a folder: their names, how long they are, whose they are, and whether the WAL just ends there.

Owns what can be told without reading records. Writes nothing into the folder. Tells the end of the WAL, behind which
everything is zero, from a hole or a damage, behind which there is more.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.commits import NeedsMore
from drills.errors import ToolError
from drills.wal import LONG_HEADER, PARTIAL, page_start, segment_name, segment_number, show_lsn

_NAME = re.compile(r"([0-9A-F]{8})[0-9A-F]{16}(?:\.partial)?")
_SEGMENT_HEADER = struct.Struct("=HHIQI4xQII")
"""A segment begins with: magic, info, timeline, address, rest of a record, system, segment's size, page's size
(XLogLongPageHeaderData)."""
_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 20
_CUT_SHORT = (
    "the archive lost a part of it, or a copy is still being written: archive_command must copy under another name,"
    " then rename"
)


@dataclass(frozen=True)
class Segments:
    """The segments of one timeline in a folder."""

    folder: Path
    timeline: int
    size: int
    page: int
    system_identifier: str
    files: dict[int, Path]
    """By number; those of other places, which a server keeps to use them again, are left out."""

    def name(self, number: int) -> str:
        """The name of the file with this number."""
        return segment_name(self.timeline, number, self.size)

    def end_of(self, position: int) -> int:
        """The same position, or the beginning of its page where nothing but a header lies between."""
        return page_start(position, self.size, self.page)

    def judge(self, start: int, end: int) -> NeedsMore | None:
        """Whether every segment between these positions is there and whole.

        Raises:
            ToolError: there is a hole.
        """
        last = max(self.files, default=-1)
        for number in range(start // self.size, (end - 1) // self.size + 1):
            path = self.files.get(number)
            if path is None and number < last:
                raise ToolError(
                    f"the WAL has a hole: segment {self.name(number)} is missing in {self.folder}",
                    hint="fetch it from the archive; where production changed its timeline, take a new backup",
                )
            if path is None:
                return NeedsMore(f"segment {self.name(number)} is not there yet")
            found = path.stat().st_size
            if found != self.size and path.suffix != PARTIAL:
                raise ToolError(
                    f"segment {path.name} is cut short: expected {self.size} bytes, got {found}", hint=_CUT_SHORT
                )
        return None

    def contiguous_end(self, position: int) -> int:
        """Where the segments end that follow on this position without a gap."""
        number = position // self.size
        while number in self.files:
            number += 1
        return number * self.size

    def ends_at(self, position: int) -> bool:
        """Whether the WAL just ends there: behind the record that begins there, if one does, nothing was written."""
        number, offset = divmod(position, self.size)
        path = self.files.get(number)
        if path is None:
            return number > max(self.files, default=-1)
        with path.open("rb") as file:
            file.seek(offset)
            begun = file.read(_LENGTH.size)
            length = _LENGTH.unpack(begun)[0] if len(begun) == _LENGTH.size else 0
            rest = offset + length + (length // self.page + 2) * LONG_HEADER if length else offset
            if number + rest // self.size < max(self.files):
                return False
            file.seek(rest)
            return not any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(_CHUNK), b""))


@contextmanager
def segments_in(wal: Path, timeline: int, place: Path) -> Iterator[Segments | None]:
    """The segments of this timeline; None where there are none at all yet.

    Args:
        wal: a folder of segments. The last one may be called `.partial`.
        timeline: whose.
        place: a folder that may be written to.

    Raises:
        ToolError: there are segments, but none of this timeline, or they cannot be read.
    """
    try:
        paths = {path.name: path for path in wal.iterdir() if _NAME.fullmatch(path.name)}
    except OSError as error:
        raise ToolError(f"the WAL in {wal} cannot be read: {error.strerror}") from None
    ours = {name: path for name, path in paths.items() if name.startswith(f"{timeline:08X}")}
    if paths and not ours:
        others = ", ".join(sorted({str(int(name[:8], 16)) for name in paths}))
        raise ToolError(
            f"expected WAL of timeline {timeline} in {wal}, got timeline {others}",
            hint="production changed its timeline after the backup; take a new one",
        )
    if not ours:
        yield None
        return
    parts = [name for name in ours if name.endswith(PARTIAL) and name.removesuffix(PARTIAL) not in ours]
    whole = {name: path for name, path in ours.items() if not name.endswith(PARTIAL)}
    if not parts:
        yield _segments(wal, timeline, whole)
        return
    # pg_waldump looks for whole names only.
    with tempfile.TemporaryDirectory(prefix="wal-", dir=place) as links:
        for name, path in whole.items():
            (Path(links) / name).symlink_to(path.absolute())
        for name in parts:
            (Path(links) / name.removesuffix(PARTIAL)).symlink_to(ours[name].absolute())
        yield _segments(Path(links), timeline, whole | {name.removesuffix(PARTIAL): ours[name] for name in parts})


def _segments(folder: Path, timeline: int, files: dict[str, Path]) -> Segments | None:
    headers = {name: _header(path) for name, path in files.items()}
    known = [header for header in headers.values() if header]
    if not known:
        if all(_is_blank(path) for path in files.values()):
            return None
        raise ToolError(f"no segment in {folder} begins as WAL does", hint="is the WAL compressed or encrypted?")
    systems, sizes = {header.system for header in known}, {header.size for header in known}
    if len(systems) != 1 or len(sizes) != 1:
        raise ToolError(
            f"expected the WAL of one server in {folder}, got that of systems {', '.join(map(str, sorted(systems)))}",
            hint="two servers archive into one folder, or production was made anew",
        )
    size, page, there = known[0].size, known[0].page, {}
    for name, header in headers.items():
        number = segment_number(name, size)
        if header is not None and header.address == number * size:
            there[number] = files[name]
    return Segments(folder, timeline, size, page, str(known[0].system), there)


@dataclass(frozen=True)
class _Header:
    address: int
    system: int
    size: int
    page: int


def _header(path: Path) -> _Header | None:
    """None where the file begins otherwise: it was made in advance, or is empty."""
    with path.open("rb") as file:
        begun = file.read(_SEGMENT_HEADER.size)
    if len(begun) < _SEGMENT_HEADER.size:
        return None
    magic, _, _, address, _, system, size, page = _SEGMENT_HEADER.unpack(begun)
    sound = magic and size and page and not (size & (size - 1)) and not (page & (page - 1))
    return _Header(address, system, size, page) if sound else None


def _is_blank(path: Path) -> bool:
    """Whether nothing was written into it yet."""
    with path.open("rb") as file:
        return not file.read(_SEGMENT_HEADER.size).strip(b"\0")


def explain(segments: Segments, position: int, needed: int, said: str) -> NeedsMore:
    """What it means that the WAL could be read up to here only.

    Raises:
        ToolError: there is more behind: it is damaged.
    """
    if segments.ends_at(position):
        return NeedsMore(f"the WAL ends at {show_lsn(position)}, before {show_lsn(needed)}")
    raise ToolError(
        f"the WAL is damaged at {show_lsn(position)}, before {show_lsn(needed)}: {said}",
        hint=f"fetch segment {segments.name(position // segments.size)} from the archive anew; if it is the same"
        " there, this backup leads no further than to the damage",
    )
