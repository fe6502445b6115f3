"""The exact point of the WAL at which a copy is what a snapshot of production sees.

Owns reading commit records with pg_waldump. Refuses WAL with a hole or a damage before the position noted with the
snapshot. Guarantees that a target was found in WAL which is whole up to that position.

That position (pg_current_wal_insert_lsn(), noted in the statement that took the snapshot) lies behind the record of
every commit that the snapshot sees. So the target is that position, or the first commit before it that the snapshot
does not see, provided that none which it sees comes later (see `drills.commits`). What the WAL does not tell is whether
a commit from before the backup's start was still unseen when the snapshot was taken, because it waited for a standby:
that is for the copy to say (see `drills.recovery.pages.proof`).
"""

from __future__ import annotations

import re
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from drills.commits import Aligned, Misaligned, NeedsMore, Order, View, parse_commit, place_of
from drills.errors import ToolError
from drills.processes import last_words
from drills.recovery.pages.wal_files import Segments, explain, segments_in
from drills.tools import Tools
from drills.wal import parse_lsn, show_lsn
from drills.watched import Watched, watched

_PATIENCE = 30.0
"""Seconds that pg_waldump has to end once it has closed its output."""
_READING = 8 * 3600.0
"""Seconds that one reading of the WAL may take."""
_POSITION = re.compile(r"\b([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")


def find_target(
    tools: Tools,
    wal: Path,
    *,
    start: str,
    timeline: int,
    snapshot: str,
    noted: str,
    log: Path,
    stop: str = "",
    place: Path | None = None,
) -> Aligned | NeedsMore | Misaligned:
    """Where recovery has to stop for the copy to be what the snapshot sees.

    Args:
        tools: of the source's major version.
        wal: a folder of segments, the last one perhaps `.partial` or zero from somewhere on. It is only read.
        start: where the base backup starts.
        timeline: of the WAL from there on.
        snapshot: `pg_current_snapshot()::text`, from the primary, in a transaction that writes nothing.
        noted: `pg_current_wal_insert_lsn()`, from the same statement.
        log: what pg_waldump says besides the records.
        stop: where the base backup ends; no target may lie before it.
        place: a folder for links, which is removed by whoever made it; that of the log unless given.

    Raises:
        ToolError: the WAL has a hole or a damage, is another server's, or cannot be read.
        GuardError: the snapshot is one of a standby.
    """
    view, first, end = View.parse(snapshot), parse_lsn(start), parse_lsn(noted)
    whole = max(first, parse_lsn(stop)) if stop else first
    if end < whole:
        return Misaligned(f"the snapshot was taken at {noted}, before the backup was complete at {show_lsn(whole)}")
    with segments_in(wal, timeline, place or log.parent) as segments:
        if segments is None:
            return NeedsMore(f"there is no WAL in {wal} yet")
        order = Order(view, end)
        found = _find(_Dump(tools, segments, log, _READING), order, first, whole)
    if not isinstance(found, _Point):
        return found
    return Aligned(
        snapshot=snapshot,
        noted=noted,
        start=start,
        timeline=timeline,
        system_identifier=segments.system_identifier,
        target=show_lsn(found.target),
        inclusive=found.inclusive,
        seen=order.seen,
        recent=tuple(order.recent),
        behind=tuple(order.behind),
    )


@dataclass(frozen=True)
class _Point:
    target: int
    inclusive: bool


def _find(dump: _Dump, order: Order, first: int, whole: int) -> _Point | NeedsMore | Misaligned:
    """Reads up to the noted position, and on as far as there is WAL."""
    needed = dump.segments.end_of(order.noted)
    short = dump.segments.judge(first, needed) or _read(dump, order, first, needed)
    if short is not None:
        return short
    early = order.behind[0] if order.behind else None
    beyond = _record_at(dump, needed)
    if beyond:
        _read_behind(dump, order, needed)
    if order.conflict is not None:
        return order.conflict
    if early is not None:
        if early.lsn < whole:
            reason = f"the snapshot does not see transaction {early}, which lies before the backup's end"
            return Misaligned(f"{reason} at {show_lsn(whole)}", unseen=early)
        return _Point(early.lsn, inclusive=False)
    if beyond:
        return _Point(order.noted, inclusive=False)
    # Nothing was written since, as on an idle server: recovery cannot stop before a record that is not there.
    since = order.recent[-1].lsn if order.recent else first
    return _Point(_last_record(dump, since, needed), inclusive=True)


def _read(dump: _Dump, order: Order, first: int, needed: int) -> NeedsMore | None:
    """Every commit up to the noted position. All of the WAL up to there is whole, unless this says more.

    Raises:
        ToolError: it is damaged.
    """
    if first >= needed:
        return None
    with dump.running(f"--start={show_lsn(first)}", f"--end={show_lsn(needed)}", "--rmgr=Transaction") as run:
        for line in run.output:
            commit = parse_commit(line, order.view)
            if commit is not None:
                order.add(commit)
        said = _ended(run)
    if said is None:
        return None
    known = [place for place in map(parse_lsn, _POSITION.findall(said)) if first <= place <= needed]
    return explain(dump.segments, max(known, default=first), needed, said)


def _record_at(dump: _Dump, position: int) -> bool:
    """Whether a whole record begins there."""
    if position // dump.segments.size not in dump.segments.files:
        return False
    with dump.running(f"--start={show_lsn(position)}", "--limit=1") as run:
        found = [place for place in map(place_of, run.output) if place is not None]
        _ended(run)
    return bool(found) and dump.segments.end_of(found[0]) == position


def _read_behind(dump: _Dump, order: Order, position: int) -> None:
    """Commits behind the noted position: as many as are kept, or up to where the WAL ends."""
    until = dump.segments.contiguous_end(position)
    with dump.running(f"--start={show_lsn(position)}", f"--end={show_lsn(until)}", "--rmgr=Transaction") as run:
        for line in run.output:
            commit = parse_commit(line, order.view)
            if commit is not None:
                order.add(commit)
            if order.ended:
                return


def _last_record(dump: _Dump, since: int, needed: int) -> int:
    last = None
    with dump.running(f"--start={show_lsn(since)}", f"--end={show_lsn(needed)}") as run:
        for line in run.output:
            last = place_of(line) or last
        said = _ended(run)
    if last is None or said is not None:
        raise ToolError(f"no record between {show_lsn(since)} and {show_lsn(needed)} could be read: {said or 'none'}")
    return last


@dataclass(frozen=True)
class _Dump:
    """pg_waldump on these segments."""

    tools: Tools
    segments: Segments
    log: Path
    deadline: float

    def running(self, *options: str) -> AbstractContextManager[Watched]:
        """One run, writing to a pipe; stopped when it is let go, or when its time is over."""
        arguments = [self.tools.program("pg_waldump"), f"--path={self.segments.folder}"]
        arguments += [f"--timeline={self.segments.timeline}", *options]
        return watched(arguments, log=self.log, deadline=self.deadline, output=subprocess.PIPE)


def _ended(run: Watched) -> str | None:
    """None where it came to the end that it was told; otherwise what it said."""
    code = run.end(_PATIENCE)
    if code < 0:
        raise ToolError(f"pg_waldump was killed by signal {-code}", hint="is this machine short of memory?")
    return last_words(run.said()) if code else None
