r"""Files of a directory dump, members of a tar: whether the rows in each go to their end.

Owns how pg_dump ends what it writes of one table: rows of COPY by `\.` and two empty lines, INSERTs by two empty lines,
the same in all its versions. Guarantees that a file which is empty, or cut at the end of a line, is noticed: pg_restore
loads one and ends with 0. What is compressed by lz4 or zstd is tested by the program of this name, where there is one;
the ends of the rows in it are not seen.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.processes import last_words, run_tool

_CHUNK = 1 << 20
_HEAD = 12
_TAIL = 8
_COPIED = b"\\.\n\n\n"
_INSERTED = b";\n\n\n"
_NO_INSERT = b"\n\n"
_INSERT = b"INSERT INTO "
_PROGRAMS = {".lz4": "lz4", ".zst": "zstd"}
_MANY = {"lz4": ("-m",)}
"""What a program is told before it takes several files."""
_AT_ONCE = 500
"""Files whose names one command takes."""
_SHOWN = 3


@dataclass(frozen=True)
class Member:
    """One file, unpacked."""

    name: str
    size: int
    head: bytes = b""
    tail: bytes = b""
    problem: str = ""
    """Why it cannot be read to its end."""

    @property
    def entry(self) -> str:
        """The number of its entry in the table of contents, where it holds rows."""
        return self.name.partition(".dat")[0]

    @property
    def unread(self) -> bool:
        """Whether nothing but its size is known."""
        return self.name.endswith(tuple(_PROGRAMS))


def member_of(name: str, pieces: Iterable[bytes]) -> Member:
    """What these bytes are, however they come."""
    size, head, tail = 0, b"", b""
    for piece in pieces:
        size += len(piece)
        head = (head + piece[:_HEAD])[:_HEAD]
        tail = (tail + piece[-_TAIL:])[-_TAIL:]
    return Member(name, size, head, tail)


def members_of(folder: Path, tell: Callable[[int], None]) -> Iterator[Member]:
    """All files of a directory dump; those in gzip are read to their end, and `tell` is told how far that is."""
    done = 0
    for path in sorted(each for each in folder.iterdir() if each.is_file()):
        yield _zipped(path, done, tell) if path.name.endswith(".gz") else _ends(path)
        done += path.stat().st_size
        tell(done)


def _ends(path: Path) -> Member:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(max(size - _TAIL, 0))
        return Member(path.name, size, head, file.read(_TAIL))


def _zipped(path: Path, done: int, tell: Callable[[int], None]) -> Member:
    if not path.stat().st_size:
        return Member(path.name, 0, problem="it is empty")

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as packed, gzip.GzipFile(fileobj=packed) as file:
            while piece := file.read(_CHUNK):
                tell(done + packed.tell())
                yield piece

    try:
        return member_of(path.name, pieces())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return Member(path.name, 0, problem=f"its compression is broken: {error}")


def lacking(entries: Sequence[str], members: Sequence[Member]) -> str:
    """What the tables with these entries lack; empty where the rows of each go to their end."""
    of_table = {member.entry: member for member in members if ".dat" in member.name}
    gone = [f"{entry}.dat" for entry in entries if entry not in of_table]
    if gone:
        return f"{len(gone)} of its files are missing, {gone[0]} among them"
    rows = [of_table[entry] for entry in entries]
    copied = any(member.tail.endswith(_COPIED) for member in rows)
    bad = {member.name: member.problem for member in members if member.problem}
    for member in rows:
        if not member.size:
            bad.setdefault(member.name, "it is empty")
        elif not member.unread and not _goes_to_its_end(member, copied=copied):
            bad.setdefault(member.name, "its rows have no end mark")
    if not bad:
        return ""
    shown = "; ".join(f"{name}: {why}" for name, why in list(bad.items())[:_SHOWN])
    return f"{len(bad)} of its files are cut or damaged: {shown}"


def _goes_to_its_end(member: Member, *, copied: bool) -> bool:
    """A dump is either of COPY or of INSERTs: rows that are cut may read like the end of the other."""
    if copied:
        return member.tail.endswith(_COPIED)
    if member.size == len(_NO_INSERT):
        return member.tail == _NO_INSERT
    return member.head.startswith(_INSERT) and member.tail.endswith(_INSERTED)


def try_packed(folder: Path, members: Sequence[Member], log: Path, deadline: float) -> tuple[str, str]:
    """What is wrong with those in lz4 or zstd, and why nobody knows; empty where their programs find nothing.

    Raises:
        ToolError: a program took longer than `deadline`, in seconds.
    """
    for ending, program in _PROGRAMS.items():
        names = [str(folder / member.name) for member in members if member.name.endswith(ending)]
        found = shutil.which(program)
        if names and found is None:
            return "", f"{len(names)} files in {program} were not looked through: expected the program {program}"
        for at in range(0, len(names), _AT_ONCE):
            batch = names[at : at + _AT_ONCE]
            done = run_tool(
                [found or program, "-t", "-q", *_MANY.get(program, ()), *batch],
                environment={},
                log=log,
                deadline=deadline,
            )
            if done.code:
                return f"files in {program} are cut or damaged: {last_words(done.said)}", ""
    return "", ""
