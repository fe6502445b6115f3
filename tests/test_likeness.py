"""Whether a difference between production and staging that would hurt a copy is found, and no other is made up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, end_cluster

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.extensions import extensions_of
from drills.likeness import facts
from drills.likeness.beforehand import judge_extensions
from drills.likeness.facts import Collation, Likeness, extensions_on, look_at_likeness
from drills.likeness.rules import judge_likeness
from drills.records import Finding, Verdict
from drills.sessions import STAGING_LIMITS, Access, connect, session
from drills.tools import Tools, embedded_tools

INSTALLATIONS = [
    "embedded",
    pytest.param("debian", marks=pytest.mark.skipif(not DEBIAN.exists(), reason="there is no PostgreSQL of Debian")),
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
    assert source.collations[0].recorded == "1.0-other"
    own = judge_likeness(source, source, physical=True)
    assert named(own, "collation of the database").verdict is Verdict.FAIL
    assert "REINDEX" in named(own, "collation of the database").hint
    logical = judge_likeness(source, source, physical=False)
    assert named(logical, "collation of the database").verdict is Verdict.PASS
    run(server.address(), "DROP DATABASE sorted")


def test_before_15_a_physical_copy_s_own_collation_is_unknown_unless_it_sorts_by_bytes(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_DEFAULT_SINCE", 1_000_000)
    run(server.address(), "CREATE DATABASE older TEMPLATE template0 LOCALE 'C.UTF-8'")
    run(server.address(), "CREATE DATABASE bytes TEMPLATE template0 LOCALE 'C'")
    run(
        server.address("older"),
        "CREATE COLLATION used (locale = 'C.UTF-8'); CREATE TABLE word (said text COLLATE used)",
    )
    older, by_bytes = look(server.address("older")), look(server.address("bytes"))
    own = judge_likeness(older, older, physical=True)
    assert named(own, "collation of the database").verdict is Verdict.UNKNOWN
    assert named(own, "collation public.used").verdict is Verdict.PASS
    for found, physical in ((older, False), (by_bytes, True), (by_bytes, False)):
        findings = judge_likeness(found, found, physical=physical)
        assert {finding.verdict for finding in findings} == {Verdict.PASS}, findings
    run(server.address(), "DROP DATABASE older")
    run(server.address(), "DROP DATABASE bytes")


def test_another_provider_or_locale_of_icu_or_of_the_builtin_one_is_found(server: Cluster) -> None:
    source = look(server.address())
    libc = Collation(name="", locale="C.UTF-8", recorded="1", actual="1")
    icu = libc.model_copy(update={"provider": "i", "special": "en-US"})
    others = [libc, *(icu.model_copy(update=told) for told in ({"special": "sv-SE"}, {"rules": "&a < b"}))]
    others += [libc.model_copy(update={"provider": "b", "special": "C.UTF-8"}), icu.model_copy(update={"ctype": "C"})]
    for other in others:
        there, here = (source.model_copy(update={"collations": (one,)}) for one in (icu, other))
        finding = named(judge_likeness(there, here, physical=False), "collation of the database")
        assert finding.verdict is Verdict.FAIL
        assert "source ICU en-US with LC_COLLATE C.UTF-8, copy " in finding.found
        assert named(judge_likeness(there, there, physical=True), "collation of the").verdict is Verdict.PASS


def test_another_provider_is_found_on_real_databases(server: Cluster) -> None:
    if server.tools.major < 17:
        choice = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
    else:
        choice = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8'"
    run(server.address(), "CREATE DATABASE plainly TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
    run(server.address(), f"CREATE DATABASE special TEMPLATE template0 ENCODING 'UTF8' {choice}")
    source, copy = look(server.address("special")), look(server.address("plainly"))
    finding = named(judge_likeness(source, copy, physical=False), "collation of the database")
    assert finding.verdict is Verdict.FAIL
    assert finding.found.endswith("with LC_COLLATE C.UTF-8, copy C.UTF-8")
    assert named(judge_likeness(source, source, physical=True), "collation of the database").verdict is Verdict.PASS
    run(server.address(), "DROP DATABASE plainly")
    run(server.address(), "DROP DATABASE special")


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
