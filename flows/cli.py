"""The command line. Slow imports (Prefect, pandas, psycopg) happen in the commands that need them.

Exit codes: 0 PASS, 1 FAIL, 2 UNKNOWN, 3 refused before it began (usage errors too), 4 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from drills.errors import DrillbookError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from drills.record import Record

PASSED, FAILED, NOT_KNOWN, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4
_STOPPED = 130
"""What Typer makes of Ctrl-C."""

app = typer.Typer(
    name="drillbook",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Rehearse the loss of PostgreSQL databases, and leave evidence that an auditor can check.",
    epilog="Exit codes: 0 PASS, 1 FAIL, 2 UNKNOWN, 3 refused before it began, 4 interrupted.",
)
plans = typer.Typer(no_args_is_help=True, help="Check a plan, or describe the format.")
app.add_typer(plans, name="plan")

AsJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON and nothing else.")]
Directly = Annotated[bool, typer.Option("--no-prefect", help="Run in this process alone, without a Prefect server.")]


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if asked:
        from importlib.metadata import version

        typer.echo(f"drillbook {version('drillbook')}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """What stands before every command."""


class Method(StrEnum):
    """The recovery methods that the demo knows."""

    DUMP = "dump"
    BASEBACKUP = "basebackup"
    PGBACKREST = "pgbackrest"


Requester = Annotated[str | None, typer.Option(help="Who asks for this drill; the plan's own requester when left out.")]
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's YAML file.")]


@app.command()
def demo(
    *,
    scale: Annotated[int, typer.Option(min=1, help="pgbench's scale: 100,000 accounts each.")] = 20,
    as_json: AsJson = False,
    no_prefect: Directly = False,
    method: Annotated[Method, typer.Option(help="How it is brought back.")] = Method.DUMP,
) -> None:
    """Lose a live database and bring it back, with nothing installed but this program."""
    from flows.demo import bank
    from flows.server import prefect_server
    from flows.settings import home

    console = Console(stderr=as_json)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    place = home()
    # The server takes as long to start as the bank takes to load, so they start together.
    server = nullcontext() if no_prefect else prefect_server(place)
    with server, bank(place, scale, say, method.value) as production:
        say("the bank is open: pgbench writes to it for as long as the drill lasts")
        code = _run(
            production.plan,
            None,
            as_json=as_json,
            no_prefect=no_prefect,
            after=lambda: say(f"meanwhile production committed {production.committed():,} transactions"),
        )
    raise typer.Exit(code)


@app.command()
def run(plan: PlanPath, *, requester: Requester = None, as_json: AsJson = False, no_prefect: Directly = False) -> None:
    """Run a drill, and print where its report is."""
    raise typer.Exit(_run(plan, requester, as_json=as_json, no_prefect=no_prefect))


def _run(
    plan: Path, requester: str | None, *, as_json: bool, no_prefect: bool, after: Callable[[], None] = lambda: None
) -> int:
    from drills.planfile import read_plan
    from flows.display import Display, show_record
    from flows.launch import in_prefect, in_this_process
    from flows.progress import Silent
    from reports.bundle import bundle_path

    file = read_plan(plan)
    console = Console()
    display = Display(console)
    launch = in_this_process if no_prefect else in_prefect
    if as_json:
        record = launch(file, requester, Silent())
        sys.stdout.write(record.canonical().decode() + "\n")
    else:
        with display.shown():
            record = launch(file, requester, display)
        after()
        show_record(console, record, bundle_path(record))
    return exit_code(record)


def exit_code(record: Record) -> int:
    """The number that says how a drill ended."""
    from drills.records import Outcome, Verdict

    if record.outcome is Outcome.REFUSED:
        return REFUSED
    if record.outcome is Outcome.INTERRUPTED:
        return INTERRUPTED
    return {Verdict.PASS: PASSED, Verdict.FAIL: FAILED, Verdict.UNKNOWN: NOT_KNOWN}[record.verdict]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@plans.command("check")
def plan_check(plan: PlanPath) -> None:
    """Say whether a plan could run, without touching anything."""
    from drills.planfile import read_plan

    found = read_plan(plan)
    wish = found.plan.checks
    parts = {"total": wish.totals, "ledger rule": wish.ledger, "invariant": wish.invariants, "smoke check": wish.smoke}
    told = ", ".join(_count(len(given), name) for name, given in (parts | {"outage": found.plan.outages}).items())
    typer.echo(f"{plan}: a plan for {found.plan.database}: {told}")
    typer.echo(f"sha256 {found.provenance.sha256}")
    if found.plan.requester is None:
        typer.echo("requester: none; name one with --requester")


@plans.command("schema")
def plan_schema() -> None:
    """Print the JSON Schema of plans, for editors."""
    from drills.planfile import plan_schema as schema

    typer.echo(json.dumps(schema(), indent=2))


@app.command("list")
def list_drills() -> None:
    """List the drills that were run from here, the newest last."""
    from flows.index import Unreadable, drills_known
    from flows.settings import home
    from reports.summary import show_seconds

    rows = [("DRILL", "VERDICT", "OUTCOME", "OPENED (UTC)", "TOOK", "BUNDLE")]
    for found in drills_known():
        if isinstance(found, Unreadable):
            rows.append((found.drill, "UNKNOWN", "unreadable", "", "", found.error))
            continue
        record = found.record
        opened, took = f"{record.opened:%Y-%m-%d %H:%M:%S}", show_seconds(record.seconds)
        rows.append(
            (record.drill, record.verdict.value, record.outcome.value, opened, took, str(found.bundle or "none"))
        )
    if len(rows) == 1:
        typer.echo(f"no drills yet in {home()}; `drillbook demo` runs one")
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def show(
    drill: Annotated[str, typer.Argument(help="The drill's id, or a part of it that only one has.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one drill."""
    from flows.display import show_record
    from flows.index import drill_like

    found = drill_like(drill)
    if as_json:
        sys.stdout.write(found.record.canonical().decode() + "\n")
    else:
        show_record(Console(), found.record, found.bundle)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that holds report.html.")],
) -> None:
    """Check a bundle's digests, its journal's chain, and that its record is what the journal says."""
    from reports.verify import verify as look

    found = look(bundle)
    for fault in found.faults:
        typer.echo(fault, err=True)
    if found.faults:
        typer.echo(f"{len(found.faults)} faults in {bundle}: this is not the evidence that was filed", err=True)
        raise typer.Exit(FAILED)
    verdict = found.record.verdict.value if found.record else "UNKNOWN"
    typer.echo(f"{found.files} files and {found.entries} journal entries are as SHA256SUMS and the journal say")
    typer.echo(f"SHA256SUMS has the SHA-256 {found.sums}: hold it against the one that was noted when the drill ended")
    typer.echo(f"the drill's own verdict is {verdict}")


@app.command()
def sweep() -> None:
    """Destroy what killed drills left behind, and close them with a report."""
    from flows.settings import home
    from flows.sweep import sweep as clean
    from reports.bundle import bundle_path

    failed = left = 0
    found = False
    for swept in clean(home()):
        found = True
        where = f": {bundle_path(swept.record)}" if swept.record else ""
        typer.echo(f"{swept.drill} {swept.what}{where}{': ' + swept.error if swept.error else ''}")
        failed += bool(swept.error)
        for resource in swept.record.left if swept.record else ():
            left += 1
            typer.echo(f"  left behind: {resource.kind} {resource.name}", err=True)
        for problem in swept.record.problems if swept.record and swept.record.left else ():
            typer.echo(f"  {problem.message}\n  HINT: {problem.hint}", err=True)
    if not found:
        typer.echo(f"nothing to sweep in {home()}")
    if failed or left:
        typer.echo("not everything could be swept; see above", err=True)
        raise typer.Exit(FAILED)


def main() -> None:
    """The entry point: errors become one clear message and an exit code.

    Ctrl-C, a polite kill and a closed terminal are the same wish.
    """
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    sys.exit(entry(sys.argv[1:]))


def entry(arguments: list[str]) -> int:
    """Run the command line; gives the exit code."""
    try:
        result = app(arguments, standalone_mode=False, prog_name="drillbook")
    except typer.TyperException as error:
        said = error.format_message()
        typer.echo(f"drillbook: {said}\nHINT: drillbook --help" if said else "HINT: drillbook --help", err=True)
        return REFUSED
    except (KeyboardInterrupt, typer.Abort):
        result = _STOPPED
    except DrillbookError as error:
        typer.echo(f"drillbook: {error}", err=True)
        return REFUSED if isinstance(error, RefusedError) else NOT_KNOWN
    except Exception as error:  # noqa: BLE001 - an error nobody thought of is no verdict
        from drills.secrets import VAULT

        typer.echo(f"drillbook: {VAULT.redact(f'{type(error).__name__}: {error}')}", err=True)
        return NOT_KNOWN
    if result == _STOPPED:
        typer.echo("interrupted", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else PASSED


if __name__ == "__main__":
    main()
