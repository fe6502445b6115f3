"""Values read well in a report, and no figure is ever computed with."""

from __future__ import annotations

import pytest

from drills.units import human
from reports import wording


def test_a_path_from_the_record_can_only_lead_beside_the_report() -> None:
    assert wording.beside("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    assert wording.beside("//elsewhere.example/x") == ".///elsewhere.example/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1234567", "1,234,567"),
        ("-1234.50", "-1,234.50"),
        ("12345678901234567890.123456789012345678", "12,345,678,901,234,567,890.123456789012345678"),
        ("999", "999"),
        ("0.00", "0.00"),
        ("007000", "007000"),
        ("1e9", "1e9"),
        ("4 of 4000", "4 of 4000"),
        ("NaN", "NaN"),
    ],
)
def test_figures_are_grouped_as_text_and_never_computed_with(text: str, shown: str) -> None:
    assert wording.figure(text) == shown


@pytest.mark.parametrize(
    ("seconds", "read", "exact", "rounded"),
    [
        (0.0, "0 s", "0 s", False),
        (0.004118, "4.118 ms", "0.004118 s", False),
        (0.412, "412 ms", "0.412 s", False),
        (4.2134, "4.213 s", "4.2134 s", True),
        (4.21, "4.210 s", "4.21 s", False),
        (30.0, "30 s", "30 s", False),
        (72.104233, "1 min 12 s", "72.104233 s", True),
        (7500.0, "2 h 5 min", "7500 s", False),
        (14400.0, "4 h", "14400 s", False),
        (25.400000000000002, "25.400 s", "25.4 s", False),
    ],
)
def test_durations_read_well_and_the_exact_figure_stands_beside_a_rounded_one(
    seconds: float, read: str, exact: str, *, rounded: bool
) -> None:
    assert (human(seconds), wording.exact(seconds), wording.is_rounded(seconds)) == (read, exact, rounded)


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("", "none"),
        ("off by command line", "off by command line"),
        (" by command line", "empty, by command line"),
        ("false", "false"),
        ("a; b", "a; b"),
    ],
)
def test_an_answer_is_never_blank(told: str, read: str) -> None:
    assert wording.answer(told) == read


def test_a_capital_first_leaves_the_rest_as_it_is() -> None:
    assert [wording.capitalized(text) for text in ("version id", "ETag", "")] == ["Version id", "ETag", ""]
