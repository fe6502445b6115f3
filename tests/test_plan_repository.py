"""The rules of the plan for recovery from a repository of backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from drills.plans.repository import Barman, Pgbackrest, Walg

GOOD: dict[str, Any] = {"method": "pgbackrest", "stanza": "shop", "repo_path": "/srv/backrest"}


def pgbackrest(**changes: object) -> Pgbackrest:
    return Pgbackrest.model_validate(GOOD | changes, strict=True)


def test_what_a_plan_leaves_out_means_the_newest_backup() -> None:
    plan = pgbackrest()
    assert (plan.backup, plan.before, plan.max_age, plan.repo, plan.jobs) == (None, None, None, 1, 2)
    assert Barman.model_validate({"method": "barman", "server": "shop"}).config == "/etc/barman.conf"


def test_an_instant_is_written_as_text_with_its_zone() -> None:
    assert pgbackrest(before="2026-11-21T01:00:00+01:00").before == datetime(2026, 11, 21, tzinfo=UTC)
    plan = pgbackrest(before="2026-11-21T00:00:00Z", max_age="26h")
    assert plan.max_age == timedelta(hours=26)
    assert Pgbackrest.model_validate_json(plan.model_dump_json()) == plan
    for wrong in ("2026-11-21T00:00:00", "yesterday", 20261121):
        with pytest.raises(ValidationError, match=r"timezone|an instant with its time zone|valid datetime"):
            pgbackrest(before=wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backup": "20261121-010002F", "before": "2026-11-21T00:00:00Z"}, "expected one of them"),
        ({"repo_path": None}, "give `config`, `repo_path` or both"),
        ({"repo_path": "relative"}, "pattern"),
        ({"stanza": "--help"}, "pattern"),
        ({"backup": "../elsewhere"}, "pattern"),
        ({"secrets": {"repo1-cipher-pass": "hunter2"}}, "expected a reference"),
        ({"secrets": {"log-path": "env:X"}}, "pattern"),
        ({"max_age": "0s"}, "expected 1ms"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        pgbackrest(**changes)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("model", [Pgbackrest, Barman, Walg])
def test_every_field_has_a_description_and_an_example_that_it_takes(model: type[Pgbackrest | Barman | Walg]) -> None:
    for field in model.model_fields.values():
        assert field.description
        assert field.description.endswith(".")
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        assert field.examples
        for example in field.examples:
            adapter.validate_python(example)
