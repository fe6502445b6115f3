"""docs/benchmarks-recovery.md, made of the findings and nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import date
from statistics import median

from bench.children import without_places
from bench.lanes import BARE
from bench.page import machine_table, table
from bench.restored import Lane, Restored, commands, judge

_PROGRAM = re.compile(r"(?<![^\s|;])/\S*/(?=\w)")
"""The folder of a program, in the midst of a line."""
_HEAD = """\
# Benchmarks of recovery

Written by `make bench`, {date}, in one run of {minutes:.0f} minutes; nothing here is typed by hand. What proving that a
copy is equal costs stands in [benchmarks.md](benchmarks.md).

## The machine and the data

| | |
|---|---|
{machine}

The database: {rows:,} rows in four tables, {megabytes:,.0f} MB with their indexes, two for each table. What is copied
is what lies in it; nobody writes to it meanwhile.

To do it again:

```sh
{command}
```

## Time

Every run is a process of its own, and starts from the same source right after a checkpoint. *Ours* is a drill's own
hands in a drill's own order, without its expectations and checks: what it does besides the tools' work is to digest or
verify the backup, to receive the WAL of the meantime, to hold the copy in quarantine and to ask it whether it is. *Bare
tools* is what somebody types: the commands stand below. Compression, jobs and the settings of the copy's server are the
same. *Restore* lasts until the copy answers a query; the bare copy's server then still runs without fsync, ours runs as
production does. Where the backup is one that somebody else has made, *Backup* is what ours does before it restores it:
a `dump_file` is looked through and digested, since the plan names its digest; of a repository's backups one is picked.
A copy whose tables have not the source's rows, sums and indexes has no time here. There were {blocks} blocks, each in
the other order than the one before; what takes long has fewer *runs*. Seconds and bytes are medians; a ratio is to the
bare tools of the same block, the spread is the smallest and the largest.

Bytes are what all processes of the run and the source's server have read and written by system calls, from a disk or
from the kernel's cache, without what went through sockets (`rchar` and `wchar` of /proc/pid/io). *Peak* is the memory
of our own process, without its tools and servers; by hand, that of the largest tool.

`rds` and `aurora` are not here: what takes their time is AWS's work, which a stand-in cannot show. Nor is `walg`: no
distribution has WAL-G.
"""


def render(found: Restored, day: date) -> str:
    """The whole document."""
    head = ["", "Backup s", "Restore s", "Sum s", "Ratio", "Spread", "Read GB", "Written GB", "Peak MB", "Runs"]
    machine = machine_table(found.machine, found.versions)
    parts = [
        _HEAD.format(date=day.isoformat(), minutes=max(found.minutes, 1), machine=machine, rows=found.rows,
                     megabytes=found.megabytes, command=found.command, blocks=found.blocks),
        table(head, list(_lanes(found))),
        "## Goals\n",
        table(["Goal", "Found", ""], list(_goals(found))),
        "## The commands\n",
        *_commands(found),
    ]  # fmt: skip
    if undone := [*found.absent, *found.failures]:
        parts += ["## What could not be done\n", table(["Part", "Reason"], undone)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _lanes(found: Restored) -> Iterator[Sequence[str]]:
    for lane in found.lanes.values():
        yield _lane(lane, found)


def _lane(lane: Lane, found: Restored) -> Sequence[str]:
    name = f"{lane.method}: {lane.contender}"
    if not lane.runs:
        return [name, f"not measured: {lane.failed}", *[""] * 8]
    ratios = sorted(found.ratios(lane.method, lane.contender, BARE))
    ratio = [f"**{median(ratios):.2f}**", f"{ratios[0]:.2f} to {ratios[-1]:.2f}"] if ratios else ["", ""]
    times = [f"{lane.median(of):.2f}" for of in ("backup", "restore", "seconds")]
    volumes = [f"{lane.median(of) / 1e9:.2f}" for of in ("read", "written")]
    peak = f"{max(run.done.memory for run in lane.runs):.0f}"
    failed = f" (one failed: {lane.failed})" if lane.failed else ""
    return [name + failed, *times, *ratio, *volumes, peak, str(len(lane.runs))]


def _goals(found: Restored) -> Iterator[Sequence[str]]:
    words = {True: "met", False: "**not met**", None: "**not known**"}
    for goal in judge(found):
        yield [goal.said, goal.found, words[goal.met]]


def _commands(found: Restored) -> Iterator[str]:
    """Those of one run; places and addresses are left out."""
    for (method, whose), lines in commands(found).items():
        told = "\n".join(_plain(line) for line in lines)
        yield f"{method}: {whose}\n\n```sh\n{told}\n```\n"


def _plain(line: Sequence[str]) -> str:
    program, *arguments = line
    told = (without_places(shlex.quote(_PROGRAM.sub("", one) if " " in one else one)) for one in arguments)
    return " ".join([program.rsplit("/", 1)[-1], *told])
