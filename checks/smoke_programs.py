"""Smoke checks by programs: a command, and the application itself, started on the copy and asked over HTTP.

Guarantees that over its limit is a FAIL, and that an answer counts only while the application that was started runs.
"""

from __future__ import annotations

import re
import time

from checks.base import Answer
from checks.lines import judged, told
from drills.plans.smoke import PORT, SmokeCommand, SmokeHttp
from drills.probes import NoReply, Probe, Reply, Served
from drills.units import show_duration

_NOT_YET = {502, 503, 504}
"""What a server says that is still starting (RFC 9110, 15.6.3 to 15.6.5)."""
_ASK_AGAIN = 0.1
"""Seconds."""
_WORDS = 300
"""Characters of what a program said that a line holds; its log holds all."""


def run_command(check: SmokeCommand, probe: Probe) -> Answer:
    """Run the command and judge how it ended.

    Raises:
        DrillbookError: it is not there, or could not be started or stopped.
    """
    ran = probe.run(check.name, check.run, check.limit.total_seconds())
    limit = show_duration(check.limit)
    if ran.code is None:
        line = told("time", f"within {limit}", f"stopped after {limit}", "too slow")
        return judged(f"had not ended after {limit} and was stopped{_words(ran.said)}", [line])
    late = ran.seconds > check.limit.total_seconds()
    lines = [
        told("exit code", "0", str(ran.code), None if ran.code == 0 else "failed"),
        told("time", f"within {limit}", f"{ran.seconds:.3f} s", "too slow" if late else None),
    ]
    reason = f"{_ended(ran.code)} after {ran.seconds:.3f} s" + (f"; the limit is {limit}" if late else "")
    there = check.matches is None or re.search(check.matches, ran.said, re.MULTILINE) is not None
    if check.matches is not None:
        said = ran.said[-_WORDS:].strip() or "nothing"
        lines.append(told("output", f"matches {check.matches}", said, None if there else "does not match"))
        reason += "" if there else f"; its output does not match {check.matches}"
    return judged(reason if ran.code == 0 and there and not late else reason + _words(ran.said), lines)


def ask_application(check: SmokeHttp, probe: Probe) -> Answer:
    """Start the application, and ask it until it answers.

    Raises:
        DrillbookError: it is not there, or could not be started or stopped.
    """
    with probe.serving(check.name, check.start) as served:
        return _ask(check, probe, check.url.replace(PORT, str(served.port)), served)


def _ask(check: SmokeHttp, probe: Probe, url: str, served: Served) -> Answer:
    started = time.monotonic()
    until = started + check.limit.total_seconds()
    last: Reply | NoReply = NoReply("nobody was asked")
    while (left := until - time.monotonic()) > 0:
        found = probe.get(url, left)
        if (code := served.ended()) is not None:
            line = told("application", "runs", _ended(code), "ended")
            return judged(f"the application {_ended(code)} before it was stopped{_words(served.said())}", [line])
        if isinstance(found, Reply) and (found.status == check.status or found.status not in _NOT_YET):
            return _judge(check, found, time.monotonic() - started)
        # The last try is cut short by the limit; what was answered before says more.
        last = found if isinstance(found, Reply) or isinstance(last, NoReply) else last
        time.sleep(_ASK_AGAIN)
    limit, said = show_duration(check.limit), f"status {last.status}" if isinstance(last, Reply) else last.reason
    reason = f"no answer within {limit}: {said}{_words(served.said())}"
    return judged(reason, [told("answer", f"within {limit}", said, "too slow")])


def _judge(check: SmokeHttp, reply: Reply, seconds: float) -> Answer:
    right, limit = reply.status == check.status, show_duration(check.limit)
    late = seconds > check.limit.total_seconds()
    lines = [
        told("status", str(check.status), str(reply.status), None if right else "other status"),
        told("time", f"within {limit}", f"{seconds:.3f} s", "too slow" if late else None),
    ]
    reason = f"status {reply.status} after {seconds:.3f} s" + ("" if right else f", expected {check.status}")
    reason += f"; the limit is {limit}" if late else ""
    if check.contains is not None:
        there = check.contains in reply.text
        found = check.contains if there else reply.text[:_WORDS]
        lines.append(told("text", check.contains, found, None if there else "not in the answer"))
        reason += "" if there else f"; the answer does not contain {check.contains!r}"
    return judged(reason, lines)


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"


def _words(said: str) -> str:
    """The last line of what was said, for a reason."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"; it said: {lines[-1][:_WORDS]}" if lines else "; it said nothing"
