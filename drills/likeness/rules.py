"""The rules: whether a copy is like production where it would be hurt if it were not: extensions, collations, pages.

Guarantees one finding for each thing looked at, and that what could not be found out is UNKNOWN. A physical copy keeps
production's indexes: with a collation library of another version their order may be wrong, and queries miss rows
without an error.
"""

from __future__ import annotations

from drills.likeness.facts import Collation, Likeness
from drills.records import Finding, Verdict

_UNVERSIONED = {"C", "POSIX"}
"""Locales by bytes, which no library has to do with."""


def judge_likeness(source: Likeness, copy: Likeness, *, physical: bool, of_now: bool = True) -> list[Finding]:
    """What differs between production and the copy that runs, each thing by itself.

    Args:
        source: as it was looked at before the backup.
        copy: the restored database.
        physical: whether the copy has production's own pages and indexes, rather than new ones.
        of_now: whether the copy is of the same time; if not, what it lacks may have come to production since.
    """
    return [
        _same("major version", source.major, copy.major, Verdict.FAIL, "restore with tools of the source's version"),
        _same("encoding", source.encoding, copy.encoding, Verdict.FAIL, "make the copy in the source's encoding"),
        *judge_server(source, copy, physical=physical),
        *_judge_versions(source, copy, of_now=of_now),
        *judge_collations(source, copy, physical=physical, of_now=of_now),
    ]


def judge_server(source: Likeness, copy: Likeness, *, physical: bool) -> list[Finding]:
    """What differs between two servers of one version, whatever database is on them."""
    pages = Verdict.FAIL if physical else Verdict.PASS
    return [
        _judge_checksums(source, copy, physical=physical),
        _same("block size", source.block_size, copy.block_size, pages, "another build of PostgreSQL"),
        _same("WAL segment size", source.wal_segment, copy.wal_segment, pages, "initdb --wal-segsize"),
        _same("integer_datetimes", source.integer_datetimes, copy.integer_datetimes, Verdict.FAIL, "another build"),
        _same("architecture", source.architecture, copy.architecture, pages, "restore on a machine of the same kind"),
        _same("layout of pages", source.layout, copy.layout, pages, "restore on a machine and build of the same kind"),
    ]


def _same(what: str, there: object, here: object, otherwise: Verdict, hint: str) -> Finding:
    if there == here:
        return Finding(name=f"{what} of the copy", verdict=Verdict.PASS, found=f"{here}, as the source")
    note = "" if otherwise is not Verdict.PASS else "; rows that were loaded anew do not depend on it"
    found = f"source {there}, copy {here}{note}"
    return Finding(name=f"{what} of the copy", verdict=otherwise, found=found, hint=hint if not note else "")


def _judge_checksums(source: Likeness, copy: Likeness, *, physical: bool) -> Finding:
    name, shown = "page checksums of the copy", {True: "on", False: "off"}
    if source.checksums == copy.checksums:
        return Finding(name=name, verdict=Verdict.PASS, found=f"{shown[copy.checksums]}, as the source")
    found = f"source {shown[source.checksums]}, copy {shown[copy.checksums]}"
    if copy.checksums and not physical:
        return Finding(name=name, verdict=Verdict.PASS, found=f"{found}: the copy would notice more than the source")
    hint = "somebody ran pg_checksums on it" if physical else "initdb --data-checksums in staging"
    return Finding(name=name, verdict=Verdict.FAIL, found=found, hint=hint)


def _judge_versions(source: Likeness, copy: Likeness, *, of_now: bool) -> list[Finding]:
    """Of extensions: a dump does not say in which version one is installed, so the copy gets staging's default."""
    findings = []
    for name, version in source.extensions.items():
        here = copy.extensions.get(name)
        verdict = Verdict.PASS if here == version else Verdict.FAIL if here is None and of_now else Verdict.UNKNOWN
        hint = "" if here == version else f"install {name} {version} in staging, or update the source's"
        found = f"{here}, as the source" if here == version else f"source {version}, copy {here or 'has none'}"
        findings.append(Finding(name=f"extension {name} of the copy", verdict=verdict, found=found, hint=hint))
    return findings


def judge_collations(source: Likeness, copy: Likeness, *, physical: bool, of_now: bool = True) -> list[Finding]:
    """Whether text sorts in the copy as it did where the indexes were built; one finding for each collation in use."""
    here = {collation.name: collation for collation in copy.collations}
    return [
        judge_collation(there, here.get(there.name), physical=physical, of_now=of_now) for there in source.collations
    ]


def judge_collation(there: Collation, here: Collation | None, *, physical: bool, of_now: bool = True) -> Finding:
    """The same of one collation; `here` is None where the copy does not have it."""
    name = f"collation {there.name or 'of the database'} in the copy"
    if here is None:
        hint = "make it in staging, or install the locale there"
        verdict = Verdict.FAIL if of_now else Verdict.UNKNOWN
        return Finding(name=name, verdict=verdict, found=f"the copy does not have it: {there.order}", hint=hint)
    if here.order != there.order:
        found = f"source {there.order}, copy {here.order}"
        return Finding(name=name, verdict=Verdict.FAIL, found=found, hint="make the database in the source's locale")
    if physical and not there.kept and there.locale not in _UNVERSIONED:
        found = f"{there.order}: this version of PostgreSQL does not keep with which library its indexes were built"
        return Finding(name=name, verdict=Verdict.UNKNOWN, found=found, hint="have `checks.amcheck` look through them")
    built = there.recorded if physical else there.actual
    if built == here.actual:
        return Finding(
            name=name, verdict=Verdict.PASS, found=f"{here.order} {here.actual or 'without versions'}".strip()
        )
    found = f"{here.order}: source {built or 'unknown'}, the copy's library {here.actual or 'unknown'}"
    if not physical:
        note = "; the copy's indexes were built with its own library"
        return Finding(name=name, verdict=Verdict.PASS, found=found + note)
    hint = "text may sort otherwise: REINDEX the copy before it is used, or restore where the library is the source's"
    return Finding(name=name, verdict=Verdict.FAIL, found=found, hint=hint)
