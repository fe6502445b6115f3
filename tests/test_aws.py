"""How AWS is asked: what is tried again, what is kept, and what is never kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from fix_aws import DRILL, NAME, REGION, Cloud, quiet, rds_method, refusal
from fix_postgres import Database

from drills.errors import AwsError, EvidenceError, ToolError
from drills.recovery.aws.client import Aws
from drills.recovery.aws.errors import explain
from drills.recovery.dumps.s3 import Bucket
from drills.secrets import VAULT


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long botocore would have slept between two attempts."""
    naps: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=naps.append))
    return naps


def answers(cloud: Cloud) -> list[dict[str, Any]]:
    """What was kept."""
    return [json.loads(line) for line in cloud.raw.read_text().splitlines()]


@pytest.mark.parametrize(
    ("code", "status"), [("Throttling", 400), ("ThrottlingException", 400), ("InternalFailure", 503)]
)
def test_what_is_transient_is_tried_again_and_every_attempt_is_kept(
    cloud: Cloud, slept: list[float], code: str, status: int
) -> None:
    """As botocore's standard mode does."""
    cloud.fault("DescribeDBInstances", lambda: refusal(code, "slow down", status), times=2)
    service = cloud.aws().service("rds", REGION)
    assert service.ask("describe_db_instances", DBInstanceIdentifier="billing")["DBInstances"]
    assert len(slept) == 2
    kept = answers(cloud)
    assert [(one["attempt"], one["status"]) for one in kept] == [(1, status), (2, status), (3, 200)]
    assert [one["parameters"] for one in kept] == [{"DBInstanceIdentifier": "billing"}] * 3
    assert "slow down" in str(kept[0]["body"])


def test_what_stays_busy_is_an_error_that_may_pass(cloud: Cloud, slept: list[float]) -> None:
    """After five attempts."""
    cloud.fault("DescribeDBInstances", lambda: refusal("Throttling", "slow down"), times=100)
    with pytest.raises(AwsError, match=r"AWS did not do DescribeDBInstances: slow down \(Throttling\)") as caught:
        cloud.aws().service("rds", REGION).ask("describe_db_instances")
    assert caught.value.transient
    assert (len(slept), len(answers(cloud))) == (4, 5)


def test_a_wait_goes_on_while_aws_is_too_busy_to_answer(cloud: Cloud, shop: Database, slept: list[float]) -> None:
    """Longer than botocore tries."""
    method = rds_method(cloud, shop)
    picked = method.pick(DRILL, quiet).backup
    cloud.fault("DescribeDBInstances", lambda: refusal("Throttling", "slow down"), times=12)
    method.restore(picked, DRILL, shop.name, quiet)
    made = (*method.backup_resources(DRILL), *method.copy_resources(DRILL))
    cloud.fault("DescribeDBInstances", lambda: refusal("Throttling", "slow down"), times=7)
    cloud.destroy(made)
    assert cloud.left() == set()
    assert len(slept) == 16


def test_a_throttled_request_that_makes_something_makes_it_once(
    cloud: Cloud, shop: Database, slept: list[float]
) -> None:
    """Its name is the drill's."""
    cloud.fault("CreateDBSnapshot", lambda: refusal("Throttling", "slow down"), times=2)
    rds_method(cloud, shop).pick(DRILL, quiet)
    assert (cloud.left(), len(slept)) == ({NAME}, 2)


def test_a_body_is_kept_as_it_came_with_secrets_masked(cloud: Cloud) -> None:
    """Its digest is that of what came."""
    VAULT.know("sesame-open")
    body = b"<r><DescribeEventsResult><Marker>sesame-open</Marker></DescribeEventsResult></r>"
    cloud.fault("DescribeEvents", lambda: (200, body))
    cloud.fault("DescribeDBClusters", lambda: (200, b"\xff<"))
    service = cloud.aws().service("rds", REGION)
    service.ask("describe_events", SourceIdentifier="sesame-open")
    with pytest.raises(AwsError, match="ResponseParserError"):
        service.ask("describe_db_clusters")
    service.ask("describe_db_instances", DBInstanceIdentifier="billing")
    masked, plain = answers(cloud)[0], answers(cloud)[-1]
    assert masked["body"] == body.decode().replace("sesame-open", "[secret]")
    assert masked["sha256"] == hashlib.sha256(body).hexdigest()
    assert (masked["masked"], masked["parameters"]) == (True, {"SourceIdentifier": "[secret]"})
    assert plain["sha256"] == hashlib.sha256(str(plain["body"]).encode()).hexdigest()
    assert (plain["masked"], plain["encoding"], plain["region"]) == (False, "utf-8", REGION)


def test_what_s3_answers_is_tried_again_and_kept_alike_but_for_the_bytes_of_a_dump(
    cloud: Cloud, slept: list[float]
) -> None:
    """Those are read while they come, and have a digest of their own in the record."""
    name, content = f"backups-{uuid4()}", b"PGDMP and all that follows"
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=name, Key="a/b.dump", Body=content)
    cloud.fault("HeadObject", lambda: (503, b""), times=2)
    bucket = Bucket(f"s3://{name}/a/b.dump", cloud.aws())
    (stored,) = bucket.choose(newest=False)
    with bucket.reading(stored) as body:
        assert body.read() == content
    assert [one.key for one in Bucket(f"s3://{name}/a/", cloud.aws()).choose(newest=True)] == ["a/b.dump"]
    kept = answers(cloud)
    assert len(slept) == 2
    told = [(one["operation"], one["status"]) for one in kept]
    assert told[:4] == [("HeadObject", 503), ("HeadObject", 503), ("HeadObject", 200), ("GetObject", 200)]
    head, got, listed = kept[2:5]
    assert head["headers"]["etag"].strip('"') == stored.etag
    assert head["headers"]["content-length"] == str(len(content))
    assert got["parameters"] == {"Bucket": name, "Key": "a/b.dump", "IfMatch": stored.etag}
    assert (got["body"], got["sha256"], got["region"]) == ("", "", REGION)
    assert "a/b.dump" in listed["body"]
    assert content.decode() not in cloud.raw.read_text()


def test_what_s3_has_not_is_named_with_what_to_check(cloud: Cloud) -> None:
    with pytest.raises(
        ToolError,
        match=r"S3 did not give s3://no-bucket-of-ours/a: .* ListObjectsV2: The specified bucket does not exist",
    ) as caught:
        Bucket("s3://no-bucket-of-ours/a", cloud.aws()).choose(newest=False)
    assert "s3:GetObjectVersion" in caught.value.hint
    assert [one["status"] for one in answers(cloud)] == [404, 404]


def test_an_answer_that_cannot_be_kept_ends_nothing_and_is_told(cloud: Cloud, tmp_path: Path) -> None:
    """What was made must still be deleted."""
    aws = Aws(DRILL, tmp_path / "none" / "aws.jsonl", cloud.session)
    assert aws.account(REGION).id == "123456789012"
    with pytest.raises(EvidenceError, match="could not be kept as evidence: No such file or directory"):
        aws.refuse_gaps()
    cloud.aws().refuse_gaps()


def test_no_credentials_and_no_endpoint_are_explained(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything was asked."""
    import boto3  # noqa: PLC0415 - slow to import

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(AwsError, match=r"Unable to locate credentials .*\nHINT: check the credentials"):
        Aws(DRILL, cloud.raw, boto3.Session()).account(REGION)


def test_an_endpoint_that_nobody_listens_on_is_explained(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    """And what did not come is kept too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(AwsError, match="is AWS reachable from here") as caught:
        cloud.aws().account(REGION)
    assert caught.value.transient
    kept = answers(cloud)
    assert len(kept) == 5
    assert {one["status"] for one in kept} == {None}
    assert "EndpointConnectionError" in str(kept[0]["error"])


def test_every_code_has_something_to_do() -> None:
    """Those that are known, and any other."""
    assert "sso login" in explain("modify_db_instance", "ExpiredToken", "expired", 403).hint
    other = explain("modify_db_instance", "Whatever", "", 400)
    assert str(other).startswith(
        "AWS did not do ModifyDBInstance: it said nothing (Whatever)\nHINT: every answer of AWS"
    )
    assert not other.transient


def test_a_profile_that_is_not_there_is_an_error_of_aws(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a sweep, which has others to destroy."""
    monkeypatch.setenv("AWS_PROFILE", "none-of-this-name")
    with pytest.raises(AwsError, match="none-of-this-name"):
        Aws(DRILL, cloud.raw)
