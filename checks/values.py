"""One value of the database held against what a plan expects of it.

Guarantees that numbers are compared as exact decimals, whatever their types, and everything else as PostgreSQL writes
it.
"""

from __future__ import annotations

from decimal import Decimal

import psycopg

from checks.asking import Sample
from checks.base import EXACT, NULL, shown
from drills.errors import CheckError
from drills.plans.section import NUMBER
from drills.results import LINES_KEPT

_NUMBERS = {psycopg.adapters.types[name].oid for name in ("int2", "int4", "int8", "numeric", "float4", "float8")}
_NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}
_TRUTH = psycopg.adapters.types["bool"].oid
_TRUTHS = {"t": "true", "f": "false"}


def one_value(found: Sample) -> tuple[str | None, int]:
    """The one value of an answer, as PostgreSQL writes it, and its type's OID.

    Raises:
        CheckError: there is not exactly one.
    """
    if len(found.rows) != 1 or len(found.columns) != 1:
        rows = f"more than {LINES_KEPT}" if len(found.rows) > LINES_KEPT else str(len(found.rows))
        shape = f"{rows} rows" if len(found.rows) != 1 else f"{len(found.columns)} columns"
        raise CheckError(f"expected one row with one column, got {shape}")
    return found.rows[0][0], found.kinds[0]


def compare_value(expect: str, value: str | None, kind: int) -> tuple[str, str, str | None]:
    """Expected and actual as they are shown, and how they differ: None where they do not.

    Raises:
        CheckError: they could never be equal.
    """
    if value is None or expect == NULL:
        return expect, shown(value), None if value is None and expect == NULL else "other value"
    if kind == _TRUTH:
        wanted, there = _truth(expect), _TRUTHS[value]
        return wanted, there, None if wanted == there else "other value"
    if kind in _NUMBERS and not {expect, value} & _NO_NUMBERS:
        number, there_number = _number(expect), Decimal(value)
        difference = EXACT.subtract(there_number, number)
        return expect, value, None if number == there_number else format(difference, "f")
    return expect, shown(value), None if expect == shown(value) else "other value"


def outside(least: str | None, most: str | None, value: str | None, kind: int) -> str | None:
    """By how much a number lies outside its bounds, the bounds included: None where it lies inside.

    Raises:
        CheckError: it is of a type that has no exact order with numbers.
    """
    if kind not in _NUMBERS:
        raise CheckError(
            "the statement gives no number, and `min` and `max` are", hint="cast it in the plan, as in (…)::numeric"
        )
    if value is None or value == "NaN":
        return "not a number"
    there = Decimal(value)
    if least is not None and there < Decimal(least):
        return f"{_gap(there, least)} below the least"
    if most is not None and there > Decimal(most):
        return f"{_gap(there, most)} above the greatest"
    return None


def _gap(there: Decimal, bound: str) -> str:
    return format(EXACT.abs(EXACT.subtract(there, Decimal(bound))), "f")


def _number(expect: str) -> Decimal:
    if not NUMBER.fullmatch(expect.strip()):
        raise CheckError(f"the statement gives a number, and `expect: {expect}` is none: they could never be equal")
    return Decimal(expect.strip())


def _truth(expect: str) -> str:
    wanted = _TRUTHS.get(expect.strip().lower()[:1])
    if wanted is None or not wanted.startswith(expect.strip().lower()):
        raise CheckError(f"the statement gives true or false, and `expect: {expect}` is neither")
    return wanted
