"""A drill in a few lines: for a terminal, for Prefect, for whoever has no time for the report."""

from __future__ import annotations

from pathlib import Path

from drills.record import Record
from drills.records import Basis
from drills.results import Objective
from drills.units import human
from reports.bundle import REPORT
from reports.meanings import CLOSED


def show_seconds(seconds: float | None) -> str:
    """For people, as everywhere; nothing that was not measured reads as a figure."""
    return "not measured" if seconds is None else human(seconds)


def show_objective(objective: Objective) -> str:
    """Target beside measured."""
    measured, target = show_seconds(objective.measured_seconds), show_seconds(objective.target_seconds)
    least = "at least " if objective.at_least else ""
    return f"{objective.name}: {least}{measured} against {target} ({objective.verdict.value})"


def markdown(record: Record, bundle: Path) -> str:
    """The verdict, the reasons, the objectives, and where the evidence is."""
    checks = [result for results in record.checks.values() for result in results]
    lines = [
        f"# {record.verdict.value}: {record.drill}",
        f"Database **{record.plan['database']}**, asked for by {record.requester}, {record.outcome.value}.",
        f"Opened {record.opened:%Y-%m-%d %H:%M:%S} UTC; {len(checks)} checks, {len(record.outages)} outages.",
        *([f"**Closed periods only.** {CLOSED}"] if Basis.CLOSED_PERIOD in {check.basis for check in checks} else []),
        *(f"- {show_objective(objective)}" for objective in record.objectives),
        *(f"- {reason}" for reason in record.reasons),
        f"Report: [{REPORT}]({(bundle / REPORT).as_uri()})",
        f"Evidence: `{bundle}`",
    ]
    return "\n\n".join(lines)
