"""A total as SQL: its groups, its amount and the rows that count, for whatever statement they are put into.

Guarantees that a comment in a plan's expression swallows nothing of what follows it; that groups are told apart by
their bytes; that a side which is neither positive nor negative has no amount, so that it is missed in the count; and
that a period ends for source and copy at the same instant, which stands in the statement.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from drills.errors import CheckError
from drills.plans.sums import Closing, Sign, Sum


def group_expressions(check: Sum) -> list[str]:
    """One text for each group of `by`."""
    # By the bytes: a collation that holds 'a' and 'A' for equal would leave open which of them names the group.
    return [as_text(expression) for expression in check.by.values()]


def amount_expression(check: Sum) -> str:
    """The signed amount, of the type that the plan's own expression has."""
    amount, sign = own(check.amount), check.sign
    if sign is None:
        return amount
    # Times -1, since money has no minus of its own; the type stays as it is, so that a float is still found out.
    if sign.column is None:
        return f"({amount}) * -1"
    positive, negative = on_side(sign, sign.positive), on_side(sign, sign.negative)
    return f"CASE WHEN {positive} THEN ({amount}) WHEN {negative} THEN ({amount}) * -1 END"


def condition(check: Sum) -> str | None:
    """Which rows count: `where` and the period; None where all do.

    Raises:
        CheckError: the end of the period was not fixed (`Sum.settled`).
    """
    parts = [f"({own(check.where)})"] if check.where else []
    parts += [_before_the_end(check.closed)] if check.closed else []
    return " AND ".join(parts) or None


def total_columns(check: Sum) -> list[str]:
    """Rows that count, those of them with an amount, their sum, and the sum's type."""
    amount, where = amount_expression(check), condition(check)
    only = f" FILTER (WHERE {where})" if where else ""
    return [
        f"count(*){only}",
        f"count({amount}){only}",
        f"(sum({amount}){only})::numeric",
        f"pg_typeof(sum({amount}){only})::text",
    ]


def total_statement(check: Sum) -> str:
    """A total by itself: its groups, then `total_columns`."""
    groups = group_expressions(check)
    where = condition(check)
    plain = [*groups, *total_columns(check.model_copy(update={"where": None, "closed": None}))]
    only = f" WHERE {where}" if where else ""
    grouped = f" GROUP BY {', '.join(str(place) for place in range(1, len(groups) + 1))}" if groups else ""
    return f"SELECT {', '.join(plain)} FROM {own(check.table)}{only}{grouped}"  # noqa: S608 - a plan's SQL


def type_statement(check: Sum) -> str:
    """The type of the sum, for which no row is read."""
    return f"SELECT pg_typeof(sum({amount_expression(check)}))::text FROM {own(check.table)} WHERE false"  # noqa: S608 - a plan's SQL


def on_side(sign: Sign, sides: tuple[str, ...]) -> str:
    """Whether a row stands on one of these sides."""
    return f"{as_text(sign.column or 'NULL')} IN ({', '.join(_literal(side) for side in sides)})"


def own(expression: str) -> str:
    """Text of a plan inside a statement: a comment at its end must not swallow what follows."""
    return f"{expression.strip()}\n" if "--" in expression else expression.strip()


def closed_at(check: Sum) -> str:
    """The end of the period as it stands in the statement; empty where the total has none.

    Raises:
        CheckError: it was not fixed.
    """
    return "" if check.closed is None else _instant(check.closed)


def _before_the_end(closed: Closing) -> str:
    """For a date, a timestamp and a timestamptz alike, since the literal takes on the type of the column.

    A timestamptz reads the offset of the local time that it is given, the others leave it out. A text, which would be
    compared letter by letter, is refused by isfinite().
    """
    column = own(closed.column)
    return f"(({column}) < {_literal(_instant(closed))} AND isfinite({column}) IS NOT NULL)"


def _instant(closed: Closing) -> str:
    try:
        return datetime.fromisoformat(closed.until).isoformat(" ")
    except ValueError:
        raise CheckError(f"the end of the period was not fixed: {closed.until!r}") from None


def as_text(expression: str) -> str:
    """A group as it is named, told apart by its bytes."""
    return f'({own(expression)})::text COLLATE "C"'


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()
