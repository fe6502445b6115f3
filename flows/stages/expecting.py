"""Expectations: what the copy will be held against, measured inside one snapshot of the source.

Owns the sessions on the source while they are measured. Guarantees that the server is the one that the guard saw, that
production is calm where the plan asks for it, and that whatever fails ends all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from checks.asking import Log
from checks.control.compare import read_control
from checks.expectations import expect, look_at_platform, write_expectations
from checks.measure import Scope, Wish, measure
from checks.sequences import bracket, read_sequences
from checks.sharing import Advance
from drills import events
from drills.addresses import Address
from drills.errors import GuardError
from drills.load import LoadWatch
from drills.measures import Measures, Platform, SequenceState
from drills.records import Basis, FileRef, Server, Snapshot, Surroundings
from drills.sessions import PINNED, Access, Limits, connect, describe, session
from drills.snapshots import Sessions, exported_snapshot
from drills.staging import look_at_surroundings
from flows.runtime import Drill, given
from flows.stages.shared import keep_queries, source_limits


@dataclass(frozen=True)
class Expecting:
    """The source while it is measured."""

    drill: Drill
    leader: psycopg.Connection
    """Whose snapshot the others share."""
    sessions: Sessions
    watch: LoadWatch | None
    log: Log
    around: Surroundings
    platform: Platform

    @property
    def wish(self) -> Wish:
        """What the plan's checks need."""
        of_another_time = not self.drill.plan.recovery.aligned
        return Wish.of(self.drill.plan.checks, self.drill.opened, held=of_another_time)

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Snapshot, int]]:
        """One more, in a session of its own, and the number of its process on the server.

        Raises:
            ConnectError: the source lets nobody else in.
        """
        address, name, limits = given(self.drill.source), self.drill.name, _holding(self.drill)
        held = session(address, name=name, access=Access.READ_ONLY, limits=limits)
        with held as connection, exported_snapshot(connection) as taken:
            yield taken, connection.info.backend_pid

    def sequences(self) -> tuple[SequenceState, ...]:
        """They are outside of every snapshot: what the backup holds lies between a reading before it and one after."""
        return tuple(read_sequences(self.leader, self.log)) if self.wish.sequences else ()

    def measure(self, snapshot: Snapshot, advance: Advance | None = None) -> Measures:
        """Everything that the checks need, as that snapshot sees it."""
        scope, between = Scope(self.drill.plan.recovery.jobs), self._between(advance)
        return measure(self.sessions.inside(snapshot.name), self.wish, scope, self.log, between)

    def file(
        self,
        snapshot: Snapshot,
        measures: Measures,
        before: Sequence[SequenceState],
        basis: Basis = Basis.SNAPSHOT,
    ) -> FileRef:
        """Put on disk and into the journal. `before` are the sequences as they were before the backup."""
        stand = bracket(before, self.sequences())
        keep_queries(self.drill, self.log.queries)
        controls = [read_control(check, self.drill.opened) for check in self.drill.plan.checks.totals if check.control]
        found = measures.model_copy(update={"sequences": stand, "queries": tuple(self.log.queries)})
        expected = expect(snapshot, PINNED, found, controls, self.platform, basis)
        file = write_expectations(expected, self.drill.folder)
        self.drill.say(events.Expected(file=file))
        return file

    def file_of_closed_periods(self) -> FileRef:
        """What no longer changes, as it is now. The copy is of another time, and nothing else can be compared."""
        with exported_snapshot(self.leader) as snapshot, self.sessions.cancelled_on_error():
            measures = self.measure(snapshot, self.drill.progress.advance)
        return self.file(snapshot, measures, (), Basis.CLOSED_PERIOD)

    def _between(self, advance: Advance | None) -> Advance:
        """Between two statements on the source: is the drill still on, and is production calm?"""

        def go_on(done: int, total: int, unit: str, about: str = "") -> None:
            self.sessions.go_on()
            if self.watch is not None:
                self.watch.wait_until_calm(lambda _busy: self.sessions.go_on())
            if advance is not None:
                advance(done, total, unit, about)

        return go_on


@contextmanager
def expecting(drill: Drill, server: Server) -> Iterator[Expecting]:
    """The source, ready to be measured; production was calm when this was entered.

    Raises:
        GuardError: the address leads elsewhere by now.
        ConnectError: the source cannot be reached.
    """
    source = given(drill.source)
    with ExitStack() as held:
        leader = held.enter_context(session(source, name=drill.name, access=Access.READ_ONLY, limits=_holding(drill)))
        _refuse_another_server(server, describe(leader, source))
        watch = _watch_load(drill, source, held)
        log = Log(server.role, f"{server.system_identifier}/{server.database}")
        sessions = Sessions(
            lambda: connect(source, name=drill.name, access=Access.READ_ONLY, limits=source_limits(drill))
        )
        around, platform = look_at_surroundings(leader), look_at_platform(leader, log)
        yield Expecting(drill, leader, sessions, watch, log, around, platform)


def _holding(drill: Drill) -> Limits:
    """A snapshot is held for as long as the backup and the measuring last."""
    return Limits(drill.plan.recovery.backup_timeout, drill.plan.source.lock_timeout)


def _watch_load(drill: Drill, source: Address, held: ExitStack) -> LoadWatch | None:
    """Whoever looks at the load on the source, where the plan limits it; the source was calm when this returns."""
    wish = drill.plan.source.load
    if wish is None:
        return None
    limits = Limits(timedelta(seconds=30), drill.plan.source.lock_timeout)
    watching = held.enter_context(session(source, name=drill.name, access=Access.READ_ONLY, limits=limits))
    watch = LoadWatch(wish, watching)
    watch.wait_until_calm(lambda busy: drill.progress.advance(0, None, "bytes", f"waiting: {busy}"))
    return watch


def _refuse_another_server(guarded: Server, found: Server) -> None:
    if guarded.system_identifier != found.system_identifier or guarded.database != found.database:
        raise GuardError(
            f"the address leads to another server than the guard saw: expected system identifier"
            f" {guarded.system_identifier}, got {found.system_identifier}",
            hint="a failover or a change of DNS happened meanwhile; run the drill again",
        )
