"""A target means one thing, and is told to PostgreSQL as that."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from drills.targets import RecoveryTarget, TargetKind
from drills.wal import page_start, parse_lsn, segment_name, segment_number, show_lsn


@pytest.mark.parametrize(
    ("told", "setting", "value"),
    [
        ({"kind": "lsn", "value": "16/B374D848"}, "recovery_target_lsn", "16/B374D848"),
        (
            {"kind": "time", "value": "2026-11-22T09:30:00.25+02:00"},
            "recovery_target_time",
            "2026-11-22 07:30:00.250000+00:00",
        ),
        ({"kind": "name", "value": "before the release"}, "recovery_target_name", "before the release"),
        ({"kind": "immediate"}, "recovery_target", "immediate"),
        ({"kind": "latest", "reach": "0/1"}, "recovery_target_timeline", "latest"),
        ({"kind": "immediate", "timeline": "3"}, "recovery_target_timeline", "3"),
        ({"kind": "lsn", "value": "0/1", "inclusive": False}, "recovery_target_inclusive", "off"),
    ],
)
def test_a_target_is_told_to_a_server(told: dict[str, Any], setting: str, value: str) -> None:
    target = RecoveryTarget.model_validate(told)
    settings = target.settings()
    assert settings[setting] == value
    assert settings["recovery_target_action"] == "promote"
    points = {"recovery_target", "recovery_target_lsn", "recovery_target_time", "recovery_target_name"}
    assert len(points & settings.keys()) == (0 if target.kind is TargetKind.LATEST else 1)
    assert RecoveryTarget.model_validate_json(target.canonical()) == target


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "latest"}, "expected a WAL position in `reach`"),
        ({"kind": "time", "value": "2026-11-22T09:30:00"}, "with its offset from UTC"),
        ({"kind": "time", "value": "yesterday"}, "Invalid isoformat"),
        ({"kind": "lsn", "value": "16B374D848"}, "expected a WAL position such as"),
        ({"kind": "lsn", "value": "0/1", "reach": "far"}, "expected a WAL position such as"),
        ({"kind": "name"}, "expected a name of 1 to 63 bytes"),
        ({"kind": "name", "value": "ü" * 32}, "expected a name of 1 to 63 bytes"),
        ({"kind": "immediate", "value": "0/1"}, "expected no value"),
        ({"kind": "immediate", "timeline": "last"}, "expected latest, current or the number"),
    ],
)
def test_a_target_that_may_mean_two_things_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecoveryTarget.model_validate(told)


def test_positions_compare_as_numbers_and_are_written_as_postgresql_does() -> None:
    assert parse_lsn("0/FFFFFFFF") < parse_lsn("1/0")
    assert parse_lsn("A/0") > parse_lsn("9/FFFFFFFF")
    assert show_lsn(parse_lsn("16/B374D848")) == "16/B374D848"


@pytest.mark.parametrize("size", [1 << 20, 16 << 20, 1 << 30])
def test_a_segment_is_called_by_its_timeline_and_number(size: int) -> None:
    for position in (size, (1 << 32) - size, 1 << 32, (7 << 32) + 3 * size):
        name = segment_name(2, position // size, size)
        assert name.startswith("00000002")
        assert segment_number(name, size) * size == position
    assert segment_number("000000020000000100000003", 16 << 20) << 24 == parse_lsn("1/3000000")
    with pytest.raises(ValueError, match="24 hexadecimal digits"):
        segment_number("00000002.history", 16 << 20)


def test_nothing_but_a_header_before_a_position_is_nothing_that_is_needed() -> None:
    segment = 16 << 20
    assert page_start(segment + 40, segment) == segment
    assert page_start(segment + 8192 + 24, segment) == segment + 8192
    for needed in (segment, segment + 24, segment + 48, segment + 8192 + 40):
        assert page_start(needed, segment) == needed
