"""Rules that books keep: trial balance, debits and credits, sub-ledger and control account, roll-forward.

Each is made of totals, which the core measures on source and copy as it measures the plan's own. Guarantees that books
which were out of balance before the backup are told apart from those that only the copy has so; that books which
balance over other sums than the snapshot held do not pass; and that a rule over nothing is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

import pandas as pd

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, figure, frame, named
from checks.sums import (
    GROUP,
    LINE,
    NO_NUMBER,
    Group,
    add_up,
    any_amount,
    difference,
    foot,
    in_order,
    labels,
    rows,
    same,
)
from checks.totals import refuse_unlike, without_a_side
from checks.totals_sql import on_side, own
from drills.errors import CheckError
from drills.measures import Total, TotalRow
from drills.plans.sums import Sign, Sum
from drills.plans.totals import SIDES, LedgerCheck, TotalCheck
from drills.records import Verdict

Sums = Mapping[str, Decimal | None]
"""One group's sums by the keys of the plan."""
_Side = Mapping[str, Mapping[Group, TotalRow]]
"""What one side has, by those keys."""
BALANCED = "in balance"
ONLY_IN_THE_COPY = "out of balance only in the copy, in balance in the source's snapshot"
ALREADY_AT_SOURCE = "already so at the source: the books were out of balance before the backup"
OTHERWISE_AT_SOURCE = "out of balance in the copy otherwise than at the source"
ONLY_AT_SOURCE = "out of balance at the source and not in the copy"
OVER_OTHER_SUMS = "in balance over other rows or sums than in the source's snapshot"
SOURCE, FINDING = "source_difference", "finding"
_COLUMNS = [EXPECTED, ACTUAL, DIFFERENCE, SOURCE, FINDING, VERDICT, LINE]
_NOTHING = Decimal(0)


@dataclass(frozen=True)
class _Rule:
    """What has to be equal to what."""

    expected: Callable[[Sums], Decimal | None]
    actual: Callable[[Sums], Decimal | None]
    says: str


def _of(key: str) -> Callable[[Sums], Decimal | None]:
    return lambda found: found[key]


_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "trial_balance": _Rule(lambda _: _NOTHING, _of("postings"), "the postings add up to nothing"),
        "debits_equal_credits": _Rule(_of("debits"), _of("credits"), "debits equal credits"),
        "subledger_equals_control": _Rule(
            _of("subledger"), _of("control_account"), "the sub-ledger equals its control account"
        ),
        "roll_forward": _Rule(
            lambda found: add_up([found["opening"], found["movement"]]),
            _of("closing"),
            "opening and movement make closing",
        ),
    }
)


def parts(check: LedgerCheck) -> tuple[TotalCheck, ...]:
    """The totals that it is made of, for the core to measure on both sides."""
    postings = check.postings
    if check.kind == "debits_equal_credits" and postings is not None and postings.sign is not None:
        return tuple(_named(check, key, _one_side(postings, postings.sign, key)) for key in SIDES)
    return tuple(_named(check, key, total) for key, total in check.sums.items())


def judge(check: LedgerCheck, expected: Mapping[str, Total], actual: Mapping[str, Total], seconds: float) -> Answer:
    """Group by group: whether the rule holds in the copy, and whether it held in the source's snapshot.

    Args:
        check: what the plan says.
        expected: the totals of `parts`, by name, as measured in the source's snapshot.
        actual: the same as measured in the copy.
        seconds: spent on measuring them there.

    Raises:
        CheckError: one of them could not be measured.
    """
    keys = [part.name.removeprefix(f"{check.name}: ").replace(" ", "_") for part in parts(check)]
    source, copy = (_by_key(check, keys, totals) for totals in (expected, actual))
    for key in keys:
        refuse_unlike(source[key], copy[key])
    summed = [key for key in keys if key != SIDES[-1]]
    before, now = ({key: rows(side[key]) for key in summed} for side in (source, copy))
    groups = in_order({group for side in (before, now) for found in side.values() for group in found})
    names = labels(source[keys[0]].by, _COLUMNS)
    rule = _RULES[check.kind]
    found = frame([_line(rule, group, summed, before, now) for group in groups], [*names, *_COLUMNS])
    verdict = Verdict.worst(found[VERDICT])
    reason = _reason(rule, found)
    if verdict is not Verdict.FAIL and (unsure := _unsure(check, summed, source, copy)):
        verdict, reason = Verdict.UNKNOWN, unsure
    whole = {key: add_up(total.total for total in copy[key].rows) for key in summed}
    wanted, there = rule.expected(whole), rule.actual(whole)
    added = {EXPECTED: figure(wanted), ACTUAL: figure(there), DIFFERENCE: difference(there, wanted)}
    below = foot(names, _COLUMNS, added, verdict)
    return Answer(verdict, reason, **added, frame=found, keys=names, seconds=seconds, foot=below)


def _named(check: LedgerCheck, key: str, total: Sum) -> TotalCheck:
    return TotalCheck(name=check.part_name(key), **{field: getattr(total, field) for field in Sum.model_fields})


def _one_side(postings: Sum, sign: Sign, key: str) -> Sum:
    """The postings of one side with the amounts as they are stored, or those that stand on neither."""
    positive, negative = on_side(sign, sign.positive), on_side(sign, sign.negative)
    stands = {SIDES[0]: positive, SIDES[1]: negative, SIDES[2]: f"(({positive}) OR ({negative})) IS NOT TRUE"}[key]
    where = f"({own(postings.where)}) AND {stands}" if postings.where else stands
    return postings.model_copy(update={"sign": None, "where": where})


def _by_key(check: LedgerCheck, keys: list[str], totals: Mapping[str, Total]) -> dict[str, Total]:
    for key in keys:
        if check.part_name(key) not in totals:
            raise CheckError(f"not measured: {check.part_name(key)}")
    return {key: totals[check.part_name(key)] for key in keys}


def _line(rule: _Rule, group: Group, keys: list[str], source: _Side, copy: _Side) -> tuple[object, ...]:
    """One group. What has no row in one of the sums counts there as nothing."""
    nothing = TotalRow(group=group, rows=0, amounts=0, total=_NOTHING)
    before, now = ({key: side[key].get(group, nothing) for key in keys} for side in (source, copy))
    were, are = ({key: row.total for key, row in found.items()} for found in (before, now))
    wanted, there = rule.expected(are), rule.actual(are)
    here, at_source = difference(there, wanted), difference(rule.actual(were), rule.expected(were))
    moved = [key for key in keys if _counted(before[key]) != _counted(now[key]) or not same(were[key], are[key])]
    if not all(amount is None or amount.is_finite() for amount in are.values()):
        here = NO_NUMBER
    verdict, finding = _judge(here, at_source, moved=bool(moved), lacking=None in are.values())
    said = here if verdict is Verdict.PASS else f"{here}, {finding}"
    return *group, figure(wanted), figure(there), said, at_source, finding, verdict, GROUP


def _counted(row: TotalRow) -> tuple[int, int]:
    return row.rows, row.amounts


def _judge(here: str, at_source: str, *, moved: bool, lacking: bool) -> tuple[Verdict, str]:
    if lacking and not moved:
        return Verdict.UNKNOWN, "no amount to add up"
    if here != "0" or lacking:
        if at_source == "0":
            return Verdict.FAIL, ONLY_IN_THE_COPY
        return Verdict.FAIL, OTHERWISE_AT_SOURCE if moved else ALREADY_AT_SOURCE
    if at_source != "0":
        return Verdict.FAIL, ONLY_AT_SOURCE
    return (Verdict.FAIL, OVER_OTHER_SUMS) if moved else (Verdict.PASS, BALANCED)


def _reason(rule: _Rule, found: pd.DataFrame) -> str:
    """The findings, each with the groups that have it."""
    told = []
    for finding in dict.fromkeys(found[FINDING]):
        having = found[found[FINDING] == finding]
        if finding != BALANCED:
            groups = [" · ".join(map(str, row)) for row in having[list(found.columns[: -len(_COLUMNS)])].to_numpy()]
            told.append(f"{len(having)} of {len(found)} groups {finding}: {named(groups)}")
    return "; ".join(told) or f"{rule.says} in all {len(found)} groups, as at the source"


def _unsure(check: LedgerCheck, keys: list[str], source: Mapping[str, Total], copy: Mapping[str, Total]) -> str:
    """Why a rule that holds proves nothing; empty where it does."""
    for where, side in (("the snapshot", source), ("the copy", copy)):
        empty = [key.replace("_", " ") for key in keys if not any_amount(side[key])]
        if empty:
            return f"no row of {where} had an amount in {named(empty)}: there was nothing to add up"
        if SIDES[-1] in side and (astray := sum(row.rows for row in side[SIDES[-1]].rows)):
            return f"{astray} rows of {where} stand on a side that is neither positive nor negative in the plan"
    told = (without_a_side(source[key], total) for key, total in check.sums.items() if key in source)
    return next(filter(None, told), "")
