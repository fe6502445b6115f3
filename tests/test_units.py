"""Durations and sizes: exact, with a unit, and shown as they can be read again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from drills.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta(0)),
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("15min", timedelta(minutes=15)),
        ("15 min", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        ("1d", timedelta(days=1)),
        ("0.001ms", timedelta(microseconds=1)),
        ("123456789.123456s", timedelta(seconds=123456789, microseconds=123456)),
    ],
)
def test_a_duration_is_read_to_the_microsecond(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "15",
        15,
        1.5,
        "15m",
        "15 minutes",
        "-1s",
        "1e3s",
        "",
        "s",
        "0.0001ms",
        "\u0661\u0665min",
        None,
        True,
        ["1s"],
        "1s\n",
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a number and a unit"):
        parse_duration(text)


def test_a_duration_that_no_clock_holds_is_refused_and_does_not_crash() -> None:
    with pytest.raises(ValueError, match="expected a duration below"):
        parse_duration("999999999999999d")


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0s"),
        (1, "0.001ms"),
        (500_000, "500ms"),
        (1_234_567_891, "1234567.891ms"),
        (90_000_000, "90s"),
        (3_600_000_000, "1h"),
        (86_400_000_000, "1d"),
        (36 * 3_600_000_000, "36h"),
    ],
)
def test_a_duration_is_shown_as_it_can_be_read_again(micro: int, text: str) -> None:
    duration = timedelta(microseconds=micro)
    assert show_duration(duration) == text
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1B", 1), ("20GB", 20_000_000_000), ("1.5kB", 1500), ("0.000000000001TB", 1), ("9007199254740993 B", 2**53 + 1)],
)
def test_a_size_is_read_to_the_byte(text: str, expected: int) -> None:
    assert parse_size(text) == expected
    assert parse_size(show_size(expected)) == expected


@pytest.mark.parametrize("text", [200, "200", "20GiB", "20gb", "0.5B", "1.0001kB", "-1GB", Decimal("1.5"), None, "GB"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a number and a unit"):
        parse_size(text)


def test_a_size_is_shown_in_its_largest_whole_unit() -> None:
    assert [show_size(size) for size in (0, 999, 1500, 2000, 200 * 10**9, 10**12)] == [
        "0B", "999B", "1500B", "2kB", "200GB", "1TB"
    ]  # fmt: skip
