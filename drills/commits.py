"""Commits in the WAL beside a snapshot: which of them it sees, and where recovery has to stop to see just those.

Owns the arithmetic: 64-bit transaction numbers, and the order of commit records. Refuses a line of
pg_waldump that it does not understand, and a snapshot taken on a standby, which names no transaction in progress.
Guarantees that a target has every commit before it that the snapshot sees, and none that it does not see.

A commit's record is inserted before others can see the commit, and between the two there may be a while: a commit may
wait for a standby. So the order in the WAL is not the order in which commits became visible, and has to be looked at.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from drills.errors import GuardError, ToolError
from drills.records import Model, Verdict
from drills.wal import parse_lsn, show_lsn

KEPT = 1000
"""How many commits before the target, and how many behind it, are kept to be asked for on the copy."""
_HALF, _EPOCH = 1 << 31, 1 << 32
_FIRST_NORMAL = 3
"""Numbers below belong to no transaction (access/transam.h)."""
_SNAPSHOT = re.compile(r"(\d+):(\d+):((?:\d+(?:,\d+)*)?)")
_RECORD = re.compile(
    rb"rmgr: (?P<manager>\S+) +len \(rec/tot\): *\d+/ *\d+, tx: *(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+),"
    rb" prev [0-9A-F]+/[0-9A-F]+, desc: (?P<what>[A-Z_]+)(?: (?P<prepared>\d+): )?"
)
_NO_COMMITS = {b"ABORT", b"ABORT_PREPARED", b"PREPARE", b"ASSIGNMENT", b"INVALIDATION"}


@dataclass(frozen=True)
class View:
    """Which transactions a snapshot sees, by their 64-bit numbers. Subtransactions go with the one they are part of."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> View:
        """From what `pg_current_snapshot()::text` says.

        Raises:
            ToolError: it is no snapshot.
            GuardError: it was taken on a standby.
        """
        found = _SNAPSHOT.fullmatch(text)
        if found is None:
            raise ToolError(f"expected a snapshot such as 750:753:750,752, got {text!r}")
        view = cls(int(found[1]), int(found[2]), frozenset(int(xid) for xid in found[3].split(",") if xid))
        if not view.running and view.xmin != view.xmax:
            # A primary lowers xmin below xmax only for a transaction that it names (GetSnapshotData).
            raise GuardError(
                f"the snapshot {text} names no transaction in progress, and yet there is one from {view.xmin} on",
                hint="on a standby pg_current_snapshot() does not say who is in progress; take the snapshot on the"
                " primary, in a transaction that writes nothing",
            )
        return view

    def sees(self, xid: int) -> bool:
        """Whether it sees what that transaction did, if that committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)

    def widen(self, xid: int) -> int:
        """The 64-bit number of a transaction of which the WAL tells the lower 32: that which is nearest to xmax."""
        near = (self.xmax & ~(_EPOCH - 1)) | xid
        if near - self.xmax > _HALF:
            return near - _EPOCH
        return near + _EPOCH if self.xmax - near > _HALF else near


@dataclass(frozen=True)
class Commit:
    """A commit record: which transaction, and where the record begins."""

    xid: int
    lsn: int

    def __str__(self) -> str:
        return f"{self.xid} at {show_lsn(self.lsn)}"


def parse_commit(line: bytes, view: View) -> Commit | None:
    """The commit of which a line of pg_waldump tells; None where it tells of something else.

    Raises:
        ToolError: it tells of a transaction what cannot be understood.
    """
    found = _RECORD.match(line)
    if found is None and not line.startswith(b"rmgr: "):
        return None  # a message, or the rest of a name with a line break
    if found is not None and (found["manager"] != b"Transaction" or found["what"] in _NO_COMMITS):
        return None
    if found is not None and found["what"] in {b"COMMIT", b"COMMIT_PREPARED"}:
        # Who commits a prepared transaction has no number of his own; that of the prepared one is told behind.
        xid = int(found["prepared"] or 0) if found["what"] == b"COMMIT_PREPARED" else int(found["xid"])
        if xid >= _FIRST_NORMAL:
            return Commit(view.widen(xid), parse_lsn(found["lsn"].decode()))
    raise ToolError(
        f"what pg_waldump says of a transaction is not understood: {line[:200].decode('utf-8', 'replace').strip()}",
        hint="use the tools of the source's own version; if they are, report this line",
    )


def place_of(line: bytes) -> int | None:
    """Where the record begins of which a line of pg_waldump tells."""
    found = _RECORD.match(line)
    return parse_lsn(found["lsn"].decode()) if found else None


@dataclass(frozen=True)
class Aligned:
    """Where recovery has to stop, and what the WAL holds around it."""

    snapshot: str
    noted: str
    """The WAL position that was noted with the snapshot: every commit that it sees has its record before."""
    start: str
    timeline: int
    system_identifier: str
    """Of the server that wrote the WAL."""
    target: str
    """For recovery_target_lsn."""
    inclusive: bool
    """For recovery_target_inclusive; true only where the WAL ends at the noted position."""
    seen: int
    """Commits from the start to the target."""
    recent: tuple[Commit, ...]
    """The last of them, at most `KEPT`."""
    behind: tuple[Commit, ...]
    """The first commits at the target and behind it, at most `KEPT`: the snapshot sees none of them."""


@dataclass(frozen=True)
class NeedsMore:
    """The WAL that is there does not reach the noted position yet."""

    reason: str


@dataclass(frozen=True)
class Misaligned:
    """No point of the WAL has just the commits that the snapshot sees. Another snapshot will have one."""

    reason: str
    unseen: Commit | None = None
    """That the snapshot does not see."""
    seen: Commit | None = None
    """That it sees, although its record comes later."""
    waits: bool = False
    """Whether another one has to wait for a standby of the source."""


def pass_over_waiting(found: Aligned, waiting: Iterable[int]) -> Aligned | Misaligned:
    """The target, unless a commit that nobody sees yet may lie before all of the WAL that was looked at.

    Args:
        found: for a snapshot.
        waiting: 32-bit numbers of transactions that waited for a standby just before it was taken, and not before the
            WAL that was looked at begins. Who began to wait later has its record in that WAL.
    """
    view, known = View.parse(found.snapshot), {commit.xid for commit in found.behind}
    for xid in sorted(map(view.widen, waiting)):
        if not view.sees(xid) and xid not in known:
            reason = f"transaction {xid} waits for a standby since before {found.start}: it may be in the backup"
            return Misaligned(reason, waits=True)
    return found


@dataclass
class Order:
    """Commits in the order of the WAL, as a snapshot sees them. Holds no more than `KEPT` of a kind."""

    view: View
    noted: int
    seen: int = 0
    recent: deque[Commit] = field(default_factory=lambda: deque(maxlen=KEPT))
    behind: list[Commit] = field(default_factory=list)
    conflict: Misaligned | None = None

    def add(self, commit: Commit) -> None:
        """The next one of the WAL."""
        if not self.view.sees(commit.xid):
            if len(self.behind) < KEPT:
                self.behind.append(commit)
        elif self.behind or commit.lsn >= self.noted:
            self.conflict = self.conflict or self._conflict(commit)
        else:
            self.seen += 1
            self.recent.append(commit)

    @property
    def ended(self) -> bool:
        """Whether further commits change nothing."""
        return self.conflict is not None or len(self.behind) == KEPT

    def _conflict(self, commit: Commit) -> Misaligned:
        first = self.behind[0] if self.behind else None
        if commit.lsn >= self.noted:
            # A VACUUM that is under way is missing in every snapshot; it may have a number when it cuts off a table.
            reason = (
                f"the snapshot counts transaction {commit} as seen, yet its record lies behind"
                f" {show_lsn(self.noted)}, which was noted with the snapshot: a VACUUM was under way"
            )
        else:
            reason = f"the snapshot sees transaction {commit}, and not {first}, which the WAL has before it"
        return Misaligned(reason, unseen=first, seen=commit)


class Alignment(Model):
    """The proof that a copy stands at the point of a snapshot: what was asked of the copy, and what it answered."""

    snapshot: str
    """`xmin:xmax:xip,...`, as pg_current_snapshot() says."""
    noted: str
    """The WAL position noted with it."""
    start: str
    """Where the commits were listed from."""
    timeline: int
    target: str
    inclusive: bool
    seen: int
    """Commit records before the target, all of which the snapshot sees."""
    behind: int
    """Commit records looked at from the target on, none of which the snapshot sees."""
    first_behind: str = ""
    """The first of them: transaction and position."""
    replayed: str
    """Where the copy's replay ended."""
    next_xid: int
    """The first number that the copy had not given out when its replay ended; its own ones begin there."""
    hidden_asked: int
    """Transactions that the snapshot does not see, asked of the copy by pg_xact_status(): all that were in progress,
    every number from xmax on that the copy knows, and the commits found behind the target."""
    hidden: dict[str, int]
    """The answers. None may be `committed`; `never` is a number that the copy has not given out."""
    seen_asked: int
    """Of the commits before the target, the last ones."""
    seen_answers: dict[str, int]
    """All must be `committed`."""
    verdict: Verdict
    """PASS where it is proved, FAIL where it is disproved."""
    reason: str
    sql: str
    """What asked."""
