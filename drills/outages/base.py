"""The contract of an outage: break something on purpose, heal it, and measure what it cost.

Every outage runs under a heartbeat. The order is the same for all of them, so it stands here once:

1. the heartbeat beats for a while, and must: an outage nobody would notice measures nothing
2. the fault is injected
3. it is healed, whatever happened meanwhile
4. the first commit that is acknowledged again ends the outage
5. the heartbeat stops, and what was acknowledged is held against what is there

Whatever ends it, no writer is left, and the commits that were acknowledged are named in a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import psycopg

from drills.addresses import Address
from drills.errors import ClusterError, DrillbookError
from drills.heartbeat import Heartbeat
from drills.outages.tally import Beat, Tally, write_beats
from drills.plan import KillServer
from drills.records import Verdict, utc_now
from drills.results import LINES_KEPT, Clock, OutageResult


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
    try:
        heartbeat.start()
        _beat_on(heartbeat, wish.steady, wish.limit)
        journal_fault()
        times = _break_and_heal(fault, wish.down)
        first = heartbeat.wait_for_beat(after=times.broken, deadline=wish.limit.total_seconds())
        noticed = heartbeat.first_failure(after=times.injected)
        heartbeat.stop()
        tally = heartbeat.tally()
        write_beats(tally, beats)
        heartbeat.remove()
    except BaseException:
        _clear_away(heartbeat, beats)
        raise
    return judge(wish, tally, times, first, noticed)


def _clear_away(heartbeat: Heartbeat, beats: Path) -> None:
    """Leave no writer and no schema, and keep what was acknowledged. Nothing here masks what went wrong before."""
    with suppress(Exception):
        heartbeat.stop()
    if not beats.exists():
        with suppress(OSError):
            write_beats(heartbeat.unread(), beats)
    with suppress(DrillbookError, psycopg.Error):
        heartbeat.remove()


def _beat_on(heartbeat: Heartbeat, steady: timedelta, limit: timedelta) -> None:
    """Let it beat for so long: until a commit is acknowledged that was sent after that time had passed."""
    begun = time.monotonic()
    if heartbeat.wait_for_beat(after=begun, deadline=limit.total_seconds()) is None:
        raise ClusterError(
            "no commit was acknowledged before the fault", hint="the copy does not take writes; see its log in raw/"
        )
    after = begun + steady.total_seconds()
    left = after - time.monotonic() + limit.total_seconds()
    if heartbeat.wait_for_beat(after=after, deadline=left) is None:
        raise ClusterError(
            "commits were no longer acknowledged before the fault", hint="the copy is not steady; see its log in raw/"
        )


def _break_and_heal(fault: Fault, down: timedelta) -> _Times:
    injected, injected_at = time.monotonic(), utc_now()
    try:
        fault.inject()
        broken = time.monotonic()
        # Not a wait for something: this is how long the plan wants it gone.
        time.sleep(down.total_seconds())
    except BaseException as cause:
        try:
            fault.heal()
        except DrillbookError as error:
            cause.add_note(f"it could not be healed either: {error.message}")
        raise
    healing = time.monotonic()
    fault.heal()
    return _Times(injected, injected_at, broken, healing, time.monotonic())


def judge(wish: KillServer, tally: Tally, times: _Times, first: Beat | None, noticed: float | None) -> OutageResult:
    """The verdict: every acknowledged commit is there, none that nobody sent, and writing goes on."""
    acknowledged = tally.acknowledged()
    before = [beat for beat in acknowledged if beat.monotonic <= times.injected]
    age = max((times.injected - beat.monotonic for beat in tally.lost), default=0.0)
    rpo = round(max(age, 0.0), 6)
    verdict, reason = _worst(wish, tally, times, first, rpo)
    if verdict is Verdict.PASS and not before:
        verdict, reason = Verdict.UNKNOWN, "nothing was acknowledged before the fault: nothing could be lost"
    elif verdict is Verdict.PASS and noticed is None:
        verdict, reason = Verdict.UNKNOWN, "no writer noticed the fault: it may not have happened"
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


def _worst(wish: KillServer, tally: Tally, times: _Times, first: Beat | None, rpo: float) -> tuple[Verdict, str]:
    """What was found against the copy, the gravest first."""
    late = [beat for beat in tally.lost if beat.sent > times.broken]
    if tally.unexpected:
        return (
            Verdict.FAIL,
            f"{len(tally.unexpected)} commits were found that nobody sent, such as {tally.unexpected[0]}",
        )
    if late:
        # An RPO speaks of what was there before the fault; to lose what came after it is another failure.
        return Verdict.FAIL, f"{len(late)} commits were lost that were sent and acknowledged after the recovery"
    if tally.lost and (rpo > wish.rpo.total_seconds() or not wish.rpo):
        return (
            Verdict.FAIL,
            f"{len(tally.lost)} acknowledged commits were lost, the oldest {rpo:.3f} s before the fault",
        )
    if first is None:
        return Verdict.FAIL, f"no commit was acknowledged within {wish.limit.total_seconds():g} s after the fault"
    gone = first.monotonic - times.injected
    return (
        Verdict.PASS,
        f"back after {gone:.3f} s; {len(tally.acknowledged())} acknowledged commits, {len(tally.lost)} lost",
    )


def _clocks(times: _Times, first: Beat | None, noticed: float | None) -> tuple[Clock, ...]:
    # Whose commit was acknowledged was let in, even where our own question was answered later.
    accepting = times.healed if first is None else min(times.healed, first.monotonic)
    told = [
        ("fault", "the fault was injected", times.injected),
        ("noticed", "a writer's commit or connection first failed", noticed),
        ("broken", "nothing of the server was left", times.broken),
        ("healing", "bringing it back began, after the time that the plan leaves it down", times.healing),
        ("accepting connections", "the server answered its first query", accepting),
        ("first commit", "a commit was acknowledged again", first.monotonic if first else None),
    ]
    return tuple(
        Clock(name=name, meaning=meaning, seconds=None if at is None else round(at - times.injected, 6))
        for name, meaning, at in told
    )
