"""Dumps in S3: which object is meant, and its bytes.

Refuses a bucket or key that is not there, and an object that changes while it is read: it is read in the version, or
with the ETag, that was chosen. Guarantees that memory stays flat, and that a transfer which ends early is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast
from urllib.parse import urlsplit

from drills.errors import ToolError

_ATTEMPTS = 5


@dataclass(frozen=True)
class Stored:
    """An object of S3, in one version."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: datetime
    version: str = ""
    """Empty in a bucket without versions."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.key}" + (f"?versionId={self.version}" if self.version else "")


class Bucket:
    """A place in S3, as a plan writes it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url, allow_fragments=False)
        self.bucket, self.key = parts.netloc, url.removeprefix(f"s3://{parts.netloc}").removeprefix("/")
        self._client = _client()

    def choose(self, *, newest: bool) -> list[Stored]:
        """The objects of the dump that is meant: one, or all files of a directory dump.

        Raises:
            ToolError: there is none, or AWS does not say.
        """
        if not newest and self.key and not self.key.endswith("/"):
            return [self._describe(self.key)]
        found = list(self._list())
        if newest and found:
            last = max(found, key=lambda each: (each["LastModified"], each["Key"]))["Key"]
            folder = last.rpartition("/")[0] + "/" if "/" in last else ""
            if f"{folder}toc.dat" not in {each["Key"] for each in found}:
                return [self._describe(last)]
            found = [each for each in found if each["Key"].rpartition("/")[0] + "/" == folder]
        keys = [each["Key"] for each in found if not each["Key"].endswith("/")]
        if not keys:
            raise ToolError(f"no dump below s3://{self.bucket}/{self.key}", hint="check bucket and key in the plan")
        return [self._describe(key) for key in keys]

    def _list(self) -> Iterator[dict[str, Any]]:
        with _explained(f"s3://{self.bucket}/{self.key}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.key):
                yield from page.get("Contents", ())

    def _describe(self, key: str) -> Stored:
        with _explained(f"s3://{self.bucket}/{key}"):
            head = self._client.head_object(Bucket=self.bucket, Key=key)
        version = head.get("VersionId", "")
        return Stored(
            bucket=self.bucket,
            key=key,
            size=int(head["ContentLength"]),
            etag=str(head["ETag"]).strip('"'),
            modified=head["LastModified"],
            version="" if version == "null" else version,
        )

    @contextmanager
    def reading(self, stored: Stored) -> Iterator[IO[bytes]]:
        """The bytes of this very version."""
        which = {"VersionId": stored.version} if stored.version else {"IfMatch": stored.etag}
        with _explained(stored.url):
            body = self._client.get_object(Bucket=stored.bucket, Key=stored.key, **which)["Body"]
            try:
                yield cast("IO[bytes]", body)
            finally:
                body.close()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    from botocore.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import
        BotoCoreError,
        ClientError,
        HTTPClientError,
    )

    try:
        yield
    except (BotoCoreError, ClientError, HTTPClientError) as error:
        raise ToolError(
            f"S3 did not give {what}: {error}",
            hint="check bucket, key and region, and the rights s3:GetObject, s3:GetObjectVersion and s3:ListBucket",
        ) from None


def _client() -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    import boto3  # noqa: PLC0415 - slow to import, and rarely wanted
    from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - same

    with _explained("a session"):
        return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS}))
