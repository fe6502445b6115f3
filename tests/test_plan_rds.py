"""What a plan may say of a recovery from RDS and Aurora, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from drills.plans.rds import Aurora, CopyElsewhere, PointInTime, Rds

NETWORK = {
    "subnet_group": "drillbook-staging",
    "security_groups": ("sg-0a1b2c3d4e5f60718",),
    "parameter_group": "drillbook-postgres16",
}
WHOLE: dict[str, Any] = {
    "method": "rds",
    "instance": "billing-prod",
    "region": "eu-central-1",
    "backup": {"kind": "automated"},
    "staging": NETWORK,
    "ca_bundle": "/etc/ssl/rds/global-bundle.pem",
}


def read(**changes: object) -> Rds:
    """As a plan's file is read: nothing is converted."""
    return Rds.model_validate(WHOLE | changes, strict=True)


@pytest.mark.parametrize(
    "backup",
    [
        {"kind": "take"},
        {"kind": "automated", "max_age": "26h", "while_creating": "refuse"},
        {"kind": "snapshot", "name": "rds:billing-prod-2026-11-21-04-10"},
        {"kind": "recovery_point", "vault": "production-daily"},
        {"kind": "copy", "region": "us-gov-west-1"},
        {"kind": "time", "at": "latest"},
        {"kind": "time", "at": "2026-11-21T22:09:00+01:00"},
    ],
)
def test_every_kind_of_backup_is_read_and_written_again(backup: dict[str, Any]) -> None:
    """The journal holds a plan as it was read."""
    wish = read(backup=backup)
    assert Rds.model_validate(wish.model_dump(mode="json"), strict=False) == wish
    assert wish.model_dump(mode="json")["backup"].items() >= backup.items()


def test_a_copy_elsewhere_puts_staging_there() -> None:
    """And only that."""
    assert read(backup={"kind": "copy", "region": "eu-west-1"}).staging_region == "eu-west-1"
    assert read().staging_region == "eu-central-1"
    assert isinstance(read(backup={"kind": "copy", "region": "eu-west-1"}).backup, CopyElsewhere)
    assert isinstance(read(backup={"kind": "time", "at": "latest"}).backup, PointInTime)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backup": {"kind": "newest"}}, "'take', 'automated', 'snapshot', 'recovery_point', 'copy', 'time'"),
        ({"backup": {"kind": "take", "max_age": "1d"}}, "Extra inputs are not permitted"),
        ({"backup": {"kind": "copy", "region": "eu-central-1"}}, "a copy in another region is meant"),
        ({"backup": {"kind": "time", "at": "2026-11-21T22:09:00"}}, "an instant with its time zone"),
        ({"backup": {"kind": "time", "at": "yesterday"}}, "an instant with its time zone"),
        ({"staging": NETWORK | {"security_groups": ()}}, "expected one or more"),
        ({"staging": NETWORK | {"security_groups": ("default",)}}, "should match pattern"),
        ({"instance": "two--hyphens"}, "should match pattern"),
        ({"ca_bundle": "bundle.pem"}, "should match pattern"),
        ({"connect_via": {"address": "postgresql://u:secret@h/d"}}, "the address holds a password"),
        ({"login": {"kind": "iam"}}, "Field required"),
        ({"account": "12345"}, "should match pattern"),
    ],
)
def test_what_cannot_run_is_refused(changes: dict[str, Any], said: str) -> None:
    """Each with a reason."""
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_serverless_cluster_needs_its_capacity_and_no_other_has_one() -> None:
    """In both directions."""
    told = {key: value for key, value in WHOLE.items() if key != "instance"} | {
        "method": "aurora",
        "cluster": "billing-prod",
        "instance_class": "db.serverless",
        "cluster_parameter_group": "drillbook-aurora",
    }
    capacity = {"min": 0, "max": 8}
    assert Aurora.model_validate(told | {"capacity": capacity}, strict=True).capacity is not None
    for wrong in (told, told | {"instance_class": "db.r6g.large", "capacity": capacity}):
        with pytest.raises(ValidationError, match=r"belongs to instance_class `db\.serverless`"):
            Aurora.model_validate(wrong, strict=True)
