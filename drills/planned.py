"""What a plan, as a journal holds it, asks of a drill: the outages, and the names that every round has to answer.

Reads the plan as plain data: a journal from before there was a kind of check has no such key, and nobody asked.
"""

from __future__ import annotations

from drills.measures import CONTROL_SUFFIX

AFTER_RESTORE = "after restore"
"""The name of the first round of checks."""
BY_PROGRAMS = "by programs"
"""The name of the last round, in which programs may write to the copy."""
_PROGRAMS = {"command", "http"}
"""The kinds of smoke checks that are asked in that round, and in no other."""
ALIGNMENT = "alignment"
"""The check that a physical copy holds just the transactions of the snapshot."""
AGE = "age of the backup"
"""The check that a backup which was there is not too old."""
_PHYSICAL = {"basebackup", "pgbackrest", "barman", "walg"}
"""Methods that bring back production's own pages."""
_MANAGED = {"rds", "aurora"}
"""Methods whose copy AWS runs."""
SUBSCRIPTIONS = "subscriptions of the copy"
"""The check that the copy takes part in no replication of production's."""
SCHEDULED_JOBS = "scheduled jobs of the copy"
"""The check that it does nothing by itself that production does at a certain time."""
FULL_READ = "every table was read"
"""The check that the whole copy is there, on a server that brings blocks when they are first asked for."""
EMPTIED = "emptied tables"
"""The check that no table of a copy of another time lost all its rows."""
_NAMED_CHECKS = ("totals", "ledger", "invariants", "smoke")
"""The keys of a plan whose checks have names of their own."""


def after_outage(name: str) -> str:
    """The name of the round of checks that follows this outage."""
    return f"after {name}"


def planned_outages(plan: dict[str, object]) -> list[dict[str, str]]:
    """The outages, as the plan declares them."""
    planned = plan.get("outages")
    return list(planned) if isinstance(planned, list) else []


def planned_programs(plan: dict[str, object]) -> list[str]:
    """Names of the checks that the last round has to answer."""
    checks = plan.get("checks")
    smoke = (checks.get("smoke") or []) if isinstance(checks, dict) else []
    return [check["name"] for check in smoke if check.get("kind") in _PROGRAMS]


def planned_checks(plan: dict[str, object]) -> list[str]:
    """Names of the checks that every round has to answer, but the one of the programs."""
    checks = plan.get("checks")
    checks = checks if isinstance(checks, dict) else {}
    asked = [check for kind in _NAMED_CHECKS for check in checks.get(kind) or []]
    programs = planned_programs(plan)
    named = [check["name"] for check in asked if check["name"] not in programs]
    named += [f"{total['name']} {CONTROL_SUFFIX}" for total in checks.get("totals") or [] if total.get("control")]
    counts = ["row counts"] if checks.get("row_counts", True) else []
    # A journal from before there were these checks has no such key, and nobody asked.
    own = ["content"] if (checks.get("content") or {}).get("compare") else []
    own += [name for name in ("structure", "sequences", "amcheck") if checks.get(name)]
    own += [EMPTIED] if "may_be_empty" in checks and _is_of_another_time(plan) else []
    own += ["page checksums"] if checks.get("checksums") and _is_physical(plan) else []
    return [*counts, *(["tables"] if checks.get("tables", True) else []), *own, *named]


def planned_proofs(plan: dict[str, object]) -> list[str]:
    """Names of what has to be proved of the copy once, around its first round."""
    recovery = plan.get("recovery")
    if not isinstance(recovery, dict):
        return []
    aligned = _is_physical(plan) and recovery.get("to") is None
    proofs = [*([ALIGNMENT] if aligned else []), *([AGE] if _has_max_age(recovery) else [])]
    if recovery.get("method") in _MANAGED:
        proofs += [SUBSCRIPTIONS, SCHEDULED_JOBS]
    return [*proofs, *([FULL_READ] if planned_full_read(plan) else [])]


def planned_full_read(plan: dict[str, object]) -> bool:
    """Whether every table of the copy is to be read once."""
    recovery = plan.get("recovery")
    return isinstance(recovery, dict) and recovery.get("method") in _MANAGED and bool(recovery.get("full_read"))


def _has_max_age(recovery: dict[str, object]) -> bool:
    """Whether a backup may be too old; where one of several kinds is picked, the kind says it."""
    picked = recovery.get("backup")
    return bool(recovery.get("max_age") or (isinstance(picked, dict) and picked.get("max_age")))


def _is_of_another_time(plan: dict[str, object]) -> bool:
    """Whether the copy does not stand at the drill's own snapshot, so that of rows only closed totals are compared."""
    recovery = plan.get("recovery")
    if not isinstance(recovery, dict):
        return False
    return recovery.get("method") in {"dump_file", *_MANAGED} or (_is_physical(plan) and recovery.get("to") is not None)


def _is_physical(plan: dict[str, object]) -> bool:
    """Whether the copy is made of production's own pages, which a dump is not."""
    recovery = plan.get("recovery")
    return isinstance(recovery, dict) and recovery.get("method", "dump") in _PHYSICAL
