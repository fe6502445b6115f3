"""The methods that recover from a repository of backups, by what the plan says."""

from __future__ import annotations

from pathlib import Path

from drills.plans import repository as plan_repository
from drills.records import Server
from drills.recovery.repositories.barman import Barman
from drills.recovery.repositories.pgbackrest import Pgbackrest
from drills.recovery.repositories.repository import Existing
from drills.recovery.repositories.walg import Walg
from drills.tools import Tools


def open_repository(
    plan: plan_repository.Pgbackrest | plan_repository.Barman | plan_repository.Walg,
    source: Server,
    tools: Tools,
    place: Path,
    logs: Path,
) -> Existing:
    """The method that the plan names.

    Args:
        plan: its section of the plan.
        source: whose backups they have to be.
        tools: PostgreSQL's, of the source's version.
        place: a folder of the drill's own that the servers' account can get to; it is made when it is needed.
        logs: where the tools' words are kept.
    """
    match plan:
        case plan_repository.Pgbackrest():
            return Pgbackrest(plan, source, tools, place, logs)
        case plan_repository.Barman():
            return Barman(plan, source, tools, place, logs)
        case plan_repository.Walg():
            return Walg(plan, source, tools, place, logs)
