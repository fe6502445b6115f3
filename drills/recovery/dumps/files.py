"""Dumps as files: what format one has by its content, and whether it is whole as far as its wrapping says.

Owns the way from the bytes of a file, wherever it is, through gzip to what is in it. Refuses what is no dump of
PostgreSQL's. Guarantees that every byte of the file is read and is in the digest, also when what is in it ends early,
and that memory stays flat. A tar is gone through member by member: pg_restore does not come back from one that is cut.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from drills.errors import ToolError
from drills.recovery.dumps.members import Member, member_of
from drills.recovery.dumps.plain_sql import PlainSql

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_FOREIGN = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK": "zip"}
_USTAR = 257
_HEAD = 1024
_TABLE_OF_CONTENTS = "toc.dat"
_TITLE = b"-- PostgreSQL database"


class Form(StrEnum):
    """What pg_dump calls its formats."""

    CUSTOM = "custom"
    DIRECTORY = "directory"
    TAR = "tar"
    PLAIN = "plain"


@dataclass(frozen=True)
class Looked:
    """A dump's file, read to its end."""

    form: Form
    zipped: bool
    size: int
    digest: str
    """SHA-256 of the file as it is stored."""
    inner: str
    """SHA-256 of what is in it."""
    problem: str = ""
    """Why it is not whole."""
    members: tuple[Member, ...] = ()
    """Of a tar or a folder."""
    database: str = ""
    """Of a plain dump that makes its database: what it is called."""
    started: str = ""
    """Of a plain dump that says so: when it was begun."""


@dataclass
class Through(io.RawIOBase):
    """Bytes on their way: counted, digested, and written down where there is a `sink`."""

    source: IO[bytes]
    sink: IO[bytes] | None = None
    tell_size: Callable[[int], None] = lambda _size: None
    size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """As many bytes as there are, at most so many as fit."""
        data = self.source.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        if self.sink is not None:
            self.sink.write(data)
        self.size += len(data)
        self.tell_size(self.size)
        return len(data)

    @property
    def digest(self) -> str:
        """SHA-256 of what has come through."""
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Places:
    """Where a file's bytes are kept, when they are."""

    stored: Path | None
    """As they are; None where the file is on this machine anyway."""
    unpacked: Path
    """Of an archive that is compressed as a whole: pg_restore wants to seek in it."""


def look_through(
    source: IO[bytes], places: Places, sql: PlainSql, tell: Callable[[int], None], wish: str | None
) -> Looked:
    """Read a dump's file to its end, and keep what restoring it needs; `wish` is the digest that it must have.

    Raises:
        ToolError: it is no dump of PostgreSQL's, one that gives psql orders, or another one than wished.
    """
    kept = places.stored.open("wb") if places.stored else io.BytesIO()
    with closing(kept):
        raw = Through(source, kept if places.stored else None, tell)
        outer = io.BufferedReader(cast("io.RawIOBase", raw), CHUNK)
        zipped = outer.peek(2)[:2] == _GZIP
        unzipped = gzip.GzipFile(fileobj=outer) if zipped else outer
        within = _Within(cast("IO[bytes]", unzipped), places.unpacked if zipped else None, sql)
        refused: ToolError | None = None
        try:
            within.go_through()
        except ToolError as error:
            refused = error
        _drain(outer)
    if wish is not None and raw.digest != wish:
        raise ToolError(
            f"the dump is not the one that the plan names: expected SHA-256 {wish}, got {raw.digest}",
            hint="nothing was restored; find out who changed it, or mend sha256 in the plan",
        )
    if refused is not None:
        raise refused
    if zipped and within.form in {Form.CUSTOM, Form.TAR} and places.stored:
        places.stored.unlink()
    return Looked(
        within.form, zipped, raw.size, raw.digest, within.through.digest,
        within.problem, within.members, sql.database, sql.started,
    )  # fmt: skip


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _drain(stream: IO[bytes]) -> None:
    while stream.read(CHUNK):
        pass


class _Within:
    """What is in a file, without its compression."""

    def __init__(self, stream: IO[bytes], unpacked: Path | None, sql: PlainSql) -> None:
        self.through, self._unpacked, self._sql = Through(stream), unpacked, sql
        self.form = Form.PLAIN
        self.members: tuple[Member, ...] = ()
        self.problem = ""

    def go_through(self) -> None:
        """To its end, whatever is missing on the way."""
        inner = io.BufferedReader(cast("io.RawIOBase", self.through), CHUNK)
        try:
            self.form = form_of(inner.peek(_HEAD))
            if self._unpacked is None or self.form is Form.PLAIN:
                self._look(inner)
                return
            with self._unpacked.open("wb") as self.through.sink:
                self.through.sink.write(inner.peek())
                self._look(inner)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.problem = f"its compression is broken: {error}"

    def _look(self, inner: IO[bytes]) -> None:
        if self.form is not Form.CUSTOM:
            self.members, self.problem = (_through_tar if self.form is Form.TAR else _through_plain)(inner, self._sql)
        _drain(inner)


def _through_plain(stream: IO[bytes], sql: PlainSql) -> tuple[tuple[Member, ...], str]:
    while data := stream.read(CHUNK):
        for _ in sql.feed(data):
            pass
    for _ in sql.finish():
        pass
    return (), sql.missing()


def _through_tar(stream: IO[bytes], _sql: PlainSql) -> tuple[tuple[Member, ...], str]:
    """The members, each there to its last byte, and the two empty blocks behind the last."""
    members: list[Member] = []
    while header := stream.read(tarfile.BLOCKSIZE):
        if not header.strip(b"\0"):
            return tuple(members), ""
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            return tuple(members), f"its tar is broken behind {len(members)} members: {error}"
        read = member_of(member.name, _pieces(stream, member.size))
        padding = -member.size % tarfile.BLOCKSIZE
        if read.size < member.size or len(stream.read(padding)) < padding:
            return tuple(members), f"its tar ends within {member.name}"
        members.append(read)
    return tuple(members), "its tar ends without an end mark"


def _pieces(stream: IO[bytes], left: int) -> Iterator[bytes]:
    while left and (data := stream.read(min(left, CHUNK))):
        left -= len(data)
        yield data


def form_of(head: bytes) -> Form:
    """The format of what begins like this.

    Raises:
        ToolError: it is none of pg_dump's.
    """
    if head.startswith(b"PGDMP"):
        return Form.CUSTOM
    if head[_USTAR : _USTAR + 5] == b"ustar":
        first = head[:100].rstrip(b"\0").decode("utf-8", "replace")
        if first != _TABLE_OF_CONTENTS:
            raise ToolError(
                f"the tar is none of pg_dump's: expected {_TABLE_OF_CONTENTS} as its first member, got {first}",
                hint="a tar of a directory dump has to be unpacked; name the folder",
            )
        return Form.TAR
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise ToolError(f"the dump is compressed by {name}: expected none or gzip", hint="compress it by gzip")
    if not head.strip():
        raise ToolError("the dump is empty", hint="whatever made it failed; look at its log")
    if b"\0" in head[:_HEAD] and _TITLE not in head[:_HEAD]:
        raise ToolError(
            "the file is no dump of PostgreSQL's",
            hint="expected custom, tar, plain or a directory; a plain dump in UTF-16 has to be made anew with --file",
        )
    return Form.PLAIN
