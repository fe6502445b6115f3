"""Dumps that somebody else made: sound ones are restored whole, and those that are not are FAIL, errors, or refused."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fix_postgres import SHOP, Database, drop_database, new_database, run_sql

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.errors import ToolError
from drills.measures import Scan
from drills.plan_given import GivenDump as Wish
from drills.processes import plain_environment
from drills.records import Surroundings, Verdict
from drills.recovery.base import Restore, Taken, Workspace
from drills.recovery.dump import digest_folder
from drills.recovery.given_dump import GivenDump, judge_age
from drills.recovery.plain_sql import PlainSql
from drills.sessions import STAGING_LIMITS, Access, describe, session
from drills.staging import look_at_surroundings, prepare_cluster
from drills.tools import Tools, embedded_tools

MORE = r"""
CREATE TABLE odd ("a;b" text, "COPY x FROM" text);
INSERT INTO odd VALUES (E'\\.', 'x'), (E'a\nb\\', $$it's$$), ('\! id', '--'), ('E''\''', '/*'), (NULL, '');
CREATE FUNCTION said() RETURNS text LANGUAGE sql AS $f$ SELECT '\connect'::text /* ' */ -- "
$f$;
COMMENT ON FUNCTION said() IS E'it''s \\ here; COPY x TO PROGRAM ''y''';
"""
FORMS = {
    "custom": ["--format=custom"],
    "tar": ["--format=tar"],
    "plain": ["--format=plain"],
    "plain, of its own making": ["--format=plain", "--create"],
    "plain, of inserts": ["--format=plain", "--inserts"],
    "directory": ["--format=directory"],
}
COUNTS = "SELECT (SELECT count(*) FROM customer), (SELECT sum(amount) FROM invoice), (SELECT count(*) FROM odd)"


def dump(database: Database, file: Path, how: list[str], tools: Tools | None = None) -> Path:
    """What pg_dump makes of it."""
    command = [(tools or embedded_tools()).program("pg_dump"), *how, f"--file={file}"]
    subprocess.run(command, env=plain_environment(database.owner.environment()), check=True, timeout=60)
    return file


@pytest.fixture
def sold(production: Cluster) -> Iterator[Database]:
    """The shop, with values in it that read like something else."""
    database = new_database(production, SHOP + MORE)
    yield database
    drop_database(database)


class Bench:
    """A place to pick and restore in."""

    def __init__(self, folder: Path, source: Database) -> None:
        self.folder, self.source = folder, source
        self.copies = 0

    def workspace(self) -> Workspace:
        """A new one."""
        self.copies += 1
        logs = self.folder / f"raw-{self.copies}"
        logs.mkdir()
        return Workspace(
            self.folder / f"dump-{self.copies}", logs, embedded_tools(), "drillbook/test", lambda *_told: None
        )

    def pick(self, path: Path | str, **more: object) -> tuple[GivenDump, Taken, Workspace]:
        """What is found there."""
        wish = Wish.model_validate({"method": "dump_file", "path": str(path), **more})
        method, workspace = GivenDump(wish, self.source.name), self.workspace()
        return method, method.pick(workspace), workspace

    @contextmanager
    def target(self) -> Iterator[tuple[Address, Surroundings]]:
        """A server of the drill's own."""
        cluster = make_cluster(self.folder / f"cluster-{self.copies}", embedded_tools())
        try:
            with session(self.source.owner, name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
                around, server = look_at_surroundings(connection), describe(connection, self.source.owner)
            yield prepare_cluster(cluster, server, around, "drillbook/test"), around
        finally:
            cluster.destroy()

    def restore(self, path: Path | str, **more: object) -> tuple[Taken, Restore, list[tuple[object, ...]]]:
        """Picked, restored on a server of the drill's own, and counted."""
        method, taken, workspace = self.pick(path, **more)
        with self.target() as (target, around):
            backup = taken.backup.model_copy(update={"surroundings": around})
            done = method.restore(backup, target, owned=True, workspace=workspace)
            found = run_sql(target.to(self.source.name), COUNTS) if done.log.verdict is not Verdict.FAIL else []
        return taken, done, found


@pytest.fixture
def bench(home: Path, sold: Database) -> Bench:
    return Bench(home.parent, sold)


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_dump_of_each_format_is_restored_whole(bench: Bench, form: str) -> None:
    path = dump(bench.source, bench.folder / "the dump", FORMS[form])
    taken, done, found = bench.restore(path)
    assert (taken.log.verdict, done.log.verdict) == (Verdict.PASS, Verdict.PASS), (taken.log, done.log)
    assert found == bench.source.run(COUNTS)
    assert taken.backup.method == "dump_file"
    assert taken.backup.taken is not None
    assert abs(datetime.now(UTC) - taken.backup.taken) < timedelta(minutes=5)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "directory"])
def test_a_dump_that_is_compressed_as_a_whole_is_restored_whole(bench: Bench, form: str) -> None:
    path = dump(bench.source, bench.folder / "plain", FORMS[form])
    packed = bench.folder / "packed"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    taken, done, found = bench.restore(packed)
    assert (taken.log.verdict, done.log.verdict) == (Verdict.PASS, Verdict.PASS), (taken.log, done.log)
    assert found == bench.source.run(COUNTS)
    assert taken.backup.details["format"].endswith(", gzip")


@pytest.mark.parametrize("form", ["plain", "plain, of its own making", "plain, of inserts"])
def test_a_plain_dump_that_is_cut_anywhere_is_a_fail_before_anything_is_restored(bench: Bench, form: str) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS[form]).read_bytes()
    cut = bench.folder / "cut"
    mark = whole.rindex(b"-- PostgreSQL database dump complete")
    for size in [*range(200, mark, len(whole) // 15), mark, mark + 20, whole.rindex(b"\\unrestrict"), len(whole) - 30]:
        cut.write_bytes(whole[:size])
        _, taken, _ = bench.pick(cut)
        assert taken.log.verdict is Verdict.FAIL, size


def test_a_plain_dump_cut_within_rows_loads_with_code_0_and_is_a_fail(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["plain"]).read_bytes()
    cut = bench.folder / "cut"
    cut.write_bytes(whole[: whole.index(b"\n", whole.index(b"COPY public.invoice") + 800) + 1])
    taken, done, _ = bench.restore(cut)
    assert "rows of public.invoice" in taken.log.reason
    assert done.log.verdict is Verdict.FAIL
    assert "psql ended with 0, but the dump is not whole" in done.log.reason


@pytest.mark.parametrize("form", ["custom", "tar", "plain"])
def test_a_compression_that_is_cut_is_a_fail(bench: Bench, form: str) -> None:
    packed = gzip.compress(dump(bench.source, bench.folder / "whole", FORMS[form]).read_bytes())
    cut = bench.folder / "cut"
    for size in (40, len(packed) // 2, len(packed) - 4):
        cut.write_bytes(packed[:size])
        _, taken, _ = bench.pick(cut)
        assert taken.log.verdict is Verdict.FAIL, size
        assert "compression is broken" in taken.log.reason


def test_a_custom_dump_that_is_cut_is_a_fail(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["custom"]).read_bytes()
    cut = bench.folder / "cut"
    cut.write_bytes(whole[:300])
    assert bench.pick(cut)[1].log.verdict is Verdict.FAIL
    cut.write_bytes(whole[:-100])
    assert bench.restore(cut)[1].log.verdict is Verdict.FAIL


def test_a_tar_that_is_cut_or_lacks_a_file_is_a_fail(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["tar"])
    cut = bench.folder / "cut"
    data = whole.read_bytes()
    for size in (5632, len(data) // 2, len(data) - 1024):
        cut.write_bytes(data[:size])
        assert bench.pick(cut)[1].log.verdict is Verdict.FAIL, size
    with tarfile.open(whole) as old, tarfile.open(cut, "w", format=tarfile.USTAR_FORMAT) as new:
        members = old.getmembers()
        for member in members:
            if member is not members[2]:
                new.addfile(member, old.extractfile(member))
    _, taken, _ = bench.pick(cut)
    assert taken.log.verdict is Verdict.FAIL
    assert members[2].name in taken.log.reason


def test_a_directory_that_lacks_a_file_is_a_fail(bench: Bench) -> None:
    folder = dump(bench.source, bench.folder / "folder", FORMS["directory"])
    next(path for path in folder.iterdir() if path.name != "toc.dat").unlink()
    assert bench.pick(folder)[1].log.verdict is Verdict.FAIL


@pytest.mark.parametrize("form", ["custom", "directory", "plain"])
def test_another_dump_than_the_plan_names_is_an_error(bench: Bench, form: str) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS[form])
    digest = bench.pick(path)[1].backup.digest
    if form == "directory":
        assert digest == digest_folder(path)[2]
    assert bench.pick(path, sha256=digest)[1].log.verdict is Verdict.PASS
    with pytest.raises(ToolError, match=r"not the one that the plan names"):
        bench.pick(path, sha256="0" * 64)


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_dump_that_changes_between_picking_and_restoring_is_an_error(bench: Bench, form: str) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS[form])
    method, taken, workspace = bench.pick(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"customer 1", b"customer X") if form == "plain" else data[:-1] + b"?")
    with bench.target() as (target, around):
        backup = taken.backup.model_copy(update={"surroundings": around})
        with pytest.raises(ToolError, match="changed after it was picked"):
            method.restore(backup, target, owned=True, workspace=workspace)


HARM = {
    "a shell": b"\\! touch /tmp/x\n",
    "a shell behind a statement": b"SELECT 1 \\! touch /tmp/x\n",
    "a file": b"\\i /etc/passwd\n",
    "another host": b'\\connect "host=elsewhere dbname=x"\n',
    "a copy by psql": b"\\copy customer from program 'id'\n",
    "a copy by the server": b"COPY customer FROM PROGRAM 'id';\n",
    "a copy of a file": b"COPY customer TO '/tmp/x';\n",
    "a variable": b"\\set x `id`\n",
    "one behind a string": b"SELECT E'\\'' \\! id\n",
    "a copy behind a comment": b"/* x */ COPY customer FROM PROGRAM 'id';\n",
    "one that ends the restriction": b"\\unrestrict abc\n",
}


@pytest.mark.parametrize("harm", HARM)
def test_a_plain_dump_that_orders_something_is_refused(bench: Bench, harm: str) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["plain"]).read_bytes()
    bad = bench.folder / "bad"
    place = whole.index(b"CREATE TABLE")
    bad.write_bytes(whole[:place] + HARM[harm] + whole[place:])
    with pytest.raises(ToolError, match=r"a command for psql|a COPY that reads|end is not certain"):
        bench.pick(bad)


def test_what_hides_from_the_reader_does_not_get_past_psql(bench: Bench) -> None:
    """The reader takes a COPY between brackets for one; psql goes on with its statement, and finds a command."""
    whole = dump(bench.source, bench.folder / "whole", FORMS["plain"])
    text = whole.read_bytes()
    place, trace = text.index(b"CREATE TABLE"), bench.folder / "trace"
    hidden = f"SELECT (1; COPY customer FROM stdin;\n\\! touch {trace}\n\\.\n".encode()
    whole.write_bytes(text[:place] + hidden + text[place:])
    _, done, _ = bench.restore(whole)
    assert done.log.verdict is Verdict.FAIL
    assert "restricted" in done.log.reason
    assert not trace.exists()


def test_a_psql_that_cannot_be_restricted_is_given_no_plain_dump(bench: Bench) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS["plain"])
    method, _, workspace = bench.pick(path)
    old = replace(workspace, tools=Tools(workspace.tools.folder, "17.5", 17), backup=bench.folder / "old")
    with pytest.raises(ToolError, match=r"expected .*17\.6"):
        method.pick(old)


def test_what_is_read_in_pieces_of_any_size_is_read_the_same(bench: Bench) -> None:
    for form in ("plain", "plain, of its own making", "plain, of inserts"):
        whole = dump(bench.source, bench.folder / form, FORMS[form]).read_bytes()
        texts = set()
        for size in (1, 2, 3, 7, 64, 1000, 10**6):
            look = PlainSql(connect=lambda line: line)
            pieces = [piece for at in range(0, len(whole), size) for piece in look.feed(whole[at : at + size])]
            texts.add(b"".join([*pieces, *look.finish()]))
            assert look.missing() == "", (form, size)
        assert len(texts) == 1, form


def test_a_dump_of_a_cluster_is_refused_with_a_hint(bench: Bench) -> None:
    file = bench.folder / "all"
    tool = str(embedded_tools().folder / "pg_dumpall")
    environment = plain_environment(bench.source.owner.environment())
    subprocess.run([tool, f"--file={file}", "--roles-only"], env=environment, check=True, timeout=60)
    with pytest.raises(ToolError, match="a whole cluster"):
        bench.pick(file)


def test_what_is_no_dump_is_refused(bench: Bench) -> None:
    file = bench.folder / "file"
    for content in (b"", b"\x00\x01\x02", b"\x28\xb5\x2f\xfdxyz"):
        file.write_bytes(content)
        with pytest.raises(ToolError, match=r"empty|no dump|compressed by zstd"):
            bench.pick(file)
    with pytest.raises(ToolError, match="cannot be read"):
        bench.pick(bench.folder / "not there")


@pytest.mark.parametrize("form", ["custom", "plain", "plain, of its own making"])
def test_roles_that_are_gone_and_another_name_are_no_hindrance(bench: Bench, form: str) -> None:
    bench.source.run('CREATE ROLE "Old one"; ALTER TABLE note OWNER TO "Old one"; GRANT SELECT ON odd TO "Old one"')
    path = dump(bench.source, bench.folder / "dump", FORMS[form])
    bench.source.run('REASSIGN OWNED BY "Old one" TO drillbook; DROP OWNED BY "Old one"; DROP ROLE "Old one"')
    old = bench.source.name
    run_sql(bench.source.owner.to("postgres"), f"ALTER DATABASE {old} RENAME TO {old}_new")
    try:
        bench.source = Database(bench.source.owner.to(f"{old}_new"), bench.source.reader)
        _, done, found = bench.restore(path)
    finally:
        run_sql(bench.source.owner.to("postgres"), f"ALTER DATABASE {old}_new RENAME TO {old}")
    assert done.log.verdict is Verdict.PASS, done.log
    assert found
    assert any("Old one" in deviation for deviation in done.deviations)


def test_a_tablespace_of_production_is_left_out(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["plain"])
    text = whole.read_bytes()
    assert b"SET default_tablespace = '';" in text
    whole.write_bytes(text.replace(b"SET default_tablespace = '';", b"SET default_tablespace = fast;"))
    assert bench.restore(whole)[1].log.verdict is Verdict.PASS


def test_the_first_error_of_psql_is_a_fail(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["plain"])
    whole.write_bytes(whole.read_bytes().replace(b"COPY public.odd", b"COPY public.none"))
    _, done, _ = bench.restore(whole)
    assert done.log.verdict is Verdict.FAIL
    assert 'relation "public.none" does not exist' in done.log.reason


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_staging_server_that_is_there_gets_neither_owners_nor_another_database(
    bench: Bench, staging: Cluster, form: str
) -> None:
    path = dump(bench.source, bench.folder / "dump", [*FORMS[form], "--no-owner", "--no-privileges"])
    method, taken, workspace = bench.pick(path)
    run_sql(staging.address(), f"CREATE DATABASE {bench.source.name}")
    target = staging.address(bench.source.name)
    try:
        done = method.restore(taken.backup, target, owned=False, workspace=workspace)
        assert done.log.verdict is Verdict.PASS, done.log
        assert run_sql(target, COUNTS) == bench.source.run(COUNTS)
        _, created, _ = bench.pick(dump(bench.source, bench.folder / "c", FORMS["plain, of its own making"]))
        with pytest.raises(ToolError, match="makes the database"):
            method.restore(created.backup, target, owned=False, workspace=workspace)
    finally:
        run_sql(staging.address(), f"DROP DATABASE {bench.source.name} WITH (FORCE)")


def test_the_age_is_told_and_too_old_is_a_fail(bench: Bench) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS["plain"])
    old = datetime.now(UTC) - timedelta(hours=30)
    os.utime(path, (old.timestamp(), old.timestamp()))
    backup = bench.pick(path)[1].backup
    now = datetime.now(UTC)
    assert "time of the file" in backup.details["taken"]
    assert judge_age(backup, 26 * 3600, now).verdict is Verdict.FAIL
    assert judge_age(backup, 40 * 3600, now).verdict is Verdict.PASS
    assert judge_age(backup.model_copy(update={"taken": None}), 40 * 3600, now).verdict is Verdict.UNKNOWN


def test_a_time_zone_that_cannot_be_right_is_noticed(bench: Bench) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS["custom"])
    _, taken, _ = bench.pick(path, time_zone="America/New_York")
    assert taken.log.verdict is Verdict.UNKNOWN
    assert "time_zone" in taken.log.reason


def test_rows_can_be_had_of_an_archive_and_not_of_a_plain_dump(bench: Bench) -> None:
    scan = Scan.model_construct(namespace="public", name="customer")  # type: ignore[call-arg]
    packed = bench.folder / "packed"
    packed.write_bytes(gzip.compress(dump(bench.source, bench.folder / "a", FORMS["custom"]).read_bytes()))
    method, _, workspace = bench.pick(packed)
    with method.rows_of(scan, (), workspace=workspace) as rows:
        assert b"".join(rows.chunks).count(b"\n") == 20
    method, _, workspace = bench.pick(dump(bench.source, bench.folder / "b", FORMS["plain"]))
    with pytest.raises(ToolError, match="no rows of one table"):
        method.rows_of(scan, (), workspace=workspace)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, bytes], dict[str, str]]]:
    """A bucket with versions, as moto plays it."""
    moto = pytest.importorskip("moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with moto.mock_aws():
        import boto3  # noqa: PLC0415 - under moto only

        client = boto3.client("s3")
        client.create_bucket(Bucket="backups")
        client.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Enabled"})
        yield lambda key, body: client.put_object(Bucket="backups", Key=key, Body=body)


@pytest.mark.parametrize("form", ["custom", "tar", "plain"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_dump_in_s3_is_restored_and_its_version_is_told(
    bench: Bench, bucket: Callable[[str, bytes], dict[str, str]], form: str, *, packed: bool
) -> None:
    data = dump(bench.source, bench.folder / "dump", FORMS[form]).read_bytes()
    data = gzip.compress(data) if packed else data
    put = bucket("a/b.dump", data)
    taken, done, found = bench.restore("s3://backups/a/b.dump")
    assert (taken.log.verdict, done.log.verdict) == (Verdict.PASS, Verdict.PASS), (taken.log, done.log)
    assert found == bench.source.run(COUNTS)
    assert taken.backup.details["version id"] == put["VersionId"]
    assert taken.backup.details["etag"] == put["ETag"].strip('"')
    assert taken.backup.size == len(data)


def test_of_several_in_s3_the_newest_is_taken_also_a_directory(
    bench: Bench, bucket: Callable[[str, bytes], dict[str, str]]
) -> None:
    bucket("a/1.dump", b"not this one")
    folder = dump(bench.source, bench.folder / "folder", FORMS["directory"])
    for path in folder.iterdir():
        bucket(f"a/2/{path.name}", path.read_bytes())
    for place, newest in (("s3://backups/a/", True), ("s3://backups/a/2/", False)):
        taken, done, found = bench.restore(place, newest=newest)
        assert done.log.verdict is Verdict.PASS, done.log
        assert found == bench.source.run(COUNTS)
        assert taken.backup.digest == digest_folder(folder)[2]


def test_what_is_not_in_s3_is_an_error_with_a_hint(
    bench: Bench, bucket: Callable[[str, bytes], dict[str, str]]
) -> None:
    for place in ("s3://backups/none", "s3://nowhere/none", "s3://backups/none/"):
        with pytest.raises(ToolError, match=r"S3 did not give|no dump below"):
            bench.pick(place)


def test_a_plan_says_what_can_be_meant() -> None:
    sound = {"method": "dump_file", "path": "/backups/x.dump"}
    assert Wish.model_validate(sound).path == "/backups/x.dump"
    for wrong in (
        {"path": "relative"}, {"path": "s3://"}, {"newest": True}, {"sha256": "abc"}, {"time_zone": "Mars/Base"},
        {"path": "s3://bucket/a", "newest": True, "sha256": "0" * 64}, {"unknown": 1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"path|newest|sha256|time zone|unknown"):
            Wish.model_validate({**sound, **wrong})
