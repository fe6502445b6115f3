"""What is measured of ours, each part run in a process of its own (`python -m bench.ours`).

The parts do what a drill does: the source is measured inside an exported snapshot, the copy by the suite of checks
against expectations read from their file. Refuses to report a time for a wrong answer: a sound copy must pass, and a
damaged one must fail with its rows named.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

import psycopg

from bench.pair import LIMITS
from checks.asking import Log
from checks.expectations import expect, look_at_platform, read_expectations, refuse_incomparable, write_expectations
from checks.locating.locate import KIND
from checks.locating.rows import rows_of_snapshot
from checks.measure import Scope, Wish, measure
from checks.suite import Subject, run_checks
from drills.addresses import Address
from drills.backup_rows import GiveRows
from drills.measures import Expectations, Measures
from drills.plan import Checks
from drills.records import FileRef, Snapshot, Verdict, utc_now
from drills.results import CheckResult
from drills.sessions import PINNED, Access, session
from drills.snapshots import exported_snapshot, importing

_KEY = re.compile(r"\bid = (\d+)")
BY_CURRENCY = {"name": "ledger by currency", "table": "ledger", "amount": "amount", "by": {"currency": "currency"}}


@dataclass(frozen=True)
class Job:
    """What a process is told."""

    part: str
    source: dict[str, str]
    copy: dict[str, str]
    folder: str
    """For the expectations and what else is written."""
    jobs: int = 1
    totals: bool = True


@dataclass(frozen=True)
class Told:
    """What it answers."""

    seconds: float
    """Of the part alone, without the start of the process."""
    verdicts: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Of what did not pass."""
    keys: list[int] = field(default_factory=list)
    """Of the rows that were found to differ."""


@dataclass
class Part:
    """A job at work."""

    job: Job
    log: Log = field(default_factory=lambda: Log("bench", "bench"))

    @property
    def folder(self) -> Path:
        """Where it writes."""
        return Path(self.job.folder)

    @property
    def checks(self) -> Checks:
        """As of a plan: everything that is compared with the source."""
        return Checks.model_validate({"amcheck": False, "totals": [BY_CURRENCY] if self.job.totals else []})

    def address(self, parts: Mapping[str, str]) -> Address:
        """With the password, which came by the environment."""
        return Address(parts, os.environ["PGPASSWORD"])

    @contextmanager
    def frozen(self) -> Iterator[Frozen]:
        """The source inside an exported snapshot, as when a backup is taken."""
        source = self.address(self.job.source)
        with (
            session(source, name="bench", access=Access.READ_ONLY, limits=LIMITS) as leader,
            exported_snapshot(leader) as snapshot,
        ):
            yield Frozen(source, leader, snapshot)

    def measured(self, frozen: Frozen, wish: Wish) -> Measures:
        """The source."""
        return measure(frozen.open_session, wish, Scope(self.job.jobs), self.log, _quiet)

    def totals(self) -> Told:
        """Totals by their groups, and nothing else."""
        wish = Wish(Wish.of(self.checks, utc_now()).totals, digest=None, structure=False, sequences=False)
        with self.frozen() as frozen:
            measures = self.measured(frozen, wish)
        refuse(all(not total.error and total.rows for total in measures.totals), "a total was not measured")
        return Told(0)

    def everything(self) -> Told:
        """All that expectations hold, written to their file."""
        with self.frozen() as frozen:
            self.expectations(frozen)
        return Told(0)

    def expectations(self, frozen: Frozen) -> FileRef:
        """Measured and written."""
        measures = self.measured(frozen, Wish.of(self.checks, utc_now()))
        refuse(all(count.digest for count in measures.counts), "a table was not digested")
        platform = look_at_platform(frozen.leader, self.log)
        return write_expectations(expect(frozen.snapshot, PINNED, measures, (), platform), self.folder)

    def stored(self) -> Told:
        """The copy against the expectations that an earlier part has written."""
        path = self.folder / "expectations.json"
        return self.judged(read_expectations(self.folder, FileRef.of(path, self.folder)))

    def live(self) -> Told:
        """Both sides, one after the other, each with all jobs; expected rows come out of the source's snapshot."""
        with self.frozen() as frozen:
            expected = read_expectations(self.folder, self.expectations(frozen))
            return self.judged(expected, rows_of_snapshot(frozen.open_session, self.log))

    def judged(self, expected: Expectations, give_rows: GiveRows | None = None) -> Told:
        """What the suite says of the copy, which must be comparable."""
        copy = self.address(self.job.copy)
        read, write = (_opening(copy, access) for access in (Access.READ_ONLY, Access.READ_WRITE))
        with read() as connection:
            refuse_incomparable(expected, PINNED, look_at_platform(connection, self.log))
        subject = Subject(read, write, self.log, utc_now(), jobs=self.job.jobs, give_rows=give_rows)
        return _told(run_checks(self.checks, expected, subject, self.folder / "reconcile" / "round", _quiet))


@dataclass(frozen=True)
class Frozen:
    """The source at one moment."""

    source: Address
    leader: psycopg.Connection
    snapshot: Snapshot

    @contextmanager
    def open_session(self) -> Iterator[psycopg.Connection]:
        """One that sees that moment."""
        with _opening(self.source, Access.READ_ONLY)() as connection, importing(connection, self.snapshot.name):
            yield connection


PARTS: Mapping[str, Callable[[Part], Told]] = MappingProxyType(
    {
        "totals": Part.totals,
        "everything": Part.everything,
        "stored": Part.stored,
        "live": Part.live,
    }
)


def refuse(right: bool, what: str) -> None:  # noqa: FBT001 - the condition is the sentence
    """A time for a wrong answer is none."""
    if not right:
        raise SystemExit(what)


def sound(told: Told) -> bool:
    """Whether everything passed."""
    return bool(told.verdicts) and set(told.verdicts.values()) == {Verdict.PASS.value}


def main() -> None:
    """The job comes in the first argument, the answer goes to the file in the second."""
    job = Job(**json.loads(sys.argv[1]))
    started = time.monotonic()
    told = PARTS[job.part](Part(job))
    seconds = time.monotonic() - started
    Path(sys.argv[2]).write_text(json.dumps({**asdict(told), "seconds": seconds}))


def _opening(address: Address, access: Access) -> Callable[[], AbstractContextManager[psycopg.Connection]]:
    return lambda: session(address, name="bench", access=access, limits=LIMITS)


def _told(results: Iterable[CheckResult]) -> Told:
    """The verdicts, and the keys that stand in the lines of located rows."""
    done = list(results)
    lines = [line.key for result in done if result.kind == KIND for line in result.lines]
    keys = {int(found[1]) for line in lines if (found := _KEY.search(line))}
    verdicts = {result.name: result.verdict.value for result in done}
    reasons = {result.name: result.reason for result in done if result.verdict is not Verdict.PASS}
    return Told(0, verdicts, reasons, sorted(keys))


def _quiet(done: int, total: int, unit: str, about: str = "") -> None:
    """Nobody looks."""


if __name__ == "__main__":
    main()
