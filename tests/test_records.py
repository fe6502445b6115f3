"""Records: the worst verdict, and that what is written is what is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from pydantic import ValidationError

from drills import records, results
from drills.measures import TotalRow
from drills.records import Basis, Instant, Model, Money, Provenance, Verdict, utc_now

PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN


class Probe(Model):
    """A record with one of each delicate kind."""

    amount: Money
    at: Instant
    note: str = ""


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([], UNKNOWN),
        ([PASS], PASS),
        ([FAIL], FAIL),
        ([UNKNOWN], UNKNOWN),
        ([PASS, PASS], PASS),
        ([PASS, UNKNOWN], UNKNOWN),
        ([UNKNOWN, PASS], UNKNOWN),
        ([PASS, FAIL], FAIL),
        ([FAIL, PASS], FAIL),
        ([UNKNOWN, FAIL], FAIL),
        ([FAIL, UNKNOWN], FAIL),
        ([PASS, UNKNOWN, FAIL], FAIL),
    ],
)
def test_the_worst_verdict_decides_and_none_at_all_is_unknown(verdicts: list[Verdict], worst: Verdict) -> None:
    assert Verdict.worst(verdicts) is worst
    assert Verdict.worst(iter(verdicts)) is worst


@pytest.mark.parametrize(
    "text", ["0.10", "0", "-0.01", "100000000000000000.01", "0.1000000000000000055511151231257827", "1" * 60 + ".50"]
)
def test_money_comes_back_to_the_last_digit_and_as_text(text: str) -> None:
    probe = Probe(amount=Decimal(text), at=utc_now())
    told = probe.canonical()
    assert json.loads(told)["amount"] == text
    assert Probe.model_validate_json(told).amount.as_tuple() == Decimal(text).as_tuple()


def test_money_is_never_written_with_an_exponent() -> None:
    told = json.loads(Probe(amount=Decimal("1.5E+3"), at=utc_now()).canonical())
    assert told["amount"] == "1500"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_sum_that_postgresql_calls_no_number_is_kept_as_it_says(text: str) -> None:
    told = Probe(amount=Decimal(text), at=utc_now()).canonical()
    assert json.loads(told)["amount"] == text
    assert str(Probe.model_validate_json(told).amount) == text


@pytest.mark.parametrize("amount", ["ten", "", "1,5", None])
def test_what_is_no_amount_is_refused(amount: str | None) -> None:
    with pytest.raises(ValidationError):
        Probe.model_validate({"amount": amount, "at": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 6, 30, 22, 9, 0, 118204, tzinfo=UTC), "2026-06-30T22:09:00.118204Z"),
        (datetime(2026, 6, 30, 22, 9, tzinfo=UTC), "2026-06-30T22:09:00.000000Z"),
        (datetime(2026, 7, 1, 0, 9, 0, 1, tzinfo=timezone(timedelta(hours=2))), "2026-06-30T22:09:00.000001Z"),
    ],
)
def test_an_instant_is_written_in_utc_to_the_microsecond_and_comes_back(at: datetime, text: str) -> None:
    probe = Probe(amount=Decimal(1), at=at)
    assert probe.at.utcoffset() == timedelta(0)
    assert json.loads(probe.canonical())["at"] == text
    again = Probe.model_validate_json(probe.canonical())
    assert again == probe
    assert again.canonical() == probe.canonical()


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Probe(amount=Decimal(1), at=datetime(2026, 6, 30))  # noqa: DTZ001 - that is the point
    with pytest.raises(ValidationError, match="timezone"):
        Probe.model_validate_json('{"amount":"1","at":"2026-06-30T22:09:00"}')


def test_now_is_aware_and_in_utc() -> None:
    assert utc_now().tzinfo is UTC


def test_unknown_keys_are_refused_and_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Probe.model_validate({"amount": "1", "at": "2026-01-01T00:00:00Z", "nota": "x"})
    probe = Probe(amount=Decimal(1), at=utc_now())
    with pytest.raises(ValidationError, match="frozen"):
        probe.note = "changed"  # type: ignore[misc]


def test_one_content_has_one_canonical_text() -> None:
    first = Probe.model_validate({"note": "é\n", "amount": "1.50", "at": "2026-01-01T00:00:00Z"})
    second = Probe.model_validate({"at": "2026-01-01T00:00:00+00:00", "amount": Decimal("1.50"), "note": "é\n"})
    expected = '{"amount":"1.50","at":"2026-01-01T00:00:00.000000Z","note":"é\\n"}'.encode()
    assert first.canonical() == second.canonical() == expected


def test_the_scale_of_an_amount_is_part_of_the_text() -> None:
    at = utc_now()
    assert Probe(amount=Decimal("1.5"), at=at).canonical() != Probe(amount=Decimal("1.50"), at=at).canonical()


def test_a_group_of_a_total_may_be_null_and_so_may_its_sum() -> None:
    row = TotalRow(group=(None, "EUR"), rows=2, amounts=0, total=None)
    assert TotalRow.model_validate_json(row.canonical()) == row


def test_a_record_may_be_the_key_of_a_set() -> None:
    provenance = Provenance(path="p", sha256="0")
    assert len({provenance, Provenance(path="p", sha256="0")}) == 1


def test_every_record_refuses_unknown_keys_and_is_frozen() -> None:
    known = {**vars(records), **vars(results)}.values()
    models = [kind for kind in known if isinstance(kind, type) and issubclass(kind, Model)]
    assert len(models) >= 20
    for model in models:
        assert (model.model_config.get("extra"), model.model_config.get("frozen")) == ("forbid", True), model


def test_the_words_for_verdict_and_basis_are_what_reports_print() -> None:
    assert [str(verdict) for verdict in Verdict] == ["PASS", "FAIL", "UNKNOWN"]
    assert str(Basis.SNAPSHOT) == "snapshot"
