"""The guard's questions at AWS: whether staging is there, and none of it is production's own.

Guarantees that it changes nothing. It cannot see what the rules of a security group let through, nor where routes lead.
"""

from __future__ import annotations

from pathlib import Path

from drills.errors import AwsError
from drills.plans import rds as plan_rds
from drills.records import Finding, Verdict
from drills.recovery.aws.client import Aws, Service
from drills.recovery.aws.kinds import INSTANCE, Seen, look
from drills.recovery.aws.origin import Origin

_OF_THE_ENGINE = "default."
"""How the parameter groups begin that belong to nobody, and preload nothing of anybody's."""


def judge_staging(wish: plan_rds.Managed, origin: Origin, aws: Aws) -> list[Finding]:
    """Every question about AWS, before anything is made there."""
    service = aws.service("rds", wish.staging_region)
    production = _members(aws.service("rds", wish.region), origin)
    return [
        _judge_account(wish, aws),
        _judge_subnets(wish, service, origin, production),
        _judge_security_groups(wish, production),
        _judge_parameters(wish, service, origin, production),
    ]


def _finding(name: str, bad: str, good: str, hint: str) -> Finding:
    return Finding(
        name=name, verdict=Verdict.FAIL if bad else Verdict.PASS, found=bad or good, hint=hint if bad else ""
    )


def _members(service: Service, origin: Origin) -> list[Seen]:
    """Production: the instance, or the cluster and its instances."""
    names = [str(member["DBInstanceIdentifier"]) for member in origin.seen.get("DBClusterMembers") or []]
    found = [look(service, INSTANCE, name) for name in names]
    return [origin.seen, *(seen for seen in found if seen is not None)]


def _judge_account(wish: plan_rds.Managed, aws: Aws) -> Finding:
    ours = aws.account(wish.region)
    other = wish.account is not None and wish.account != ours.id
    bad = f"expected account {wish.account}, got {ours.id} ({ours.arn})" if other else ""
    return _finding("AWS account", bad, f"{ours.id}, as {ours.arn}", "check AWS_PROFILE, or `account` in the plan")


def _judge_subnets(wish: plan_rds.Managed, service: Service, origin: Origin, production: list[Seen]) -> Finding:
    name = wish.staging.subnet_group
    title = "staging's subnets are not production's"
    try:
        group = service.ask("describe_db_subnet_groups", DBSubnetGroupName=name)["DBSubnetGroups"][0]
    except AwsError as error:
        if error.code not in {"DBSubnetGroupNotFoundFault", "DBSubnetGroupNotFound"}:
            raise
        return _finding(title, f"there is no subnet group {name} in {service.region}", "", error.hint)
    ours = {str(subnet["SubnetIdentifier"]) for subnet in group.get("Subnets") or []}
    theirs: set[str] = set()
    names = set()
    for seen in production:
        used = seen.get("DBSubnetGroup")
        if isinstance(used, str):  # a cluster has the name alone
            names.add(used.lower())
            used = _group_of(service, wish, used)
        if isinstance(used, dict):
            names.add(str(used.get("DBSubnetGroupName")).lower())
            theirs |= {str(subnet["SubnetIdentifier"]) for subnet in used.get("Subnets") or []}
    bad = ""
    if wish.staging_region == wish.region and name.lower() in names:
        bad = f"{name} is the subnet group of production's {origin.kind.called} {origin.name}"
    elif shared := sorted(ours & theirs):
        bad = f"{name} shares subnets with production: {', '.join(shared)}"
    return _finding(title, bad, f"{name}, in {group.get('VpcId')}", "make a subnet group of other subnets for staging")


def _group_of(service: Service, wish: plan_rds.Managed, name: str) -> Seen | None:
    """A subnet group of production's. In another region its subnets have other names anyway."""
    if wish.staging_region != wish.region:
        return None
    try:
        groups = service.ask("describe_db_subnet_groups", DBSubnetGroupName=name)["DBSubnetGroups"]
    except AwsError:
        return None
    return dict(groups[0]) if groups else None


def _judge_security_groups(wish: plan_rds.Managed, production: list[Seen]) -> Finding:
    theirs = {str(one["VpcSecurityGroupId"]) for seen in production for one in seen.get("VpcSecurityGroups") or []}
    shared = sorted(set(wish.staging.security_groups) & theirs)
    return _finding(
        "staging's security groups are not production's",
        f"production has them too: {', '.join(shared)}" if shared else "",
        ", ".join(wish.staging.security_groups),
        "make a security group for staging that lets the drill in and nothing out",
    )


def _judge_parameters(wish: plan_rds.Managed, service: Service, origin: Origin, production: list[Seen]) -> Finding:
    """A parameter group of production's own may start pg_cron, or logical replication, on the copy."""
    theirs = {str(one["DBParameterGroupName"]) for seen in production for one in seen.get("DBParameterGroups") or []}
    wanted = {wish.staging.parameter_group: "describe_db_parameter_groups"}
    if isinstance(wish, plan_rds.Aurora):
        wanted[wish.cluster_parameter_group] = "describe_db_cluster_parameter_groups"
        theirs |= {str(origin.seen.get("DBClusterParameterGroup"))}
    bad = ""
    for name, operation in wanted.items():
        key = "DBClusterParameterGroupName" if "cluster" in operation else "DBParameterGroupName"
        if name in theirs and not name.startswith(_OF_THE_ENGINE) and wish.staging_region == wish.region:
            bad = bad or f"{name} is production's own"
            continue
        try:
            found = service.ask(operation, **{key: name})
        except AwsError as error:
            if "NotFound" not in error.code:
                raise
            found = {}
        if not any(isinstance(groups, list) and groups for groups in found.values()):
            bad = bad or f"there is no parameter group {name} in {service.region}"
    hint = "make a parameter group for staging without pg_cron and logical replication"
    return _finding("staging's parameters are not production's", bad, ", ".join(wanted), hint)


def judge_bundle(wish: plan_rds.Managed) -> Finding:
    """Whether the copy's certificate can be verified. It is a file on this machine: AWS need not be asked."""
    path = Path(wish.ca_bundle)
    try:
        count = path.read_bytes().count(b"-----BEGIN CERTIFICATE-----")
        bad = "" if count else f"{path} holds no certificate"
    except OSError as error:
        count, bad = 0, f"{path} cannot be read: {error.strerror}"
    hint = "fetch global-bundle.pem from https://truststore.pki.rds.amazonaws.com/global/ and put it there"
    return _finding("RDS certificate authorities", bad, f"{count} in {path}", hint)
