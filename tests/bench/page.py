"""docs/benchmarks.md, made of the findings and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from types import MappingProxyType

from bench.goals import judge
from bench.results import Findings, Machine, PeerResult, Run, Series
from bench.shown_faults import OURS

_HEAD = """\
# Benchmarks

Written by `make bench`, {date}, in one run of {minutes:.0f} minutes; nothing here is typed by hand.

## The machine and the data

| | |
|---|---|
{machine}

The ledger: {rows:,} rows, {heap:.0f} MB of heap, with a bigint key, int, numeric(18,2), char(3), float8, timestamptz,
text (a tenth NULL) and jsonb. The copy was made of it by `pg_dump` and `pg_restore`. Both are databases of one server
and lie in its cache.

To do it again:

```sh
{command}
```
"""
_HOW = """
Every run of ours is a process of its own that does what a drill does: the source is measured inside an exported
snapshot, the copy by the suite of checks against expectations that were written to a file and read back. *Everything*
is rows, content digests by buckets, totals by currency, structure and sequences. A run that gave a wrong answer has no
time here. The runs lie in {repetitions} blocks, with the bare scan, `SELECT count(*), sum(amount)` without parallel
workers, at both ends of each; a ratio is to the bare scan of its own block. Seconds are the median, the spread is the
smallest and the largest ratio. *Process* counts the start of the interpreter as well. CPU and memory are those of the
client's processes, not of the server's.
"""
_BY_HAND = """\
## By hand

What the same server takes for statements that somebody without a tool would type, on the same ledger in the same
blocks, by one process: no tool that has the server read and add up can come below them. Totals by currency cannot cost
less than the first, and whatever looks at the jsonb column has the second to pay before anything else.
"""
_FAULTS = """\
## What each says of one fault

On {rows:,} rows, one fault at a time; every contender with both sides live.
"""
_MANY = """\
## {tables:,} small tables

Ten rows each; everything is measured, and the copy is a clone of their database.
"""


def render(findings: Findings, day: date) -> str:
    """The whole document."""
    parts = [
        _HEAD.format(date=day.isoformat(), minutes=max(findings.minutes, 1), machine=machine_table(findings.machine),
                     rows=findings.rows, heap=findings.heap, command=findings.command),
        "## Cost\n" + _HOW.format(repetitions=findings.repetitions),
        table(["", "Seconds", "Ratio to the bare scan", "Spread", "Process", "CPU s", "Peak MB"], _costs(findings)),
        "## Goals\n",
        table(["Goal", "Found", ""], _goals(findings)),
        _BY_HAND,
        table(["", "Seconds", "Ratio to the bare scan", "Spread"], _by_hand(findings)),
        "## The peers\n",
        *_peers(findings),
    ]  # fmt: skip
    if findings.faults:
        parts += [
            _FAULTS.format(rows=findings.fault_rows),
            table(["Fault", *_contenders(findings)], _faults(findings)),
        ]
    if findings.many:
        many = [_many(series) for series in findings.many.values()]
        parts += [_MANY.format(tables=findings.tables), table(["", "Seconds", "Process", "CPU s", "Peak MB"], many)]
    if findings.failures:
        parts += ["## What could not be done\n", table(["Part", "Reason"], findings.failures)]
    return "\n".join(parts).rstrip("\n") + "\n"


def machine_table(machine: Machine, besides: Mapping[str, str] = MappingProxyType({})) -> str:
    """Where it ran, and with what."""
    settings = ", ".join(f"`{name} = {value}`" for name, value in machine.settings.items())
    told = {
        "processor": f"{machine.processor}, {machine.cores} cores",
        "memory": f"{machine.memory:.0f} GB",
        "load before the start": f"{machine.load:.2f}",
        "PostgreSQL": f"{machine.postgresql}, with {settings}",
        "Python": machine.python,
        **besides,
    }
    return "\n".join(f"| {name} | {value} |" for name, value in told.items())


def _costs(findings: Findings) -> Iterator[Sequence[str]]:
    if findings.bare.runs:
        low, high = findings.bare.spread("seconds")
        yield ["bare scan", f"{findings.bare.median('seconds'):.2f}", "1", f"{low:.2f} to {high:.2f} s", "", "", ""]
    for series in findings.ours.values():
        yield _cost(series)
    for peer in findings.peers:
        yield _cost_of_peer(peer)


def _cost(series: Series) -> Sequence[str]:
    if not series.runs:
        return [series.name, f"not measured: {series.failed}", *[""] * 5]
    low, high = series.spread("ratio")
    failed = f"; one failed: {series.failed}" if series.failed else ""
    figures = [f"{series.median(of):.1f}" for of in ("process", "cpu")]
    ratio = f"**{series.median('ratio'):.2f}**"
    peak = f"{max(run.peak for run in series.runs):.0f}"
    return [series.name, f"{series.median('seconds'):.2f}{failed}", ratio, f"{low:.2f} to {high:.2f}", *figures, peak]


def _cost_of_peer(peer: PeerResult) -> Sequence[str]:
    name = f"{peer.name} {peer.version}, both sides live".replace("  ", " ")
    if peer.series.runs:
        run: Run = peer.series.runs[0]
        return [name, f"{run.seconds:.1f}", f"**{run.ratio:.1f}**", "one run", f"{run.process:.1f}", f"{run.cpu:.1f}",
                f"{run.peak:.0f}"]  # fmt: skip
    return [name, f"not run: {peer.absent}" if peer.absent else peer.series.failed, *[""] * 5]


def _by_hand(findings: Findings) -> Iterator[Sequence[str]]:
    for series in findings.by_hand.values():
        yield _cost(series)[:4]


def _goals(findings: Findings) -> Iterator[Sequence[str]]:
    words = {True: "met", False: "**not met**", None: "**not known**"}
    for goal in judge(findings):
        yield [goal.said, goal.found, words[goal.met]]


def _peers(findings: Findings) -> Iterator[str]:
    for peer in findings.peers:
        yield f"- **{peer.name}** {peer.version}" + (f": not run, {peer.absent}." if peer.absent else ".")
        yield f"  - installed: {peer.installed}"
        yield f"  - called: {peer.called}\n"
        if peer.note:
            yield f"  {peer.note}".replace("\n", "\n  ").replace("\n  \n", "\n\n") + "\n"
    if not findings.peers:
        yield "None was asked for.\n"


def _contenders(findings: Findings) -> list[str]:
    return [OURS, *(peer.name for peer in findings.peers)]


def _faults(findings: Findings) -> Iterator[Sequence[str]]:
    for fault, said in findings.faults.items():
        yield [fault, *(said.get(name, "not run") for name in _contenders(findings))]


def _many(series: Series) -> Sequence[str]:
    if not series.runs:
        return [series.name, f"not measured: {series.failed}", "", "", ""]
    figures = [f"{series.median(of):.1f}" for of in ("seconds", "process", "cpu")]
    return [series.name, *figures, f"{series.runs[0].peak:.0f}"]


def table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
