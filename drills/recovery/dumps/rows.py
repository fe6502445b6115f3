"""Reading the rows of one table out of a dump, without restoring it.

Owns the way from an archive's table of contents to COPY text. Guarantees that the rows are those of exactly this
table, whatever it and its neighbours are called, that they are streamed and never held, and that a table which is cut
short in the archive is an error and no end.
"""

from __future__ import annotations

import codecs
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from drills.backup_rows import TableRows
from drills.errors import ToolError
from drills.processes import last_words, run_tool
from drills.recovery.base import Workspace
from drills.watched import Watched, watched

_ENTRY = re.compile(r"\d+; \d+ \d+ TABLE DATA (?P<named>.*)")
_ENCODING = re.compile(rb"SET client_encoding = '([^']+)';")
_COPY, _FROM, _END = b"COPY ", b" FROM stdin;\n", b"\\.\n"
_IDENTIFIER = re.compile(r'"((?:[^"]|"")*)"|([^\s".,()]+)')
_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 20
"""Bytes: 1,600 columns with names of 63 take a tenth of it."""
_PATIENCE = 10.0
"""Seconds that pg_restore has to end once it has closed its output."""
_LISTING = 600.0
"""Seconds that the table of contents may take."""


@contextmanager
def read_rows(workspace: Workspace, schema: str, table: str, deadline: float) -> Iterator[TableRows]:
    """The rows of this table.

    Args:
        workspace: where the dump is, and with what it is read.
        schema: of the table, as the catalogue has it.
        table: its name, likewise.
        deadline: seconds that reading may take.

    Raises:
        ToolError: the dump has no such table, or cannot be read.
    """
    entries = _entries(workspace, schema, table)
    for entry in entries:
        with _reading(workspace, entry, deadline) as reading:
            header = _read_header(reading)
            if header.names[:2] == (schema, table):
                yield TableRows(header.names[2:], header.encoding, pinned=False, chunks=_lines(reading))
                return
    raise ToolError(
        f"the dump holds no rows of {schema}.{table}: {len(entries)} entries of its table of contents read like it",
        hint="the table was left out of the dump, or is no ordinary table",
    )


def _entries(workspace: Workspace, schema: str, table: str) -> list[str]:
    """Those that may be meant. The listing quotes nothing, so that "a b".c and a."b c" read the same in it."""
    log = workspace.logs / "pg_restore-list.log"
    listing = workspace.logs / "dump.toc"
    arguments = [workspace.tools.program("pg_restore"), "--list", f"--file={listing}", str(workspace.backup)]
    done = run_tool(arguments, environment={}, log=log, deadline=_LISTING)
    if done.code:
        raise ToolError(f"the dump cannot be read: {last_words(done.said)}", hint=f"see raw/{log.name} of the bundle")
    said = listing.read_text("utf-8", "surrogateescape")
    beginning = _on_one_line(f"{schema} {table} ")
    found = (_ENTRY.fullmatch(line) for line in said.split("\n"))
    wanted = [match for match in found if match and match["named"].startswith(beginning)]
    if not wanted and not beginning.isascii():  # the listing is in the encoding of the dump
        wanted = [match for match in (_ENTRY.fullmatch(line) for line in said.split("\n")) if match]
    return [match[0] for match in wanted]


def _on_one_line(name: str) -> str:
    """As the listing writes it."""
    return name.replace("\n", " ").replace("\r", " ")


def _reading(workspace: Workspace, entry: str, deadline: float) -> AbstractContextManager[Watched]:
    """pg_restore writing this entry to a pipe; stopped when it is let go, or when its time is over."""
    chosen = workspace.logs / "dump-entry.toc"
    chosen.write_text(f"{entry}\n", "utf-8", "surrogateescape")
    arguments = [workspace.tools.program("pg_restore"), "--data-only", f"--use-list={chosen}", "--file=-"]
    log = workspace.logs / "pg_restore-rows.log"
    return watched([*arguments, str(workspace.backup)], log=log, deadline=deadline, output=subprocess.PIPE)


def _broken(reading: Watched) -> ToolError:
    """The rows ended before their end mark.

    Raises:
        ToolError: because their time was over.
    """
    code = reading.end(_PATIENCE, hint="raise recovery.restore_timeout")
    return ToolError(f"the dump's rows end too soon: pg_restore ended with {code}: {last_words(reading.said())}")


@dataclass(frozen=True)
class _Header:
    names: tuple[str, ...]
    """Schema, table, columns."""
    encoding: str


def _read_header(reading: Watched) -> _Header:
    """Everything up to the rows."""
    encoding, stream = "UTF8", reading.output
    while line := stream.readline(_LONGEST_HEADER):
        if found := _ENCODING.match(line):
            encoding = found[1].decode()
        if line.startswith(_COPY):
            while not (line.endswith(_FROM) and line.count(b'"') % 2 == 0):  # a name may hold line breaks
                more = stream.readline(_LONGEST_HEADER)
                if not more or len(line) > _LONGEST_HEADER:
                    raise _broken(reading)
                line += more
            text = line[len(_COPY) : -len(_FROM)].decode(_codec(encoding), "surrogateescape")
            return _Header(tuple(_unquoted(match) for match in _IDENTIFIER.finditer(text)), encoding)
    raise _broken(reading)


def _unquoted(match: re.Match[str]) -> str:
    return match[2] if match[2] is not None else match[1].replace('""', '"')


def _codec(encoding: str) -> str:
    """Python's name for it. Where it has none, names beyond ASCII stay foreign and are not found."""
    try:
        return codecs.lookup(encoding.replace("WIN", "cp")).name
    except LookupError:
        return "utf-8"


def _lines(reading: Watched) -> Iterator[bytes]:
    """Whole lines up to the end mark, which no row can read like: COPY writes a backslash as two."""
    rest = b""
    while read := reading.output.read(_CHUNK):
        chunk = rest + read
        cut = chunk.rfind(b"\n") + 1
        lines, rest = chunk[:cut], chunk[cut:]
        end = _end_mark(lines)
        if end is not None:
            if end:
                yield lines[:end]
            return
        if lines:
            yield lines
    raise _broken(reading)


def _end_mark(lines: bytes) -> int | None:
    if lines.startswith(_END):
        return 0
    found = lines.find(b"\n" + _END)
    return None if found < 0 else found + 1
