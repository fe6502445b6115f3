"""Expectations: what they rest on, and what they may be held against."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_checks import a_log, expectations, measured
from fix_postgres import Database

from checks.expectations import look_at_platform, read_expectations, refuse_incomparable, write_expectations
from drills.errors import CheckError
from drills.measures import Expectations, Platform
from drills.sessions import PINNED, STAGING_LIMITS, Access, session


def platform_of(database: Database) -> Platform:
    """As a drill asks it."""
    with session(database.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return look_at_platform(connection, a_log())


@pytest.fixture
def expected(shop: Database) -> Expectations:
    """Measured, under the settings of every session."""
    found = expectations(measured(shop))
    return found.model_copy(update={"settings": PINNED, "platform": platform_of(shop)})


def test_the_same_server_is_comparable_and_its_probe_does_not_change(shop: Database, expected: Expectations) -> None:
    assert expected.platform is not None
    assert "PostgreSQL" in expected.platform.version
    refuse_incomparable(expected, PINNED, platform_of(shop))


def test_the_probe_depends_on_how_values_read(shop: Database, expected: Expectations) -> None:
    with session(shop.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        connection.execute("SET IntervalStyle = postgres_verbose")
        other = look_at_platform(connection, a_log())
    with pytest.raises(CheckError, match="the digest of known values") as found:
        refuse_incomparable(expected, PINNED, other)
    assert "byte order" in found.value.hint


@pytest.mark.parametrize("change", [{"encoding": "LATIN1"}, {"probe": "0" * 32}])
def test_a_server_that_digests_otherwise_is_refused(
    shop: Database, expected: Expectations, change: dict[str, str]
) -> None:
    with pytest.raises(CheckError, match="source and copy cannot be compared"):
        refuse_incomparable(expected, PINNED, platform_of(shop).model_copy(update=change))


@pytest.mark.parametrize("settings", [PINNED | {"TimeZone": "CET"}, {"TimeZone": "UTC"}, PINNED | {"new": "1"}])
def test_values_that_were_measured_under_other_settings_are_refused(
    shop: Database, expected: Expectations, settings: dict[str, str]
) -> None:
    with pytest.raises(CheckError, match="other session settings"):
        refuse_incomparable(expected, settings, platform_of(shop))


def test_expectations_of_nowhere_are_refused(shop: Database, expected: Expectations) -> None:
    with pytest.raises(CheckError, match="do not say where"):
        refuse_incomparable(expected.model_copy(update={"platform": None}), PINNED, platform_of(shop))


def test_they_come_back_from_the_disk_as_they_were_and_not_when_somebody_edited_them(
    expected: Expectations, tmp_path: Path
) -> None:
    reference = write_expectations(expected, tmp_path)
    assert read_expectations(tmp_path, reference) == expected
    file = tmp_path / reference.path
    digest = next(count.digest for count in expected.measures.counts if count.table == "public.invoice")
    assert digest is not None
    content = file.read_text()
    assert digest in content
    file.write_text(content.replace(digest, str(int(digest) + 1)))
    with pytest.raises(CheckError, match="was changed after it was written"):
        read_expectations(tmp_path, reference)
