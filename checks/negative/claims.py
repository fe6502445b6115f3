"""Which checks of a plan claim a damage: the plan cut down to the one that has to catch it."""

from __future__ import annotations

from datetime import datetime

from drills.plans.checks import Checks


def claimed(claim: str, checks: Checks) -> Checks | None:
    """The checks of a plan without all that do not claim this; None where the plan does not ask for it."""
    totals = tuple(check.model_copy(update={"control": None}) for check in checks.totals)
    keys = {"row counts": "row_counts", "invariant": "invariants"}
    key = keys.get(claim, claim)
    kept: dict[str, object] = {key: totals if claim == "totals" else getattr(checks, key)}
    asked = checks.content.compare if claim == "content" else any(kept.values())
    silent = checks.content.model_copy(update={"compare": claim in {"totals", "ledger"} and checks.content.compare})
    nothing: dict[str, object] = dict.fromkeys(("totals", "ledger", "invariants", "smoke"), ())
    nothing |= dict.fromkeys(("row_counts", "tables", "structure", "sequences", "amcheck", "checksums"), False)
    return checks.model_copy(update={**nothing, "content": silent, **kept}) if asked else None


def settled(checks: Checks, opened: datetime) -> Checks:
    """The same checks with the ends of all periods as instants."""
    totals = tuple(check.settled(opened) for check in checks.totals)
    ledger = tuple(check.settled(opened) for check in checks.ledger)
    return checks.model_copy(update={"totals": totals, "ledger": ledger})
