"""The report as one HTML file that needs nothing beside it to be read, printed and kept.

Owns what the reader sees. Everything in it comes from the record. Refuses scripts and anything loaded from elsewhere,
and a template that asks for what is not there. Guarantees that the same record gives the same bytes, and that whatever
was not measured says so in words: absence never reads as success.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from drills.record import Record
from drills.records import FileRef, Outcome, Verdict
from drills.results import CheckResult
from drills.units import human
from reports import meanings, timeline, wording

OUTCOMES = {
    Outcome.FINISHED: "Finished: the drill was closed, and no error ended a stage.",
    Outcome.BROKEN_OFF: "Broken off: an error ended the drill before all of it had run.",
    Outcome.REFUSED: "Refused: the drill did not begin. What follows is why.",
    Outcome.INTERRUPTED: "Interrupted: the drill was stopped before its end.",
    Outcome.RUNNING: "Not closed: when this was written the drill was still running, or had been killed.",
}
VERDICTS = {
    Verdict.PASS: "Everything that the plan asks was answered, and every answer is PASS.",
    Verdict.FAIL: "At least one answer contradicts what was expected.",
    Verdict.UNKNOWN: "At least one question was not answered. UNKNOWN is not a pass.",
}


@dataclass(frozen=True)
class Asked:
    """A statement of a check, and when it was asked."""

    name: str
    sql: str
    times: tuple[tuple[str, CheckResult], ...]
    """Round and result."""


@dataclass(frozen=True)
class Tally:
    """How many of some things got which verdict."""

    total: int
    passed: int
    failed: int
    unknown: int


def render(record: Record) -> str:
    """The report on this drill: one self-contained HTML file."""
    results = [result for found in record.checks.values() for result in found]
    return _template().render(
        record=record,
        tally=_tally([result.verdict for result in results]),
        by_basis=sorted({result.basis.value for result in results}),
        kinds={result.kind for result in results if result.verdict is not Verdict.UNKNOWN},
        content=_content(record),
        asked=tuple(_asked(record)),
        files=tuple(_files(record)),
        cautions=tuple(_cautions(record)),
        bases=meanings.BASES,
        closed=meanings.CLOSED,
        replayed=record.recovered is not None or record.alignment is not None,
        taken_now=_taken_now(record),
        digested=_digested(record),
        pictures=(timeline.draw(record, timeline.WIDE), timeline.draw(record, timeline.NARROW)),
        outcome=OUTCOMES[record.outcome],
        meaning=VERDICTS[record.verdict],
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "answer": wording.answer,
        "beside": wording.beside,
        "capitalized": wording.capitalized,
        "command": wording.command,
        "css_string": wording.css_string,
        "exact": wording.exact,
        "figure": wording.figure,
        "human": human,
        "instant": wording.instant,
        "listing": wording.listing,
        "bytes": wording.size,
        "stamp": wording.stamp,
    }
    environment.tests |= {"figure": wording.is_figure, "rounded": wording.is_rounded}
    return environment.get_template("report.html.j2")


def _tally(verdicts: list[Verdict]) -> Tally:
    return Tally(len(verdicts), *(verdicts.count(verdict) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)))


def _asked(record: Record) -> Iterator[Asked]:
    """Each statement once, in the order of the first round, with every round that asked it."""
    found: dict[tuple[str, str], list[tuple[str, CheckResult]]] = {}
    for name, results in record.checks.items():
        for result in results:
            found.setdefault((result.name, result.sql), []).append((name, result))
    for (name, sql), times in found.items():
        yield Asked(name, sql, tuple(times))


def _taken_now(record: Record) -> bool:
    """Whether the drill took the backup by itself, rather than pick one that was there."""
    recovery = record.plan.get("recovery") or {}
    picked = recovery.get("backup")
    method = record.backup.method if record.backup else recovery.get("method")
    return method in meanings.TAKEN_NOW or (isinstance(picked, dict) and picked.get("kind") == "take")


def _digested(record: Record) -> str:
    """What the digest of the backup is one of."""
    return meanings.DIGESTED.get(record.backup.method if record.backup else "", meanings.DIGESTED_BY_LINES)


def _content(record: Record) -> dict[str, Any]:
    """What the plan says of contents: `digest`, and the tables to `leave_out`."""
    checks = record.plan.get("checks") or {}
    return {"digest": "", "leave_out": [], **(checks.get("content") or {})}


def _files(record: Record) -> Iterator[FileRef]:
    """The files of the bundle whose digests the record holds."""
    found = [record.expectations]
    found += [result.csv for results in record.checks.values() for result in results]
    found += [outage.evidence for outage in record.outages]
    yield from dict.fromkeys(file for file in found if file is not None)


def _cautions(record: Record) -> Iterator[str]:
    """What a reader of the verdict must know beside it, whatever the verdict is."""
    if record.provenance.dirty:
        yield "The work tree held changes that were not committed when the drill began; see Plan."
    elif record.provenance.dirty is None:
        yield "The plan was not under version control: only its digest identifies it; see Plan."
    doubtful = [finding for finding in record.findings if finding.verdict is not Verdict.PASS]
    if doubtful:
        against = sum(finding.verdict is Verdict.FAIL for finding in doubtful)
        unknown = len(doubtful) - against
        yield f"Of the guard's findings {against} were FAIL and {unknown} UNKNOWN; see Guard."
    if record.copy_of_it is not None and record.copy_of_it.deviations:
        yield f"{_count(len(record.copy_of_it.deviations), 'deviation')} in the copy; see Problems."
    if not record.objectives:
        yield "The plan sets no recovery objective, so no recovery time was held against a target."
    if record.left:
        yield f"{_count(len(record.left), 'thing')} that the drill made had not been destroyed; see Problems."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
