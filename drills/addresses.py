"""Addresses of databases: what a plan writes, with its references followed.

Guarantees that a password is never part of what is shown, and reaches a program by its environment alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict

from drills.errors import PlanError
from drills.secrets import REFERENCE, VAULT

_ENVIRONMENT = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
}


@dataclass(frozen=True)
class Address:
    """How to reach a database. The password is not part of what is shown."""

    parts: Mapping[str, str]
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        shown = self.parts
        return f"{shown.get('user', '')}@{shown.get('host', '')}:{shown.get('port', '5432')}/{shown['dbname']}"

    @property
    def host(self) -> str:
        """The first host of the address."""
        return self.parts.get("host", "").split(",")[0]

    def to(self, database: str) -> Address:
        """The same server, another database."""
        return Address({**self.parts, "dbname": database}, self.password)

    def environment(self) -> dict[str, str]:
        """For libpq programs: everything by environment, so that argv shows nothing."""
        named = {name: value for name, value in self.parts.items() if name in _ENVIRONMENT}
        return {_ENVIRONMENT[name]: value for name, value in named.items()} | (
            {"PGPASSWORD": self.password} if self.password else {}
        )


def resolve_address(written: str, password: str | None) -> Address:
    """The address of a plan with its references followed.

    Raises:
        SecretError: a reference leads nowhere.
        PlanError: what a reference led to is not an address.
    """
    text = VAULT.resolve(written) if REFERENCE.fullmatch(written) else written
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None}
    except psycopg.ProgrammingError:
        parts = {}
    if not parts.get("host") or not parts.get("dbname"):
        raise PlanError(
            f"{written if text is not written else 'the address'}: expected an address with host and database",
            hint="such as postgresql://role@host:5432/database",
        )
    found = parts.pop("password", "")
    if found:
        VAULT.know(found)
    if password is not None:
        found = VAULT.resolve(password)
    unknown = sorted(parts.keys() - _ENVIRONMENT.keys())
    if unknown:
        raise PlanError(
            f"the address holds a parameter that is not supported: {unknown[0]}",
            hint=f"known: {', '.join(_ENVIRONMENT)}",
        )
    return Address(parts, found)
