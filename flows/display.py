"""What a person at a terminal sees of a drill: the stage, how long it takes, how many bytes or rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from drills.record import Record
from drills.records import Outcome, Verdict
from reports.bundle import REPORT, SUMS, seal_of
from reports.summary import show_objective, show_seconds

COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNKNOWN: "yellow"}
_BYTES = 1e6
_PACE_AFTER = 2.0
"""Seconds after which a pace says something."""


class Display:
    """Stages as lines: moving ones in a terminal, one line each where the output goes to a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.drill = ""
        self._begun = time.monotonic()
        self._live = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<28}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._pace: tuple[str, int | None, int, float] | None = None
        """Unit, total, what was done at first, and when that was."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """For as long as this lasts, the terminal is ours."""
        with self._live:
            yield

    def opened(self, drill: str) -> None:
        """A drill of this id begins."""
        self.drill = drill
        self.console.print(f"drill {drill}", highlight=False)

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._begun = time.monotonic()
        self._pace = None
        self._task = self._live.add_task(name, total=None, told="")

    def advance(self, done: int, total: int | None, unit: str, about: str = "") -> None:
        """The stage is this far."""
        if self._task is None:
            return
        if unit == "bytes":
            told = f"{done / _BYTES:,.0f} MB" + (f" of about {total / _BYTES:,.0f} MB" if total else "")
        else:
            told = f"{done:,}" + (f" of {total:,}" if total is not None else "") + f" {unit}"
        left = self._left(done, total, unit)
        self._live.update(self._task, told=", ".join(part for part in (told, about, left) if part))

    def _left(self, done: int, total: int | None, unit: str) -> str:
        """An estimate from the pace so far. What is counted anew, such as another check, has a pace of its own."""
        now = time.monotonic()
        if self._pace is None or (unit, total) != self._pace[:2] or done < self._pace[2]:
            self._pace = (unit, total, done, now)
        _, _, first, since = self._pace
        if not total or done <= first or now - since < _PACE_AFTER:
            return ""
        return f"about {show_seconds(round((total - done) * (now - since) / (done - first)))} left"

    def ended(self, name: str, error: str) -> None:
        """A stage ended."""
        told = f"failed: {error.splitlines()[0][:100]}" if error else "done"
        if self._task is not None:
            self._live.update(self._task, total=1, completed=1, told=told)
            self._task = None
        if not self.console.is_terminal:
            self.console.print(
                f"{name}: {error or 'done'} ({show_seconds(time.monotonic() - self._begun)})",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )


def show_record(console: Console, record: Record, bundle: Path | None) -> None:
    """The record for a person: checks, verdict, objectives, reasons, and where the evidence is."""
    if record.checks or record.outages:
        console.print(_checks(record))
    colour = COLOURS[record.verdict]
    lines = [f"[bold {colour}]{record.verdict.value}[/bold {colour}]  {record.drill}"]
    lines.append(f"{record.outcome.value} after {show_seconds(record.seconds)}")
    lines += [_plain(show_objective(objective)) for objective in record.objectives]
    lines += [_plain(reason) for reason in record.reasons]
    lines += [_plain(f"HINT: {problem.hint}") for problem in record.problems if problem.hint]
    console.print(Panel("\n".join(lines), border_style=colour))
    if bundle is not None:
        if (bundle / SUMS).is_file():
            seal = f"sealed   {seal_of(bundle)} {SUMS}: note it elsewhere"
            console.print(seal, highlight=False, soft_wrap=True, markup=False)
        console.print(f"report   {bundle / REPORT}", highlight=False, soft_wrap=True, markup=False)
    elif record.outcome is Outcome.RUNNING:
        console.print("no report yet", highlight=False)


def _checks(record: Record) -> Table:
    table = Table(*("check", "verdict", "found"), box=None, pad_edge=False, header_style="bold")
    for name, results in record.checks.items():
        table.add_row(f"[dim]{_plain(name)}[/dim]")
        for result in results:
            table.add_row(_plain(f"  {result.name}"), _coloured(result.verdict), _plain(result.reason))
    for outage in record.outages:
        table.add_row(_plain(f"outage {outage.name}"), _coloured(outage.verdict), _plain(outage.reason))
    return table


def _coloured(verdict: Verdict) -> str:
    return f"[{COLOURS[verdict]}]{verdict.value}[/{COLOURS[verdict]}]"


def _plain(text: str) -> str:
    """What comes from plans and databases is no markup."""
    return text.replace("[", "\\[")
