"""Totals as any statement may measure them, from the pieces that `checks.totals_sql` gives."""

from __future__ import annotations

from decimal import Decimal

from fix_checks import a_log, opening
from fix_postgres import Database

from checks.totals_sql import amount_expression, closed_at, condition, group_expressions, own
from drills.measures import Total, TotalRow
from drills.plan import TotalCheck

EXACT = {"bigint", "numeric", "money"}


def statement_of(check: TotalCheck) -> str:
    """Groups, rows, amounts, sum, the sum's type."""
    groups, amount, where = group_expressions(check), amount_expression(check), condition(check)
    columns = [*groups, "count(*)", f"count({amount})", f"sum({amount})::numeric", f"pg_typeof(sum({amount}))::text"]
    grouped = f" GROUP BY {', '.join(str(place) for place in range(1, len(groups) + 1))}" if groups else ""
    return f"SELECT {', '.join(columns)} FROM {own(check.table)}{f' WHERE {where}' if where else ''}{grouped}"


def put_total(database: Database, check: TotalCheck) -> Total:
    """One total of this database as it is now."""
    with opening(database.reader)() as connection:
        found = a_log().ask(connection, check.name, statement_of(check))
    kinds = {row[-1] for row in found}
    assert kinds <= EXACT, f"{kinds} is not exact"
    return Total(
        name=check.name,
        by=tuple(check.by),
        closed=closed_at(check),
        rows=tuple(
            TotalRow(
                group=tuple(group), rows=rows, amounts=amounts, total=None if whole is None else Decimal(str(whole))
            )
            for *group, rows, amounts, whole, _ in found
        ),
    )
