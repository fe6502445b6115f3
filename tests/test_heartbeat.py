"""What the heartbeat says was acknowledged was; what is missing afterwards is named; and it leaves nothing behind."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from fix_postgres import Database, run_sql

from drills import heartbeat as module
from drills import sessions
from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import ClusterError
from drills.heartbeat import SCHEMA, Heartbeat
from drills.outages.tally import Answer, Beat, Tally, compare, write_beats
from drills.records import utc_now


def beat(name: str, answer: Answer = Answer.ACKNOWLEDGED, at: float = 1.0) -> Beat:
    return Beat(name, answer, utc_now(), at, at)


def writers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("heartbeat-")]


def has_schema(database: Database) -> bool:
    return bool(run_sql(database.owner, f"SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}'"))


@pytest.fixture
def heartbeat(shop: Database) -> Iterator[Heartbeat]:
    """Two writers on a shop, which end with the test."""
    made = Heartbeat(shop.owner, "drillbook/test", 2)
    yield made
    made._stopping.set()
    made._join(20)


def test_what_is_lost_unexpected_or_in_doubt_is_told_apart() -> None:
    beats = [beat("0-1"), beat("0-2"), beat("0-3", Answer.IN_DOUBT), beat("0-4", Answer.IN_DOUBT), beat("1-1")]
    tally = compare(beats, {"0-1", "0-3", "7-7", "6-6"})
    assert [lost.id for lost in tally.lost] == ["0-2", "1-1"]
    assert tally.unexpected == ("6-6", "7-7")
    assert [doubt.id for doubt in tally.in_doubt()] == ["0-3", "0-4"]
    assert [known.id for known in tally.acknowledged()] == ["0-1", "0-2", "1-1"]
    sound = compare(beats[:1], {"0-1"})
    assert (sound.lost, sound.unexpected) == ((), ())


def test_the_file_names_every_commit_and_what_nobody_sent(tmp_path: Path) -> None:
    beats = [beat("0-1"), beat("0-2"), beat("0-3", Answer.IN_DOUBT), beat("0-4", Answer.IN_DOUBT)]
    write_beats(compare(beats, {"0-1", "0-3", "7-7"}), tmp_path / "seen.csv")
    rows = list(csv.reader((tmp_path / "seen.csv").read_text().splitlines()))
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [
        ("0-1", "acknowledged", "yes"),
        ("0-2", "acknowledged", "no"),
        ("0-3", "in doubt", "yes"),
        ("0-4", "in doubt", "no"),
        ("7-7", "never sent", "yes"),
    ]
    write_beats(Tally(tuple(beats), (), ()), tmp_path / "unseen.csv")
    assert {row[3] for row in list(csv.reader((tmp_path / "unseen.csv").read_text().splitlines()))[1:]} == {"unknown"}


def test_every_acknowledged_commit_of_a_quiet_server_is_there(heartbeat: Heartbeat, shop: Database) -> None:
    heartbeat.start()
    assert heartbeat.wait_for_beat(after=time.monotonic(), deadline=20) is not None
    heartbeat.stop()
    tally = heartbeat.tally()
    there = run_sql(shop.owner, f"SELECT count(*) FROM {SCHEMA}.beat")[0][0]
    assert there == len(tally.acknowledged()) > 0
    assert (tally.lost, tally.unexpected, tally.in_doubt()) == ((), (), [])
    assert heartbeat.first_failure(after=0) is None
    heartbeat.remove()
    assert not has_schema(shop)
    assert writers() == []


def test_a_row_taken_away_is_lost_and_a_row_put_in_is_unexpected(heartbeat: Heartbeat, shop: Database) -> None:
    heartbeat.start()
    first = heartbeat.wait_for_beat(after=time.monotonic(), deadline=20)
    heartbeat.stop()
    assert first is not None
    shop.run(f"DELETE FROM {SCHEMA}.beat WHERE id = '{first.id}'; INSERT INTO {SCHEMA}.beat VALUES ('9-9', now())")
    tally = heartbeat.tally()
    assert ([lost.id for lost in tally.lost], tally.unexpected) == ([first.id], ("9-9",))


@pytest.mark.parametrize("loss", [f"DROP TABLE {SCHEMA}.beat", f"DROP SCHEMA {SCHEMA} CASCADE"])
def test_where_the_whole_table_is_gone_every_acknowledged_commit_is_lost(
    heartbeat: Heartbeat, shop: Database, loss: str
) -> None:
    heartbeat.start()
    heartbeat.wait_for_beat(after=time.monotonic(), deadline=20)
    heartbeat.stop()
    shop.run(loss)
    tally = heartbeat.tally()
    assert len(tally.lost) == len(tally.acknowledged()) > 0


def test_a_commit_that_the_server_refused_is_neither_acknowledged_nor_in_doubt(
    heartbeat: Heartbeat, shop: Database
) -> None:
    heartbeat.start()
    heartbeat.wait_for_beat(after=time.monotonic(), deadline=20)
    shop.run(f"ALTER TABLE {SCHEMA}.beat ADD CONSTRAINT closed CHECK (false) NOT VALID")
    closed = time.monotonic()
    assert heartbeat.wait_for_beat(after=closed, deadline=0.3) is None
    assert heartbeat.first_failure(after=closed) is not None
    heartbeat.stop()
    tally = heartbeat.tally()
    assert (tally.lost, tally.unexpected, tally.in_doubt()) == ((), (), [])


def test_a_beat_counts_from_when_it_was_sent_and_not_from_when_it_was_noted(heartbeat: Heartbeat) -> None:
    fault = time.monotonic()
    heartbeat._note("0-1", Answer.ACKNOWLEDGED, fault - 0.001)
    assert heartbeat.wait_for_beat(after=fault, deadline=0) is None
    heartbeat._note("0-2", Answer.IN_DOUBT, fault + 1)
    assert heartbeat.wait_for_beat(after=fault, deadline=0) is None
    heartbeat._note("0-3", Answer.ACKNOWLEDGED, fault + 1)
    found = heartbeat.wait_for_beat(after=fault, deadline=0)
    assert found is not None
    assert found.id == "0-3"


def test_a_schema_of_that_name_is_not_ours_and_stays(heartbeat: Heartbeat, shop: Database) -> None:
    shop.run(f"CREATE SCHEMA {SCHEMA}")
    with pytest.raises(ClusterError, match=f"has a schema {SCHEMA} already"):
        heartbeat.start()
    heartbeat.remove()
    assert has_schema(shop)
    assert writers() == []


def test_a_writer_that_breaks_down_is_not_taken_for_a_quiet_one(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(heartbeat, "_beat", break_down)
    heartbeat.start()
    begun = time.monotonic()
    assert heartbeat.wait_for_beat(after=begun, deadline=20) is None
    assert time.monotonic() - begun < 10
    with pytest.raises(ZeroDivisionError):
        heartbeat.stop()
    assert writers() == []


def test_a_server_that_hangs_does_not_keep_the_writers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_JOIN_DEADLINE", 0.3)
    made = Heartbeat(cluster.address(), "drillbook/test", 1)
    made.start()
    assert made.wait_for_beat(after=time.monotonic(), deadline=20) is not None
    assert cluster.process is not None
    hung = [cluster.process.pid, *(child.pid for child in psutil.Process(cluster.process.pid).children())]
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert made.wait_for_beat(after=time.monotonic(), deadline=0.5) is None
        made.stop()
        assert writers() == []
        assert made.unread().in_doubt()
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
    assert made.tally().lost == ()


def test_a_writer_that_a_hung_server_has_not_let_in_is_not_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def connect(address: Address, **told: Any) -> psycopg.Connection:
        asked.set()
        assert answered.wait(30)
        return sessions.connect(address, **told)

    monkeypatch.setattr(module, "_JOIN_DEADLINE", 0.1)
    monkeypatch.setattr(module, "_HANG_UP_DEADLINE", 0.1)
    monkeypatch.setattr(module, "connect", connect)
    made = Heartbeat(cluster.address(), "drillbook/test", 1)
    made.start()
    assert asked.wait(20)
    made.stop()
    answered.set()
    for thread in made._threads:
        thread.join(20)
    assert writers() == []
    assert made.tally() == compare([], set())
    made.remove()


def test_event_triggers_that_came_along_do_not_fire(heartbeat: Heartbeat, shop: Database) -> None:
    """They would run as a superuser, and could reach production or forbid the table."""
    run_sql(
        shop.owner,
        "CREATE TABLE fired (what text); CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO public.fired VALUES (tg_tag); END$$;"
        " CREATE EVENT TRIGGER telltale ON ddl_command_start EXECUTE FUNCTION tell()",
    )
    heartbeat.start()
    heartbeat.stop()
    heartbeat.remove()
    assert run_sql(shop.owner, "SELECT what FROM fired") == []
    run_sql(shop.owner, "CREATE TABLE other (n int)")
    assert run_sql(shop.owner, "SELECT what FROM fired") == [("CREATE TABLE",)]
