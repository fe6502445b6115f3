"""From the files of a base backup to a running copy in quarantine: recovered to a target, and with a superuser of ours.

Refuses files that lie outside of the copy's folder (see `drills.recovery.pages.laid_out`). Guarantees that nothing of
production's configuration is in force at any moment (see `drills.quarantine`), that a recovery which ended anywhere but
at its target is an error, and that the server is ended when it does not answer every question about its quarantine
rightly. Production's roles and their passwords stay as they are; none of them can log in.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drills.clusters import Cluster
from drills.errors import ClusterError
from drills.places import server_account, server_tools
from drills.processes import last_words, run_tool
from drills.quarantine import ask_copy, hold_physical, session_options
from drills.recovery.base import Progress
from drills.recovery.pages.laid_out import LaidOut, move_settings_away, refuse_unfit, settings_needed
from drills.recovery.pages.replay import ended_on_error, recover_files
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, session
from drills.staging import LIKE_PRODUCTION
from drills.targets import Quarantine, Recovered, RecoveryTarget
from drills.tools import Tools

_ROLE_DEADLINE = 600.0
"""Seconds for a server that starts, makes a role and stops."""


@dataclass(frozen=True)
class Adopted:
    """A running copy, where its recovery ended, and what it answered."""

    cluster: Cluster
    recovered: Recovered
    quarantine: Quarantine


def adopt_cluster(
    folder: Path,
    tools: Tools,
    *,
    target: RecoveryTarget,
    restore_command: str,
    progress: Progress,
    deadline: float,
    database: str = "postgres",
    environment: Mapping[str, str] | None = None,
    on_disk: bool = True,
) -> Adopted:
    """Make a running copy of what a base backup laid out in `folder/data`; destroyed by its folder like any other.

    Args:
        folder: what every file of the copy lies in.
        tools: of the backup's major version.
        target: where its recovery stops.
        restore_command: as a server takes it; used while it recovers, and by nobody later.
        progress: told the bytes of WAL that came out of the archive.
        deadline: in seconds, for the recovery.
        database: one that the copy has.
        environment: what a restore command needs that reads a repository, such as its secrets; gone when it is over.
        on_disk: whether an outage awaits the copy (see `drills.staging.run_like_production`).

    Raises:
        ClusterError: the files are not fit, the recovery did not end at its target, or the copy is not in quarantine;
            no server runs in the folder then.
        ToolError: a tool could not be run.
    """
    cluster = prepare_files(folder, tools, database=database)
    cluster.environment, cluster.fetches = environment or {}, environment is not None
    recovered = recover_files(cluster, target, restore_command, progress, deadline)
    cluster.environment, cluster.fetches = {}, False
    make_superuser(cluster)
    return Adopted(cluster, recovered, open_copy(cluster, on_disk=on_disk))


def prepare_files(folder: Path, tools: Tools, *, database: str = "postgres") -> Cluster:
    """Look at what was laid out, and take production's settings away; nothing is started.

    Raises:
        ClusterError: the files are not fit for a copy.
    """
    laid = LaidOut(folder, server_tools(tools), server_account())
    control = refuse_unfit(laid)
    superuser = f"drillbook_copy_{secrets.token_hex(8)}"
    move_settings_away(laid, superuser)
    password = secrets.token_urlsafe(24)
    VAULT.know(password)
    major = laid.tools.major
    return Cluster(
        folder,
        laid.tools,
        laid.account,
        password,
        superuser=superuser,
        database=database,
        held=settings_needed(control, major) | hold_physical(major),
        options=session_options(major),
    )


def make_superuser(cluster: Cluster) -> None:
    """Give the copy, which is stopped, the role that its `Cluster` names; no other role is looked at or changed.

    Raises:
        ClusterError: it could not be made.
    """
    settings = {
        **cluster.held,
        "exit_on_error": "on",
        "fsync": "off",
        "log_min_error_statement": "panic",
        "log_statement": "none",
        "password_encryption": "scram-sha-256",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    done = run_tool(
        [cluster.tools.program("postgres"), "--single", "-D", str(cluster.data), *options, cluster.database],
        environment={},
        log=cluster.log,
        deadline=_ROLE_DEADLINE,
        account=cluster.account,
        told=f"CREATE ROLE {cluster.superuser} SUPERUSER LOGIN PASSWORD '{cluster.password}'\n",
    )
    if done.code:
        raise ClusterError(
            f"the copy could not be given a superuser: {last_words(done.said)}", hint=f"its log is {cluster.log}"
        )


def open_copy(cluster: Cluster, *, on_disk: bool = True) -> Quarantine:
    """Put the copy on disk where an outage awaits it, start it as it has to run, and ask it about its quarantine.

    Raises:
        ClusterError: it does not start, or an answer is wrong; it does not run then.
    """
    if on_disk:
        cluster.sync()
    with ended_on_error(cluster):
        cluster.start(LIKE_PRODUCTION)
        with session(
            cluster.address(), name="drillbook quarantine", access=Access.READ_ONLY, limits=STAGING_LIMITS
        ) as asked:
            return ask_copy(asked, cluster.held, cluster.superuser, cluster.folder)
