"""Addresses of databases: what a plan writes, with its references followed, and what is said of one that fails.

Refuses an address whose `options` would change settings that a drill rests on, such as timeouts or how values read.
Guarantees that a password is never part of what is shown, and reaches a program by its environment alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict

from drills.errors import ConnectError, PlanError
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
_OPTION = re.compile(r"(?:\\.|\S)+")
"""libpq hands `options` on as words; a backslash keeps a space inside one."""
_SETTING = re.compile(r"(?:-c|--)([^=]+)=.*", re.DOTALL)
_HARMLESS = frozenset(
    {
        "jit",
        "maintenance_work_mem",
        "max_parallel_maintenance_workers",
        "max_parallel_workers_per_gather",
        "role",
        "tcp_keepalives_count",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "temp_buffers",
        "work_mem",
    }
)
"""Settings that an address may carry: how fast a session works, and as whom. The tools get `options` as they stand, so
one like zero_damaged_pages or session_replication_role would make a broken copy look sound."""


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
        """The host of the address; where it names several, all of them with commas between."""
        return self.parts.get("host", "")

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
        PlanError: what a reference led to is not an address, or not one for a drill.
    """
    text = VAULT.resolve(written) if REFERENCE.fullmatch(written) else written
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None}
    except psycopg.ProgrammingError:
        parts = {}
    found = parts.pop("password", "")
    if found:
        VAULT.know(found)
    if not parts.get("host") or not parts.get("dbname"):
        raise PlanError(
            f"{written if text is not written else 'the address'}: expected an address with host and database",
            hint="such as postgresql://role@host:5432/database",
        )
    if password is not None:
        found = VAULT.resolve(password)
    unknown = sorted(parts.keys() - _ENVIRONMENT.keys())
    if unknown:
        raise PlanError(
            f"the address holds a parameter that is not supported: {unknown[0]}",
            hint=f"known: {', '.join(_ENVIRONMENT)}",
        )
    for setting in _settings(parts.get("options", "")):
        if setting not in _HARMLESS:
            raise PlanError(
                f"the address sets {setting} in its options, and a drill must not have it changed",
                hint=f"an address may set {', '.join(sorted(_HARMLESS))}; timeouts stand in the plan",
            )
    return Address(parts, found)


def _settings(options: str) -> Iterator[str]:
    """What these options set. Words that are no switches (some poolers route by them) are not PostgreSQL's."""
    words = iter([re.sub(r"\\(.)", r"\1", word) for word in _OPTION.findall(options)])
    for word in words:
        whole = word + next(words, "") if word in {"-c", "--"} else word
        match = _SETTING.fullmatch(whole)
        if match:
            yield match[1].strip().lower().replace("-", "_")
        elif whole.startswith("-"):
            yield whole


def connect_error(address: Address, error: psycopg.Error) -> ConnectError:
    """What went wrong, without a secret, and what to do about it."""
    said = VAULT.redact(str(error)).strip()
    reasons = {
        "password authentication failed": "check the reference under `password:` and the role's password",
        "does not exist": "check the name in the address",
        "no pg_hba.conf entry": "allow this host and role in pg_hba.conf, or mend sslmode in the address",
        "Connection refused": "is the server running, and the port right?",
        "timeout": "is the host reachable from here?",
        "failed to resolve": "check the host's name",
        "definition of service": "unset PGSERVICE; a drill takes its addresses from the plan alone",
        "SSL": "mend sslmode in the address, or the certificates that it names",
        "too many connections": "raise max_connections or lower `jobs`",
        "fe_sendauth: no password supplied": "set `password:` in the plan to a reference",
    }
    hint = next((hint for sign, hint in reasons.items() if sign in said), "see the server's log")
    return ConnectError(f"cannot connect to {address}: {_gist(said) or type(error).__name__}", hint=hint)


def _gist(said: str) -> str:
    """The last line that says what is wrong; libpq puts questions to the reader below it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    stated = [line for line in lines if not line.endswith("?")]
    return (stated or lines or [""])[-1]
