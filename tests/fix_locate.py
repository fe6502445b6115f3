"""A database with its backup: what is damaged afterwards differs from both the backup and what was measured."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fix_checks import a_log, expectations, opening, quiet
from fix_postgres import Database

from checks.asking import Log, OpenSession
from checks.measure import Scope, Wish, measure
from checks.suite import Subject, run_checks
from drills.addresses import Address
from drills.backup_rows import GiveRows
from drills.measures import Measures
from drills.plan import Checks
from drills.plan import Dump as DumpPlan
from drills.records import utc_now
from drills.recovery.base import Workspace
from drills.recovery.dumps.dump import Dump
from drills.results import CheckResult
from drills.sessions import Access, Limits, session
from drills.tools import Tools, embedded_tools

ONLY_CONTENT = {"row_counts": False, "tables": False, "structure": False, "sequences": False, "amcheck": False}


@dataclass(frozen=True)
class Taken:
    """What was measured, and what was backed up at the same moment."""

    database: Database
    expected: Measures
    give_rows: GiveRows
    workspace: Workspace
    log: Log

    def locate(self, **wish: Any) -> dict[str, CheckResult]:
        """The content of the database as it is now, and the rows that differ."""
        checks = Checks.model_validate(ONLY_CONTENT | wish)
        subject = Subject(
            opening(self.database.reader),
            writing(self.database.owner),
            self.log,
            utc_now(),
            jobs=2,
            give_rows=self.give_rows,
        )
        folder = self.workspace.logs.parent / "reconcile" / "round"
        results = list(run_checks(checks, expectations(self.expected), subject, folder, quiet))
        assert len({result.name for result in results}) == len(results)
        return {result.name: result for result in results}

    def lines(self, result: CheckResult) -> list[dict[str, str]]:
        """The whole comparison, as its CSV has it."""
        assert result.csv is not None
        with (self.workspace.logs.parent / result.csv.path).open(newline="") as file:
            return list(csv.DictReader(file))


def writing(address: Address) -> OpenSession:
    """Sessions that may write."""
    limits = Limits(timedelta(minutes=2), timedelta(seconds=5))
    return lambda: session(address, name="test", access=Access.READ_WRITE, limits=limits)


def take(
    database: Database,
    folder: Path,
    *,
    digest: Literal["fast", "sha256"] = "fast",
    tools: Tools | None = None,
    more: Sequence[str] = (),
) -> Taken:
    """Measure it and dump it, while nobody writes."""
    expected = measure(
        opening(database.reader), Wish(digest=digest, structure=False, sequences=False), Scope(2), a_log(), quiet
    )
    logs = folder / "drill" / "raw"
    logs.mkdir(parents=True)
    workspace = Workspace(folder / "dump", logs, tools or embedded_tools(), "test", lambda _done, _of, _unit: None)
    dump(database, workspace, *more)
    method = Dump(DumpPlan(method="dump"), 1000)
    return Taken(database, expected, partial(method.rows_of, workspace=workspace), workspace, a_log())


def dump(database: Database, workspace: Workspace, *more: str) -> None:
    """What pg_dump makes of it now."""
    arguments = [workspace.tools.program("pg_dump"), "--format=directory", f"--file={workspace.backup}", *more]
    subprocess.run(arguments, env={**os.environ, **database.owner.environment()}, check=True)
