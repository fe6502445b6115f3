"""The part of a plan that says whether people could work with the copy: queries, commands, the application itself.

Owns the models of the smoke checks, one for each kind. Refuses what could never pass, or never fail.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from drills.fields import Period, Text, Title
from drills.plans.section import NUMBER, Section, Value, fault

PORT = "{port}"
"""Where a URL has the port that the application is given."""


class SmokeSql(Section):
    """A statement with an expected value, or a value within a range."""

    kind: Literal["sql"] = Field(description="The kind of smoke check.", examples=["sql"])
    name: Title = Field(description="What the check is called in the report.", examples=["orders of the last day"])
    sql: Text = Field(
        description="One SELECT that returns exactly one row with one column.",
        examples=["SELECT count(*) FROM orders WHERE placed > now() - interval '1 day'"],
    )
    expect: Value | None = Field(
        None,
        description="The value as PostgreSQL writes it. Numbers are compared as exact decimals.",
        examples=["true"],
    )
    min: Value | None = Field(
        None, description="The least number that passes, instead of `expect`; compared as exact decimals.", examples=[1]
    )
    max: Value | None = Field(
        None, description="The greatest number that passes, compared as exact decimals.", examples=["1000000.00"]
    )

    @model_validator(mode="after")
    def _one_expectation(self) -> Self:
        bounds = [(key, value) for key, value in (("min", self.min), ("max", self.max)) if value is not None]
        if (self.expect is None) == (not bounds):
            raise fault("expected either `expect`, or `min` and `max` or one of them")
        for key, value in bounds:
            if not NUMBER.fullmatch(value.strip()):
                raise fault(f"expected a number, got {value!r}", key)
        if self.min is not None and self.max is not None and Decimal(self.min) > Decimal(self.max):
            raise fault(f"nothing lies between {self.min} and {self.max}", "max")
        return self


class SmokeWithin(Section):
    """A query that must be answered in full within a time."""

    kind: Literal["within"] = Field(description="The kind of smoke check.", examples=["within"])
    name: Title = Field(description="What the check is called in the report.", examples=["customer search"])
    sql: Text = Field(
        description="One SELECT, as the application puts it.",
        examples=["SELECT * FROM customer WHERE lower(name) LIKE 'smith%' ORDER BY name LIMIT 50"],
    )
    limit: Period = Field(
        description="The longest that it may take, until its last row has come. It is cancelled there.",
        examples=["500ms"],
    )
    rows: Literal["some", "any"] = Field(
        "some",
        description="`some`: an answer without a row fails, since nobody would find anything. `any`: none is in order.",
        examples=["some"],
    )


class SmokeCommand(Section):
    """A program that tries the copy, such as the application's own health check."""

    kind: Literal["command"] = Field(description="The kind of smoke check.", examples=["command"])
    name: Title = Field(description="What the check is called in the report.", examples=["ledger self-test"])
    run: tuple[Text, ...] = Field(
        min_length=1,
        description="The program and its arguments; no shell reads them. It runs where the drill was started, as "
        "the account that runs the drill, and finds the copy in PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD and "
        "DATABASE_URL. It may write there, also where the checks may not; so programs are run once, at the end of the "
        "drill: after the last outage, and after everything that is compared with the snapshot. "
        "It has to end with exit code 0.",
        examples=[["/srv/ledger/bin/selftest", "--read-only"]],
    )
    limit: Period = Field(
        timedelta(minutes=1),
        description="The longest that it may take; then it is stopped with all that it started, and fails.",
        examples=["2min"],
    )
    matches: Text | None = Field(
        None,
        description="A regular expression that must match somewhere in what it says, on either of its outputs; `^` and "
        "`$` match at every line.",
        examples=["^[0-9]+ accounts, 0 faults$"],
    )

    @model_validator(mode="after")
    def _pattern_can_fail(self) -> Self:
        if self.matches is None:
            return self
        try:
            matches_all = re.search(self.matches, "", re.MULTILINE)
        except re.error as error:
            raise fault(f"{self.matches!r} is not a regular expression: {error}", "matches") from None
        if matches_all:
            raise fault(f"{self.matches!r} matches any output", "matches")
        return self


class SmokeHttp(Section):
    """A request to the application, started on the copy."""

    kind: Literal["http"] = Field(description="The kind of smoke check.", examples=["http"])
    name: Title = Field(description="What the check is called in the report.", examples=["shop front page"])
    start: tuple[Text, ...] = Field(
        min_length=1,
        description="The application and its arguments; no shell reads them. It gets what a `command` gets, is run "
        "when a `command` is run, and finds a free port of 127.0.0.1 in PORT. It stays in the foreground, and is "
        "stopped after the answer with all that it started. A server that runs already says nothing of the copy.",
        examples=[["/srv/shop/bin/serve", "--workers", "1"]],
    )
    url: Text = Field(
        description="What to GET: http or https, with `{port}` for the application's port. Redirects are an "
        "answer like any other, and are not followed.",
        examples=["http://127.0.0.1:{port}/health"],
    )
    status: int = Field(200, ge=100, le=599, description="The status that it must answer with.", examples=[200])
    contains: Text | None = Field(
        None, description="A text that must stand in the first megabyte of the answer.", examples=['"database":"up"']
    )
    limit: Period = Field(
        timedelta(minutes=1),
        description="The longest wait for an answer, the application's start included. Until then a refused "
        "connection and the statuses 502, 503 and 504 are asked again.",
        examples=["2min"],
    )

    @model_validator(mode="before")
    @classmethod
    def _asks_the_copy(cls, given: object) -> object:
        if isinstance(given, dict) and not given.get("start"):
            raise fault("missing: a server that the drill does not start on the copy says nothing of it", "start")
        return given

    @model_validator(mode="after")
    def _url_leads_there(self) -> Self:
        if PORT not in self.url:
            raise fault(f"the application is given its port: expected {PORT} in the URL", "url")
        try:
            parts = urlsplit(self.url.replace(PORT, "1"))
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or "@" in parts.netloc or not (self.url.isascii() and self.url.isprintable()) or " " in self.url:
            # Not repeated: a password may stand in it.
            raise fault("expected a URL such as http://127.0.0.1:{port}/health, without a password in it", "url")
        return self


Smoke = Annotated[SmokeSql | SmokeWithin | SmokeCommand | SmokeHttp, Field(discriminator="kind")]
