"""The restore of a physical copy: production's own pages, recovered to their target in quarantine.

Guarantees that a copy which is to stand at a snapshot is asked which transactions it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drills import events, plan
from drills.commits import Alignment
from drills.planned import ALIGNMENT
from drills.records import Backup, Basis, Copy, Server, Verdict
from drills.recovery.pages.adopt import adopt_cluster
from drills.recovery.pages.proof import prove_alignment
from drills.sessions import STAGING_LIMITS, Access, describe, session
from flows.runtime import Drill, given
from flows.stages.physical_backup import repository_of
from flows.stages.shared import check_likeness, check_log, check_once, staging_place, workspace_of

IN_PLACE = "the pages lay where the copy runs before the loss was declared: bringing them there is not in the RTO"


def bring_pages(drill: Drill, server: Server, backup: Backup, wish: plan.Pgbackrest | plan.Barman | plan.Walg) -> Copy:
    """Have the repository's tool bring the pages, then as `recover_pages`."""
    method, place = repository_of(drill, server, wish), staging_place(drill)
    drill.intend("cluster", str(place))
    laid = method.lay_out(backup, place / "data", workspace_of(drill, drill.progress.advance))
    check_log(drill, laid.log)
    drill.restore_command = method.restore_command()
    copied = recover_pages(drill, server, method.environment(), ())
    return copied.model_copy(update={"commands": laid.backup.commands})


def recover_pages(
    drill: Drill, server: Server, environment: Mapping[str, str] | None = None, told: Sequence[str] = (IN_PLACE,)
) -> Copy:
    """Start the pages as a copy in quarantine, and have it replay the WAL up to its target."""
    limit = drill.plan.recovery.restore_timeout.total_seconds()
    adopted = adopt_cluster(
        staging_place(drill),
        given(drill.tools),
        target=given(drill.target),
        restore_command=given(drill.restore_command),
        progress=drill.progress.advance,
        deadline=limit,
        database=server.database,
        environment=environment,
        on_disk=bool(drill.plan.outages),
    )
    drill.cluster = adopted.cluster
    drill.say(events.Replayed(recovered=adopted.recovered))
    drill.say(events.Quarantined(quarantine=adopted.quarantine))
    drill.copy = copy = adopted.cluster.address(server.database)
    with session(copy, name=drill.name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        there = describe(connection, copy)
        check_likeness(drill, connection)
        if drill.aligned is not None:
            alignment = prove_alignment(connection, drill.aligned, adopted.recovered)
            drill.say(events.AlignmentProved(alignment=alignment))
            _check_alignment(drill, alignment)
    return Copy(
        server=there,
        made=True,
        commands=(),
        seconds=0,
        deviations=(f"recovery stopped {adopted.recovered.reason}", "production's settings are not in force", *told),
    )


def _check_alignment(drill: Drill, alignment: Alignment) -> None:
    asked, sound = alignment.hidden_asked + alignment.seen_asked, alignment.verdict is Verdict.PASS
    check_once(
        drill,
        name=ALIGNMENT,
        kind=ALIGNMENT,
        verdict=alignment.verdict,
        reason=alignment.reason,
        basis=Basis.WAL,
        expected=f"the transactions of snapshot {alignment.snapshot}, and no others",
        actual=f"replayed to {alignment.replayed}; {asked} transactions asked for",
        difference="none" if sound else alignment.reason,
        sql=alignment.sql,
        compared=asked,
        differing=int(not sound),
    )
