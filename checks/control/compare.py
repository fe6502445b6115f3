"""Control totals: what another system says of a total, held against source and copy.

Guarantees that it is told which of the three disagrees, since only one of the answers is a loss by the restore; and
that a control which could not be read, is another file, or says nothing is UNKNOWN.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, figure, frame
from checks.control.files import read_file
from checks.control.query import ask
from checks.control.records import add_records
from checks.sums import GROUP, LINE, add_up, any_amount, difference, foot, in_order, labels, lets_pass, rows, same, told
from checks.totals import refuse_unlike, without_a_side
from checks.totals_sql import closed_at
from drills.errors import CheckError, DrillbookError
from drills.measures import ControlTotals, Total, TotalRow
from drills.plans.control import Control, QueryControl
from drills.plans.sums import Tolerance
from drills.plans.totals import TotalCheck
from drills.records import Verdict, utc_now
from drills.secrets import VAULT

AGREE = "all three agree"
CONTROL_DISAGREES = "the control disagrees with source and copy, which agree: not a loss by the restore"
COPY_DISAGREES = "the copy disagrees with control and source, which agree: lost between snapshot and copy"
SOURCE_DISAGREES = "the source disagrees with control and copy, which agree: the copy is not what the snapshot held"
ALL_DISAGREE = "control, source and copy are all different"
ONLY_NEAR = "source and copy differ, though the control is within its tolerance of both: lost between snapshot and copy"
SOURCE, FINDING = "source", "finding"
_COLUMNS = [EXPECTED, SOURCE, ACTUAL, DIFFERENCE, FINDING, VERDICT, LINE]


def read_control(check: TotalCheck, opened: datetime) -> ControlTotals:
    """What the other system says, by the total's groups; why not, where it cannot be read.

    Args:
        check: a total with a control.
        opened: when the drill was opened, which fixes the end of the period.
    """
    try:
        found, error = _read(check.settled(opened)), ""
    except DrillbookError as fault:
        found, error = (), f"{fault.message} ({fault.hint})" if fault.hint else fault.message
    except Exception as fault:  # noqa: BLE001 - a control that cannot be read is UNKNOWN, whatever the cause
        found, error = (), f"the control could not be read: {type(fault).__name__}: {fault}"
    origin = check.control.origin if check.control else None
    return ControlTotals(
        name=check.name,
        origin=VAULT.redact(_origin(check.control)),
        query=VAULT.redact(origin.sql) if isinstance(origin, QueryControl) else "",
        read=utc_now(),
        by=tuple(check.by),
        rows=found,
        error=VAULT.redact(error),
    )


def compare_control(check: TotalCheck, control: ControlTotals, expected: Total, actual: Total) -> Answer:
    """Group by group: the control, the source at the snapshot, and the copy.

    Args:
        check: what the plan says.
        control: as `read_control` has read it.
        expected: the total in the source's snapshot.
        actual: the total in the copy.

    Raises:
        CheckError: one of the three is not known, or they have other groups.
    """
    if control.error:
        raise CheckError(control.error)
    if control.by != expected.by:
        raise CheckError(f"the control has other groups: expected {expected.by}, got {control.by}")
    refuse_unlike(expected, actual)
    if not control.rows:
        raise CheckError(f"the control holds no record: {control.origin}")
    three = rows(control), rows(expected), rows(actual)
    groups = in_order({group for side in three for group in side})
    names = labels(expected.by, _COLUMNS)
    found = frame(
        [(*group, *_judge([side.get(group) for side in three], check.tolerance)) for group in groups],
        [*names, *_COLUMNS],
    )
    verdict, reason = Verdict.worst(found[VERDICT]), _reason(Counter(found[FINDING]), check.tolerance)
    nothing = "" if any_amount(expected) else "no row of the snapshot had an amount: there was nothing to add up"
    if verdict is not Verdict.FAIL and (unsure := nothing or without_a_side(expected, check)):
        verdict, reason = Verdict.UNKNOWN, unsure
    said, source, there = (add_up(row.total for row in side.values()) for side in three)
    added = {EXPECTED: figure(said), ACTUAL: figure(there), DIFFERENCE: difference(there, said)}
    below = foot(names, _COLUMNS, {**added, SOURCE: figure(source)}, verdict)
    return Answer(
        verdict,
        f"{reason} ({control.origin})",
        expected=added[EXPECTED],
        actual=added[ACTUAL],
        difference=added[DIFFERENCE],
        frame=found,
        keys=names,
        foot=below,
    )


def _read(check: TotalCheck) -> tuple[TotalRow, ...]:
    if check.control is None:
        raise CheckError(f"{check.name} has no control")
    origin = check.control.origin
    found = ask(origin, closed_at(check)) if isinstance(origin, QueryControl) else read_file(origin)
    return add_records(check, found)


def _origin(control: Control | None) -> str:
    if control is None:
        return "nowhere"
    origin = control.origin
    return origin.url if isinstance(origin, QueryControl) else f"{origin.path}, sha256 {origin.sha256}"


def _judge(three: list[TotalRow | None], tolerance: Tolerance | None) -> tuple[object, ...]:
    """Control, source, copy, the copy less the control, what was found, verdict."""
    said, source, there = three
    # The tolerance is for the other system's way of counting; a copy has no way of its own.
    finding = _finding(
        with_source=_agree(said, source, tolerance),
        with_copy=_agree(said, there, tolerance),
        among_them=_agree(source, there, None),
    )
    verdict = Verdict.PASS if finding == AGREE else Verdict.FAIL
    parts = [_less(there, said)]
    if verdict is Verdict.FAIL:
        parts.append(finding)
    elif tolerance is not None and not _agree(said, source, None):
        finding = told(tolerance)
        parts.append(finding)
    shown = [None if row is None else figure(row.total) for row in three]
    return *shown, ", ".join(parts), finding, verdict, GROUP


def _agree(one: TotalRow | None, other: TotalRow | None, tolerance: Tolerance | None) -> bool:
    """Whether both have the group, with sums that are near enough, or neither has it. A sum of NULL is a group."""
    if one is None or other is None:
        return one is other
    return same(one.total, other.total) or lets_pass(tolerance, one.total, other.total)


def _less(there: TotalRow | None, said: TotalRow | None) -> str:
    """The copy less the control."""
    if there is None and said is None:
        return "neither has the group"
    if there is None:
        return "the group is missing"
    return "the group is unexpected" if said is None else difference(there.total, said.total)


def _finding(*, with_source: bool, with_copy: bool, among_them: bool) -> str:
    """Which of the three disagrees. Within a tolerance two may agree with a third and not with each other."""
    if with_source and with_copy:
        return AGREE if among_them else ONLY_NEAR
    if with_source:
        return COPY_DISAGREES
    if with_copy:
        return SOURCE_DISAGREES
    return CONTROL_DISAGREES if among_them else ALL_DISAGREE


def _reason(findings: Counter[str], tolerance: Tolerance | None) -> str:
    count = findings.total()
    faults = [finding for finding in _FAULTS if findings[finding]]
    if faults:
        return "; ".join(f"in {findings[finding]} of {count} groups {finding}" for finding in faults)
    if tolerance is not None and (unequal := findings[told(tolerance)]):
        return f"in {unequal} of {count} groups the three differ {told(tolerance)}"
    return f"control, source and copy are equal to the last digit in all {count} groups"


_FAULTS = (COPY_DISAGREES, ONLY_NEAR, ALL_DISAGREE, SOURCE_DISAGREES, CONTROL_DISAGREES)
