"""Drills of a copy at AWS as roles that RDS has: nobody is a superuser there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import run_sql
from test_basebackup import CLOSED
from test_drill import result_of, run_drill
from test_managed_drill import Scene, scene

from drills.addresses import Address
from drills.record import Record
from drills.records import Verdict

# A fixture, which pytest finds by its name in this module.
__all__ = ["scene"]

MASTER = "LOGIN PASSWORD 'of-the-copy' NOSUPERUSER CREATEDB CREATEROLE"
"""As RDS makes it: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html"""
OF_MASTER = "pg_monitor, pg_read_all_data, pg_write_all_data"
"""What comes with rds_superuser, as far as it matters here."""
OWN = """
ALTER DATABASE {name} OWNER TO {name}_owner; ALTER TABLE customer OWNER TO {name}_owner;
ALTER TABLE invoice OWNER TO {name}_owner; ALTER TABLE note OWNER TO {name}_owner;
ALTER VIEW open_invoice OWNER TO {name}_owner;
CREATE EXTENSION amcheck; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {name}_visitor
"""
"""Amcheck is there already: here only a superuser may add it, at AWS the master user."""
Visit = Callable[..., Record]


@pytest.fixture
def visit(home: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A drill that enters the copy as a role like this, which is at the source too, and does not own the database."""
    monkeypatch.setenv("COPY_PASSWORD", "of-the-copy")
    name, servers = scene.shop.name, (scene.shop.owner, scene.copy)

    def run(role: str, granted: str, recovers: dict[str, Any] | None = None, **changes: object) -> Record:
        for server in servers:
            run_sql(server, f"CREATE ROLE {name}_owner; CREATE ROLE {name}_visitor {role}; {OWN.format(name=name)}")
            run_sql(server, f"GRANT {granted.format(owner=name + '_owner')} TO {name}_visitor")
        address = Address({**scene.copy.parts, "user": f"{name}_visitor"})
        there = Scene(scene.cloud, scene.shop, address)
        return run_drill(home, there.plan("rds", recovers, **changes))

    yield run
    for server in servers:
        for database in (server, server.to("postgres")):
            run_sql(database, f"REASSIGN OWNED BY {name}_owner TO drillbook")
            run_sql(database, f"DROP OWNED BY {name}_owner, {name}_visitor")
        run_sql(server, f"DROP ROLE {name}_owner, {name}_visitor")


def test_a_master_user_that_is_a_member_of_the_databases_owner_can_do_all_of_it(visit: Visit) -> None:
    record = visit(MASTER, OF_MASTER + ", {owner}", negative_control={"enabled": True})
    assert record.reasons == ()
    assert result_of(record, "amcheck").verdict is Verdict.PASS


def test_a_master_user_that_does_not_own_the_database_is_told_what_it_lacks(visit: Visit) -> None:
    record = visit(MASTER, OF_MASTER, negative_control={"enabled": True})
    assert record.verdict is Verdict.UNKNOWN
    amcheck, control = record.reasons
    assert "UNKNOWN: amcheck, " in amcheck
    assert "`amcheck: false`" in amcheck
    assert "UNKNOWN: negative control: the scratch clone could not be made" in control
    assert "`negative_control: {enabled: false}`" in control
    for reason in record.reasons:
        assert "at AWS the master user, once the database's owner was granted to it at the source" in reason


def test_what_the_owner_alone_may_do_can_be_left_out(visit: Visit) -> None:
    record = visit(MASTER, OF_MASTER, checks=CLOSED | {"amcheck": False})
    assert record.reasons == ()


@pytest.mark.parametrize("granted", ["pg_read_all_data", "pg_read_all_data, pg_read_all_settings"])
def test_a_role_for_tokens_has_to_see_whether_jobs_would_run(visit: Visit, granted: str) -> None:
    """Nobody here takes tokens: it is let in by a password, and may do what README has it granted."""
    login = {"login": {"kind": "iam", "user": "whoever"}}
    record = visit("LOGIN PASSWORD 'of-the-copy'", granted, login, checks=CLOSED | {"amcheck": False})
    if granted.endswith("settings"):
        assert record.reasons == ()
    else:
        (reason,) = record.reasons
        assert "UNKNOWN: scheduled jobs of the copy" in reason
        assert "grant it pg_read_all_settings" in reason
