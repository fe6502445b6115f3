"""What came of the damages of a negative control, and what that proves of the checks of a plan.

Guarantees that a damage which was not caught, and a check of the plan for which nothing was planted and caught, are
UNKNOWN; and that what had no place, was not asked for, or was not chosen is said to be so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from checks.base import ACTUAL, DIFFERENCE, EXPECTED, VERDICT, Answer, frame, named
from checks.negative.claims import claimed
from checks.negative.damages import DAMAGES
from drills.plans.checks import Checks
from drills.plans.negative import NegativeControl
from drills.records import Verdict

NAMED_BY_PLAN: Mapping[str, str] = MappingProxyType({"totals": "totals", "ledger": "ledger", "invariant": "invariants"})
"""Claims of which a plan has several checks, each with a name: where they stand in it."""
MOST = 5
"""Of each of these, so many are put to the test."""
_ALWAYS = ("content", "row counts", "structure")
"""Whichever of these a plan asks for has to have caught something, or nobody knows whether it can. So has whichever of
those with a name, unless the plan chose none of their damages."""
UNCLEAN = "the clone does not pass undamaged"
_CAUGHT = "caught"
_COLUMNS = ["damage", "check", EXPECTED, ACTUAL, DIFFERENCE, "place", "statements", VERDICT]


@dataclass(frozen=True)
class Planted:
    """What came of one damage."""

    damage: str
    said: str
    place: str = ""
    statements: Sequence[str] = ()
    caught: bool = False
    planted: bool = True
    check: str = ""
    """The one check of the plan that it was planted for; empty where there is only one of its kind."""

    @property
    def name(self) -> str:
        """With its check, for people."""
        return f"{self.damage} of {self.check}" if self.check else self.damage

    @property
    def row(self) -> tuple[object, ...]:
        """As it stands in the frame."""
        actual = f"{_CAUGHT}: {self.said}" if self.caught else f"not {_CAUGHT}: {self.said}"
        difference, verdict = ("none", Verdict.PASS) if self.caught else (f"not {_CAUGHT}", Verdict.UNKNOWN)
        claim, statements = DAMAGES[self.damage].claimed_by, ";\n".join(self.statements)
        claim += f": {self.check}" if self.check else ""
        return self.damage, claim, _CAUGHT, actual, difference, self.place, statements, verdict


def proven(wish: NegativeControl, checks: Checks, lines: Sequence[Planted]) -> Answer:
    """What all of it proves.

    Args:
        wish: what the plan has planted.
        checks: what the plan asks.
        lines: what came of each damage.
    """
    planted = [line for line in lines if line.planted]
    caught = [line for line in planted if line.caught]
    missed = [line for line in planted if not line.caught]
    unproven = [claim for claim in _needed(wish, checks) if claim not in {_claim(line.damage) for line in caught}]
    told = [f"{len(caught)} of {len(planted)} damages were caught by the checks that claim them"]
    told += [f"not caught: {named(_by_reason(missed))}"] if missed else []
    told += [f"nothing was planted and caught for {', '.join(unproven)}"] if unproven else []
    told += [*_absent(lines), *_beyond(wish, checks), *_not_chosen(wish, checks)]
    if planted and all(line.said.startswith(UNCLEAN) for line in planted):
        told = [f"the control could not begin: {UNCLEAN}, as the checks of the copy and the lines here say"]
    return Answer(
        Verdict.PASS if caught and not missed and not unproven else Verdict.UNKNOWN,
        "; ".join(told),
        expected=f"{len(planted)} of {len(planted)} caught",
        actual=f"{len(caught)} of {len(planted)} caught",
        difference=f"{len(missed)} not caught" if missed else "none",
        frame=frame([line.row for line in planted], _COLUMNS),
        keys=("damage", "check"),
    )


def _claim(damage: str) -> str:
    return DAMAGES[damage].claimed_by


def _needed(wish: NegativeControl, checks: Checks) -> list[str]:
    chosen = {_claim(name) for name in wish.damages}
    needed = [*_ALWAYS, *(claim for claim in NAMED_BY_PLAN if claim in chosen)]
    return [claim for claim in needed if claimed(claim, checks) is not None]


def _by_reason(lines: Sequence[Planted]) -> list[str]:
    """Those of which the same is said together."""
    reasons = dict.fromkeys(line.said for line in lines)
    return [f"{named([line.name for line in lines if line.said == reason])} ({reason})" for reason in reasons]


def _absent(lines: Sequence[Planted]) -> Iterator[str]:
    """What was not planted, by the reason."""
    reasons = dict.fromkeys(line.said for line in lines if not line.planted)
    for reason in reasons:
        names = [line.name for line in lines if not line.planted and line.said == reason]
        yield f"not applicable, since {reason}: {', '.join(names)}"


def _beyond(wish: NegativeControl, checks: Checks) -> Iterator[str]:
    """The checks that are too many to be put to the test."""
    chosen = {_claim(name) for name in wish.damages}
    for claim, key in NAMED_BY_PLAN.items():
        if claim in chosen and (more := [check.name for check in getattr(checks, key)[MOST:]]):
            yield f"not put to the test, since there are more than {MOST} of {key}: {', '.join(more)}"


def _not_chosen(wish: NegativeControl, checks: Checks) -> Iterator[str]:
    chosen = {_claim(name) for name in wish.damages}
    every = dict.fromkeys(damage.claimed_by for damage in DAMAGES.values())
    left = [claim for claim in every if claim not in chosen and claimed(claim, checks) is not None]
    if left:
        yield f"not put to the test, since the plan names no damage for it: {', '.join(left)}"
