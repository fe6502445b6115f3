r"""A plain dump on its way to psql: read as psql reads it, so that it is whole and gives psql no orders.

Owns the reading of SQL as pg_dump writes it; psql reads it again, restricted by itself. Refuses every backslash command
but `\restrict`, `\unrestrict` and `\connect` to one database, and every COPY that does not take its rows from the dump
itself: a dump may come from a server whose owner means harm (CVE-2025-8714). Guarantees that a dump that is cut short
is noticed (psql loads one and ends with 0): each block of rows has its end mark, each `\restrict` its `\unrestrict`,
and pg_dump's last line is there.

Memory stays flat: rows and strings pass through; of a statement no more than `_LONGEST` bytes are held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum

from drills.errors import ToolError
from drills.recovery.dumps.plain_statements import BEGINS_COPY, HINT, look_at

_LONGEST = 1 << 18
_PLAIN = re.compile(rb"(?:[^'\"$\\\-/;\w\x80-\xff]+|[\w\x80-\xff][\w$\x80-\xff]*)+")
_IN_WORD = re.compile(rb"[\w$\x80-\xff]")
_TAG = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
_ESCAPING = re.compile(rb"(?:^|[^\w$\x80-\xff])[eE]\Z")
_NO_SIGN = rb"[^'\"$\\\-/;]"
_INSERTS = re.compile(
    rb"(?:\s*INSERT INTO (?:" + _NO_SIGN + rb"+(?!" + _NO_SIGN + rb")|'[^'\\]*'|\"[^\"]*\"|-(?!-)|/(?!\*))*;(?=\n))+"
)
"""Statements by the thousand; without a backslash in them, nobody reads them otherwise. There is one way to match each,
so that nothing is tried twice: possessive quantifiers, made for that, are wrong before Python 3.11.5 (gh-106052)."""
_AHEAD = 256
"""Bytes that a token may be looked for in what is read next."""
_END = b"\n\\.\n"
_LINE_END = re.compile(rb"[\r\n]")
"""For psql, either ends a comment."""
_NUL = "it holds a NUL byte, and psql drops the rest of a line behind one"
_CRLF = r"its lines end in \r\n, which damages rows: have it made anew by pg_dump --file"
_STARTED = b"-- Started on "
_WHOLE = b"-- PostgreSQL database dump complete"
_CLUSTER = b"-- PostgreSQL database cluster dump"
_RESTRICT = re.compile(rb"\\(un)?restrict ([A-Za-z0-9]+)\s*")
_CONNECT = re.compile(
    rb"\\connect (?:([A-Za-z0-9_][A-Za-z0-9_.]*)|"
    rb"-reuse-previous=on \"dbname='((?:[^'\\\"=:/\r\n]|\\['\\]|\"\")+)'\")\s*"
)


class _Mode(Enum):
    SQL = "a statement"
    STRING = "a string"
    NAME = "a quoted name"
    DOLLAR = "a quoted body"
    LINE = "a comment"
    BLOCK = "a comment of several lines"
    ROWS = "the rows of a table"


class PlainSql:
    r"""One plain dump, fed in pieces.

    Args:
        connect: what is given to psql in place of a `\connect`, for the line as it stands.
        on_role: told the name of each role that the dump will need, before the statement that needs it is given out.
    """

    def __init__(
        self, *, connect: Callable[[bytes], bytes], on_role: Callable[[str], None] = lambda _name: None
    ) -> None:
        self._connect, self._on_role = connect, on_role
        self._strict = False
        self._mode = _Mode.SQL
        self._rest = b""
        self._held = bytearray()
        self._long = False
        self._begun = False
        self._tag = b""
        self._depth = 0
        self._escapes = False
        self._token = b""
        self._cut = False
        self._table = ""
        self._whole = False
        self.database = ""
        """What `\\connect` leads to; empty where the dump makes no database."""
        self.started = ""
        """When it was begun, as pg_dump --verbose writes it."""
        self._nul = False
        self._crlf = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What of it psql may read by now.

        Raises:
            ToolError: there is something in it that pg_dump does not write.
        """
        if self._nul:
            return
        data, nul, _ = data.partition(b"\0")
        yield from self._take(self._rest + data, last=False)
        self._nul = bool(nul)

    def finish(self) -> Iterator[bytes]:
        """What was held back for want of more."""
        if self._mode is _Mode.ROWS and self._rest.endswith(b"\n\\."):
            self._rest += b"\n"
        yield from self._take(self._rest, last=True)
        if self._held:
            yield self._flush()

    def missing(self) -> str:
        """What a dump that has been read to its end lacks; empty when it is whole."""
        if self._nul or self._crlf:
            return _NUL if self._nul else _CRLF
        if self._mode is _Mode.ROWS:
            return f"it ends within the rows of {self._table}: they have no end mark"
        if self._mode not in {_Mode.SQL, _Mode.LINE} or self._begun:
            return f"it ends within {self._mode.value}"
        if self._cut:
            return "it ends within a command"
        if self._token:
            return "it ends without the \\unrestrict that belongs to its \\restrict"
        return "" if self._whole else "its last line, `-- PostgreSQL database dump complete`, is missing"

    def _take(self, buffer: bytes, *, last: bool) -> Iterator[bytes]:
        at = 0
        self._limit = len(buffer) if last else len(buffer) - _AHEAD
        while at < len(buffer):
            begun, mode = at, self._mode
            at = self._STEPS[mode](self, buffer, at, last)
            if self._instead is not None:
                yield bytes(self._held) + self._instead
                self._held.clear()
                self._instead = None
                continue
            if mode is _Mode.ROWS:
                yield buffer[begun:at]
            elif at > begun:
                self._held += buffer[begun:at]
                self._before = (self._before + buffer[max(begun, at - 2) : at])[-2:]
            if self._done or len(self._held) > _LONGEST:
                yield self._flush()
            if at == begun and mode is self._mode:
                break
        self._rest = buffer[at:]
        if len(self._rest) > 4 * _LONGEST and not last and self._mode is not _Mode.STRING:
            raise ToolError(f"the dump holds a line of more than {len(self._rest):,} bytes", hint=HINT)

    _limit = 0
    """Behind this, what is read next may belong to the same token."""
    _before = b""
    """The last two bytes."""
    _instead: bytes | None = None
    """What psql is given for a command."""
    _done = False
    """Whether what is held is a whole statement, a comment between two, or a command."""

    def _flush(self) -> bytes:
        text, whole = bytes(self._held), self._done
        self._held.clear()
        self._done = False
        if not self._begun:
            return text
        if not whole:
            if not self._long and BEGINS_COPY.match(text):
                raise ToolError("the dump holds a COPY that is too long", hint=HINT)
            self._long = True
            return text
        self._begun = False
        if self._long:
            self._long = False
            return text
        found = look_at(text)
        for role in found.roles:
            self._on_role(role)
        self._strict = self._strict or found.escapes
        if found.table:
            self._mode, self._table = _Mode.ROWS, found.table
        return found.text

    def _sql(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001, PLR0911 - one of the steps; one return a token
        if at >= self._limit:
            return at
        if not self._begun and not self._strict and (found := _INSERTS.match(buffer, at, self._limit)):
            self._done, self._whole = True, False
            return found.end()
        if found := _PLAIN.match(buffer, at, self._limit):
            self._begun = self._begun or bool(found[0].strip())
            return found.end()
        letter = buffer[at : at + 1]
        if letter == b"\\":
            return self._command(buffer, at, last)
        pair = buffer[at : at + 2]
        if pair == b"--":
            self._mode = _Mode.LINE
            return at
        if pair == b"/*":
            self._mode, self._depth = _Mode.BLOCK, 0
            return at
        if letter == b";":
            self._done, self._begun, self._whole = True, True, False
            return at + 1
        self._begun = True
        return self._open(buffer, at)

    def _open(self, buffer: bytes, at: int) -> int:
        """A quote of some kind, or a sign."""
        letter = buffer[at : at + 1]
        if letter == b"'":
            self._mode, self._escapes = _Mode.STRING, self._strict or bool(_ESCAPING.search(self._before))
        elif letter == b'"':
            self._mode = _Mode.NAME
        elif (tag := _TAG.match(buffer, at)) and not _IN_WORD.match(self._before[-1:]):
            self._mode, self._tag = _Mode.DOLLAR, tag[0]
            return tag.end()
        return at + 1

    def _command(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001 - same
        end = buffer.find(b"\n", at) + 1
        if not end and not last:
            return at
        line = buffer[at : end or len(buffer)]
        alone = not self._begun and self._before[-1:] in {b"", b"\n"}
        if alone and not end and not self._restricts(line):
            self._cut, self._instead = True, b""
        elif not alone or (end and not (self._restricts(line) or self._connects(line))):
            shown = line[:60].decode("utf-8", "replace").strip()
            raise ToolError(f"the dump holds a command for psql: {shown}", hint=HINT)
        return end or len(buffer)

    def _restricts(self, line: bytes) -> bool:
        """It is left out: psql is restricted by a word that whoever made the dump cannot know."""
        found = _RESTRICT.fullmatch(line)
        if found is None or (bool(found[1]) != bool(self._token)) or (found[1] and found[2] != self._token):
            return False
        self._token = b"" if found[1] else found[2]
        self._instead = b"\n"
        return True

    def _connects(self, line: bytes) -> bool:
        found = _CONNECT.fullmatch(line)
        if found is None or self._token:
            return False
        name = found[1] or re.sub(rb"\\(.)", rb"\1", found[2].replace(b'""', b'"'))
        database = name.decode("utf-8", "replace")
        if self.database not in {"", database}:
            raise ToolError(
                f"the dump holds two databases, {self.database} and {database}",
                hint="give a dump of one database, as pg_dump writes it",
            )
        self.database = database
        self._instead = self._connect(line)
        return True

    def _string(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001 - same
        end = buffer.find(b"'", at)
        if end < 0:
            return len(buffer) if last else max(len(buffer.rstrip(b"\\")), at)
        if end + 1 == len(buffer) and not last:
            return at if end - at < _LONGEST else max(at, len(buffer[at:end].rstrip(b"\\")) + at)
        backslashes = end - at - len(buffer[at:end].rstrip(b"\\"))
        if self._escapes and backslashes % 2:
            raise ToolError("the dump holds a string whose end is not certain: a backslash before a quote", hint=HINT)
        if buffer[end + 1 : end + 2] == b"'":
            return end + 2
        self._mode = _Mode.SQL
        return end + 1

    def _name(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: ARG002, FBT001 - same
        return self._until(b'"', buffer, at)

    def _dollar(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: ARG002, FBT001 - same
        return self._until(self._tag, buffer, at)

    def _until(self, mark: bytes, buffer: bytes, at: int) -> int:
        end = buffer.find(mark, at)
        if end < 0:
            return max(len(buffer) - len(mark) + 1, at)
        self._mode = _Mode.SQL
        return end + len(mark)

    def _line(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001 - same
        found = _LINE_END.search(buffer, at)
        if not found and not last:
            return at
        end = found.end() if found else len(buffer)
        comment = buffer[at:end].strip()
        if not self._begun:
            self._crlf = self._crlf or buffer[end - 1 : end + 1] == b"\r\n"
            self.started = self.started or comment.partition(_STARTED)[2].decode("utf-8", "replace")
        if comment == _CLUSTER and not self._begun:
            raise ToolError(
                "the dump is one of a whole cluster, with its roles and their passwords (pg_dumpall)",
                hint="give a dump of one database, as pg_dump writes it; the drill makes roles that cannot log in",
            )
        self._mode = _Mode.SQL
        if not self._begun:
            self._whole = self._whole or comment == _WHOLE
            self._done = True
        return end

    def _block(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001 - same
        opened, closed = buffer.find(b"/*", at), buffer.find(b"*/", at)
        if closed < 0 and opened < 0:
            return len(buffer) if last else max(len(buffer) - 1, at)
        if opened >= 0 and (opened < closed or closed < 0):
            self._depth += 1
            return opened + 2
        self._depth -= 1
        if self._depth == 0:
            self._mode, self._done = _Mode.SQL, not self._begun
        return closed + 2

    def _rows(self, buffer: bytes, at: int, last: bool) -> int:  # noqa: FBT001 - same
        """From the line end before the rows on, so that the end mark is at the beginning of a line."""
        end = buffer.find(_END, at)
        if end < 0:
            return len(buffer) if last else max(len(buffer) - len(_END) + 1, at)
        self._mode, self._before = _Mode.SQL, b"\n"
        return end + len(_END)

    _STEPS = {  # noqa: RUF012 - never changed
        _Mode.SQL: _sql, _Mode.STRING: _string, _Mode.NAME: _name, _Mode.DOLLAR: _dollar, _Mode.LINE: _line,
        _Mode.BLOCK: _block, _Mode.ROWS: _rows,
    }  # fmt: skip
