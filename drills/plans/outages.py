"""The part of a plan that breaks the copy on purpose."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from drills.fields import Duration, Period, Title
from drills.plans.section import Section


class KillServer(Section):
    """SIGKILL to the whole server of the copy, under a heartbeat writer; then it is started again."""

    kind: Literal["kill_server"] = Field(description="The kind of fault.", examples=["kill_server"])
    name: Title = Field(description="What the outage is called in the report.", examples=["server killed"])
    writers: int = Field(
        2, ge=1, le=32, description="Heartbeat writers, each committing one row at a time.", examples=[4]
    )
    steady: Period = Field(
        timedelta(seconds=2), description="How long the heartbeat beats before the fault.", examples=["10s"]
    )
    down: Duration = Field(
        timedelta(seconds=1),
        description="How long the server is left down before it is started again.",
        examples=["30s"],
    )
    limit: Period = Field(
        timedelta(minutes=5),
        description="The longest wait for recovery; past it the outage is a FAIL.",
        examples=["5min"],
    )
    rto: Duration | None = Field(
        None, description="From the fault to the first commit that is acknowledged again.", examples=["1min"]
    )
    rpo: Duration = Field(
        timedelta(0),
        description="The oldest acknowledged commit that may be lost, by its age at the fault.",
        examples=["0s"],
    )
