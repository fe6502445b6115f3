"""Dumps in S3: which object is meant, and its bytes.

Refuses a bucket or key that is not there, and an object that changes while it is read: it is read in the version, or
with the ETag, that was chosen. Guarantees that memory stays flat, and that a transfer which ends early is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast
from urllib.parse import urlsplit

from drills.errors import AwsError, NoBackupError, ToolError
from drills.recovery.aws.client import Aws, explained

_BESIDE = (
    ".md5", ".sha1", ".sha224", ".sha256", ".sha384", ".sha512", ".sum", ".asc", ".sig", ".minisig", ".log", ".err",
    ".txt", ".json", ".ok", ".done",
)  # fmt: skip
"""Ends of what lies beside dumps, often written later than they."""
_GOES_ON = re.compile(r"\.|[-_]\d")
"""What a whole name may be followed by: an ending, or a date."""
_IN_DATE = re.compile(r"[-_.]\d+\Z")
"""A name and the beginning of a date, whose other digits may follow."""
_ABSENT = "404"
"""A HEAD request has no body to say more in."""
_MADE_YET = "check bucket and key in the plan, and whether dumps are still made"


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

    def __init__(self, url: str, aws: Aws) -> None:
        parts = urlsplit(url, allow_fragments=False)
        self.bucket, self.key = parts.netloc, url.removeprefix(f"s3://{parts.netloc}").removeprefix("/")
        with _explained("a session"):
            self._service = aws.service("s3")

    def choose(self, *, newest: bool) -> list[Stored]:
        """The objects of the dump that is meant: one, or all files of a directory dump.

        Raises:
            NoBackupError: there is none.
            ToolError: AWS does not say.
        """
        if not newest and self.key and not self.key.endswith("/"):
            return [self._describe(self.key)]
        found = self._list()
        if newest:
            found = _dumps(self.key, found)
        if newest and found:
            last = max(found, key=lambda each: (each["LastModified"], each["Key"]))["Key"]
            folder = last.rpartition("/")[0] + "/" if "/" in last else ""
            if f"{folder}toc.dat" not in {each["Key"] for each in found}:
                return [self._describe(last)]
            found = [each for each in found if each["Key"].rpartition("/")[0] + "/" == folder]
        keys = [each["Key"] for each in found if not each["Key"].endswith("/")]
        if not keys:
            raise NoBackupError(f"there is no dump below s3://{self.bucket}/{self.key}", hint=_MADE_YET)
        return [self._describe(key) for key in keys]

    def _list(self) -> list[dict[str, Any]]:
        with _explained(f"s3://{self.bucket}/{self.key}"):
            return self._service.ask_all("list_objects_v2", "Contents", Bucket=self.bucket, Prefix=self.key)

    def _describe(self, key: str) -> Stored:
        where = f"s3://{self.bucket}/{key}"
        with _explained(where):
            try:
                head = self._service.ask("head_object", Bucket=self.bucket, Key=key)
            except AwsError as error:
                # S3 says the same of a bucket that is not there, or not ours to list.
                if error.code != _ABSENT or any(each["Key"] == key for each in self._list()):
                    raise
                raise NoBackupError(f"there is no dump {where}", hint=_MADE_YET) from None
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
        with _explained(stored.url), explained("get_object"):
            body = self._service.ask("get_object", Bucket=stored.bucket, Key=stored.key, **which)["Body"]
            try:
                yield cast("IO[bytes]", body)
            finally:
                body.close()


def _dumps(prefix: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are meant by this prefix, and no dumps of something whose name only begins alike."""
    folders = {each["Key"].rpartition("/")[0] for each in found if each["Key"].endswith("/toc.dat")}

    def is_meant(key: str) -> bool:
        rest = key.removeprefix(prefix)
        if key.endswith(("/", *_BESIDE)):
            return False
        if not prefix or prefix.endswith("/") or rest.startswith("/"):
            return True
        if "/" in rest and not (rest.count("/") == 1 and key.rpartition("/")[0] in folders):
            return False
        if _IN_DATE.search(prefix) and rest[:1].isdigit():
            return True
        return not rest or prefix.endswith(("-", "_", ".")) or _GOES_ON.match(rest) is not None

    return [each for each in found if is_meant(each["Key"])]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except AwsError as error:
        raise ToolError(
            f"S3 did not give {what}: {error.message}",
            hint="check bucket, key and region, and the rights s3:GetObject, s3:GetObjectVersion and s3:ListBucket",
        ) from None
