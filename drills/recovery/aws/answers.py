"""What AWS answered, as evidence keeps it.

Owns the form of `raw/aws.jsonl`. Guarantees that no secret is in it. Of an object in S3 its bytes are left out: they
are read while they come, and their digest is that of the backup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from drills.records import Instant, Model, utc_now
from drills.secrets import MASK, VAULT

_SECRET_WORDS = ("password", "secret", "token")


class Answer(Model):
    """One request to AWS and what came of it."""

    at: Instant
    service: str
    region: str
    operation: str
    parameters: dict[str, Any]
    """As boto3 was given them, secrets masked."""
    attempt: int
    """1 for the first, more for what botocore retried."""
    status: int | None
    """Of HTTP; None where nothing came."""
    request: str
    """AWS's id of the request, by which its support finds it."""
    headers: dict[str, str]
    """Of HTTP, by names in small letters. Of an object in S3 they say it all."""
    sha256: str
    """Of the body as it came; empty for the bytes of an object, which are read while they come."""
    body: str
    encoding: Literal["utf-8", "base64"]
    masked: bool
    """Whether the body held a secret, which is masked in `body`; then it has another digest."""
    error: str = ""
    """What botocore said where nothing came."""


@dataclass(frozen=True)
class Asked:
    """A request, at one attempt."""

    service: str
    region: str
    operation: str
    parameters: dict[str, Any]
    """Secrets masked."""
    attempt: int


def answer_of(asked: Asked, told: Mapping[str, Any], exception: Exception | None) -> Answer:
    """What came of it; `told` is botocore's record of the answer, empty where nothing came."""
    body = told.get("body") or b""
    is_read = isinstance(body, bytes)
    text, encoding = _as_text(body if is_read else b"")
    shown = VAULT.redact(text) if encoding == "utf-8" else text
    headers = {str(key).lower(): VAULT.redact(str(value)) for key, value in (told.get("headers") or {}).items()}
    return Answer(
        at=utc_now(),
        service=asked.service,
        region=asked.region,
        operation=asked.operation,
        parameters=asked.parameters,
        attempt=asked.attempt,
        status=told.get("status_code"),
        request=headers.get("x-amzn-requestid") or headers.get("x-amz-request-id", ""),
        headers=headers,
        sha256=hashlib.sha256(body).hexdigest() if is_read else "",
        body=shown,
        encoding=encoding,
        masked=shown != text,
        error=VAULT.redact(f"{type(exception).__name__}: {exception}") if exception and not told else "",
    )


def _as_text(body: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def without_secrets(value: Any) -> Any:  # noqa: ANN401 - whatever boto3 takes
    """Parameters as JSON takes them, secrets masked."""
    if isinstance(value, Mapping):
        return {str(key): MASK if _is_secret(str(key), part) else without_secrets(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return VAULT.redact(value) if isinstance(value, str) else value


def _is_secret(key: str, value: object) -> bool:
    return isinstance(value, str) and any(word in key.lower() for word in _SECRET_WORDS) and key != "NextToken"
