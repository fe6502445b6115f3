"""Single statements of a plain dump, as pg_dump writes them: which rows follow, which roles they need.

Refuses a COPY that does not take its rows from the dump itself; but SQL can run code all the same, as the account of
the server (a DO block can), so that none but one's own dumps should be restored. Guarantees that production's
tablespaces, which a copy does not have, are named no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from drills.errors import ToolError
from drills.tools import Tools

BEGINS_COPY = re.compile(rb"\s*copy\b", re.IGNORECASE)
HINT = "a dump that pg_dump wrote has none; find out who made this one, and have it made anew by pg_dump"
_ESCAPES = re.compile(rb"SET standard_conforming_strings\b.*off", re.IGNORECASE | re.DOTALL)
_TABLESPACE = re.compile(rb"SET default_tablespace = .+;\Z", re.DOTALL)
_IN_TABLESPACE = re.compile(rb"(CREATE DATABASE .*) TABLESPACE = (?:\"(?:[^\"]|\"\")+\"|[\w$]+)(.*;)\Z", re.DOTALL)
_ONE = rb"(?:\"(?:[^\"]|\"\")+\"(?!\")|[\w$\x80-\xff]+(?![\w$\x80-\xff]))"
_SEVERAL = _ONE + rb"(?:, ?" + _ONE + rb")*"
_FROM_STDIN = re.compile(
    rb"COPY\s+(" + _ONE + rb"(?:\." + _ONE + rb")?)\s*(?:\(" + _SEVERAL + rb"\))?\s*FROM\s+stdin;", re.IGNORECASE
)
"""As pg_dump writes it; a COPY from a program may end in `FROM stdin;` too, by a column of this name."""
_NAME = rb"(\"(?:[^\"]|\"\")+\"|[a-z_][a-z0-9_$]*)"
_OWNER = re.compile(rb"\AALTER .* OWNER TO " + _NAME + rb";\Z", re.DOTALL)
_GRANTEE = re.compile(rb"\A(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .* (?:TO|FROM) " + _NAME + rb"[^;]*;\Z", re.DOTALL)
_FOR_ROLE = re.compile(rb"\AALTER DEFAULT PRIVILEGES FOR ROLE " + _NAME, re.DOTALL)
_POLICY = re.compile(
    rb"CREATE POLICY " + _ONE + rb" ON " + _ONE + rb"(?:\." + _ONE + rb")?"
    rb"(?: AS \w+)?(?: FOR \w+)? TO (" + _SEVERAL + rb")(?:\s|;)"
)  # fmt: skip
_MAPPING = re.compile(rb"CREATE USER MAPPING FOR (" + _ONE + rb") SERVER ")
_RESTRICTS = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
"""The minor versions since which psql knows \\restrict; PostgreSQL 18 has always known it."""


@dataclass(frozen=True)
class Statement:
    """A statement, looked at."""

    text: bytes
    """What psql may be given for it."""
    roles: tuple[str, ...] = ()
    """That it needs."""
    table: str = ""
    """Whose rows follow it."""
    escapes: bool = False
    """Whether from here on a backslash may hide a quote in every string."""


def look_at(text: bytes) -> Statement:
    """A whole statement, up to its semicolon.

    Raises:
        ToolError: it is a COPY from or to elsewhere.
    """
    bare = text.lstrip()
    lead = text[: len(text) - len(bare)]
    if BEGINS_COPY.match(bare):
        copied = _FROM_STDIN.fullmatch(bare)
        if copied is None:
            shown = bare[:80].decode("utf-8", "replace")
            raise ToolError(f"the dump holds a COPY that reads or writes elsewhere: {shown}", hint=HINT)
        return Statement(text, table=copied[1].decode("utf-8", "replace"))
    found = (pattern.search(bare) for pattern in (_OWNER, _GRANTEE, _FOR_ROLE))
    roles = [_unquoted(match[1]) for match in found if match]
    if match := _POLICY.match(bare) or _MAPPING.match(bare):
        roles += [_unquoted(name) for name in re.findall(_ONE, match[1])]
    if _TABLESPACE.match(bare):
        text = lead + b"SET default_tablespace = '';"
    if match := _IN_TABLESPACE.match(bare):
        text = lead + match[1] + match[2]
    return Statement(text, tuple(roles), escapes=_ESCAPES.match(bare) is not None)


def refuse_old_psql(tools: Tools) -> None:
    """Only a psql that can be told to carry out no command is given somebody else's dump.

    Raises:
        ToolError: this one cannot (CVE-2025-8714).
    """
    minor = re.match(r"\d+\.(\d+)", tools.version)
    since = _RESTRICTS.get(tools.major)
    if tools.major > max(_RESTRICTS) or (minor is not None and since is not None and int(minor[1]) >= since):
        return
    known = ", ".join(f"{major}.{least}" for major, least in _RESTRICTS.items())
    raise ToolError(
        f"psql {tools.version} would carry out commands that stand in a plain dump: expected {known} or newer",
        hint="update PostgreSQL's client programs, or have dumps made in custom format",
    )


def _unquoted(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
