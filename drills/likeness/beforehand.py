"""What can be told of a copy before there is one, so that nobody finds out after the backup.

Owns the guard's looks at a staging server that runs already, in SELECTs only, and at the programs and libraries of this
machine, where a cluster of the drill's own will run. What it foresees is judged by the `rules` for a copy that runs.
Guarantees that nothing is guessed: what cannot be known yet is left to the same rules once the copy runs.
"""

from __future__ import annotations

import ctypes
import locale
import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg

from drills.extensions import extensions_of
from drills.likeness.facts import Collation, Likeness, extensions_on, look_at_likeness
from drills.likeness.rules import judge_collation, judge_server
from drills.records import Finding, Verdict
from drills.tools import Tools

_STAGING = """
SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i' AND collname LIKE '%-x-icu'),
       (SELECT max(pg_collation_actual_version(oid)) FROM pg_collation WHERE collprovider = 'c'),
       ARRAY(SELECT 'pg_catalog.' || quote_ident(collname) FROM pg_collation
              WHERE collnamespace = 'pg_catalog'::regnamespace)
"""
"""Collations of ICU are made by initdb where the build has it; only `unicode`, which is its too, is there anyway."""
_NO_ICU = b"ICU is not supported in this build"
"""What only a server says that was built without it: the message is not in the others."""
_OF_POSTGRES = {
    "auth_delay", "auto_explain", "basebackup_to_shell", "basic_archive", "passwordcheck", "pg_overexplain",
    "pg_prewarm", "pg_stat_statements",
}  # fmt: skip
"""Libraries that nothing of the data goes through, and whose extensions are made without them."""
_OF_OTHERS = {
    "pg_cron", "pg_failover_slots", "pg_hint_plan", "pg_net", "pg_partman_bgw", "pg_qualstats", "pg_squeeze",
    "pg_stat_kcache", "pg_stat_monitor", "pg_wait_sampling", "pgaudit", "rdsutils", "set_user",
}  # fmt: skip
"""The same, but CREATE EXTENSION may refuse without them: no matter where the extension comes in production's pages."""
_READ_THROUGH = {"citus", "orioledb", "pg_tde", "timescaledb"}
"""Extensions whose tables are read through a library that must be preloaded."""


@dataclass(frozen=True)
class _Libraries:
    """What sorts text at a place."""

    locales: frozenset[str]
    """Those of the C library that the source uses and that are there."""
    icu: bool
    version: str | None
    """Of the C library; None where it is not known."""
    named: frozenset[str] | None = None
    """The collations that came with the server; None where initdb will make them of the locales that are there."""

    def have(self, collation: Collation) -> bool:
        if self.named is not None and collation.name.startswith("pg_catalog.") and collation.name not in self.named:
            return False
        return collation.locales <= self.locales and (self.icu or collation.provider != "i")

    def version_of(self, collation: Collation) -> str | None:
        """What a server of the source's version would say there; None also where it cannot be told."""
        if collation.actual is None or collation.provider == "b":  # no versions, or one that comes with the server's
            return collation.actual
        return self.version if collation.provider == "c" else None


def judge_staging(source: Likeness, connection: psycopg.Connection) -> list[Finding]:
    """What a database that a dump makes on this server would lack. The server takes any encoding that fits a locale."""
    server, row = look_at_likeness(connection), connection.execute(_STAGING).fetchone()
    assert row is not None  # noqa: S101 - no FROM, one row
    icu, version, named = row
    locales = frozenset(name for name in _locales_of(source) if _takes_locale(connection, name))
    return [
        *judge_extensions(source, extensions_on(connection)),
        *_foreseen(judge_server(source, server, physical=False)),
        *_judge_collations(source, _Libraries(locales, icu, version, frozenset(named)), physical=False),
        *judge_preloaded(source, server.preloaded, physical=False),
    ]


def judge_own(source: Likeness, tools: Tools, *, physical: bool) -> list[Finding]:
    """What a copy would lack on a server of these programs on this machine, in quarantine."""
    there = _Libraries(frozenset(filter(_has_locale, _locales_of(source))), _has_icu(tools), _version_of_libc())
    return [
        *judge_extensions(source, extensions_of(tools)),
        *_judge_collations(source, there, physical=physical),
        *judge_preloaded(source, (), physical=physical),
    ]


def _foreseen(findings: list[Finding]) -> list[Finding]:
    return [finding.model_copy(update={"name": f"foreseen: {finding.name}"}) for finding in findings]


def _judge_collations(source: Likeness, there: _Libraries, *, physical: bool) -> list[Finding]:
    findings = []
    for collation in source.collations:
        has, version = there.have(collation), there.version_of(collation)
        told = collation.kept and (version is not None or collation.actual is None)
        if has and physical and not told:
            continue  # the copy will tell
        here = collation.model_copy(update={"actual": version}) if has else None
        finding = judge_collation(collation, here, physical=physical)
        if has and finding.verdict is Verdict.FAIL:
            # A FAIL here would refuse the drill, and with it the evidence: of how long such a recovery takes, and of
            # which indexes it leaves out of order on this machine. It is told now, and is the copy's FAIL later.
            finding = finding.model_copy(update={"verdict": Verdict.UNKNOWN})
        findings.append(finding)
    return _foreseen(findings)


def judge_preloaded(source: Likeness, there: tuple[str, ...] | None, *, physical: bool) -> list[Finding]:
    """Which libraries the source preloads and the copy's server does not, one finding each.

    Where the role may not read what the source preloads, those extensions are told that work in no other way; where it
    may not read what staging does, nothing can be told.
    """
    needed = [name for name in source.extensions if name in _READ_THROUGH]
    wanted = needed if source.preloaded is None else source.preloaded
    missing = [] if there is None else [name for name in wanted if name not in there]
    return [_judge_library(name, made=not physical and name in source.extensions) for name in missing]


def _judge_library(name: str, *, made: bool) -> Finding:
    """`made` says that an extension of this name is to be made in the copy."""
    title, found = f"preloaded library {name}", "the source preloads it, the copy's server does not"
    if name in _OF_POSTGRES or (name in _OF_OTHERS and not made):
        return Finding(name=title, verdict=Verdict.PASS, found=f"{found}: no data is read or written through it")
    hint = "tables that are read through it give errors or differences, which the checks find; where it can be had,"
    preload = "drill a dump into a staging server that preloads it (`staging.address`)"
    return Finding(name=title, verdict=Verdict.UNKNOWN, found=found, hint=f"{hint} {preload}")


def _locales_of(source: Likeness) -> list[str]:
    return sorted({name for collation in source.collations for name in collation.locales})


def _takes_locale(connection: psycopg.Connection, name: str) -> bool:
    """Whether this server's C library has the locale: any role may set this, and it holds for the one statement."""
    try:
        connection.execute("SELECT set_config('lc_time', %s, true)", (name,))
    except psycopg.errors.InvalidParameterValue:
        return False
    return True


def _has_locale(name: str) -> bool:
    """Whether this machine's C library has the locale (newlocale(3)), as far as it can be asked."""
    if sys.platform != "linux":
        return True
    library = ctypes.CDLL(None)
    library.newlocale.restype = ctypes.c_void_p
    library.freelocale.argtypes = [ctypes.c_void_p]
    made = library.newlocale(1 << locale.LC_COLLATE, os.fsencode(name), None)
    if made is not None:
        library.freelocale(made)
    return made is not None


def _has_icu(tools: Tools) -> bool:
    with (
        Path(tools.program("postgres")).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
    ):
        return whole.find(_NO_ICU) < 0


def _version_of_libc() -> str | None:
    """That of every server which runs on this machine, as the server tells it; None where it is not glibc."""
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    return said.removeprefix("glibc ") or None


def judge_extensions(source: Likeness, there: dict[str, frozenset[str]] | None) -> list[Finding]:
    """Whether staging has each extension of the source in the version that is installed there; one finding each."""
    if there is None:
        found = "the extensions of staging's PostgreSQL were not found: there is no share folder beside its programs"
        hint = "set `tools:` in the plan to a whole installation of PostgreSQL"
        return [Finding(name="extensions of the source", verdict=Verdict.UNKNOWN, found=found, hint=hint)]
    return [_judge_extension(name, version, there, source.major) for name, version in source.extensions.items()]


def _judge_extension(name: str, version: str, there: dict[str, frozenset[str]], major: int) -> Finding:
    title = f"extension {name} {version}"
    if version in there.get(name, frozenset()):
        return Finding(name=title, verdict=Verdict.PASS, found="staging has it in this version")
    package = f"install the package that brings {name} for PostgreSQL {major} in staging"
    hint = f"{package}, such as postgresql-{major}-{name.replace('_', '-')} or postgresql-contrib"
    if name not in there:
        return Finding(name=title, verdict=Verdict.FAIL, found="staging does not have it", hint=hint)
    others = ", ".join(sorted(there[name])) or "none that is whole: its library is missing"
    return Finding(name=title, verdict=Verdict.FAIL, found=f"staging has other versions: {others}", hint=hint)
