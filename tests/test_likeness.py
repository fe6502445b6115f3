"""Whether a difference between production and staging that would hurt a copy is found, and no other is made up."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_postgres import QUICK, end_cluster

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.likeness import (
    Likeness,
    extensions_of,
    extensions_on,
    judge_extensions,
    judge_likeness,
    look_at_likeness,
)
from drills.records import Finding, Verdict
from drills.sessions import STAGING_LIMITS, Access, connect, session
from drills.tools import Tools, embedded_tools

DEBIAN = Path("/usr/lib/postgresql/15/bin")
INSTALLATIONS = [
    "embedded",
    pytest.param("debian", marks=pytest.mark.skipif(not DEBIAN.exists(), reason="there is no PostgreSQL 15")),
]


@pytest.fixture(scope="module", params=INSTALLATIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each installation."""
    place = Path(tempfile.mkdtemp(prefix="drillbook-likeness-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", embedded_tools() if request.param == "embedded" else Tools.at(DEBIAN))
    cluster.start(QUICK)
    yield cluster
    end_cluster(cluster)


def run(address: Address, statement: str) -> None:
    with connect(address, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute(statement.encode())


def look(address: Address) -> Likeness:
    with session(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return look_at_likeness(connection)


def named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name.startswith(name))


@pytest.mark.parametrize("physical", [False, True])
def test_a_server_is_like_itself(server: Cluster, *, physical: bool) -> None:
    found = look(server.address())
    assert found.architecture
    findings = judge_likeness(found, look(server.address()), physical=physical)
    assert {finding.verdict for finding in findings} == {Verdict.PASS}, findings
    assert Likeness.model_validate_json(found.model_dump_json()) == found


def test_extensions_are_found_the_same_in_files_and_by_the_server(server: Cluster) -> None:
    with session(server.address(), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        told = extensions_on(connection)
    files = extensions_of(server.tools)
    assert files is not None
    assert {name: versions for name, versions in files.items() if versions} == {
        name: versions for name, versions in told.items() if files.get(name)
    }
    assert "hstore" in files


def test_an_extension_that_staging_lacks_or_has_otherwise_is_a_fail_with_a_hint(server: Cluster) -> None:
    run(server.address(), "CREATE EXTENSION IF NOT EXISTS hstore")
    source = look(server.address())
    there = extensions_of(server.tools)
    assert there is not None
    assert {finding.verdict for finding in judge_extensions(source, there)} == {Verdict.PASS}
    older = source.model_copy(update={"extensions": {"hstore": "0.9", "post_gis": "3.4"}})
    for available in (there, extensions_on_it(server)):
        other, missing = judge_extensions(older, available)
        assert (other.verdict, missing.verdict) == (Verdict.FAIL, Verdict.FAIL)
        assert "other versions" in other.found
        assert f"postgresql-{source.major}-post-gis" in missing.hint
    assert judge_extensions(source, None)[0].verdict is Verdict.UNKNOWN


def extensions_on_it(server: Cluster) -> dict[str, frozenset[str]]:
    with session(server.address(), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return extensions_on(connection)


def test_an_extension_is_followed_over_its_updates_and_needs_its_library(tmp_path: Path) -> None:
    real = embedded_tools()
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    tools = Tools(home / "bin", real.version, real.major)
    assert extensions_of(tools) is None
    share = home / "share/extension"
    share.mkdir(parents=True)
    (share / "ledger.control").write_text("default_version = '1.2'\n")
    for script in ("ledger--1.0.sql", "ledger--1.0--1.1.sql", "ledger--1.1--1.2.sql", "ledger--2.0--2.1.sql"):
        (share / script).touch()
    (share / "native.control").write_text("default_version = '1'\nmodule_pathname = '$libdir/native'\n")
    (share / "native--1.sql").touch()
    assert extensions_of(tools) == {"ledger": frozenset({"1.0", "1.1", "1.2"}), "native": frozenset()}
    (home / "lib").mkdir()
    (home / "lib/native.so").touch()
    assert (extensions_of(tools) or {})["native"] == {"1"}
    shutil.rmtree(home)


def test_an_extension_that_the_copy_lacks_is_a_fail_and_another_version_unknown(server: Cluster) -> None:
    run(server.address(), "CREATE EXTENSION IF NOT EXISTS hstore")
    run(server.address(), "CREATE DATABASE bare TEMPLATE template0")
    source, copy = look(server.address()), look(server.address("bare"))
    assert named(judge_likeness(source, copy, physical=False), "extension hstore").verdict is Verdict.FAIL
    run(server.address("bare"), "CREATE EXTENSION hstore VERSION '1.4'")
    copy = look(server.address("bare"))
    assert named(judge_likeness(source, copy, physical=False), "extension hstore").verdict is Verdict.UNKNOWN
    run(server.address(), "DROP DATABASE bare")


def test_a_collation_library_of_another_version_hurts_a_physical_copy_only(server: Cluster) -> None:
    """Databases whose catalogue says that their indexes were built with another library."""
    run(server.address(), "CREATE DATABASE sorted TEMPLATE template0 LOCALE 'C.UTF-8'")
    address = server.address("sorted")
    run(address, "UPDATE pg_database SET datcollversion = '1.0-other' WHERE datname = 'sorted'")
    source = look(address)
    assert source.collations is not None
    assert source.collations[0].recorded == "1.0-other"
    own = judge_likeness(source, source, physical=True)
    assert named(own, "collation of the database").verdict is Verdict.FAIL
    assert "REINDEX" in named(own, "collation of the database").hint
    logical = judge_likeness(source, source, physical=False)
    assert named(logical, "collation of the database").verdict is Verdict.PASS
    run(server.address(), "DROP DATABASE sorted")


def test_a_collation_of_a_column_is_looked_at_and_one_that_nobody_uses_is_not(server: Cluster) -> None:
    run(server.address(), "CREATE DATABASE words TEMPLATE template0")
    address = server.address("words")
    run(address, "CREATE COLLATION public.used (locale = 'C.UTF-8'); CREATE COLLATION idle (locale = 'C.UTF-8')")
    run(address, "CREATE TABLE word (said text COLLATE public.used PRIMARY KEY)")
    run(address, "UPDATE pg_collation SET collversion = '0.1' WHERE collname IN ('used', 'idle')")
    findings = judge_likeness(look(address), look(address), physical=True)
    assert named(findings, "collation public.used").verdict is Verdict.FAIL
    assert not any("idle" in finding.name for finding in findings)
    bare = look(server.address())
    assert named(judge_likeness(look(address), bare, physical=False), "collation public.used").verdict is Verdict.FAIL
    run(server.address(), "DROP DATABASE words")


@pytest.mark.parametrize(
    ("what", "value", "name", "physical", "logical"),
    [
        ("major", 9, "major version", Verdict.FAIL, Verdict.FAIL),
        ("encoding", "LATIN1", "encoding", Verdict.FAIL, Verdict.FAIL),
        ("checksums", False, "page checksums", Verdict.FAIL, Verdict.FAIL),
        ("block_size", 4096, "block size", Verdict.FAIL, Verdict.PASS),
        ("wal_segment", 1 << 30, "WAL segment", Verdict.FAIL, Verdict.PASS),
        ("architecture", "aarch64", "architecture", Verdict.FAIL, Verdict.PASS),
        ("integer_datetimes", "off", "integer_datetimes", Verdict.FAIL, Verdict.FAIL),
        ("collations", None, "collations", Verdict.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_each_difference_is_a_result_of_its_own(
    server: Cluster, what: str, value: object, name: str, physical: Verdict, logical: Verdict
) -> None:
    source = look(server.address())
    copy = source.model_copy(update={what: value})
    assert named(judge_likeness(source, copy, physical=True), name).verdict is physical
    assert named(judge_likeness(source, copy, physical=False), name).verdict is logical


def test_a_copy_without_checksums_is_found_on_real_servers(server: Cluster) -> None:
    place = server.folder.parent / "bare"
    bare = make_cluster(place, server.tools, checksums=False)
    try:
        bare.start(QUICK)
        findings = judge_likeness(look(server.address()), look(bare.address()), physical=False)
        assert named(findings, "page checksums").verdict is Verdict.FAIL
        findings = judge_likeness(look(bare.address()), look(server.address()), physical=False)
        assert named(findings, "page checksums").verdict is Verdict.PASS
    finally:
        bare.destroy()


def test_another_encoding_is_found_on_real_databases(server: Cluster) -> None:
    run(server.address(), "CREATE DATABASE old TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    findings = judge_likeness(look(server.address()), look(server.address("old")), physical=False)
    assert named(findings, "encoding").verdict is Verdict.FAIL
    run(server.address(), "DROP DATABASE old")
