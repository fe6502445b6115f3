"""The guard finds each reason not to begin, and none where there is none."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fix_postgres import Database

from drills import guard
from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import GuardError
from drills.records import Finding, Server, Verdict
from drills.sessions import STAGING_LIMITS, Access, describe, session

SERVER = Server(address="a@b:1/c", system_identifier="7", version="18.1", major=18, database="c", role="a", size=9)


def ways(address: Address) -> list[str]:
    with session(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return guard.ways_to_write(connection)


@pytest.fixture
def helper(shop: Database) -> Iterator[str]:
    """A second role, which the reader may be made a member of."""
    name = f"helper_{secrets.token_hex(4)}"
    shop.run(f"CREATE ROLE {name}")
    yield name
    shop.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_with_pg_read_all_data_and_nothing_else_is_clean(shop: Database) -> None:
    assert ways(shop.reader) == []
    found = guard.judge_role([], "refuse")
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("grant", "expected"),
    [
        ("ALTER ROLE {0} SUPERUSER", "is a superuser"),
        ("ALTER ROLE {0} CREATEDB", "may create databases"),
        ("ALTER ROLE {0} CREATEROLE", "may create roles"),
        ("GRANT pg_write_all_data TO {0}", "is a member of pg_write_all_data"),
        ("GRANT pg_signal_backend TO {0}", "is a member of pg_signal_backend"),
        ("GRANT INSERT ON invoice TO {0}", "may write to invoice"),
        ("GRANT TRIGGER ON invoice TO {0}", "may write to invoice"),
        ("GRANT MAINTAIN ON invoice TO {0}", "may write to invoice"),
        ("GRANT DELETE ON open_invoice TO {0}", "may write to open_invoice"),
        ("GRANT UPDATE (amount) ON invoice TO {0}", "may write to invoice"),
        ("CREATE SEQUENCE numbers; GRANT USAGE ON SEQUENCE numbers TO {0}", "may advance numbers"),
        ("GRANT CREATE ON SCHEMA public TO {0}", "may create in schema public"),
        ("GRANT CREATE ON DATABASE {1} TO {0}", "may create in database {1}"),
        ("CREATE TABLE own (n int); ALTER TABLE own OWNER TO {0}; REVOKE ALL ON own FROM {0}", "owns own"),
        ("CREATE SCHEMA own; ALTER SCHEMA own OWNER TO {0}; REVOKE ALL ON SCHEMA own FROM {0}", "in schema own"),
        ("CREATE FUNCTION f() RETURNS int RETURN 1; ALTER FUNCTION f() OWNER TO {0}", "owns function f()"),
        ("ALTER DATABASE {1} OWNER TO {0}", "may create in database {1}"),
        ("SELECT lo_create(4711); GRANT UPDATE ON LARGE OBJECT 4711 TO {0}", "may write to large object 4711"),
        ("GRANT ALTER SYSTEM ON PARAMETER work_mem TO {0}", "may set work_mem for all"),
    ],
)
def test_each_way_to_write_is_found(shop: Database, grant: str, expected: str) -> None:
    role = shop.reader.parts["user"]
    shop.run(grant.format(role, shop.name))
    try:
        found = ways(shop.reader)
        assert any(expected.format(role, shop.name) in way for way in found), found
        assert not any("PUBLIC" in way for way in found)
        assert guard.judge_role(found, "refuse").verdict is Verdict.FAIL
        assert guard.judge_role(found, "warn").verdict is Verdict.UNKNOWN
    finally:
        shop.run(f"REASSIGN OWNED BY {role} TO CURRENT_USER; REVOKE ALL ON PARAMETER work_mem FROM {role}")
        shop.run(f"ALTER DATABASE {shop.name} OWNER TO CURRENT_USER")


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "GRANT INSERT ON invoice TO PUBLIC",
        "GRANT UPDATE (amount) ON invoice TO PUBLIC",
        "GRANT CREATE ON DATABASE {0} TO PUBLIC",
        "CREATE SEQUENCE numbers; GRANT UPDATE ON SEQUENCE numbers TO PUBLIC",
        "SELECT lo_create(4712); GRANT UPDATE ON LARGE OBJECT 4712 TO PUBLIC",
    ],
)
def test_what_public_may_do_is_found_and_the_hint_says_that_another_role_would_not_help(
    shop: Database, grant: str
) -> None:
    shop.run(grant.format(shop.name))
    found = ways(shop.reader)
    assert len(found) == 1
    assert found[0].endswith("(granted to PUBLIC)")
    hint = guard.judge_role(found, "refuse").hint
    assert "REVOKE" in hint
    assert "give the drill a role" not in hint


@pytest.mark.parametrize("membership", ["", "WITH INHERIT FALSE", "WITH INHERIT FALSE, SET FALSE, ADMIN TRUE"])
def test_what_a_role_may_do_by_becoming_another_is_found(shop: Database, helper: str, membership: str) -> None:
    shop.run(f"GRANT INSERT ON invoice TO {helper}; GRANT {helper} TO {shop.reader.parts['user']} {membership}")
    found = ways(shop.reader)
    assert len(found) == 1
    assert found[0].startswith("may write to invoice")


def test_attributes_of_a_role_that_can_be_set_are_found_though_attributes_are_not_inherited(
    shop: Database, helper: str
) -> None:
    shop.run(f"ALTER ROLE {helper} SUPERUSER; GRANT {helper} TO {shop.reader.parts['user']}")
    assert f"is a superuser as {helper}" in ways(shop.reader)
    shop.run(f"ALTER ROLE {helper} NOSUPERUSER")


def test_a_session_that_only_plays_a_reader_is_judged_as_the_role_that_logged_in(shop: Database) -> None:
    played = Address({**shop.owner.parts, "options": f"-c role={shop.reader.parts['user']}"}, shop.owner.password)
    assert ways(played)[0] == f"is a superuser as {shop.owner.parts['user']}"


def test_temporary_tables_of_another_session_of_the_role_are_no_way_to_write(shop: Database) -> None:
    with session(shop.reader, name="x", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute("CREATE TEMP TABLE scratch (n int)")
        assert ways(shop.reader) == []


def test_many_ways_are_cut_and_counted(shop: Database) -> None:
    role = shop.reader.parts["user"]
    shop.run("".join(f"CREATE TABLE t{n} (n int); GRANT INSERT ON t{n} TO {role};" for n in range(30)))
    found = ways(shop.reader)
    assert len(found) == 20
    assert guard.judge_role(found, "refuse").found.endswith("and 15 more")


def test_servers_with_one_system_identifier_are_one_cluster(production: Cluster, staging: Cluster) -> None:
    told = []
    for cluster in (production, staging):
        address = cluster.address()
        with session(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            told.append(describe(connection, address))
    assert guard.judge_separation(*told).verdict is Verdict.PASS
    alias = told[0].model_copy(update={"address": "x@elsewhere:1/y"})
    assert guard.judge_separation(told[0], alias).verdict is Verdict.FAIL


def test_a_staging_server_of_another_major_version_is_refused_and_of_another_minor_is_not() -> None:
    minor = SERVER.model_copy(update={"version": "18.6"})
    major = SERVER.model_copy(update={"version": "17.2", "major": 17})
    assert guard.judge_versions(SERVER, minor).verdict is Verdict.PASS
    refused = guard.judge_versions(SERVER, major)
    assert (refused.verdict, refused.hint) == (Verdict.FAIL, "expected PostgreSQL 18 in staging, got 17")


@pytest.mark.parametrize(
    ("needed", "limit", "fits"),
    [
        (2200.0, None, True),
        (0.0, None, True),
        (2200.0, 2200, True),
        (2200.0, 2199, False),
        (1e15, None, False),
        (2.2e15, 10**16, False),
    ],
)
def test_room_is_what_backup_and_copy_need_against_what_is_free_or_allowed(
    tmp_path: Path, needed: float, limit: int | None, *, fits: bool
) -> None:
    room = guard.measure_room(tmp_path / "not" / "yet", needed, limit)
    assert room.needed == int(needed)
    assert guard.judge_room(room).verdict is (Verdict.PASS if fits else Verdict.FAIL)
    assert not (tmp_path / "not").exists()


def as_nobody(question: Callable[[], bool]) -> bool:
    """The answer of an ordinary user; root may do everything."""
    if os.geteuid() != 0:
        return question()
    child = os.fork()
    if child == 0:
        answer = 2
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            answer = int(question())
        finally:
            os._exit(answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 1}
    return code == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_an_evidence_folder_that_this_account_cannot_write_to_is_refused(home: Path, mode: int) -> None:
    place = home.parent / "kept"
    place.mkdir()
    (place / "inside").mkdir()
    place.chmod(mode if os.geteuid() == 0 else mode & 0o555)

    def refused() -> bool:
        return guard.judge_evidence(place / "inside" / "evidence").verdict is Verdict.FAIL

    assert as_nobody(refused)
    place.chmod(0o777)
    (place / "inside").chmod(0o777)
    assert not as_nobody(refused)


def test_a_file_or_a_dead_link_in_place_of_the_evidence_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "file/below", "link/below"):
        found = guard.judge_evidence(tmp_path / name)
        assert (found.verdict, found.found.split(" ", 1)[1]) == (Verdict.FAIL, "is not a folder")
    assert guard.judge_evidence(tmp_path / "new" / "folder").verdict is Verdict.PASS
    assert not (tmp_path / "new").exists()


def test_a_drill_of_another_role_at_the_same_database_is_seen_and_our_own_sessions_are_not(shop: Database) -> None:
    def seen(name: str) -> list[str]:
        with session(shop.reader, name=name, access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
            return guard.other_drills(connection)

    elsewhere = shop.owner.to("postgres")
    limits = STAGING_LIMITS
    with (
        session(shop.owner, name="drillbook/DR-1", access=Access.READ_ONLY, limits=limits),
        session(shop.owner, name="drillbook demo", access=Access.READ_ONLY, limits=limits),
        session(elsewhere, name="drillbook/DR-9", access=Access.READ_ONLY, limits=limits),
    ):
        assert seen("drillbook/DR-2") == ["DR-1"]
        assert seen("drillbook/DR-1") == []
    assert guard.judge_solitude("DR-2", ["DR-1"]).verdict is Verdict.FAIL
    assert guard.judge_solitude("DR-2", ["DR-2", ""]).verdict is Verdict.PASS


def test_a_refusal_gives_every_reason_at_once_and_doubts_are_none() -> None:
    findings = [
        Finding(name=name, verdict=verdict, found=f"found {name}", hint=f"mend {name}")
        for name, verdict in (
            ("one", Verdict.FAIL),
            ("two", Verdict.UNKNOWN),
            ("three", Verdict.FAIL),
            ("four", Verdict.PASS),
        )
    ]
    with pytest.raises(GuardError) as refused:
        guard.refuse_if_any(findings)
    assert refused.value.message == "one: found one; three: found three"
    assert refused.value.hint == "mend one; mend three"
    guard.refuse_if_any(findings[1::2])
