"""Choosing what is restored: a snapshot that the drill takes, one that is there, or a point in time.

Refuses a snapshot of another database, one that is still growing where the plan says so, and an instant that AWS cannot
restore to. Guarantees that the newest is the one with the newest data, even where it is broken: an older one that
happens to work is not what a recovery would begin with. What may be newer and cannot be restored, or cannot be dated,
is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from drills.errors import AwsError, NoBackupError
from drills.plans import rds as plan_rds
from drills.records import utc_now
from drills.recovery.aws.client import Service
from drills.recovery.aws.kinds import CLUSTER, Place, Seen, existing, look, name_of, tags_of
from drills.recovery.aws.origin import Choosing, Chosen, as_command, make
from drills.recovery.aws.wait import Wanted, available, wait_until

_NEVER = datetime.max.replace(tzinfo=UTC)
_USABLE = {"COMPLETED", "AVAILABLE", "CREATING"}
"""States of a recovery point that is not on its way out, and was not given up."""
_GIB = 2**30
_NOT_COMPLETE = "passed over, not complete"
_BROKEN = "PARTIAL"
_UNDATED = "passed over, of unknown age"


@dataclass(frozen=True)
class _Picked:
    """A snapshot by its name, and what was passed over for it, by the reason."""

    name: str
    passed_over: Mapping[str, str] = field(default_factory=dict)


def choose(how: Choosing) -> Chosen:
    """What the plan wants, ready to be restored.

    Raises:
        NoBackupError: AWS keeps none that gives it.
        AwsError: it cannot be used, or it took too long.
    """
    wish = how.wish.backup
    match wish:
        case plan_rds.TakeSnapshot():
            return _take(how)
        case plan_rds.PointInTime():
            return _point(how, wish.at)
        case plan_rds.NamedSnapshot():
            picked = _Picked(_named(how, wish.name))
        case plan_rds.NewestAutomated():
            picked = _newest(how, how.service(), ("automated",))
        case plan_rds.CopyElsewhere():
            picked = _newest(how, how.service(), (None, "awsbackup"))
        case plan_rds.NewestRecoveryPoint():
            picked = _recovery_point(how, wish.vault)
    return replace(_settled(how, picked.name, wish.while_creating), passed_over=picked.passed_over)


def _take(how: Choosing) -> Chosen:
    """A manual snapshot of the drill's own. An answer that got lost does not make two of them."""
    kind, service = how.origin.saved, how.service()
    name = name_of(how.drill)
    given = {kind.identifier: name, how.origin.kind.identifier: how.origin.name}
    make(
        service,
        kind,
        name,
        how.drill,
        lambda: service.ask(kind.create, **given, Tags=tags_of(how.drill, how.wish.expires_after, utc_now())),
    )
    chosen = _settled(how, name, "wait")
    return Chosen(chosen.arn, chosen.label, chosen.taken, chosen.size, (as_command(kind.create, given),))


def _named(how: Choosing, name: str) -> str:
    kind = how.origin.saved
    seen = look(how.service(), kind, name)
    if seen is None:
        raise NoBackupError(
            f"there is no {kind.called} {name} in {how.service().region}",
            hint="mend backup.name, or check `region` and the account; see the retention as well",
        )
    of = str(seen.get(how.origin.kind.identifier))
    if of.lower() != how.origin.name.lower():
        raise AwsError(
            f"the {kind.called} {name} is of {of}, expected one of {how.origin.name}", hint="mend backup.name"
        )
    return name


def _newest(how: Choosing, service: Service, types: tuple[str | None, ...]) -> _Picked:
    """The newest of production's own snapshots; of copies only those that came from production's region."""
    kind, origin = how.origin.saved, how.origin
    found: list[Seen] = []
    for one in types:
        told = {origin.kind.identifier: origin.name} | ({"SnapshotType": one} if one else {})
        found += service.ask_all(kind.describe, kind.listed, **told)
    found = [seen for seen in found if seen.get(kind.resource_id, origin.resource_id) == origin.resource_id]
    if isinstance(how.wish.backup, plan_rds.CopyElsewhere):
        found = [seen for seen in found if _came_from(seen) == how.wish.region]
    if not found:
        what = "copy from " + how.wish.region if len(types) > 1 else "automated snapshot"
        raise NoBackupError(
            f"there is no {what} of {origin.name} in {service.region}",
            hint="nothing is backed up this way, or under another name; see the retention and the copy rules",
        )
    orders = {str(seen[kind.identifier]): _order(how, seen) for seen in found}
    name = max(orders, key=lambda name: orders[name])
    newest = orders[name]
    # Its data is older than the copy, nobody knows by how much.
    undated = [other for other, (dated, copied) in orders.items() if newest[0] and not dated and copied > newest[1]]
    return _Picked(name, {_UNDATED: ", ".join(sorted(undated))} if undated else {})


def _order(how: Choosing, seen: Seen) -> tuple[bool, datetime]:
    """By how new the data is. What is just being made has the newest; what nobody can date comes after all others."""
    data, own = _data_age(how, seen), _data_of(seen)
    return data is not None or own is None, data or own or _NEVER


def _recovery_point(how: Choosing, vault: str) -> _Picked:
    """The snapshot behind the newest recovery point."""
    points = how.aws.service("backup", how.wish.region).ask_all(
        "list_recovery_points_by_backup_vault",
        "RecoveryPoints",
        BackupVaultName=vault,
        ByResourceArn=how.origin.arn,
    )
    points = [point for point in points if f":{how.origin.saved.arn}:" in str(point.get("RecoveryPointArn"))]
    usable = [point for point in points if point.get("Status") in _USABLE]
    if not usable:
        states = ", ".join(sorted({str(point.get("Status")) for point in points}))
        raise NoBackupError(
            f"the vault {vault} holds no recovery point of {how.origin.name}"
            + (f", but such as are {states}" if states else ""),
            hint="see the jobs of AWS Backup; continuous recovery points are restored with `kind: time`",
        )
    newest = max(usable, key=lambda point: point["CreationDate"])
    younger = [point for point in points if point not in usable and point["CreationDate"] > newest["CreationDate"]]
    told = ", ".join(sorted(f"{Place.of(str(one['RecoveryPointArn'])).name} ({one.get('Status')})" for one in younger))
    if any(one.get("Status") == _BROKEN for one in younger):
        raise NoBackupError(
            f"the newest recovery point of {how.origin.name} in the vault {vault} is not whole: {told}",
            hint="see the jobs of AWS Backup; an older snapshot can be named by `kind: snapshot`",
        )
    name = Place.of(str(newest["RecoveryPointArn"])).name
    return _Picked(name, {_NOT_COMPLETE: told} if younger else {})


def _settled(how: Choosing, name: str, while_creating: str) -> Chosen:
    """This snapshot, complete."""
    kind, service = how.origin.saved, how.service()
    seen = existing(service, kind, name)
    if kind.state(seen) != "available" and while_creating == "refuse":
        raise AwsError(
            f"the {kind.called} {name} is still {kind.state(seen)}, and the plan does not wait for it",
            hint="run the drill when it is complete, or set backup.while_creating to wait",
        )
    hint = "raise recovery.backup_timeout: the first snapshot of a large database takes hours"
    seen = wait_until(Wanted(service, kind, name, available(kind), hint=hint), how.deadline, how.tell)
    return Chosen(str(seen[kind.own_arn]), str(seen[kind.identifier]), _data_age(how, seen), _size_of(seen))


def _came_from(seen: Seen) -> str:
    """The region that a snapshot was copied from; empty for one that was taken where it is."""
    source = str(seen.get("SourceDBClusterSnapshotArn") or "")
    return str(seen.get("SourceRegion") or (Place.of(source).region if source else ""))


def _data_of(seen: Seen) -> datetime | None:
    """How new the data of a snapshot is. The time of a copy says nothing about that."""
    found: Any = (
        seen.get("SnapshotDatabaseTime") or seen.get("OriginalSnapshotCreateTime") or seen.get("SnapshotCreateTime")
    )
    return found if isinstance(found, datetime) else None


def _data_age(how: Choosing, seen: Seen) -> datetime | None:
    """The same; for the copy of a cluster's snapshot, which keeps no such time, that of the original if it is there."""
    source = str(seen.get("SourceDBClusterSnapshotArn") or "")
    if not source:
        return _data_of(seen)
    place = Place.of(source)
    original = look(how.aws.service("rds", place.region), how.origin.saved, place.name)
    return _data_of(original) if original else None


def _size_of(seen: Seen) -> int:
    told = seen.get("FullSnapshotSizeInBytes")
    return int(told) if told else int(seen.get("AllocatedStorage") or 0) * _GIB


def _point(how: Choosing, at: datetime | str) -> Chosen:
    """A point in time that AWS can restore to."""
    origin = how.origin
    latest = origin.seen.get("LatestRestorableTime")
    if not isinstance(latest, datetime):
        raise NoBackupError(
            f"AWS keeps no continuous backup of {origin.name}", hint="its retention is 0 days, or it was just made"
        )
    # To the second, and never past what there is.
    point = latest.replace(microsecond=0) if isinstance(at, str) else at.astimezone(UTC)
    earliest = _earliest(how)
    if point > latest or (earliest is not None and point < earliest):
        raise NoBackupError(
            f"AWS can restore {origin.name} from {earliest or 'some time on'} to {latest}, expected {point}",
            hint="mend backup.at; what was committed in the last five minutes is not there yet",
        )
    size = int(origin.seen.get("AllocatedStorage") or 0) * _GIB
    return Chosen(origin.arn, point.isoformat(), point, size)


def _earliest(how: Choosing) -> datetime | None:
    if how.origin.kind is CLUSTER:
        found: Any = how.origin.seen.get("EarliestRestorableTime")
    else:
        backups = how.aws.service("rds", how.wish.region).ask(
            "describe_db_instance_automated_backups", DBInstanceIdentifier=how.origin.name
        )["DBInstanceAutomatedBackups"]
        own = [one for one in backups if one.get("DbiResourceId", "") == how.origin.resource_id]
        found = (own[0].get("RestoreWindow") or {}).get("EarliestTime") if own else None
    return found if isinstance(found, datetime) else None
