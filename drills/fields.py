"""The kinds of value that a plan is made of: addresses, references, names, durations, sizes.

Owns what each accepts and how the JSON Schema states it. Refuses a password inside an address. Guarantees that no error
repeats the text of an address or a reference: it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated

from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ProgrammingError
from psycopg.pq import Conninfo
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from drills.records import Instant
from drills.secrets import REFERENCE, REFERENCE_PATTERN
from drills.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size, show_duration, show_size

_NO_PASSWORD = "write the password as a reference under `password:`"  # noqa: S105 - says where it belongs
_LONGEST_PERIOD = timedelta(days=24)
"""PostgreSQL holds a timeout as milliseconds in 31 bits: 24.8 days."""


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        # The value is not repeated: it may be the secret itself.
        raise ValueError("expected a reference (env:NAME, file:/path or aws:NAME), never the secret itself")
    return value


def _address(value: str) -> str:
    """A PostgreSQL address without a password in it, or a reference to one. No error repeats it."""
    if REFERENCE.fullmatch(value):
        return value
    try:
        parts = conninfo_to_dict(value)
    except ProgrammingError:
        raise ValueError("expected an address such as postgresql://user@host:5432/database") from None
    # libpq itself marks with a star what is to be hidden: password, sslpassword, and what later versions add.
    hidden = {option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar == b"*"}
    if any(parts.get(name) for name in hidden | {"password"}):
        raise ValueError(f"the address holds a password; {_NO_PASSWORD}")
    if not parts.get("host") or not parts.get("dbname"):
        raise ValueError("expected host and database in the address: postgresql://user@host:5432/database")
    # postgresql://user:pass/word@host/db is read by libpq as host "user", port "pass", database "word@host/db".
    if "@" in str(parts["dbname"]) or not re.fullmatch(r"[0-9,]*", str(parts.get("port") or "")):
        raise ValueError(
            f"the address seems to hold a password; {_NO_PASSWORD}, and other special characters %-encoded"
        )
    return value


def server_of(address: str) -> tuple[str, str] | str:
    """Host and port of an address; a reference stands for itself, since it is resolved late."""
    if REFERENCE.fullmatch(address):
        return address
    parts = conninfo_to_dict(address)
    return str(parts["host"]).lower(), str(parts.get("port") or "5432")


def _period(value: timedelta) -> timedelta:
    # To PostgreSQL a timeout of 0 means none at all.
    if not timedelta(milliseconds=1) <= value <= _LONGEST_PERIOD:
        raise ValueError(f"expected 1ms to {show_duration(_LONGEST_PERIOD)}, got {show_duration(value)}")
    return value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("expected an instant with its time zone, such as 2026-11-21T22:09:00Z") from None


def _some(value: int) -> int:
    if value <= 0:
        raise ValueError("expected more than nothing")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
Period = Annotated[Duration, AfterValidator(_period)]
"""A duration that is not nothing, and that PostgreSQL can hold as a timeout."""
Moment = Annotated[Instant, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An instant as a plan writes it (RFC 3339)."""
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    AfterValidator(_some),
    PlainSerializer(show_size, str),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN}),
]
Reference = Annotated[str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": REFERENCE_PATTERN})]
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Title = Annotated[str, Field(pattern=r"^\S(.{0,98}\S)?$")]
ShortTitle = Annotated[str, Field(pattern=r"^\S(.{0,68}\S)?$")]
"""A title that others are made from."""
Text = Annotated[str, Field(pattern=r"\S")]
Tools = Annotated[str, Field(pattern=r"^(auto|embedded|/.*)$")]
FORMS: Mapping[str, str] = MappingProxyType(
    {
        r"^[a-z0-9][a-z0-9_-]{0,47}$": "lowercase letters, digits, - and _, 48 at most",
        r"^\S(.{0,98}\S)?$": "1 to 100 characters on one line, without blanks at the ends",
        r"^\S(.{0,68}\S)?$": "1 to 70 characters on one line, without blanks at the ends",
        r"\S": "a text that is not blank",
        r"^(auto|embedded|/.*)$": "`auto`, `embedded`, or the full path of a folder",
        r"^[A-Za-z](-?[A-Za-z0-9]){0,62}$": "letters, digits and single hyphens, a letter first, 63 at most",
        r"^sg-[0-9a-f]{8,32}$": "the id of a security group, such as sg-0a1b2c3d4e5f60718",
        r"^[a-z]{2}(-[a-z]+)+-[0-9]$": "a region of AWS, such as eu-central-1",
        r"^db\.[a-z0-9.-]+$": "an instance class, such as db.m6g.large",
        r"^/.*[^/]$": "the full path of a file",
        r"^[0-9]{12}$": "the 12 digits of an AWS account, in quotes",
    }
)
"""What these patterns ask for, in words."""
