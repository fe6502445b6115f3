r"""The journal: what a drill intended and what came of it. The only source of truth.

One line of canonical JSON per entry, appended and fsynced before anything else happens. Each line carries the SHA-256
of the line before it, so the chain can be checked with `sha256sum` alone:

    head -n 4 journal.jsonl | tail -n 1 | tr -d '\n' | sha256sum      # equals "prev" of line 5

Order that this module guarantees: an entry is on disk before `append` returns; the directory that holds a new journal
is on disk before the first entry. An append that did not return (disk full, signal) left nothing that the next append
does not take back first. A process that was killed while writing may leave a torn last line; `reopen` ends that line,
keeps its bytes in the chain, and says so in the next entry.

A changed, removed, added or moved line breaks the chain. Lines cut off at the end do not, nor does a chain that was
computed anew from some line on: against those stands only the digest of the last line, kept where the writer of the
journal cannot reach (the bundle's digests, the register).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import rfc8785
from pydantic import ValidationError

from drills.errors import JournalError
from drills.events import Entry, Event, Reopened
from drills.records import utc_now

GENESIS = "0" * 64
"""`prev` of the first line."""
_FLAGS = os.O_RDWR | os.O_APPEND


@dataclass(frozen=True)
class _End:
    """Where the journal ends. One value, so that a signal finds it either before or after an append."""

    head: str = GENESIS
    count: int = 0
    size: int = 0


@dataclass
class Journal:
    """An open journal. One process at a time holds it (see `drills.locks`); its threads take turns."""

    path: Path
    _descriptor: int
    _end: _End = field(default_factory=_End)
    _started: float | None = field(default_factory=time.monotonic)
    """Monotonic instant of the opening; None in a process that did not open it."""
    _pending: bytes = b""
    """What the latest append set out to write."""
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new journal.

        Raises:
            JournalError: there is one already, or it cannot be written.
        """
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o640)
            _sync_directory(path.parent)
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be made: {error.strerror}") from error
        return cls(path, descriptor)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """The journal of a drill whose process is gone, to be closed by somebody else.

        Raises:
            JournalError: it cannot be read or written.
        """
        content = _content(path)
        lines = _lines(content)
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be written: {error.strerror}") from error
        opened = cls(path, descriptor, _End(_digest(lines[-1]) if lines else GENESIS, len(lines), len(content)), None)
        torn = bool(lines) and _entry(lines[-1]) is None
        whole = next((_digest(line) for line in reversed(lines) if _entry(line) is not None), GENESIS)
        try:
            opened._put(Reopened(torn=torn, whole=whole), after=b"\n" if _unended(content) else b"")
        except BaseException:
            opened.close()
            raise
        return opened

    def append(self, event: Event) -> Entry:
        """Put this event on disk, and only then return.

        Raises:
            JournalError: it is not on disk; the journal is as it was.
        """
        return self._put(event)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _put(self, event: Event, after: bytes = b"") -> Entry:
        with self._turn:
            end = self._end
            elapsed = None if self._started is None else round(time.monotonic() - self._started, 6)
            entry = Entry(seq=end.count + 1, at=utc_now(), elapsed=elapsed, prev=end.head, body=event)
            try:
                line = entry.canonical()
            except ValueError as error:
                raise JournalError(f"the event {event.event!r} cannot be written as canonical JSON") from error
            try:
                self._take_back(end)
                self._pending = after + line + b"\n"
                self._write(self._pending)
            except OSError as error:
                raise JournalError(f"the journal {self.path} cannot be written: {error.strerror}") from error
            self._end = _End(_digest(line), end.count + 1, end.size + len(self._pending))
            return entry

    def _take_back(self, end: _End) -> None:
        """Cut off what an append left that did not return; but nothing that this process did not write."""
        left = os.fstat(self._descriptor).st_size - end.size
        if not left:
            return
        if left < 0 or not self._pending.startswith(os.pread(self._descriptor, left, end.size)):
            raise JournalError(
                f"the journal {self.path} was changed by somebody else: expected {end.size} bytes, "
                f"got {end.size + left}",
                hint="one process at a time writes a journal",
            )
        os.ftruncate(self._descriptor, end.size)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)


@dataclass(frozen=True)
class Reading:
    """A journal as read: its entries, and the digest of its last line."""

    entries: tuple[Entry, ...]
    head: str
    lines: int


def read_journal(path: Path) -> Reading:
    """The entries of a journal whose chain holds.

    A torn line is passed over where the entry after it says so, or where it is the last: its writer was killed.

    Raises:
        JournalError: a line was changed, removed, added or moved.
    """
    content = _content(path)
    lines = _lines(content)
    parsed = [_entry(line) for line in lines]
    entries: list[Entry] = []
    head = whole = GENESIS
    for number, (line, entry) in enumerate(zip(lines, parsed, strict=True), start=1):
        if entry is None:
            following = next((later for later in parsed[number:] if later is not None), None)
            if not (_tells_of_tear(following) if following else _unended(content)):
                raise JournalError(
                    f"{path}:{number}: not an entry of a journal",
                    hint="this line was changed after it was written, or written by a later version of drillbook",
                )
        elif entry.prev != head or entry.seq != number:
            raise JournalError(
                f"{path}:{number}: the chain is broken: expected prev {head[:12]}… and seq {number}, "
                f"got {entry.prev[:12]}… and {entry.seq}",
                hint="a line before this one was changed, removed, added or moved",
            )
        elif isinstance(entry.body, Reopened) and entry.body.whole != whole:
            raise JournalError(
                f"{path}:{number}: the chain is broken: expected the last whole line to have the digest "
                f"{entry.body.whole[:12]}…, got {whole[:12]}…",
                hint="a line before this one was changed, removed, added or moved",
            )
        else:
            entries.append(entry)
            whole = _digest(line)
        head = _digest(line)
    if not entries:
        raise JournalError(f"{path}: no entries", hint="a journal begins with the opening of its drill")
    return Reading(tuple(entries), head, len(lines))


def _tells_of_tear(entry: Entry) -> bool:
    return isinstance(entry.body, Reopened) and entry.body.torn


def _entry(line: bytes) -> Entry | None:
    # Only the canonical form is an entry: white space or key order cannot be changed unseen.
    try:
        return Entry.model_validate_json(line) if rfc8785.dumps(json.loads(line)) == line else None
    except (ValidationError, ValueError, RecursionError):
        return None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error.strerror}") from error


def _lines(content: bytes) -> list[bytes]:
    """The lines without their ends."""
    return content.removesuffix(b"\n").split(b"\n") if content else []


def _unended(content: bytes) -> bool:
    """Whether the last line was torn off, or its end was."""
    return bool(content) and not content.endswith(b"\n")


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
