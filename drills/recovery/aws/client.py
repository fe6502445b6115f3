"""AWS: how it is asked, what it answered, and what its errors mean.

Owns every client of boto3 besides that for secrets. Guarantees that each request is retried as botocore's standard mode
does, that every answer, those to retries included, is kept as it came (`raw/aws.jsonl`, see `answers`), and that no
secret is in it.
Where AWS is, and as whom it is asked, botocore finds out by itself (AWS_ENDPOINT_URL, AWS_PROFILE, the role of the
machine). That an answer could not be kept ends nothing at once, since what was made must still be deleted; whoever is
done asks `refuse_gaps`.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.errors import EvidenceError
from drills.recovery.aws.answers import Asked, answer_of, without_secrets
from drills.recovery.aws.errors import explain
from drills.secrets import VAULT

_ATTEMPTS = 5
"""Of one request, by botocore; whoever polls goes on after them."""
_ATTEMPT = "drillbook_attempt"
_PARAMETERS = "drillbook_parameters"
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Account:
    """As whom AWS is asked."""

    id: str
    partition: str
    """`aws`, or that of China or of a government."""
    arn: str


class Service:
    """One service in one region."""

    def __init__(self, client: Any, region: str) -> None:  # noqa: ANN401 - boto3 makes its classes at run time
        self._client = client
        self.region = region

    def ask(self, operation: str, **parameters: object) -> dict[str, Any]:
        """One request, by boto3's name for it.

        Raises:
            AwsError: no answer, or one that says no.
        """
        with explained(operation):
            answer: dict[str, Any] = getattr(self._client, operation)(**parameters)
        return answer

    def ask_all(self, operation: str, key: str, **parameters: object) -> list[dict[str, Any]]:
        """The same, page by page: everything under this key.

        Raises:
            AwsError: no answer, or one that says no.
        """
        with explained(operation):
            pages = self._client.get_paginator(operation).paginate(**parameters)
            return [element for page in pages for element in page.get(key) or ()]

    def login_token(self, host: str, port: int, user: str) -> str:
        """A token of IAM for a database: good for fifteen minutes, made without asking anybody.

        Raises:
            AwsError: there are no credentials to make it with.
        """
        with explained("generate_db_auth_token"):
            token = str(
                self._client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user, Region=self.region)
            )
        VAULT.know(token)
        return token


class Aws:
    """AWS for one drill. `session` is boto3's; only tests bring one of their own."""

    def __init__(self, drill: str, raw: Path | None, session: Any = None) -> None:  # noqa: ANN401 - same
        import boto3  # noqa: PLC0415 - slow to import, and rarely wanted

        with explained("session"):
            self._session = session or boto3.Session()
        self._drill = drill
        self._raw = raw
        self._services: dict[tuple[str, str | None], Service] = {}
        self._gap = ""

    def service(self, name: str, region: str | None = None) -> Service:
        """This service in that region; where none is named, in the one that botocore finds out.

        Raises:
            AwsError: there is none.
        """
        if (name, region) not in self._services:
            from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import

            config = Config(
                region_name=region,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                user_agent_extra=f"drillbook/{importlib.metadata.version('drillbook')} md/drill#{self._drill}",
                connect_timeout=10,
                read_timeout=60,
            )
            with explained(name):
                client = self._session.client(name, config=config)
            client.meta.events.register(f"provide-client-params.{name}", self._note)
            client.meta.events.register(f"response-received.{name}", self._keep)
            self._services[name, region] = Service(client, str(client.meta.region_name))
        return self._services[name, region]

    def account(self, region: str) -> Account:
        """As whom AWS is asked.

        Raises:
            AwsError: the credentials are not good.
        """
        answer = self.service("sts", region).ask("get_caller_identity")
        return Account(str(answer["Account"]), str(answer["Arn"]).split(":")[1], str(answer["Arn"]))

    def refuse_gaps(self) -> None:
        """Say that an answer could not be kept.

        Raises:
            EvidenceError: one could not.
        """
        if self._gap:
            raise EvidenceError(
                f"an answer of AWS could not be kept as evidence: {self._gap}",
                hint="make room for the drill's folder, then run the drill again",
            )

    def _note(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_more: object) -> None:  # noqa: ANN401, ARG002 - botocore's own signature
        context[_PARAMETERS] = without_secrets(params)

    def _keep(
        self,
        response_dict: dict[str, Any] | None,
        context: dict[str, Any],
        exception: Exception | None,
        event_name: str,
        **_more: object,
    ) -> None:
        """Called by botocore for every attempt."""
        context[_ATTEMPT] = context.get(_ATTEMPT, 0) + 1
        if self._raw is None:
            return
        _, service, operation = event_name.split(".")
        asked = Asked(
            service, str(context.get("client_region") or ""), operation, context.get(_PARAMETERS, {}), context[_ATTEMPT]
        )
        answer = answer_of(asked, response_dict or {}, exception)
        try:
            with _LOCK, self._raw.open("ab") as file:
                file.write(answer.canonical() + b"\n")
        except OSError as error:
            self._gap = self._gap or str(error.strerror or error)


@contextmanager
def explained(operation: str) -> Iterator[None]:
    """What botocore raises in there, for a person.

    Raises:
        AwsError: it raised something.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415 - same
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # noqa: PLC0415 - same

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        raise explain(
            operation, str(told.get("Code", "")), VAULT.redact(str(told.get("Message", ""))), status
        ) from None
    except (BotoCoreError, ResponseParserError) as error:  # a proxy's page is no answer of AWS
        raise explain(operation, type(error).__name__, VAULT.redact(str(error)), 0) from None
