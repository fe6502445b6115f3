"""Dumps that somebody else made: sound ones are restored whole, and those that are not are FAIL, errors, or refused."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
from fix_postgres import SHOP, Database, drop_database, new_database, run_sql

from drills.addresses import Address
from drills.clusters import Cluster, make_cluster
from drills.errors import NoBackupError, ToolError
from drills.measures import Scan
from drills.plans.given import GivenDump as Wish
from drills.processes import plain_environment
from drills.records import Surroundings, Verdict
from drills.recovery.age import judge_age
from drills.recovery.base import Restore, Taken, Workspace
from drills.recovery.dumps.dump import digest_folder
from drills.recovery.dumps.given import GivenDump
from drills.recovery.dumps.plain_sql import PlainSql
from drills.recovery.dumps.plain_statements import look_at
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
    "a copy of a query": b"COPY(SELECT 1) TO PROGRAM 'id';\n",
    "a copy with a comment in it": b"COPY/**/customer FROM PROGRAM 'id';\n",
    "a copy of a quoted name": b"COPY\"customer\"FROM PROGRAM 'id';\n",
    "a copy behind a carriage return": b"-- x\rCOPY customer FROM PROGRAM 'id';\n",
    "a copy that seems to read its rows": b"COPY x FROM PROGRAM 'id' WHERE a IS DISTINCT FROM stdin;\n",
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
    with pytest.raises(NoBackupError, match="there is no dump"):
        bench.pick(bench.folder / "not there")
    with pytest.raises(ToolError, match=r"the folder of .* cannot be read"):
        bench.pick(bench.folder / "not mounted" / "dump")


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
    found = judge_age(backup, 40 * 3600, now)
    assert (found.verdict, "--verbose" in found.hint) == (Verdict.UNKNOWN, True)
    assert judge_age(backup, None, now).verdict is Verdict.PASS
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
    moto = import_module("moto")
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
    bucket("other", b"")
    for place in ("s3://backups/none", "s3://backups/none/"):
        with pytest.raises(NoBackupError, match="there is no dump"):
            bench.pick(place)
    with pytest.raises(ToolError, match="S3 did not give"):
        bench.pick("s3://nowhere/none")


def test_a_plan_says_what_can_be_meant() -> None:
    sound = {"method": "dump_file", "path": "/backups/x.dump"}
    assert Wish.model_validate(sound).path == "/backups/x.dump"
    for wrong in (
        {"path": "relative"}, {"path": "s3://"}, {"newest": True}, {"sha256": "abc"}, {"time_zone": "Mars/Base"},
        {"path": "s3://bucket/a", "newest": True, "sha256": "0" * 64}, {"unknown": 1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"path|newest|sha256|time zone|unknown"):
            Wish.model_validate({**sound, **wrong})


ZERO = {"copies": ["--compress=0"], "inserts": ["--compress=0", "--inserts"]}


@pytest.mark.parametrize("how", ZERO)
def test_a_file_of_a_directory_that_is_cut_or_empty_is_a_fail(bench: Bench, how: str) -> None:
    folder = dump(bench.source, bench.folder / "folder", ["--format=directory", *ZERO[how]])
    assert bench.pick(folder)[1].log.verdict is Verdict.PASS
    rows = max((path for path in folder.glob("*.dat") if path.name != "toc.dat"), key=lambda path: path.stat().st_size)
    whole = rows.read_bytes()
    for data in (b"", whole[: whole.index(b"\n", len(whole) // 2) + 1], whole[:-1]):
        rows.write_bytes(data)
        _, taken, _ = bench.pick(folder)
        assert taken.log.verdict is Verdict.FAIL
        assert rows.name in taken.log.reason


def test_a_zipped_file_of_a_directory_that_is_cut_or_empty_is_a_fail(bench: Bench) -> None:
    folder = dump(bench.source, bench.folder / "folder", ["--format=directory", "--compress=gzip"])
    assert bench.pick(folder)[1].log.verdict is Verdict.PASS
    rows = next(folder.glob("*.dat.gz"))
    whole = rows.read_bytes()
    for data in (b"", whole[:-5], gzip.compress(gzip.decompress(whole)[:-5])):
        rows.write_bytes(data)
        _, taken, _ = bench.pick(folder)
        assert taken.log.verdict is Verdict.FAIL
        assert rows.name in taken.log.reason


@pytest.mark.parametrize(("program", "ending"), [("lz4", ".lz4"), ("zstd", ".zst")])
def test_what_is_packed_otherwise_is_tried_by_its_program_and_unknown_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, program: str, ending: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    folder = dump(bench.source, bench.folder / "folder", ["--format=directory", "--compress=0"])
    for path in [path for path in folder.glob("*.dat") if path.name != "toc.dat"]:
        with path.open("rb") as bare, Path(f"{path}{ending}").open("wb") as packed:
            subprocess.run([program, "-q", "-c"], stdin=bare, stdout=packed, check=True)
        path.unlink()
    taken = bench.pick(folder)[1]
    assert taken.log.verdict is Verdict.PASS, taken.log
    assert "ends of the rows" in taken.backup.details["not looked through"]
    rows = max(folder.glob(f"*{ending}"), key=lambda path: path.stat().st_size)
    whole = rows.read_bytes()
    for data in (whole[:-3], b""):
        rows.write_bytes(data)
        assert bench.pick(folder)[1].log.verdict is Verdict.FAIL
    rows.write_bytes(whole)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert bench.pick(folder)[1].log.verdict is Verdict.UNKNOWN


def test_a_member_of_a_tar_that_is_cut_is_a_fail(bench: Bench) -> None:
    whole = dump(bench.source, bench.folder / "whole", FORMS["tar"])
    cut = bench.folder / "cut"
    with tarfile.open(whole) as old, tarfile.open(cut, "w", format=tarfile.USTAR_FORMAT) as new:
        rows = max((one for one in old if one.name not in {"toc.dat", "restore.sql"}), key=lambda one: one.size)
        for member in old.getmembers():
            data = old.extractfile(member)
            assert data is not None
            if member is rows:
                member.size = data.read().index(b"\n") + 1
                data.seek(0)
            new.addfile(member, data)
    _, taken, _ = bench.pick(cut)
    assert taken.log.verdict is Verdict.FAIL
    assert rows.name in taken.log.reason


@pytest.mark.parametrize("at", [0, 1 << 21])
def test_a_plain_dump_with_a_nul_in_it_is_a_fail(bench: Bench, at: int) -> None:
    file = dump(bench.source, bench.folder / "file", FORMS["plain"])
    whole = file.read_bytes()
    place = whole.index(b"CREATE TABLE")
    file.write_bytes(whole[:place] + b"-- x\n" * (at // 5) + b"SELECT 1;\0 SELECT 2;\n" + whole[place:])
    _, taken, _ = bench.pick(file)
    assert taken.log.verdict is Verdict.FAIL
    assert "NUL" in taken.log.reason


def test_a_plain_dump_with_line_ends_of_windows_is_a_fail_that_says_so(bench: Bench) -> None:
    file = dump(bench.source, bench.folder / "file", FORMS["plain"])
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    _, taken, _ = bench.pick(file)
    assert taken.log.verdict is Verdict.FAIL
    assert "pg_dump --file" in taken.log.reason


def test_a_plain_dump_may_say_itself_when_it_was_begun(bench: Bench) -> None:
    path = dump(bench.source, bench.folder / "dump", ["--format=plain", "--verbose"])
    now = datetime.now(UTC)
    backup = bench.pick(path)[1].backup
    assert judge_age(backup, 3600, now).verdict is Verdict.PASS
    stamp = f"{now:%Y-%m-%d}".encode()
    path.write_bytes(path.read_bytes().replace(b"-- Started on " + stamp, b"-- Started on 2020-01-01"))
    assert judge_age(bench.pick(path)[1].backup, 3600, now).verdict is Verdict.FAIL


@pytest.mark.parametrize(("month", "hour"), [(7, 12), (1, 13)])
def test_the_header_of_an_archive_is_read_in_its_zone_in_summer_as_well(bench: Bench, month: int, hour: int) -> None:
    """Seven numbers behind the header, each a sign and four bytes: second to year, and whether it was summer."""
    path = dump(bench.source, bench.folder / "dump", FORMS["custom"])
    data, year = path.read_bytes(), datetime.now(UTC).year - 1900
    at = data.index(b"\0" + year.to_bytes(4, "little")) - 25
    summer = 1 if month == 7 else 0
    told = (0, 0, 14, 15, month - 1, 125, summer)
    path.write_bytes(data[:at] + b"".join(b"\0" + one.to_bytes(4, "little") for one in told) + data[at + 35 :])
    _, taken, _ = bench.pick(path, time_zone="Europe/Berlin")
    assert taken.backup.taken == datetime(2025, month, 15, hour, tzinfo=UTC)


@pytest.mark.parametrize("form", ["custom", "plain, of its own making"])
def test_a_dump_of_another_database_is_unknown_unless_the_plan_names_it(bench: Bench, form: str) -> None:
    path = dump(bench.source, bench.folder / "dump", FORMS[form])
    name = bench.source.name
    bench.source = Database(bench.source.owner.to("payroll"), bench.source.reader)
    assert bench.source.name == "payroll"
    _, taken, _ = bench.pick(path)
    assert taken.log.verdict is Verdict.UNKNOWN
    assert "recovery.database" in taken.log.reason
    assert bench.pick(path, database=name)[1].log.verdict is Verdict.PASS


def test_of_those_that_begin_alike_the_newest_dump_is_taken_and_nothing_beside_it(
    bench: Bench, bucket: Callable[[str, bytes], dict[str, str]]
) -> None:
    data = dump(bench.source, bench.folder / "dump", FORMS["custom"]).read_bytes()
    bucket("x/billing-2026.dump", data)
    for other in (
        "x/billing-2026.dump.sha256", "x/billing-2026.log", "x/billing-2026.dump.asc", "x/billing-test/1.dump",
        "x/billing-test.dump", "x/billings.dump", "x/billing-2026/old/1.dump",
    ):  # fmt: skip
        bucket(other, b"not this one")
    assert bench.pick("s3://backups/x/billing", newest=True)[1].backup.label == "x/billing-2026.dump"
    assert bench.pick("s3://backups/x/billing-2", newest=True)[1].backup.label == "x/billing-2026.dump"


def test_roles_of_policies_and_mappings_are_found() -> None:
    for text, roles in (
        (b'CREATE POLICY p ON public.t FOR SELECT TO a, "B, c" USING ((x > 1));', ("a", "B, c")),
        (b'CREATE POLICY "p q" ON public.t AS RESTRICTIVE TO a;', ("a",)),
        (b"CREATE POLICY p ON public.t USING (('x TO y' = z));", ()),
        (b'CREATE USER MAPPING FOR "M""x" SERVER far OPTIONS (\n    "user" \'m\'\n);', ('M"x',)),
    ):
        assert look_at(text).roles == roles


def test_a_role_of_a_policy_that_is_gone_is_no_hindrance(bench: Bench) -> None:
    bench.source.run(
        'CREATE ROLE gone_a; CREATE ROLE "Gone b"; CREATE POLICY p ON odd TO gone_a, "Gone b" USING (true)'
    )
    path = dump(bench.source, bench.folder / "dump", FORMS["custom"])
    bench.source.run('DROP POLICY p ON odd; DROP ROLE gone_a; DROP ROLE "Gone b"')
    _, done, _ = bench.restore(path)
    assert done.log.verdict is Verdict.PASS, done.log


def test_a_zipped_dump_that_is_damaged_after_it_was_picked_is_an_error(bench: Bench) -> None:
    path = bench.folder / "packed"
    packed = gzip.compress(dump(bench.source, bench.folder / "dump", FORMS["plain"]).read_bytes())
    path.write_bytes(packed)
    method, taken, workspace = bench.pick(path)
    path.write_bytes(packed[:500] + b"\xff" * 200 + packed[700:])
    with bench.target() as (target, around), pytest.raises(ToolError, match=r"read to its end|changed|broken"):
        method.restore(
            taken.backup.model_copy(update={"surroundings": around}), target, owned=True, workspace=workspace
        )
