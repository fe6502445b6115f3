"""An outage is judged by acknowledged commits: lost ones are named, and a server that stays away is a failure."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_postgres import QUICK, Database, run_sql

from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import ClusterError
from drills.heartbeat import SCHEMA, Heartbeat
from drills.outages import base
from drills.outages.base import Fault, judge, run_outage
from drills.outages.process import ServerKilled
from drills.outages.tally import Answer, Beat, Tally
from drills.plan import KillServer
from drills.records import Verdict, utc_now
from drills.results import OutageResult

SOUND = {**QUICK, "synchronous_commit": "on"}
# Commits are answered before they are written; the writer of the WAL comes by every ten seconds.
FORGETFUL = {**QUICK, "synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}


def wish(**changes: Any) -> KillServer:
    told = {"kind": "kill_server", "name": "server killed", "steady": "300ms", "down": "100ms", "limit": "30s"}
    return KillServer.model_validate(told | changes)


def outage(
    address: Address,
    fault: Fault,
    beats: Path,
    told: KillServer | None = None,
    intent: Callable[[], None] | None = None,
) -> OutageResult:
    return run_outage(
        told or wish(),
        fault,
        address,
        name="drillbook/test",
        beats=beats,
        journal_fault=intent or (lambda: None),
    )


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def nothing_is_left(address: Address | None) -> None:
    """No writer, no child of ours that is dead and not taken away, and no schema where there is a server."""
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat-")]
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    if address is not None:
        assert run_sql(address, f"SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}'") == []


@dataclass
class Pretended:
    """A fault that only takes notes; what it is told to do, it does."""

    breaking: Callable[[], None] = lambda: None
    mending: Callable[[], None] = lambda: None
    said: list[str] = field(default_factory=list)

    def inject(self) -> None:
        """Note it."""
        self.said.append("inject")
        self.breaking()

    def heal(self) -> None:
        """Note it."""
        self.said.append("heal")
        self.mending()


# --- real servers -----------------------------------------------------------------------------------------------------


def test_a_killed_server_that_keeps_its_commits_passes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.stop()
    cluster.start(SOUND)
    result = outage(cluster.address(), ServerKilled(cluster, SOUND, 60), tmp_path / "beats.csv")
    assert result.verdict is Verdict.PASS, result.reason
    assert (result.lost, result.lost_commits, result.unexpected, result.rpo_seconds) == (0, (), 0, 0)
    assert result.acknowledged > result.acknowledged_before > 0
    seconds = [clock.seconds for clock in result.clocks]
    assert None not in seconds
    told = {clock.name: clock.seconds or 0 for clock in result.clocks}
    assert told["fault"] == 0
    assert told["broken"] + 0.1 <= told["healing"] < told["accepting connections"]
    assert told["first commit"] > told["broken"]
    rows = read(tmp_path / "beats.csv")
    assert sum(row["answer"] == "acknowledged" for row in rows) == result.acknowledged
    assert {row["survived"] for row in rows if row["answer"] == "acknowledged"} == {"yes"}
    nothing_is_left(cluster.address())


def test_a_killed_server_that_loses_acknowledged_commits_fails_and_each_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.stop()
    cluster.start(FORGETFUL)
    result = outage(cluster.address(), ServerKilled(cluster, FORGETFUL, 60), tmp_path / "beats.csv")
    assert result.verdict is Verdict.FAIL
    assert result.lost > 0
    assert f"{result.lost} acknowledged commits were lost" in result.reason
    assert result.rpo_seconds is not None
    assert 0 < result.rpo_seconds < 60
    lost = [row for row in read(tmp_path / "beats.csv") if row["survived"] == "no"]
    acknowledged = [row["commit"] for row in lost if row["answer"] == "acknowledged"]
    assert len(acknowledged) == result.lost
    assert [named.split(" at ")[0] for named in result.lost_commits] == acknowledged[: len(result.lost_commits)]
    assert len(result.lost_commits) == min(result.lost, 200)
    nothing_is_left(cluster.address())
    tolerant = wish(rpo="1min")
    again = outage(cluster.address(), ServerKilled(cluster, FORGETFUL, 60), tmp_path / "again.csv", tolerant)
    assert again.lost > 0
    assert again.verdict is Verdict.PASS


def test_a_server_that_never_comes_back_is_an_error_and_its_commits_are_still_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match=r"did not answer within 0 s"):
        outage(cluster.address(), ServerKilled(cluster, SOUND, 0), tmp_path / "slow.csv")
    nothing_is_left(None)
    rows = read(tmp_path / "slow.csv")
    assert rows
    assert {row["survived"] for row in rows} == {"unknown"}
    # The heartbeat of before is still in there: nobody could take it away.
    cluster.start(SOUND)
    run_sql(cluster.address(), f"DROP SCHEMA {SCHEMA} CASCADE")

    def no_program(_tools: object, name: str) -> str:
        return f"/nowhere/{name}"

    monkeypatch.setattr("drills.tools.Tools.program", no_program)
    with pytest.raises(ClusterError, match="could not be started: postgres could not be started: No such file"):
        outage(cluster.address(), ServerKilled(cluster, SOUND, 60), tmp_path / "moved.csv")
    nothing_is_left(None)


def test_a_fault_that_cannot_be_injected_is_healed_and_not_masked(shop: Database, tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    def fail_too() -> None:
        raise ClusterError("no way back")

    fault = Pretended(fail, fail_too)
    with pytest.raises(ZeroDivisionError) as met:
        outage(shop.owner, fault, tmp_path / "beats.csv")
    assert fault.said == ["inject", "heal"]
    assert met.value.__notes__ == ["it could not be healed either: no way back"]
    nothing_is_left(shop.owner)
    with pytest.raises(ClusterError, match="no way back"):
        outage(shop.owner, Pretended(mending=fail_too), tmp_path / "beats.csv")
    nothing_is_left(shop.owner)


def test_nothing_is_broken_before_the_intent_is_journaled(shop: Database, tmp_path: Path) -> None:
    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    fault = Pretended()
    with pytest.raises(OSError, match="No space"):
        outage(shop.owner, fault, tmp_path / "beats.csv", intent=full_disk)
    assert fault.said == []
    nothing_is_left(shop.owner)


def test_writers_that_do_not_stop_do_not_mask_what_went_wrong(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Heartbeat.stop

    def stop(heartbeat: Heartbeat) -> None:
        real(heartbeat)
        raise ClusterError("a writer did not stop")

    monkeypatch.setattr(Heartbeat, "stop", stop)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        outage(shop.owner, Pretended(fail), tmp_path / "beats.csv")
    with pytest.raises(ClusterError, match="did not stop"):
        outage(shop.owner, Pretended(), tmp_path / "beats.csv")
    nothing_is_left(shop.owner)


def test_a_copy_that_takes_no_writes_is_not_broken_at_all(shop: Database, tmp_path: Path) -> None:
    fault = Pretended()
    refuse = f"""
        CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF to_regclass('{SCHEMA}.beat') IS NOT NULL THEN
                EXECUTE 'ALTER TABLE {SCHEMA}.beat ADD CHECK (false)';
            END IF;
        END $$;
        CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse();
        ALTER EVENT TRIGGER refuse ENABLE ALWAYS;
        """
    run_sql(shop.owner, refuse)
    with pytest.raises(ClusterError, match="no commit was acknowledged before the fault"):
        outage(shop.owner, fault, tmp_path / "beats.csv", wish(limit="400ms"))
    assert fault.said == []
    nothing_is_left(shop.owner)


def test_a_fault_that_nobody_noticed_proves_nothing(shop: Database, tmp_path: Path) -> None:
    result = outage(shop.owner, Pretended(), tmp_path / "beats.csv")
    assert result.verdict is Verdict.UNKNOWN
    assert "no writer noticed" in result.reason


def test_a_server_that_is_not_running_cannot_be_killed(cluster: Cluster) -> None:
    cluster.stop()
    fault = ServerKilled(cluster, SOUND, 60)
    with pytest.raises(ClusterError, match="is not running"):
        fault.inject()
    fault.heal()
    assert cluster.running
    fault.heal()


# --- the judgement ----------------------------------------------------------------------------------------------------

TIMES = base._Times(injected=100.0, injected_at=utc_now(), broken=100.1, healing=100.2, healed=101.0)


def beat(at: float, name: str = "", answer: Answer = Answer.ACKNOWLEDGED) -> Beat:
    return Beat(name or f"0-{at}", answer, utc_now(), at, at - 0.001)


BEFORE, AFTER = beat(99.0), beat(102.0)


def judged(
    lost: tuple[Beat, ...] = (),
    *,
    beats: tuple[Beat, ...] = (BEFORE, AFTER),
    unexpected: tuple[str, ...] = (),
    first: Beat | None = AFTER,
    noticed: float | None = 100.01,
    rpo: timedelta = timedelta(0),
) -> OutageResult:
    return judge(wish(rpo=rpo), Tally(beats, lost, unexpected), TIMES, first, noticed)


@pytest.mark.parametrize(
    ("given", "verdict", "reason"),
    [
        ({}, Verdict.PASS, "back after 2.000 s; 2 acknowledged commits, 0 lost"),
        ({"lost": (BEFORE,)}, Verdict.FAIL, "1 acknowledged commits were lost, the oldest 1.000 s before the fault"),
        ({"lost": (beat(100.0),)}, Verdict.FAIL, "the oldest 0.000 s before"),
        ({"lost": (BEFORE,), "rpo": timedelta(seconds=0.9)}, Verdict.FAIL, "were lost"),
        ({"lost": (BEFORE,), "rpo": timedelta(seconds=1)}, Verdict.PASS, "1 lost"),
        ({"lost": (AFTER,), "rpo": timedelta(hours=1)}, Verdict.FAIL, "acknowledged after the recovery"),
        ({"unexpected": ("7-7",)}, Verdict.FAIL, "1 commits were found that nobody sent, such as 7-7"),
        ({"first": None}, Verdict.FAIL, "no commit was acknowledged within 30 s after the fault"),
        ({"noticed": None}, Verdict.UNKNOWN, "no writer noticed the fault"),
        ({"beats": (AFTER,)}, Verdict.UNKNOWN, "nothing was acknowledged before the fault"),
        ({"noticed": None, "lost": (BEFORE,)}, Verdict.FAIL, "were lost"),
        ({"beats": (AFTER,), "unexpected": ("7-7",)}, Verdict.FAIL, "nobody sent"),
        ({"beats": (), "first": None, "noticed": None}, Verdict.FAIL, "no commit was acknowledged"),
    ],
)
def test_the_verdict_follows_from_what_was_lost_found_and_seen(
    given: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    result = judged(**given)
    assert result.verdict is verdict
    assert reason in result.reason


def test_figures_and_clocks_are_told_whatever_the_verdict_is() -> None:
    doubt = beat(100.05, "1-1", Answer.IN_DOUBT)
    result = judged((BEFORE,), beats=(BEFORE, doubt, AFTER), first=None)
    assert (result.acknowledged, result.acknowledged_before, result.in_doubt, result.lost) == (2, 1, 1, 1)
    assert result.lost_commits == (f"{BEFORE.id} at {BEFORE.at.isoformat()}",)
    assert result.rpo_seconds == 1.0
    assert result.healed is None
    assert {clock.name: clock.seconds for clock in result.clocks} == {
        "fault": 0.0,
        "noticed": 0.01,
        "broken": 0.1,
        "healing": 0.2,
        "accepting connections": 1.0,
        "first commit": None,
    }


def test_a_fault_keeps_the_server_down_for_as_long_as_the_plan_says() -> None:
    begun = time.monotonic()
    times = base._break_and_heal(Pretended(), timedelta(milliseconds=200))
    assert times.injected >= begun
    assert times.healing - times.broken >= 0.2
