"""What a copy at AWS is asked about its quarantine, as far as SQL can say it.

Nobody but AWS can hold such a copy: the parameter group of staging is how it is told. Guarantees that what the copy
would not say is UNKNOWN. What it may have done before it was asked, nobody can take back.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from drills.planned import SCHEDULED_JOBS, SUBSCRIPTIONS
from drills.records import Finding, Verdict
from drills.secrets import VAULT

# Of this table everybody may read all but the connection string.
_SUBSCRIPTIONS = """
SELECT (SELECT count(*) FROM pg_subscription WHERE subenabled), current_setting('max_logical_replication_workers')::int
"""
# The first is NULL for a role that may not see it.
_JOBS = """
SELECT (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), to_regclass('cron.job') IS NOT NULL
"""
_ACTIVE = "SELECT count(*) FROM cron.job WHERE active"
_GROUP = "in the parameter group of staging"


@dataclass(frozen=True)
class Jobs:
    """What a copy says of pg_cron."""

    preloaded: str | None
    """`shared_preload_libraries`; None where it would not say."""
    active: int | None
    """Jobs in this database; None where it has no table of them, or would not say."""


def ask_quarantine(connection: psycopg.Connection) -> list[Finding]:
    """Whether the copy does anything by itself that production does; one finding each, by its planned name."""
    return [_ask_subscriptions(connection), _ask_jobs(connection)]


def _ask_subscriptions(connection: psycopg.Connection) -> Finding:
    try:
        row = connection.execute(_SUBSCRIPTIONS).fetchone()
    except psycopg.Error as error:
        return _not_said(SUBSCRIPTIONS, error)
    enabled, workers = row or (0, 0)
    return judge_subscriptions(enabled, workers)


def judge_subscriptions(enabled: int, workers: int) -> Finding:
    """A subscription takes changes off production's slot, which production's own subscriber then never gets."""
    found = f"{enabled} enabled, and {workers} workers for logical replication at most"
    if enabled and workers:
        hint = (
            f"set max_logical_replication_workers to 0 {_GROUP}; see on the publisher whether the subscriber that is"
            " meant has missed anything"
        )
        return Finding(name=SUBSCRIPTIONS, verdict=Verdict.FAIL, found=found, hint=hint)
    return Finding(name=SUBSCRIPTIONS, verdict=Verdict.PASS, found=found)


def _ask_jobs(connection: psycopg.Connection) -> Finding:
    try:
        preloaded, listed = connection.execute(_JOBS).fetchone() or (None, False)
        row = connection.execute(_ACTIVE).fetchone() if listed else None
    except psycopg.Error as error:
        return _not_said(SCHEDULED_JOBS, error)
    return judge_jobs(Jobs(preloaded, int(row[0]) if row else None))


def judge_jobs(jobs: Jobs) -> Finding:
    """Jobs of pg_cron would run on the copy as on production, and may reach whatever they reach there."""
    hint = f"leave pg_cron out of shared_preload_libraries {_GROUP}"
    if jobs.preloaded is not None and "pg_cron" not in jobs.preloaded:
        return Finding(name=SCHEDULED_JOBS, verdict=Verdict.PASS, found="pg_cron is not preloaded")
    if jobs.preloaded is None:
        found = "this role may not see whether pg_cron is preloaded"
        hint = f"grant it pg_read_all_settings, and {hint}"
    elif jobs.active is None:
        found = "pg_cron is preloaded, and its jobs are in another database"
    elif jobs.active:
        found = f"pg_cron is preloaded, and {jobs.active} jobs are active"
        return Finding(name=SCHEDULED_JOBS, verdict=Verdict.FAIL, found=found, hint=hint)
    else:
        return Finding(name=SCHEDULED_JOBS, verdict=Verdict.PASS, found="pg_cron is preloaded, and no job is active")
    return Finding(name=SCHEDULED_JOBS, verdict=Verdict.UNKNOWN, found=found, hint=hint)


def _not_said(name: str, error: psycopg.Error) -> Finding:
    """Such as row-level security, under which some jobs would not be seen."""
    said = VAULT.redact(str(error).strip().splitlines()[0])
    hint = "let the role of the drill read it on the copy; the parameter group of staging is what holds it"
    return Finding(name=name, verdict=Verdict.UNKNOWN, found=f"the copy would not say: {said}", hint=hint)
