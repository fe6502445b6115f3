"""Deleting what a drill made at AWS: by what its journal says, and by nothing else.

Refuses to delete what does not carry this drill's tag, and to call something gone that was looked for in another
account. Guarantees that what it calls deleted, AWS no longer knows; to delete it again changes nothing.
"""

from __future__ import annotations

from datetime import timedelta

from drills.errors import ClusterError
from drills.recovery.aws.client import Aws
from drills.recovery.aws.kinds import INSTANCE, KINDS, Kind, Place, Seen, is_tagged
from drills.recovery.aws.wait import POLL, Deadline, Tell, Wanted, wait_until_gone

DELETE_LIMIT = timedelta(hours=1)


def destroy(
    kind: str,
    name: str,
    arn: str,
    drill: str,
    aws: Aws,
    *,
    limit: timedelta = DELETE_LIMIT,
    poll: float = POLL,
    tell: Tell = lambda _done, _total, _unit, _about: None,
) -> None:
    """Delete one resource of a journal and wait until it is gone. No final snapshot is taken, no backup of it stays.

    Args:
        kind: of `KINDS`.
        name: its identifier.
        arn: where it is: account and region.
        drill: the id of the drill that made it.
        aws: as whom.
        limit: how long to wait.
        poll: seconds between two looks.
        tell: progress.

    Raises:
        AwsError: it is still there, or AWS would not delete it.
        ClusterError: it is not this drill's, or in another account than ours.
    """
    thing, place = KINDS[kind], Place.of(arn)
    ours = aws.account(place.region)
    if ours.id != place.account:
        raise ClusterError(
            f"the {thing.called} {name} is in account {place.account}, and the credentials are of {ours.id}",
            hint=f"run `drillbook sweep` with credentials of account {place.account}",
        )
    service = aws.service("rds", place.region)

    def delete(seen: Seen) -> None:
        _refuse_untagged(thing, seen, name, drill)
        if seen.get("DeletionProtection"):
            # Made without it, so somebody switched it on; what carries the tag of a drill is the drill's to delete.
            service.ask(thing.modify, **{thing.identifier: name}, DeletionProtection=False, ApplyImmediately=True)
        # What belongs to a cluster has no backups of its own; those go with the cluster.
        member = thing is INSTANCE and seen.get("DBClusterIdentifier")
        how = {
            key: value for key, value in thing.delete_with.items() if not (member and key == "DeleteAutomatedBackups")
        }
        service.ask(thing.delete, **{thing.identifier: name}, **how)

    wait_until_gone(Wanted(service, thing, name, lambda _seen: False), Deadline(limit, poll), tell, delete)


def _refuse_untagged(kind: Kind, seen: Seen, name: str, drill: str) -> None:
    if not is_tagged(seen, drill):
        raise ClusterError(
            f"the {kind.called} {name} does not carry the tag of {drill}, and is left alone",
            hint="if it is the drill's after all, delete it by hand, then sweep again",
        )
