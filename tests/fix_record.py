"""Sample records, folded from journals that are told entry by entry with fixed times.

Owns six drills: one that passes, one that fails, one refused, one interrupted with nearly everything missing, one with
a physical copy, one with a copy of another time. Because they go through the chain and the fold, they hold together as
real ones do, and the journal's text can be had too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fix_copies import GIVEN, HELD, PAGES, PROOF, RECOVERED, closed_plan, holding, physical_plan, proved, young
from fix_results import FAIL, LEDGER_SQL, OPENED, PASS, UNKNOWN, asked, file, outage

from drills import events
from drills.events import Entry, Event
from drills.fold import fold
from drills.journal import GENESIS, Reading
from drills.plan import Plan
from drills.record import Record
from drills.records import Backup, Basis, Copy, Finding, Person, Provenance, Resource, Server, Snapshot, Software

DRILL = "DR-20260630T220900Z-billing-7f3a"
WORK = f"/var/lib/drillbook/{DRILL}"
PLAN: dict[str, Any] = {
    "version": 1,
    "database": "billing",
    "owner": "payments-sre",
    "requester": "controls@example.com",
    "controls": ["SOC2-A1.3", "DORA-12.6"],
    "source": {"address": "postgresql://drillbook@db.internal:5432/billing", "password": "env:BILLING_PASSWORD"},
    "recovery": {"method": "dump", "jobs": 4},
    "checks": {
        "totals": [{"name": "balances by branch", "table": "pgbench_accounts", "amount": "abalance / 100.0"}],
        "invariants": [
            {"name": "tellers match the history", "sql": LEDGER_SQL},
            {"name": "books balance", "sql": "SELECT sum(bbalance) - 0.00 FROM pgbench_branches", "expect": "0.00"},
        ],
        "amcheck": False,
        "content": {"compare": False},
        "structure": False,
        "sequences": False,
    },
    "negative_control": {"enabled": False},
    "outages": [{"kind": "kill_server", "name": "server killed", "rto": "30s"}],
    "objectives": {"rto": "30s", "rpo": "15min"},
}


@dataclass(frozen=True)
class Told:
    """A drill: its record, and the bytes of the journal that the record was folded from."""

    record: Record
    journal: bytes


def tell(told: Iterable[tuple[float | None, Event]]) -> Told:
    """The drill of these events; None instead of seconds is an entry by another process, an hour later."""
    entries: list[Entry] = []
    lines: list[bytes] = []
    head, at = GENESIS, OPENED
    for seq, (seconds, event) in enumerate(told, start=1):
        elapsed = None if seconds is None else round(seconds, 6)
        at = at + timedelta(hours=1) if elapsed is None else OPENED + timedelta(seconds=elapsed)
        if isinstance(event, events.Reopened):
            event = events.Reopened(torn=False, whole=head)  # noqa: PLW2901 - the digest is known only here
        lines.append(Entry(seq=seq, at=at, elapsed=elapsed, prev=head, body=event).canonical())
        entries.append(Entry.model_validate_json(lines[-1]))
        head = hashlib.sha256(lines[-1]).hexdigest()
    return Told(fold(Reading(tuple(entries), head, len(lines))), b"".join(line + b"\n" for line in lines))


def changed(record: Record, **fields: Any) -> Record:
    return record.model_copy(update=fields)


def opened(*, dirty: bool | None = False, plan: dict[str, Any] = PLAN) -> events.Opened:
    known = dirty is not None
    return events.Opened(
        drill=DRILL,
        plan=Plan.model_validate(plan).model_dump(mode="json"),
        evidence="/srv/evidence",
        provenance=Provenance(
            path="plans/billing.yaml",
            sha256=hashlib.sha256(b"plan").hexdigest(),
            commit="9f1c2d7a40be6f0ac8d15b7a3e1f6a2d9c804e55" if known else "",
            author="Ines Amaral <ines@example.com>" if known else "",
            committed=OPENED - timedelta(days=12) if known else None,
            dirty=dirty,
        ),
        requester="controls@example.com",
        runner=Person(account="drillbook", host="runner-2.internal", scheduler="quarterly-billing/amber-otter"),
        software=Software(versions={"drillbook": "0.1.0", "python": "3.11.9", "pg_dump": "18.1", "prefect": "3.8.8"}),
    )


def server(address: str, identifier: str, role: str) -> Server:
    return Server(
        address=address, system_identifier=identifier, version="18.1", major=18,
        database=address.rsplit("/", 1)[-1], role=role, size=161480704,
    )  # fmt: skip


SOURCE = server("drillbook@db.internal:5432/billing", "7521904418203377665", "drillbook")
STAGED = server("drillbook@localhost:40211/drill", "7521987700154302466", "drillbook")
GUARDED = events.Guarded(
    findings=(
        Finding(name="role can only read", verdict=PASS, found="drillbook may write to none of 4 tables"),
        Finding(name="tools fit the server", verdict=PASS, found="pg_dump 18.1, server 18.1"),
        Finding(name="staging is not production", verdict=PASS, found="the drill makes a server of its own"),
        Finding(name="room on disk", verdict=PASS, found="48.1 GB free, 0.4 GB needed"),
    ),
    source=SOURCE,
)


def _stage(
    name: str, begin: float, end: float, *inner: tuple[float, Event], error: str = ""
) -> list[tuple[float, Event]]:
    return [(begin, events.StageBegan(stage=name)), *inner, (end, events.StageEnded(stage=name, error=error))]


def _round(name: str, at: float, *, damaged: bool = False, basis: Basis = Basis.SNAPSHOT) -> list[tuple[float, Event]]:
    results = [
        result.model_copy(update={"basis": basis}) if result.basis is Basis.SNAPSHOT else result
        for result in asked(at, damaged=damaged)
        if basis is not Basis.CLOSED_PERIOD or result.name != "row counts"
    ]
    results += [holding(at + 0.2)] if basis is Basis.CLOSED_PERIOD else []
    told: list[tuple[float, Event]] = [(at + 0.1, events.Checked(round=name, result=result)) for result in results]
    return [
        *told,
        (at + 1.1, events.RoundEnded(round=name, verdict=PASS.worst(result.verdict for result in results))),
    ]


def passed(*, damaged: bool = False, lost: int = 0, dirty: bool | None = False, basis: Basis = Basis.SNAPSHOT) -> Told:
    """A whole drill; damaged, the copy is short of a row and an amount is a cent off."""
    plan, found, more = _ways()[basis]
    folder, cluster = Resource(kind="directory", name=WORK), Resource(kind="cluster", name=f"{WORK}/staging")
    snapshot = Snapshot(
        name="00000004-000001A7-1", taken=OPENED + timedelta(seconds=1.9), wal_lsn="0/5A3F2C8", xmin_xmax="48922:48922:"
    )
    backup = Backup(
        method="dump", path=f"{WORK}/dump", size=9120331, files=7, digest=hashlib.sha256(b"dump").hexdigest(),
        commands=(("pg_dump", "--format=directory", "--jobs=4", "--compress=gzip:1", "--snapshot=00000004-000001A7-1",
                   f"--file={WORK}/dump", "--dbname=service=source"),), seconds=5.120004,
    )  # fmt: skip
    copied = Copy(
        server=STAGED, made=True, seconds=8.402117,
        commands=(("pg_restore", "--exit-on-error", "--jobs=4", "--dbname=drill", f"{WORK}/dump"),),
        deviations=("owners and grants left out: the roles of production are not on staging",) if dirty else (),
    )  # fmt: skip
    shared = [] if basis is Basis.CLOSED_PERIOD else [(1.92, events.SnapshotTaken(snapshot=snapshot))]
    return tell([
        (0.0, opened(dirty=dirty, plan=plan)),
        *_stage("guard", 0.011402, 0.731, (0.712, GUARDED)),
        (0.74, events.Intended(resource=folder)),
        *_stage("backup", 0.752, 7.3, *shared, (2.8, events.Expected(file=file("expectations.json"))),
                (7.29, events.BackedUp(backup=found or backup))),
        (7.31, events.LossDeclared()),
        (7.32, events.Intended(resource=cluster)),
        *_stage("restore", 7.322, 17.9, *more, (17.61, events.Restored(copy_of_it=copied)),
                (17.804, events.Accepting())),
        *_stage("checks", 17.95, 19.4, *_round("after restore", 18.0, damaged=damaged, basis=basis)),
        *_stage("outage", 19.4, 24.2, (21.39, events.FaultIntended(outage="server killed")),
                (24.1, events.OutageEnded(result=outage(lost=lost)))),
        *_stage("checks again", 24.21, 25.6, *_round("after server killed", 24.3, damaged=damaged, basis=basis)),
        *_stage("destroy", 25.61, 26.402, (26.1, events.Destroyed(resource=cluster)),
                (26.3, events.Destroyed(resource=folder))),
        (26.411702, events.Closed(verdict=FAIL if damaged or lost else PASS, outcome="finished")),
    ])  # fmt: skip


def _ways() -> dict[Basis, tuple[dict[str, Any], Backup | None, list[tuple[float, Event]]]]:
    """Plan, backup and what else the restore says, by how the copy came to be."""
    replayed: list[tuple[float, Event]] = [
        (16.9, events.Replayed(recovered=RECOVERED)),
        (17.2, events.Quarantined(quarantine=HELD)),
        (17.3, events.AlignmentProved(alignment=PROOF)),
        (17.4, events.Checked(round="after restore", result=proved(17.3))),
    ]
    return {
        Basis.SNAPSHOT: (PLAN, None, []),
        Basis.WAL: (physical_plan(PLAN), PAGES, replayed),
        Basis.CLOSED_PERIOD: (
            closed_plan(PLAN),
            GIVEN,
            [(8.0, events.Checked(round="after restore", result=young(8)))],
        ),
    }


def physical() -> Told:
    """A copy of production's own pages, recovered to the snapshot."""
    return passed(basis=Basis.WAL)


def closed() -> Told:
    """A copy of another time: nothing but closed periods was compared."""
    return passed(basis=Basis.CLOSED_PERIOD)


def failed() -> Told:
    """A row is missing, an amount is a cent off, two acknowledged commits are lost, and the plan was not committed."""
    return passed(damaged=True, lost=2, dirty=True)


def refused() -> Told:
    """The guard saw production where staging should be."""
    seen = Finding(
        name="staging is not production", verdict=FAIL, found="both say system identifier 7521904418203377665",
        hint="give staging an address of its own, or none: then the drill makes a server",
    )  # fmt: skip
    return tell([
        (0.0, opened(dirty=None)),
        *_stage("guard", 0.01, 0.2, (0.19, events.Guarded(findings=(seen,), source=SOURCE)), error="the guard refused"),
        (0.21, events.Refused(message="staging is the production server", hint=seen.hint)),
        (0.22, events.Closed(verdict=UNKNOWN, outcome="refused")),
    ])  # fmt: skip


def interrupted() -> Told:
    """Killed during the backup, and closed by a sweep that could not remove the folder."""
    return tell([
        (0.0, opened()),
        *_stage("guard", 0.01, 0.7, (0.69, GUARDED)),
        (0.71, events.Intended(resource=Resource(kind="directory", name=WORK))),
        (0.75, events.StageBegan(stage="backup")),
        (None, events.Reopened(torn=False, whole="0" * 64)),
        (None, events.Interrupted(reason="the process that ran it is gone; closed by a sweep")),
        (None, events.Closed(verdict=UNKNOWN, outcome="interrupted")),
    ])  # fmt: skip


SAMPLES: dict[str, Callable[[], Told]] = {
    "passed": passed,
    "failed": failed,
    "refused": refused,
    "interrupted": interrupted,
    "physical": physical,
    "closed": closed,
}
