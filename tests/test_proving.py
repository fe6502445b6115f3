"""The negative control inside a drill: on a clone that is in the journal, gone at the end, and never ends the drill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_postgres import Database, run_sql
from pydantic import TypeAdapter
from test_drill import OUTAGE, nothing_is_left, on_copy, run_drill

from drills import staging as staging_hands
from drills.addresses import Address
from drills.clusters import Cluster
from drills.errors import ClusterError
from drills.plan import Method
from drills.record import Record
from drills.records import Outcome, Resource, Verdict
from drills.results import CheckResult
from drills.sessions import STAGING_LIMITS, Access, session
from drills.staging import database_name, scratch_database, scratch_name
from flows import proving
from flows.destroying import _destroy, _refuse_foreign
from flows.runtime import Drill

ROUND = "negative control"
FEW = {"damages": ["one cent", "lost row", "dropped index"]}


def control(record: Record) -> CheckResult:
    (result,) = record.checks[ROUND]
    return result


@pytest.fixture(params=["a cluster of its own", "a server that is given"])
def plan(
    request: pytest.FixtureRequest, shop: Database, staging: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    wish: dict[str, Any] = {"negative_control": FEW}
    if request.param != "a cluster of its own":
        monkeypatch.setenv("STAGING_PASSWORD", staging.password)
        wish["staging"] = {"address": shop.url(staging.address()), "password": "env:STAGING_PASSWORD"}
    yield shop.plan(**wish)
    assert run_sql(staging.address(), "SELECT datname FROM pg_database WHERE datname LIKE 'dr\\_%'") == []


def test_a_drill_proves_its_checks_on_a_clone_that_is_gone_afterwards(plan: dict[str, Any], tmp_path: Path) -> None:
    record = run_drill(tmp_path, plan)
    assert (record.verdict, record.reasons) == (Verdict.PASS, ())
    assert [line.key for line in control(record).lines] == [
        "one cent · content", "lost row · row counts", "dropped index · structure",
    ]  # fmt: skip
    assert scratch_name(record.drill) in {made.name for made in record.made if made.kind == "database"}
    assert ROUND in {span.stage for span in record.timeline}
    nothing_is_left(tmp_path, record)


def test_it_is_on_unless_the_plan_turns_it_off(shop: Database, tmp_path: Path) -> None:
    record = run_drill(tmp_path, shop.plan(negative_control={"enabled": False}))
    assert (record.verdict, ROUND in record.checks) == (Verdict.PASS, False)
    assert ROUND not in {span.stage for span in record.timeline}


def test_a_clone_that_cannot_be_made_is_unknown_and_the_drill_goes_on(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = proving._refuse_without_room

    def occupied(drill: Drill, server: Any, outside: Address) -> None:
        begin(drill, server, outside)
        assert drill.copy is not None
        kept.append(session(drill.copy, name="psql", access=Access.READ_ONLY, limits=STAGING_LIMITS))
        kept[-1].__enter__()

    kept: list[Any] = []
    monkeypatch.setattr(proving, "_refuse_without_room", occupied)
    record = run_drill(tmp_path, shop.plan(negative_control=FEW, outages=[OUTAGE]))
    assert (record.verdict, control(record).verdict) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert "being accessed by other users" in control(record).reason
    assert "nobody else may be connected to the copy" in control(record).reason
    assert record.outages[0].verdict is Verdict.PASS
    assert [reason for reason in record.reasons if ROUND not in reason] == []
    nothing_is_left(tmp_path, record)


def test_without_room_for_a_clone_none_is_made(shop: Database, tmp_path: Path) -> None:
    size = shop.run("SELECT pg_database_size(current_database())")[0][0]
    plan = shop.plan(negative_control=FEW, staging={"disk_limit": f"{int(size * 3.45)}B"})
    grow = on_copy("CREATE TABLE grown AS SELECT repeat(md5(n::text), 60) FROM generate_series(1, 20000) n")
    record = run_drill(tmp_path, plan, {"prove_checks": grow})
    assert (record.verdict, control(record).verdict) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert control(record).reason.startswith("no room for a scratch clone: ")
    assert "raise staging.disk_limit" in control(record).reason
    assert scratch_name(record.drill) not in {made.name for made in record.made}


def test_a_copy_with_a_clone_that_would_not_fit_is_refused_and_without_one_it_fits(
    shop: Database, tmp_path: Path
) -> None:
    size = shop.run("SELECT pg_database_size(current_database())")[0][0]
    limited = {"disk_limit": f"{int(size * 2.25)}B"}
    record = run_drill(tmp_path, shop.plan(negative_control=FEW, staging=limited))
    assert record.outcome is Outcome.REFUSED
    assert "`negative_control`" in record.problems[0].hint
    streamed = shop.plan(negative_control=FEW, staging=limited, recovery={"method": "stream"})
    assert run_drill(tmp_path, streamed).outcome is Outcome.REFUSED
    fits = shop.plan(negative_control={"enabled": False}, staging=limited)
    assert run_drill(tmp_path, fits).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("recovery", "keeps"),
    [
        ({"method": "dump"}, 1.0),
        ({"method": "stream"}, 0.0),
        ({"method": "dump_file", "path": "/a"}, 1.0),
        ({"method": "basebackup"}, 0.0),
        ({"method": "basebackup", "incrementals": 1}, 1.0),
        ({"method": "pgbackrest", "stanza": "a", "repo_path": "/a"}, 0.0),
    ],
)
def test_a_method_says_what_it_keeps_beside_the_copy(recovery: dict[str, Any], keeps: float) -> None:
    assert TypeAdapter(Method).validate_python(recovery).keeps == keeps


def test_a_clone_that_could_not_be_dropped_is_dropped_at_the_end_of_the_drill(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_server: Address, scratch: str, _name: str) -> None:
        raise ClusterError(f"{scratch} could not be dropped: somebody is in it")

    monkeypatch.setattr(staging_hands, "_drop_scratch", refuse)
    record = run_drill(tmp_path, plan)
    assert (record.verdict, control(record).verdict) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert control(record).reason.startswith("3 of 3 damages were caught")
    assert control(record).reason.endswith("could not be dropped: somebody is in it")
    assert [line.verdict for line in control(record).lines] == [Verdict.PASS] * 3
    nothing_is_left(tmp_path, record)


def test_a_clone_is_dropped_when_the_work_on_it_fails(shop: Database) -> None:
    name = "dr_20261121t220900z_7f3a_scratch_shop"
    server = shop.owner.to("postgres")
    there = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117
        with scratch_database(lambda: server, shop.name, name, "test", STAGING_LIMITS.statement) as clone:
            assert run_sql(clone, "SELECT count(*) FROM invoice") == [(500,)]
            assert run_sql(server, there) == [(1,)]
            raise ZeroDivisionError
    assert run_sql(server, there) == [(0,)]


def test_the_names_of_copy_and_clone_are_two_and_are_not_cut_where_drills_differ() -> None:
    drill = f"DR-20261121T220900Z-{'long-name-' * 5}x-7f3a"
    assert database_name(drill) != scratch_name(drill)
    assert scratch_name(drill).startswith("dr_20261121t220900z_7f3a_scratch_long_name")
    assert len(scratch_name(drill)) == 63


def test_a_journal_that_names_another_place_for_the_clone_is_not_obeyed(tmp_path: Path) -> None:
    folder = tmp_path / "drills" / "DR-20261121T220900Z-shop-7f3a"
    for path in (folder / "staging", tmp_path / "precious"):
        path.mkdir(parents=True)
    own = Resource(kind="database", name=scratch_name(folder.name), address=str(folder / "staging"))
    _refuse_foreign(own, folder)
    _destroy(own, folder)
    assert not (folder / "staging").exists()
    with pytest.raises(ClusterError, match="not this drill's"):
        _refuse_foreign(own.model_copy(update={"name": "billing"}), folder)
    with pytest.raises(Exception, match=r"address|postgresql|precious"):
        _destroy(own.model_copy(update={"address": str(tmp_path / "precious")}), folder)
    assert (tmp_path / "precious").exists()
