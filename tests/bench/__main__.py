"""Runs the benchmark and writes docs/benchmarks.md and docs/benchmarks-recovery.md.

Guarantees that a document is written even when a part of it fails, saying so, that the document of what was left out
stays as it was, and that everything that was made is removed at the end: on Ctrl-C too, and then nothing is written.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from bench import stock
from bench.course import Bench, say
from bench.page import render
from bench.pair import settings
from bench.peers import PEERS
from bench.restored import Restored
from bench.restores import Restores
from bench.restores_page import render as render_restores
from bench.results import Findings, Machine
from drills.records import utc_now
from drills.tools import Tools, embedded_tools

_DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE, RECOVERY_PAGE = _DOCS / "benchmarks.md", _DOCS / "benchmarks-recovery.md"
_BYTES_FOR_A_ROW = 2500
"""Of disk: two databases, a dump and WAL."""
_BYTES_BESIDES = 3 * 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all parts were done, 1 when one was not, 130 when it was interrupted."""
    chosen = _options(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    pages, failures = [], 0
    try:
        with _workplace(max(chosen.rows, chosen.recovery_rows)) as folder:
            if chosen.rows:
                findings = Bench(chosen, folder, _nothing_yet(chosen)).run()
                pages.append((chosen.output, render(findings, utc_now().date())))
                failures += len(findings.failures)
            if chosen.recovery_rows:
                restored = Restores(chosen, folder, _nothing_restored(chosen)).run()
                pages.append((chosen.recovery_output, render_restores(restored, utc_now().date())))
                failures += len(restored.failures)
    except KeyboardInterrupt:
        say("interrupted; what was made is removed, and nothing was written")
        return 130
    for page, text in pages:
        page.write_text(text)
        say(f"written: {page.name}")
    return 1 if failures else 0


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """The first one ends it. A second would end the cleaning up."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def _workplace(rows: int) -> Iterator[Path]:
    """A folder for everything, gone at the end."""
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, rows * _BYTES_FOR_A_ROW + _BYTES_BESIDES
    if free < needed:
        told = f"expected {needed / 2**30:.0f} GB free for temporary files, got {free / 2**30:.0f}; set TMPDIR"
        raise SystemExit(told)
    folder = Path(tempfile.mkdtemp(prefix="drillbook-bench-"))
    try:
        folder.chmod(0o755)  # the server's account passes through
        yield folder
    finally:
        shutil.rmtree(folder)


def _nothing_yet(chosen: argparse.Namespace) -> Findings:
    told = _machine(chosen, settings(chosen.rows)), _command(chosen)
    return Findings(chosen.rows, chosen.repetitions, *told, fault_rows=chosen.fault_rows, tables=chosen.tables)


def _nothing_restored(chosen: argparse.Namespace) -> Restored:
    machine = _machine(chosen, stock.settings(chosen.recovery_rows))
    return Restored(chosen.recovery_rows, chosen.recovery_blocks, machine, _command(chosen))


def _machine(chosen: argparse.Namespace, server: Mapping[str, str]) -> Machine:
    told = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    return Machine(
        processor=model[1] if model else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total / 2**30,
        load=os.getloadavg()[0],
        python=platform.python_version(),
        postgresql=chosen.tools.version,
        settings=server,
    )


_DEFAULTS = {"rows": 5_000_000, "repetitions": 3, "tables": 10_000, "fault_rows": 10_000, "limit": 240.0,
             "recovery_rows": 6_000_000, "recovery_blocks": 3}  # fmt: skip


def _command(chosen: argparse.Namespace) -> str:
    """As it may be typed to have the same again."""
    told = [f"--{name.replace('_', '-')} {getattr(chosen, name):g}" for name in _DEFAULTS
            if getattr(chosen, name) != _DEFAULTS[name]]  # fmt: skip
    if chosen.peers != [*PEERS]:
        told.append(f"--peers {','.join(chosen.peers) or 'none'}")
    return f"make bench BENCH='{' '.join(told)}'" if told else "make bench"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH='…'", description="see docs/benchmarks.md")
    add = parser.add_argument
    add("--rows", type=int, default=_DEFAULTS["rows"], help="of the ledger; 0 leaves out all of proving (%(default)s)")
    add("--repetitions", type=int, default=_DEFAULTS["repetitions"], help="blocks of ours (%(default)s)")
    add(
        "--peers",
        type=_peers,
        default=[*PEERS],
        help=f"of {','.join(PEERS)}, or none; without, no pgcopydb either (all)",
    )
    add("--tables", type=int, default=_DEFAULTS["tables"], help="small ones; 0 leaves them out (%(default)s)")
    add(
        "--fault-rows",
        type=int,
        default=_DEFAULTS["fault_rows"],
        help="where faults are shown; 0 leaves them out (%(default)s)",
    )
    add("--limit", type=float, default=_DEFAULTS["limit"], help="seconds for one run of a peer (%(default)g)")
    add("--recovery-rows", type=int, default=_DEFAULTS["recovery_rows"],
        help="of the database that is copied; 0 leaves the recovery methods out (%(default)s)")  # fmt: skip
    add("--recovery-blocks", type=int, default=_DEFAULTS["recovery_blocks"], help="of copying (%(default)s)")
    add("--tools", type=lambda path: Tools.at(Path(path)), default=embedded_tools(), help="PostgreSQL's programs")
    add("--output", type=Path, default=PAGE, help="the document of proving")
    add("--recovery-output", type=Path, default=RECOVERY_PAGE, help="the document of recovery")
    return parser.parse_args(arguments)


def _peers(told: str) -> list[str]:
    names = [] if told == "none" else told.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"unknown: {unknown[0]}; known: {', '.join(PEERS)}, none")
    return names


if __name__ == "__main__":
    sys.exit(main())
