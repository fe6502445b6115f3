"""The age of a backup that was there: one rule, whoever took it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drills.records import Backup, Verdict
from drills.recovery.age import judge_age

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY = 26 * 3600.0


def backup(age: timedelta | None, **changes: object) -> Backup:
    told = {"method": "rds", "path": "p", "size": 1, "files": 0, "digest": "", "commands": (), "seconds": 0.0}
    return Backup.model_validate(told | {"taken": None if age is None else NOW - age} | changes)


@pytest.mark.parametrize(
    ("age", "limit", "verdict", "said"),
    [
        (timedelta(hours=25), DAY, Verdict.PASS, "1 d 1 h old: 2026-11-20 23:00:00 UTC, as it says"),
        (timedelta(hours=27), DAY, Verdict.FAIL, "1 d 3 h old: 2026-11-20 21:00:00 UTC, as it says; at most 1 d 2 h"),
        (timedelta(seconds=1.4), 1.0, Verdict.FAIL, "1.400 s old: 2026-11-21 23:59:58 UTC, as it says; at most 1 s"),
        (timedelta(days=99), None, Verdict.PASS, "the plan sets no max_age"),
        (timedelta(seconds=-119), DAY, Verdict.PASS, "0 s old"),
        (
            timedelta(seconds=-121),
            DAY,
            Verdict.FAIL,
            "dated 2 min 1 s ahead of this machine's clock: 2026-11-22 00:02:01 UTC",
        ),
        (
            timedelta(seconds=-121),
            None,
            Verdict.UNKNOWN,
            "dated 2 min 1 s ahead of this machine's clock: 2026-11-22 00:02:01 UTC",
        ),
        (None, DAY, Verdict.UNKNOWN, "nobody says when it was taken"),
        (None, None, Verdict.UNKNOWN, "nobody says when it was taken"),
    ],
)
def test_a_backup_is_young_enough_or_not_or_nobody_knows(
    age: timedelta | None, limit: float | None, verdict: Verdict, said: str
) -> None:
    found = judge_age(backup(age), limit, NOW)
    assert (found.verdict, said in found.found) == (verdict, True), found
    from_the_future = age is not None and age < timedelta(seconds=-120)
    assert ("a clock is wrong" in found.hint) == from_the_future


def test_what_may_be_older_than_it_looks_passes_no_limit_and_fails_one_all_the_same() -> None:
    older = backup(timedelta(hours=25), perhaps_older=True)
    assert judge_age(older, DAY, NOW).verdict is Verdict.UNKNOWN
    assert judge_age(older, 3600, NOW).verdict is Verdict.FAIL
    assert judge_age(older, None, NOW).verdict is Verdict.PASS


def test_who_says_when_it_was_taken_is_told() -> None:
    assert "UTC, by its header" in judge_age(backup(timedelta(0), details={"taken": "by its header"}), DAY, NOW).found
    gone = judge_age(backup(None, details={"taken": "the original is gone"}), DAY, NOW)
    assert gone.found == "nobody says when it was taken: the original is gone"
