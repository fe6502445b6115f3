"""Expectations: what the copy must show, measured inside the snapshot that the backup holds.

Guarantees that what is compared later was measured here and nowhere else: the file is canonical JSON, its digest goes
to the journal, and reading it back refuses other bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import psycopg
from pydantic import ValidationError

from checks.asking import Log
from drills.errors import CheckError
from drills.measures import ControlTotals, Expectations, Measures, Platform
from drills.records import Basis, FileRef, Snapshot

FILE = "expectations.json"
_PROBE = """
SELECT version(), current_setting('server_encoding'), md5(concat_ws(' ',
       hashint2extended(-2::int2, 42), hashint4extended(-70000, 42), hashint4extended(7, 8123456789012345678),
       hashoidextended(16384::oid, 42), hashcharextended('a'::"char", 42), hashnameextended('drill'::name, 42),
       hashtextextended('drill' COLLATE "C", 42), hashbpcharextended('dr  '::char(4), 42),
       hash_numeric_extended(-12345.6789, 42), hashfloat4extended(1.5::float4, 42),
       hashfloat8extended(-2.25::float8, 42), uuid_hash_extended('0b6f5f0e-8d1a-4c55-9d6e-3a5f8f1f2c11'::uuid, 42),
       hashinetextended('10.1.2.3/8'::inet, 42), hashmacaddrextended('08:00:2b:01:02:03'::macaddr, 42),
       hashmacaddr8extended('08:00:2b:01:02:03:04:05'::macaddr8, 42),
       hashfloat8extended(date_part('epoch', '2026-11-22 03:04:05.678901+00'::timestamptz), 42),
       timestamp_hash_extended('2026-11-22 03:04:05.678901'::timestamp, 42),
       date_bin('4294.967296 s'::interval, '1999-12-31 23:59:59'::timestamp, '2000-01-01'::timestamp)::text,
       '{"b": [1.50, -0.0], "a": null}'::jsonb::text, 0.1::float4::text, 0.1::float8::text, 1e300::float8::text,
       '1 mon 2 days 03:04:05.000006'::interval::text, '2026-11-22 03:04:05+02'::timestamptz::text,
       '0044-03-15 BC'::date::text, ARRAY[1.50, NULL]::numeric[]::text, '[1,5)'::int4range::text,
       '\\xdeadbeef'::bytea::text, (-1234.5)::numeric::money::text, encode(sha256('drill'::bytea), 'hex')))
"""
"""One value of every kind that is hashed or written. What differs between two servers here cannot be compared."""


def expect(
    snapshot: Snapshot,
    settings: dict[str, str],
    measures: Measures,
    controls: Sequence[ControlTotals] = (),
    platform: Platform | None = None,
    basis: Basis = Basis.SNAPSHOT,
) -> Expectations:
    """What was measured in the snapshot, as what must come back."""
    return Expectations(
        basis=basis,
        snapshot=snapshot,
        platform=platform,
        settings=settings,
        measures=measures,
        controls=tuple(controls),
    )


def look_at_platform(connection: psycopg.Connection, log: Log) -> Platform:
    """How this server digests values that are known.

    Raises:
        CheckError: it does not, such as a server before PostgreSQL 14.
        ConnectError: it went away.
    """
    version, encoding, probe = log.ask(connection, "platform", _PROBE.strip())[0]
    return Platform(version=version, encoding=encoding, probe=probe)


def refuse_incomparable(expected: Expectations, settings: dict[str, str], platform: Platform) -> None:
    """Refuse to hold a copy against values that would read or be digested otherwise there.

    Raises:
        CheckError: with what differs.
    """
    if expected.settings != settings:
        other = sorted(
            name for name in {*expected.settings, *settings} if expected.settings.get(name) != settings.get(name)
        )
        raise CheckError(
            "the expectations were measured under other session settings: "
            + ", ".join(
                f"{name}: expected {expected.settings.get(name)!r}, got {settings.get(name)!r}" for name in other
            ),
            hint="values would read otherwise; measure and compare with the same version of this program",
        )
    source = expected.platform
    if source is None:
        raise CheckError("the expectations do not say where they were measured", hint="run the drill again")
    for name, wanted, there in (
        ("encoding", source.encoding, platform.encoding),
        ("digest", source.probe, platform.probe),
    ):
        if wanted != there:
            raise CheckError(
                f"source and copy cannot be compared: the {name} of known values is {wanted!r} on the source"
                f" ({source.version}), {there!r} on the copy ({platform.version})",
                hint="restore on a server of the same byte order, encoding and major version",
            )


def write_expectations(expectations: Expectations, folder: Path) -> FileRef:
    """Put them into the folder."""
    path = folder / FILE
    path.write_bytes(expectations.canonical())
    return FileRef.of(path, folder)


def read_expectations(folder: Path, reference: FileRef) -> Expectations:
    """The expectations as they were written.

    Raises:
        CheckError: the file is gone, or is not what was written.
    """
    try:
        content = (folder / reference.path).read_bytes()
    except OSError as error:
        raise CheckError(f"{reference.path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != reference.sha256:
        raise CheckError(
            f"{reference.path} was changed after it was written: expected digest {reference.sha256}, got {found}",
            hint="expected values are measured, never edited; run the drill again",
        )
    try:
        return Expectations.model_validate_json(content)
    except ValidationError as error:
        raise CheckError(f"{reference.path} holds no expectations: {error.error_count()} faults") from None
