"""AWS as moto's server plays it, reached by the boto3 code that runs in production, and what production has there.

Where moto is not like AWS: everything is available at once, and gone at once; any point in time will do; what a restore
switches off stays as production has it; an instance of a cluster has no subnet group; there are no recovery points, no
restore windows and no events of what went wrong; a copy from another region does not say where it came from.
`Cloud.states` puts AWS's states in between: moto runs in this process, so that what an answer is to say is set in moto
before the request reaches it, and travels over HTTP as ever. `Cloud.fault` answers in moto's stead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import Database

from drills.plans import rds as plan_rds
from drills.records import Resource
from drills.recovery.aws.client import Aws
from drills.recovery.aws.destroy import destroy
from drills.recovery.aws.rds import Rds
from drills.secrets import VAULT

REGION, ELSEWHERE = "eu-central-1", "eu-west-1"
ACCOUNT = "123456789012"
DRILL = "DR-20261121T220900Z-billing-7f3a"
NAME = "dr-20261121t220900z-7f3a-billing"
"""What this drill calls everything it makes at AWS."""
MASTER = "master-password-of-production"


@cache
def _session() -> Any:
    """One for all tests: to read botocore's own data takes longer than most of them."""
    import boto3  # noqa: PLC0415 - slow to import, and most tests need none

    return boto3.Session()


@cache
def _client(service: str, region: str) -> Any:
    return _session().client(service, region_name=region)


@dataclass
class Cloud:
    """An account with production and staging in it."""

    raw: Path
    session: Any
    groups: dict[str, str]
    """Security groups by `production`, `staging`, and region."""
    faults: list[Callable[[str], Any]] = field(default_factory=list)
    """Asked before each request by its name: raise, change moto, or answer in its stead."""
    asked: list[str] = field(default_factory=list)
    """Every request that was sent."""

    def client(self, service: str = "rds", region: str = REGION) -> Any:
        """As somebody else would ask."""
        return _client(service, region)

    def moto(self, region: str = REGION) -> Any:
        """Moto's own memory of RDS in that region."""
        from moto.backends import get_backend  # noqa: PLC0415 - slow to import

        return get_backend("rds")[ACCOUNT][region]

    def aws(self) -> Aws:
        """As a drill asks."""
        return Aws(DRILL, self.raw, self.session)

    def left(self, region: str = REGION) -> set[str]:
        """What there is besides production's own."""
        moto = self.moto(region)
        every = [*moto.databases, *moto.clusters, *moto.database_snapshots, *moto.cluster_snapshots]
        return {name for name in every if name.startswith("dr-")}

    def destroy(self, resources: tuple[Resource, ...]) -> None:
        """As a sweep does, newest first."""
        for one in reversed(resources):
            destroy(one.kind, one.name, one.address, DRILL, self.aws(), poll=0.01)

    def fault(self, operation: str, answer: Callable[[], Any], times: int = 1) -> None:
        """Put something in the way of the next requests of this name."""
        left = [times]

        def step(name: str) -> Any:
            if name != operation or not left[0]:
                return None
            left[0] -= 1
            return answer()

        self.faults.append(step)

    def states(self, operation: str, thing: Callable[[], Any], states: list[str], attribute: str = "status") -> None:
        """The states that the next answers tell, one each; the last stays."""
        rest = list(states)

        def step(name: str) -> None:
            if name == operation and rest:
                setattr(thing(), attribute, rest.pop(0))

        self.faults.append(step)

    def _before_send(self, request: Any, event_name: str, **_more: object) -> Any:
        name = event_name.rpartition(".")[2]
        self.asked.append(name)
        answers = [fault(name) for fault in self.faults]
        from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]  # noqa: PLC0415 - same

        body = next((answer for answer in answers if answer is not None), None)
        return body and AWSResponse(request.url, body[0], {"x-amzn-requestid": "made-up"}, _Raw(body[1]))


class _Raw:
    """A body as urllib3 hands it over."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_more: object) -> Iterator[bytes]:
        """All of it."""
        yield self._body


def refusal(code: str, said: str, status: int = 400) -> tuple[int, bytes]:
    """An error as RDS answers it."""
    return status, (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{said}</Message></Error>"
        "<RequestId>made-up</RequestId></ErrorResponse>"
    ).encode()


_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def networks() -> Iterator[tuple[str, dict[str, str]]]:
    """The server, on a port of its own, with the networks of production and staging; and their security groups."""
    moto = import_module("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in {**_ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        made = Cloud(Path(), _session(), {})
        for region in (REGION, ELSEWHERE):
            _build(made, region)
    yield f"http://{host}:{port}", made.groups
    server.stop()


@pytest.fixture
def cloud(networks: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Production (an instance and a cluster) and staging, each with a network of its own."""
    url, groups = networks
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_RDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**_ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(VAULT, "_known", frozenset())
    made = Cloud(tmp_path / "aws.jsonl", _session(), groups)
    for region in (REGION, ELSEWHERE):
        moto = made.moto(region)
        if "production" not in moto.subnet_groups:  # moto has one memory, which other tests may have emptied
            _build(made, region)
        for things in (moto.databases, moto.clusters, moto.database_snapshots, moto.cluster_snapshots):
            things.clear()
    _client.cache_clear()  # a client keeps the hooks that its session had when it was made
    _build_production(made)
    _session().events.register("before-send", made._before_send)
    yield made
    _session().events.unregister("before-send", made._before_send)
    _client.cache_clear()


def _build(cloud: Cloud, region: str) -> None:
    ec2, rds = cloud.client("ec2", region), cloud.client("rds", region)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
    for side, own in (("production", subnets[:2]), ("staging", subnets[2:])):
        group = ec2.create_security_group(GroupName=side, Description=side, VpcId=vpc)["GroupId"]
        cloud.groups[f"{side} {region}"] = group
        rds.create_db_subnet_group(DBSubnetGroupName=side, DBSubnetGroupDescription=side, SubnetIds=own)
        for family, call in (("postgres16", "instance"), ("aurora-postgresql16", "aurora")):
            rds.create_db_parameter_group(
                DBParameterGroupName=f"{side}-{call}", DBParameterGroupFamily=family, Description=side
            )
        rds.create_db_cluster_parameter_group(
            DBClusterParameterGroupName=f"{side}-cluster",
            DBParameterGroupFamily="aurora-postgresql16",
            Description=side,
        )


def _build_production(cloud: Cloud) -> None:
    rds, group = cloud.client(), cloud.groups[f"production {REGION}"]
    rds.create_db_instance(
        DBInstanceIdentifier="billing",
        DBInstanceClass="db.m6g.large",
        Engine="postgres",
        EngineVersion="16.3",
        AllocatedStorage=20,
        MasterUsername="boss",
        MasterUserPassword=MASTER,
        DBSubnetGroupName="production",
        VpcSecurityGroupIds=[group],
        DBParameterGroupName="production-instance",
        # A restore that says False to these gets what production has: moto takes only what is true.
        DeletionProtection=False,
        PubliclyAccessible=False,
    )
    rds.create_db_cluster(
        DBClusterIdentifier="ledger",
        Engine="aurora-postgresql",
        EngineVersion="16.3",
        MasterUsername="boss",
        MasterUserPassword=MASTER,
        DBSubnetGroupName="production",
        VpcSecurityGroupIds=[group],
        DBClusterParameterGroupName="production-cluster",
        DeletionProtection=False,
    )
    rds.create_db_instance(
        DBInstanceIdentifier="ledger-1",
        DBInstanceClass="db.r6g.large",
        Engine="aurora-postgresql",
        DBClusterIdentifier="ledger",
        DBParameterGroupName="production-aurora",
    )


def recovery(cloud: Cloud, address: str, method: str = "rds", /, **changes: object) -> Any:
    """`recovery:` of a plan; the data side is a local server, reached as through a port forward."""
    bundle = cloud.raw.with_name("bundle.pem")
    if not bundle.exists():
        bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    region = ELSEWHERE if isinstance(backup := changes.get("backup"), dict) and "region" in backup else REGION
    told: dict[str, Any] = {
        "method": method,
        "region": REGION,
        "backup": {"kind": "take"},
        "staging": {
            "subnet_group": "staging",
            "security_groups": (cloud.groups[f"staging {region}"],),
            "parameter_group": "staging-instance" if method == "rds" else "staging-aurora",
        },
        "ca_bundle": str(bundle),
        "connect_via": {"address": address, "password": "env:SHOP_PASSWORD"},
    }
    if method == "rds":
        told |= {"instance": "billing"}
        return plan_rds.Rds.model_validate(told | changes, strict=True)
    told |= {"cluster": "ledger", "instance_class": "db.r6g.large", "cluster_parameter_group": "staging-cluster"}
    return plan_rds.Aurora.model_validate(told | changes, strict=True)


def rds_method(cloud: Cloud, shop: Database, **changes: object) -> Rds:
    """The method, quick to look again."""
    return Rds(recovery(cloud, shop.url(shop.reader), **changes), cloud.aws(), cloud.raw, poll=0.01)


def quiet(_done: int, _total: int | None, _unit: str, _about: str) -> None:
    """Nobody looks."""
