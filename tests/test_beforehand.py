"""What a copy would lack is told before the backup, and nothing else is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_debian import DEBIAN
from fix_postgres import QUICK, Database, drop_database, end_cluster, new_cluster, new_database, run_sql
from test_drill import nothing_is_left, result_of, run_drill

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.likeness.beforehand import judge_own, judge_preloaded, judge_staging
from drills.likeness.facts import Likeness, look_at_likeness
from drills.record import Record
from drills.records import Finding, Outcome, Verdict
from drills.sessions import STAGING_LIMITS, Access, session
from drills.tools import Tools, embedded_tools

NOWHERE = "xx_XX.UTF-8"
WORDS = """
CREATE COLLATION used (locale = 'C.UTF-8');
CREATE TABLE word (said text COLLATE used PRIMARY KEY);
INSERT INTO word VALUES ('one'), ('two');
"""


def look(address: Address) -> Likeness:
    with session(address, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return look_at_likeness(connection)


def asked(source: Likeness, staging: Address) -> list[Finding]:
    with session(staging, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return judge_staging(source, connection)


def verdicts(findings: list[Finding], name: str = "") -> set[Verdict]:
    return {finding.verdict for finding in findings if name in finding.name}


def foreseen(record: Record, name: str) -> list[Finding]:
    return [finding for finding in record.findings if finding.name.startswith(f"foreseen: {name}")]


@pytest.fixture
def words(production: Cluster) -> Iterator[Database]:
    """A database with a collation of its own."""
    database = new_database(production, WORDS)
    yield database
    drop_database(database)


def test_a_source_that_staging_or_this_machine_is_like_gives_no_doubt(words: Database, staging: Cluster) -> None:
    source = look(words.owner)
    findings = asked(source, staging.address())
    assert verdicts(findings) == {Verdict.PASS}, findings
    names = {finding.name for finding in findings}
    assert {"foreseen: page checksums of the copy", "foreseen: collation public.used in the copy"} <= names
    for physical in (False, True):
        findings = judge_own(source, embedded_tools(), physical=physical)
        assert len(findings) == 3  # plpgsql, and two collations
        assert verdicts(findings) == {Verdict.PASS}, findings


@pytest.mark.parametrize(
    ("lack", "name"),
    [
        ("UPDATE pg_collation SET collcollate = '{0}' WHERE collname = 'used'", "public.used"),
        ("UPDATE pg_collation SET collctype = '{0}' WHERE collname = 'used'", "public.used"),
        ("UPDATE pg_database SET datctype = '{0}' WHERE datname = '{1}'", "of the database"),
    ],
)
def test_a_locale_that_is_not_there_is_found_without_making_anything(
    words: Database, staging: Cluster, lack: str, name: str
) -> None:
    with session(words.owner, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as connection:
        connection.execute(lack.format(NOWHERE, words.name).encode())
        source = look_at_likeness(connection)
    for findings in (
        asked(source, staging.address()),
        judge_own(source, embedded_tools(), physical=False),
        judge_own(source, embedded_tools(), physical=True),
    ):
        against = [finding for finding in findings if finding.verdict is not Verdict.PASS]
        assert [(one.name, one.verdict) for one in against] == [
            (f"foreseen: collation {name} in the copy", Verdict.FAIL)
        ]
        assert NOWHERE in against[0].found
        assert "install the locale" in against[0].hint


def test_a_library_of_another_version_is_told_where_pages_come_along_and_is_no_reason_to_refuse(
    words: Database, staging: Cluster
) -> None:
    words.run("UPDATE pg_collation SET collversion = '2.0' WHERE collname = 'used'")
    source = look(words.owner)
    (found,) = (one for one in judge_own(source, embedded_tools(), physical=True) if "public.used" in one.name)
    assert (found.verdict, "source 2.0" in found.found, "REINDEX" in found.hint) == (Verdict.UNKNOWN, True, True)
    older = [one.model_copy(update={"actual": "2.0"}) if one.name else one for one in source.collations]
    elsewhere = source.model_copy(update={"collations": tuple(older)})
    for findings in (judge_own(elsewhere, embedded_tools(), physical=False), asked(elsewhere, staging.address())):
        (found,) = (one for one in findings if "public.used" in one.name)
        assert found.verdict is Verdict.PASS
        assert "indexes were built with its own library" in found.found


@pytest.mark.skipif(not DEBIAN.exists(), reason="there is no PostgreSQL of Debian")
def test_a_build_without_icu_is_told_from_one_with_it(staging: Cluster) -> None:
    place = Path(tempfile.mkdtemp(prefix="drillbook-beforehand-"))
    place.chmod(0o755)
    cluster = make_cluster(place / "cluster", Tools.at(DEBIAN))
    try:
        cluster.start(QUICK)
        run_sql(cluster.address(), 'CREATE TABLE word (said text COLLATE "sv-SE-x-icu")')
        run_sql(cluster.address(), "CREATE COLLATION icu (provider = icu, locale = 'de-DE')")
        run_sql(cluster.address(), "CREATE TABLE wort (said text COLLATE icu)")
        source, name = look(cluster.address()), "foreseen: collation p"
        assert verdicts(asked(source, cluster.address()), name) == {Verdict.PASS}
        assert verdicts(asked(source, staging.address()), name) == {Verdict.FAIL}
        run_sql(cluster.address("template1"), 'DROP COLLATION pg_catalog."sv-SE-x-icu"')
        (lacked,) = (one for one in asked(source, cluster.address("template1")) if one.verdict is Verdict.FAIL)
        assert lacked.name == 'foreseen: collation pg_catalog."sv-SE-x-icu" in the copy'
        assert verdicts(judge_own(source, Tools.at(DEBIAN), physical=False), name) == {Verdict.PASS}
        # Which version of ICU a server is built with, it says itself.
        assert verdicts(judge_own(source, Tools.at(DEBIAN), physical=True), name) == set()
        for physical in (False, True):
            assert verdicts(judge_own(source, embedded_tools(), physical=physical), name) == {Verdict.FAIL}
    finally:
        end_cluster(cluster)


def test_libraries_that_the_copy_s_server_does_not_preload_are_told_and_those_that_only_watch_are_sound(
    shop: Database,
) -> None:
    cluster = new_cluster(QUICK)
    try:
        cluster.stop()
        cluster.held = {"shared_preload_libraries": 'pg_stat_statements, "$libdir/hstore.so",auto_explain'}
        cluster.start(QUICK)
        run_sql(cluster.address(), "CREATE ROLE reader LOGIN PASSWORD 'reads-all'")
        reader = Address({**cluster.address().parts, "user": "reader"}, "reads-all")
        assert look(reader).preloaded is None
        run_sql(cluster.address(), "GRANT pg_read_all_settings TO reader")
        source = look(reader)
        assert source.preloaded == ("pg_stat_statements", "hstore", "auto_explain")
        assert look(shop.owner).preloaded == ()
        findings = judge_own(source, embedded_tools(), physical=True)
        assert verdicts(findings, "library pg_stat_statements") == {Verdict.PASS}
        (doubt,) = (finding for finding in findings if finding.verdict is not Verdict.PASS)
        assert (doubt.name, doubt.verdict) == ("preloaded library hstore", Verdict.UNKNOWN)
        assert "`staging.address`" in doubt.hint
        assert asked(look(shop.owner), cluster.address())[-1].name.startswith("foreseen")
        assert not verdicts(asked(source, cluster.address()), "preloaded")
        assert verdicts(asked(source, shop.owner), "preloaded") == {Verdict.PASS, Verdict.UNKNOWN}
    finally:
        end_cluster(cluster)


def test_what_a_dump_makes_anew_may_need_its_library_and_what_cannot_be_read_is_told_by_the_extensions(
    shop: Database,
) -> None:
    plain = look(shop.owner)
    jobs = plain.model_copy(update={"preloaded": ("pg_cron",), "extensions": {"pg_cron": "1.6"}})
    assert verdicts(judge_preloaded(jobs, (), physical=True)) == {Verdict.PASS}
    assert verdicts(judge_preloaded(jobs, (), physical=False)) == {Verdict.UNKNOWN}
    assert verdicts(judge_preloaded(jobs.model_copy(update={"extensions": {}}), (), physical=False)) == {Verdict.PASS}
    hidden = plain.model_copy(update={"preloaded": None, "extensions": {"timescaledb": "2.17", "hstore": "1.8"}})
    assert [finding.name for finding in judge_preloaded(hidden, (), physical=True)] == ["preloaded library timescaledb"]
    assert judge_preloaded(hidden, None, physical=False) == []


def test_a_staging_server_that_would_fail_the_copy_is_refused_before_the_backup(
    home: Path, shop: Database, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = make_cluster(cluster.folder.parent / "bare", cluster.tools, checksums=False)
    try:
        bare.start(QUICK)
        monkeypatch.setenv("STAGING_PASSWORD", bare.password)
        where = {"address": shop.url(bare.address()), "password": "env:STAGING_PASSWORD"}
        record = run_drill(home, shop.plan(staging=where))
    finally:
        bare.destroy()
    assert record.outcome is Outcome.REFUSED
    assert record.backup is None
    assert record.reasons[0].endswith("foreseen: page checksums of the copy: source on, copy off"), record.reasons
    nothing_is_left(home, record)


def test_a_physical_drill_tells_of_another_library_beforehand_and_finds_it_in_the_copy(
    home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = new_database(cluster, WORDS)
    shop.run("UPDATE pg_collation SET collversion = '2.0' WHERE collname = 'used'")
    shop.run(f"ALTER ROLE {shop.reader.parts['user']} REPLICATION")
    for key, value in shop.environment.items():
        monkeypatch.setenv(key, value)
    record = run_drill(
        home, shop.plan(recovery={"method": "basebackup"}, checks={}, negative_control={"enabled": False})
    )
    (told,) = foreseen(record, "collation public.used")
    assert told.verdict is Verdict.UNKNOWN
    assert record.copy_of_it is not None
    assert result_of(record, "collation public.used in the copy").verdict is Verdict.FAIL
    nothing_is_left(home, record)
