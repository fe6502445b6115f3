"""The contract of an outage: break something on purpose, heal it, and measure what it cost.

Every outage runs under a heartbeat. The order is the same for all of them, so it stands here once:

1. the heartbeat beats for a while, and must: an outage nobody would notice measures nothing
2. the fault is injected
3. it is healed, whatever happened meanwhile
4. the first commit that is acknowledged again ends the outage
5. the heartbeat stops, and what was acknowledged is held against what is there
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from drills.addresses import Address
from drills.errors import ClusterError
from drills.heartbeat import Beat, Heartbeat, Tally, write_beats
from drills.plan import KillServer
from drills.records import LINES_KEPT, Clock, OutageResult, Verdict, utc_now


class Fault(Protocol):
    """Something that can be broken and healed."""

    def inject(self) -> None:
        """Break it; return when it is broken."""
        ...

    def heal(self) -> None:
        """Mend it; return when it is mended. Called even when `inject` failed half way."""
        ...


@dataclass(frozen=True)
class _Times:
    """Monotonic instants of one outage."""

    injected: float
    injected_at: datetime
    broken: float
    healing: float
    healed: float


def run_outage(
    wish: KillServer, fault: Fault, address: Address, *, name: str, beats: Path, journal_fault: Callable[[], None]
) -> OutageResult:
    """One outage from the first beat to the tally.

    Args:
        wish: the plan's declaration.
        fault: what to break.
        address: the database that the heartbeat writes to.
        name: application_name of its sessions.
        beats: the CSV file that names every commit.
        journal_fault: called after the heartbeat stands and before the fault: the intent goes to the journal there.

    Raises:
        ClusterError: no heartbeat before the fault, or the fault could not be healed.
    """
    heartbeat = Heartbeat(address, name, wish.writers)
    heartbeat.start()
    try:
        begun = time.monotonic()
        if heartbeat.wait_for_beat(after=begun, deadline=wish.limit.total_seconds()) is None:
            raise ClusterError(
                "no commit was acknowledged before the fault", hint="the copy does not take writes; see its log in raw/"
            )
        _beat_on(heartbeat, wish.steady, wish.limit)
        journal_fault()
        times = _break_and_heal(fault, wish.down)
        first = heartbeat.wait_for_beat(after=times.broken, deadline=wish.limit.total_seconds())
        noticed = heartbeat.first_failure(after=times.injected)
    finally:
        heartbeat.stop()
    tally = heartbeat.tally()
    write_beats(tally, beats)
    heartbeat.remove()
    return judge(wish, tally, times, first, noticed)


def _beat_on(heartbeat: Heartbeat, steady: timedelta, limit: timedelta) -> None:
    """Let it beat for so long: until a commit is acknowledged after that time has passed."""
    heartbeat.wait_for_beat(
        after=time.monotonic() + steady.total_seconds(), deadline=steady.total_seconds() + limit.total_seconds()
    )


def _break_and_heal(fault: Fault, down: timedelta) -> _Times:
    injected, injected_at = time.monotonic(), utc_now()
    try:
        fault.inject()
        broken = time.monotonic()
        # Not a wait for something: this is how long the plan wants it gone.
        time.sleep(down.total_seconds())
    finally:
        healing = time.monotonic()
        fault.heal()
    return _Times(injected, injected_at, broken, healing, time.monotonic())


def judge(wish: KillServer, tally: Tally, times: _Times, first: Beat | None, noticed: float | None) -> OutageResult:
    """The verdict: every acknowledged commit is there, none that nobody sent, and writing goes on."""
    acknowledged = tally.acknowledged()
    before = [beat for beat in acknowledged if beat.monotonic <= times.injected]
    age = max((times.injected - beat.monotonic for beat in tally.lost), default=0.0)
    rpo = round(max(age, 0.0), 6)
    if not before:
        verdict, reason = Verdict.UNKNOWN, "nothing was acknowledged before the fault: nothing could be lost"
    elif noticed is None:
        verdict, reason = Verdict.UNKNOWN, "no writer noticed the fault: it may not have happened"
    elif tally.unexpected:
        verdict, reason = (
            Verdict.FAIL,
            f"{len(tally.unexpected)} commits were found that nobody sent, such as {tally.unexpected[0]}",
        )
    elif tally.lost and (rpo > wish.rpo.total_seconds() or not wish.rpo):
        verdict, reason = (
            Verdict.FAIL,
            f"{len(tally.lost)} acknowledged commits were lost, the oldest {rpo:.3f} s before the fault",
        )
    elif first is None:
        verdict, reason = (
            Verdict.FAIL,
            f"no commit was acknowledged within {wish.limit.total_seconds():g} s after the fault",
        )
    else:
        gone = first.monotonic - times.injected
        verdict, reason = (
            Verdict.PASS,
            f"back after {gone:.3f} s; {len(acknowledged)} acknowledged commits, {len(tally.lost)} lost",
        )
    return OutageResult(
        name=wish.name,
        kind=wish.kind,
        verdict=verdict,
        reason=reason,
        injected=times.injected_at,
        healed=first.at if first else None,
        clocks=_clocks(times, first, noticed),
        acknowledged=len(acknowledged),
        acknowledged_before=len(before),
        in_doubt=len(tally.in_doubt()),
        lost=len(tally.lost),
        lost_commits=tuple(f"{beat.id} at {beat.at.isoformat()}" for beat in tally.lost[:LINES_KEPT]),
        unexpected=len(tally.unexpected),
        rpo_seconds=rpo,
    )


def _clocks(times: _Times, first: Beat | None, noticed: float | None) -> tuple[Clock, ...]:
    told = [
        ("fault", "the fault was injected", times.injected),
        ("noticed", "a writer's commit or connection first failed", noticed),
        ("broken", "nothing of the server was left", times.broken),
        ("healing", "bringing it back began, after the time that the plan leaves it down", times.healing),
        ("accepting connections", "the server answered its first query", times.healed),
        ("first commit", "a commit was acknowledged again", first.monotonic if first else None),
    ]
    return tuple(
        Clock(name=name, meaning=meaning, seconds=None if at is None else round(at - times.injected, 6))
        for name, meaning, at in told
    )
