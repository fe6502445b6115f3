"""Nothing that production configured runs on a physical copy, and nothing of the copy reaches production."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fix_archiving import Archiving, adopt, ended, own, quiet, rows_of, scalar, wait_until
from fix_postgres import run_sql

from drills import quarantine
from drills.clusters import Cluster, processes_using
from drills.errors import ClusterError
from drills.outages.process import ServerKilled
from drills.recovery.pages.adopt import make_superuser, open_copy, prepare_files
from drills.recovery.pages.replay import copy_from_folder, recover_files
from drills.sessions import STAGING_LIMITS, Access, session
from drills.staging import LIKE_PRODUCTION


def test_not_one_file_of_a_copy_reaches_productions_archive(archiving: Archiving, folder: Path) -> None:
    slot = folder / "data" / "pg_replslot" / "standby"
    subprocess.run(["cp", "-a", archiving.cluster.data / "pg_replslot" / "standby", slot], check=True)  # noqa: S607
    before = archiving.archived()
    with ended(adopt(archiving, folder, archiving.latest())) as copy:
        address = copy.address()
        run_sql(address, "CREATE TABLE new AS SELECT generate_series(1, 10000) n")
        for _ in range(3):
            run_sql(address, "SELECT pg_switch_wal(); INSERT INTO new VALUES (0); CHECKPOINT")
        assert scalar(address, "SELECT archived_count + failed_count FROM pg_stat_archiver") == 0
        assert scalar(address, "SHOW checkpoint_timeout") == "5min"
        assert scalar(address, "SELECT count(*) FROM pg_replication_slots") == 0
        assert scalar(address, "SELECT count(*) FROM pg_subscription WHERE subenabled") == 1
        assert scalar(address, "SELECT count(*) FROM logins") == scalar(
            address, "SELECT count(*) FROM logins WHERE at < (SELECT pg_postmaster_start_time())"
        )
        assert run_sql(address, "SHOW session_preload_libraries") == [("",)]
        said = copy.log.read_text()
    assert "logical replication" not in said
    assert archiving.archived() == before
    assert list(archiving.marks.iterdir()) == []


def test_the_same_copy_without_its_quarantine_does_archive_and_reach_out(archiving: Archiving, folder: Path) -> None:
    """What the test above rests on: these very files would have done harm."""
    before = archiving.archived()
    (folder / "data" / "recovery.signal").touch()
    own(archiving.cluster, folder / "data" / "recovery.signal")
    source = archiving.cluster
    loose = Cluster(folder, source.tools, source.account, source.password)
    restore = {"restore_command": f"cp {archiving.archive}/%f %p", "fsync": "off", "synchronous_standby_names": ""}
    recovering = restore | {"hot_standby": "off", "primary_conninfo": ""}
    loose.start({**recovering, "archive_command": "cp %p " + str(archiving.archive) + "/%f"}, deadline=60)
    try:
        run_sql(loose.address(), "INSERT INTO happened VALUES (7); SELECT pg_switch_wal()")
        wait_until(lambda: len(archiving.archived()) > len(before) + 1)
        assert scalar(loose.address(), "SHOW session_preload_libraries") == "auto_explain"
        wait_until(lambda: 'subscription "sub"' in loose.log.read_text())
        if source.tools.major >= 17:
            assert scalar(loose.address(), "SELECT count(*) FROM logins WHERE at > pg_postmaster_start_time()") > 0
    finally:
        loose.destroy()
    harmed = [archiving.archive / name for name in archiving.archived() if name not in before]
    assert any(path.name == "00000002.history" for path in harmed)
    marks = sorted(path.name for path in archiving.marks.iterdir())
    assert {"recovery_end_command"} <= set(marks)
    for path in (*harmed, *archiving.marks.iterdir()):
        path.unlink()


def test_the_journal_gets_every_question_and_its_answer(archiving: Archiving, folder: Path) -> None:
    adopted = adopt(archiving, folder, archiving.latest())
    with ended(adopted) as copy:
        told = {answer.question: answer.actual for answer in adopted.quarantine.answers}
        assert told["archive_mode"] == "off by command line"
        assert told["session_preload_libraries"] == " by client"
        assert told["is it in recovery"] == "false"
        assert told["lines in pg_hba.conf"] == f"host {{all}} {{{copy.superuser}}} 127.0.0.1 scram-sha-256"
        assert {"replication slots", "subscriptions at work", "tablespaces elsewhere", *copy.held} <= told.keys()
        assert type(adopted.quarantine).model_validate_json(adopted.quarantine.canonical()) == adopted.quarantine


def forget_options(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    cluster.options = ""


def let_settings_in(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    (cluster.data / "postgresql.auto.conf").write_text("wal_compression = on\n")


def let_others_in(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    with (cluster.data / "pg_hba.conf").open("a") as file:
        file.write("host all app 127.0.0.1/32 scram-sha-256\n")


def put_a_slot_back(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    slot = next(cluster.folder.parent.glob("slots/*"))
    subprocess.run(["cp", "-a", slot, cluster.data / "pg_replslot"], check=True)  # noqa: S607


def expect_something_else(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(quarantine._ASKED, "is it in recovery", ("pg_is_in_recovery()::text", "true"))


def know_one_kind_less(cluster: Cluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quarantine, "_OWN_KINDS", tuple(kind for kind in quarantine._OWN_KINDS if kind != "checkpointer"))


@pytest.mark.parametrize(
    ("loosen", "said"),
    [
        (forget_options, "session_preload_libraries: expected ' by client', got 'auto_explain by database'"),
        (let_settings_in, "settings from a configuration file: expected '', got 'wal_compression'"),
        (let_others_in, "lines in pg_hba.conf: expected 'host {all} {drillbook_copy_"),
        (put_a_slot_back, "replication slots: expected '', got 'standby'"),
        (expect_something_else, "is it in recovery: expected 'true', got 'false'"),
        (know_one_kind_less, "processes that are not a server's own: expected '', got 'checkpointer'"),
    ],
)
def test_a_wrong_answer_ends_the_copy(
    archiving: Archiving,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    loosen: Callable[[Cluster, pytest.MonkeyPatch], None],
    said: str,
) -> None:
    subprocess.run(["cp", "-a", archiving.cluster.data / "pg_replslot", folder.parent / "slots"], check=True)  # noqa: S607
    cluster = prepare_files(folder, archiving.cluster.tools)
    recover_files(cluster, archiving.latest(), copy_from_folder(archiving.archive), quiet, 60)
    make_superuser(cluster)
    loosen(cluster, monkeypatch)
    with pytest.raises(ClusterError, match="the copy is not quarantined") as caught:
        open_copy(cluster)
    assert said in caught.value.message
    assert "ended at once" in caught.value.hint
    assert not cluster.running
    assert processes_using(folder) == []


def test_productions_roles_stay_as_they_are_and_none_of_them_gets_in(archiving: Archiving, folder: Path) -> None:
    roles = "SELECT rolname, rolsuper, rolcanlogin, rolpassword FROM pg_authid WHERE rolname <> '{}' ORDER BY 1"
    source = archiving.cluster
    with ended(adopt(archiving, folder, archiving.latest())) as copy:
        assert run_sql(copy.address(), roles.format(copy.superuser)) == run_sql(source.address(), roles.format(""))
        assert copy.superuser.startswith("drillbook_copy_")
        assert copy.password not in copy.log.read_text()
        assert copy.password != source.password
        for user, password in (("app", "secret of production"), ("drillbook", source.password)):
            told = {**copy.address().parts, "user": user, "password": password}
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                psycopg.connect(**told)  # type: ignore[arg-type]
        files = [path for path in copy.folder.rglob("*") if path.is_file()]
        assert [path for path in files if copy.password.encode() in path.read_bytes()] == []


def test_a_copy_is_killed_healed_and_still_in_quarantine(archiving: Archiving, folder: Path) -> None:
    adopted = adopt(archiving, folder, archiving.latest())
    with ended(adopted) as copy:
        run_sql(copy.address(), "INSERT INTO happened VALUES (9)")
        outage = ServerKilled(copy, LIKE_PRODUCTION, 60)
        outage.inject()
        outage.heal()
        assert rows_of(adopted) == [0, 1, 2, 3, 4, 9]
        with session(copy.address(), name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as asked:
            again = quarantine.ask_copy(asked, copy.held, copy.superuser, copy.folder)
        assert again.answers == adopted.quarantine.answers
