"""What the role of a plan cannot read is found before anything is dumped."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_postgres import Database
from test_drill import nothing_is_left, run_drill

from drills.readable import judge_reading
from drills.records import Finding, Outcome, Verdict
from drills.sessions import STAGING_LIMITS, Access, session


def judged(shop: Database, *, whole: bool = True) -> Finding:
    with session(shop.reader, name="test", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        return judge_reading(connection, whole=whole)


def test_a_role_that_reads_all_passes(shop: Database) -> None:
    shop.run('CREATE SCHEMA apart; CREATE TABLE apart."an Odd one" (id serial)')
    assert judged(shop).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("", "customer: no SELECT"),
        ("GRANT SELECT (id) ON customer TO {role}", "customer: no SELECT"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; CREATE SEQUENCE lone", "lone: no SELECT"),
        (
            (
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public"
                " TO {role}; CREATE SCHEMA apart; CREATE TABLE apart.t (); GRANT SELECT ON apart.t TO {role}"
            ),
            "apart.t: no USAGE of its schema",
        ),
    ],
)
def test_what_a_role_cannot_read_is_named(shop: Database, damage: str, told: str) -> None:
    role = shop.reader.parts["user"]
    shop.run(f"REVOKE pg_read_all_data FROM {role}")
    if damage:
        shop.run(damage.format(role=role))
    found = judged(shop)
    assert found.verdict is Verdict.FAIL
    assert told in found.found
    assert "pg_read_all_data" in found.hint
    assert judged(shop, whole=False).verdict is Verdict.UNKNOWN


def test_rows_that_a_policy_hides_are_rows_that_cannot_be_read(shop: Database) -> None:
    shop.run("ALTER TABLE invoice ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON invoice USING (id < 10)")
    assert judged(shop).found == "not invoice: a policy hides rows"


@pytest.mark.parametrize("method", ["dump", "stream"])
def test_pg_dump_is_not_begun_where_it_would_end_in_an_error(home: Path, shop: Database, method: str) -> None:
    shop.run(f"REVOKE pg_read_all_data FROM {shop.reader.parts['user']}")
    record = run_drill(home, shop.plan(recovery={"method": method}))
    assert record.outcome is Outcome.REFUSED
    assert "the role reads everything" in record.problems[0].message
    nothing_is_left(home, record)
