"""Waiting for AWS: until something is available, and until it is gone.

Refuses to go on waiting for what cannot end well. Guarantees that every wait has an end by the monotonic clock, that
what is going on is shown, and that a question which AWS was too busy to answer is put again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from drills.errors import AwsError
from drills.recovery.aws.client import Service
from drills.recovery.aws.kinds import Kind, Seen, look

Tell = Callable[[int, int | None, str, str], None]
"""How far it is: done, of how many (None where nobody knows), the unit, and what is going on."""

POLL = 15.0
"""Seconds between two looks."""
_EVENTS_SHOWN = 3
_EVENTS_MINUTES = 120


class Deadline:
    """The end of one or several waits."""

    def __init__(self, limit: timedelta, poll: float = POLL) -> None:
        self._begun = time.monotonic()
        self._limit = limit.total_seconds()
        self._poll = poll

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.passed >= self._limit

    def pause(self) -> None:
        """Wait for the next look."""
        time.sleep(max(0.0, min(self._poll, self._limit - self.passed)))

    def within(self, limit: timedelta) -> Deadline:
        """A shorter wait inside this one."""
        return Deadline(min(limit, timedelta(seconds=max(0.0, self._limit - self.passed))), self._poll)


@dataclass(frozen=True)
class Wanted:
    """What is waited for."""

    service: Service
    kind: Kind
    name: str
    ready: Callable[[Seen], bool]
    called: str = "available"
    """What it is then, for a person."""
    hint: str = ""
    """What to do when it takes too long."""


def available(kind: Kind) -> Callable[[Seen], bool]:
    """Whether it is there and at rest."""
    return lambda seen: kind.state(seen) == "available"


def wait_until(wanted: Wanted, deadline: Deadline, tell: Tell) -> Seen:
    """Look again and again until it is ready.

    Raises:
        AwsError: it cannot become ready any more, it is gone, or it took too long; says what AWS said.
    """
    kind, state = wanted.kind, "just asked for"
    while True:
        try:
            seen = look(wanted.service, kind, wanted.name)
        except AwsError as error:
            _refuse_unless_transient(error, deadline)
        else:
            if seen is None:
                raise AwsError(
                    f"the {kind.called} {wanted.name} is gone: somebody else deleted it, it was {state} before",
                    hint="CloudTrail says who; see that nobody tidies up what is tagged as a drill's",
                )
            state = kind.state(seen)
            done, total, unit = _how_far(seen, deadline)
            tell(done, total, unit, f"{kind.called} {state}")
            if wanted.ready(seen):
                return seen
            if state in kind.hopeless:
                raise AwsError(
                    f"the {kind.called} {wanted.name} is {state} and will not become {wanted.called} by itself:"
                    f" {what_aws_said(wanted, seen)}",
                    hint=_MENDS.get(state, "mend what AWS names, then run the drill again"),
                )
        if deadline.over:
            raise AwsError(
                f"the {kind.called} {wanted.name} did not become {wanted.called} within {deadline.passed:.0f} s:"
                f" it is {state}",
                hint=wanted.hint or "give it more time in the plan, or see the events of RDS for what holds it up",
            )
        deadline.pause()


def wait_until_gone(
    wanted: Wanted, deadline: Deadline, tell: Tell, delete: Callable[[Seen], None] = lambda _seen: None
) -> None:
    """Look again and again until there is none; `delete` is called with what is still there and not yet being deleted.

    Raises:
        AwsError: it is still there at the end.
    """
    kind = wanted.kind
    while True:
        state = "unknown to us, as AWS did not say"
        try:
            seen = look(wanted.service, kind, wanted.name)
            if seen is None:
                return
            state = kind.state(seen)
            tell(round(deadline.passed), None, "s", f"{kind.called} {state}")
            if state != "deleting":
                delete(seen)
        except AwsError as error:
            if error.code in kind.unknown:
                return
            if error.code not in kind.busy:
                _refuse_unless_transient(error, deadline)
        if deadline.over:
            raise AwsError(
                f"the {kind.called} {wanted.name} is still there after {deadline.passed:.0f} s: it is {state}",
                hint="run `drillbook sweep` later, or delete it by hand",
            )
        deadline.pause()


def what_aws_said(wanted: Wanted, seen: Seen) -> str:
    """What the thing says of its own state, and the last events about it."""
    said = [str(info.get("Message") or "") for info in seen.get("StatusInfos") or []]
    try:
        events = wanted.service.ask(
            "describe_events",
            SourceIdentifier=wanted.name,
            SourceType=wanted.kind.events,
            Duration=_EVENTS_MINUTES,
        )["Events"]
    except AwsError:
        events = []  # they would only have explained
    said += [str(event.get("Message") or "") for event in events[-_EVENTS_SHOWN:]]
    return "; ".join(text for text in dict.fromkeys(said) if text) or "AWS said nothing more"


_MENDS = {
    "storage-full": "production's storage is full in the backup, or nearly: give the copy more in its class or at AWS",
    "incompatible-network": "the subnets of staging.subnet_group have no free address, or another VPC than the groups",
    "incompatible-parameters": "staging.parameter_group holds a value that this class cannot run with",
    "inaccessible-encryption-credentials": "the key of the backup is disabled, or the drill's role may not use it",
    "deleting": "somebody else deletes it; CloudTrail says who",
}


def _how_far(seen: Seen, deadline: Deadline) -> tuple[int, int | None, str]:
    """In percent where AWS says so, as it does of snapshots; in seconds otherwise."""
    percent = seen.get("PercentProgress")
    if str(percent or "").isdigit():
        return int(str(percent)), 100, "%"
    return round(deadline.passed), None, "s"


def _refuse_unless_transient(error: AwsError, deadline: Deadline) -> None:
    if not error.transient or deadline.over:
        raise error
