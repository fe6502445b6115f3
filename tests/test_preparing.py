"""What is wrong with a statement of the plan is found before it is run, and what passes is not taken for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fix_checks import Make, a_log, making, opening
from fix_postgres import SHOP, Database

from checks.preparing import Unprepared, statements_of, unprepared
from drills.clusters import Cluster
from drills.plan import Checks
from drills.records import utc_now
from drills.sessions import STAGING_LIMITS, Access, connect

FINE: dict[str, Any] = {
    "totals": [
        {
            "name": "invoices",
            "table": "invoice",
            "amount": "amount",
            "by": {"month": "date_trunc('month', posted)"},
            "where": "customer > 0 -- all of them",
            "closed": {"column": "posted", "until": "end of previous month"},
        }
    ],
    "ledger": [
        {
            "name": "books",
            "kind": "debits_equal_credits",
            "debits": {"table": "invoice", "amount": "amount"},
            "credits": {"table": "open_invoice", "amount": "amount"},
        }
    ],
    "invariants": [{"name": "no gap", "sql": "SELECT id FROM invoice WHERE pg_sleep(99) IS NULL"}],
}


@pytest.fixture
def make(production: Cluster) -> Iterator[Make]:
    with making(production) as make:
        yield make


def refused(database: Database, *, copy_of_now: bool = True, **checks: Any) -> list[Unprepared]:
    """What the source does not take."""
    statements = statements_of(Checks.model_validate(checks), utc_now())
    with opening(database.reader, timedelta(seconds=5))() as connection:
        return unprepared(statements, connection, a_log(), copy_of_now=copy_of_now)


def total(**changes: str) -> dict[str, Any]:
    return {"totals": [FINE["totals"][0], {"name": "slip", "table": "invoice", "amount": "amount"} | changes]}


def test_a_plan_without_a_slip_is_taken_and_nothing_of_it_is_run(make: Make) -> None:
    database = make(SHOP)
    assert refused(database, **FINE) == []
    assert len(list(statements_of(Checks.model_validate(FINE), utc_now()))) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table": "invoise"}, 'relation "invoise" does not exist'),
        ({"amount": "amout"}, 'column "amout" does not exist (Perhaps you meant to reference the column'),
        ({"amount": "currency"}, "function sum(character) does not exist"),
        ({"where": "posted > 'soon'"}, 'invalid input syntax for type date: "soon"'),
        ({"where": "amount >"}, "syntax error"),
        ({"table": "invoice; DELETE FROM invoice"}, "cannot insert multiple commands"),
    ],
)
def test_a_slip_in_a_total_is_told_with_its_place_and_the_words_of_the_server(
    make: Make, change: dict[str, str], said: str
) -> None:
    (found,) = refused(make(SHOP), **total(**change))
    assert str(found).startswith("checks.totals[1] (slip): ")
    assert said in str(found)
    assert found.certain
    (found,) = refused(make(SHOP), copy_of_now=False, **total(**change))
    assert found.certain


def test_a_slip_in_a_ledger_rule_names_the_sum(make: Make) -> None:
    rule = FINE["ledger"][0] | {"credits": {"table": "invoice", "amount": "amout"}}
    (found,) = refused(make(SHOP), ledger=[rule])
    assert str(found).startswith('checks.ledger[0] (books: credits): column "amout" does not exist')
    assert found.certain


@pytest.mark.parametrize("amount", ["ratio", "-ratio", "amount * 1.5::real"])
def test_a_sum_that_is_not_exact_is_told_and_no_row_is_read_for_it(make: Make, amount: str) -> None:
    database = make(
        SHOP + "ALTER TABLE invoice ADD ratio float8 DEFAULT 1; CREATE FUNCTION burn(numeric) RETURNS float8"
        " LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a row was read''; END'"
    )
    assert refused(database, **total(amount=f"({amount})::numeric")) == []
    for expression in (amount, "burn(amount)"):
        (found,) = refused(database, **total(amount=expression))
        assert str(found).startswith(f"checks.totals[1] (slip): the sum of {expression} is of type ")
        assert f"cast it in the plan: ({expression})::numeric" in found.said
        assert found.certain
    rule = FINE["ledger"][0] | {"credits": {"table": "invoice", "amount": amount}}
    (found,) = refused(database, ledger=[rule])
    assert str(found).startswith("checks.ledger[0] (books: credits): the sum of ")


def test_a_slip_in_a_smoke_statement_is_told_and_neither_statement_nor_program_is_run(make: Make) -> None:
    database = make(SHOP)
    slow, slip = "SELECT pg_sleep(99) FROM invoice", "SELECT FROM invoise"
    smoke = [
        {"kind": "command", "name": "program", "run": ["false"]},
        {"kind": "sql", "name": "fine", "sql": slow, "expect": ""},
        {"kind": "within", "name": "fine too", "sql": slow, "limit": "1s"},
        {"kind": "sql", "name": "slip", "sql": slip, "min": 1},
        {"kind": "within", "name": "late slip", "sql": slip, "limit": "1s"},
    ]
    for copy_of_now in (True, False):
        found = refused(database, copy_of_now=copy_of_now, smoke=smoke)
        assert [str(one) for one in found] == [
            'checks.smoke[3] (slip): relation "invoise" does not exist',
            'checks.smoke[4] (late slip): relation "invoise" does not exist',
        ]
        assert {one.certain for one in found} == {copy_of_now}


def test_a_slip_in_an_invariant_is_certain_only_where_the_copy_has_the_sources_structure(make: Make) -> None:
    database = make(SHOP)
    slip = [*FINE["invariants"], {"name": "slip", "sql": "SELECT FROM invoise"}]
    for copy_of_now in (True, False):
        (found,) = refused(database, copy_of_now=copy_of_now, invariants=slip)
        assert str(found) == 'checks.invariants[1] (slip): relation "invoise" does not exist'
        assert found.certain is copy_of_now


def test_what_the_sources_role_may_not_read_is_certain_for_totals_and_not_for_invariants(make: Make) -> None:
    database = make(SHOP)
    database.run(f"REVOKE pg_read_all_data FROM {database.reader.parts['user']}")
    found = refused(database, **FINE)
    assert {("permission denied" in one.said) for one in found} == {True}
    assert [(one.statement.where, one.certain) for one in found] == [
        ("checks.totals[0]", True),
        ("checks.ledger[0]", True),
        ("checks.ledger[0]", True),
        ("checks.invariants[0]", False),
    ]


def test_a_foreign_table_is_told_before_the_drill(make: Make) -> None:
    database = make(
        SHOP + "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE far (amount numeric) SERVER files OPTIONS (filename '/nowhere')"
    )
    (found,) = refused(database, **total(table="far"))
    assert (found.certain, "reads the foreign table public.far" in found.said) == (True, True)


def test_a_lock_that_somebody_holds_says_nothing_of_the_plan(make: Make) -> None:
    database = make(SHOP)
    with (
        connect(database.owner, name="test", access=Access.READ_WRITE, limits=STAGING_LIMITS) as holder,
        holder.transaction(),
    ):
        holder.execute("LOCK TABLE invoice IN ACCESS EXCLUSIVE MODE")
        found, *_ = refused(database, **total())
    assert "timeout" in found.said
    assert not found.certain
