"""A copy is told from production by when it was started, where their system identifiers are the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import GuardError
from drills.records import utc_now
from drills.recovery.aws.apart import refuse_older, refuse_production, which_server
from drills.sessions import STAGING_LIMITS, Access, session


def which(address: Address) -> tuple[str, str]:
    """As the drill asks."""
    with session(address, name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return which_server(connection)


def test_the_same_server_is_refused_and_another_is_not(production: Cluster, staging: Cluster) -> None:
    """By whatever way."""
    there = which(production.address())
    with session(staging.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        refuse_production(there, connection)
    with (
        session(
            production.address("template1"), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS
        ) as connection,
        pytest.raises(GuardError, match="the copy's address leads to production: system identifier"),
    ):
        refuse_production(there, connection)


def test_pages_that_were_started_on_their_own_are_another_server(cluster: Cluster) -> None:
    """The same identifier, as after a restore of a snapshot."""
    before = which(cluster.address())
    cluster.stop()
    cluster.start({"fsync": "off"})
    after = which(cluster.address())
    assert before[0] == after[0]
    assert before[1] != after[1]
    with session(cluster.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        refuse_production(before, connection)


def test_what_was_started_before_the_drill_is_another_server(cluster: Cluster) -> None:
    """But for what two clocks may differ by."""
    with session(cluster.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        refuse_older(utc_now(), connection)
        with pytest.raises(GuardError, match="a server that was there before"):
            refuse_older(utc_now() + timedelta(minutes=10), connection)
