"""The ledger that is measured, and the faults that are planted in its copy.

Guarantees that the same rows come out of every run, and that every fault can be healed: what was planted for one
contender is not there for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BARE_SCAN = "SELECT count(*), sum(amount) FROM ledger"
BY_HAND = {
    "the totals: `SELECT currency, count(*), sum(amount) … GROUP BY currency`":
        "SELECT currency, count(*), sum(amount) FROM ledger GROUP BY currency",
    "the jsonb as text, as a dump reads it: `SELECT count(doc::text)`": "SELECT count(doc::text) FROM ledger",
    "each row's hash by the server's own function, which misses faults (docs/adr/0006): "
    "`SELECT sum(hash_record_extended(ledger, 0))`": "SELECT sum(hash_record_extended(ledger, 0)) FROM ledger",
    "the hash of each row's text: `SELECT sum(hashtextextended(ledger::text, 0))`":
        "SELECT sum(hashtextextended(ledger::text, 0)) FROM ledger",
}  # fmt: skip
"""What somebody would type who has no tool: a measure of what is to be had at all."""
TABLE = """
CREATE TABLE ledger (
    id bigint NOT NULL, account int NOT NULL, amount numeric(18,2) NOT NULL, currency char(3) NOT NULL,
    rate float8 NOT NULL, posted timestamptz NOT NULL, note text, doc jsonb NOT NULL)
"""
ROWS = """
INSERT INTO ledger
SELECT n, 1000 + (h & 32767)::int, ((h % 200000000) + 7)::numeric / 100,
       (ARRAY['EUR', 'USD', 'GBP', 'JPY', 'CHF'])[1 + (n % 5)],
       0.5 + (h & 1048575) / 1048576.0 + 1.0 / n,
       timestamptz '2021-01-01 00:00:00.123456+00' + n * interval '31 seconds 417 microseconds',
       CASE WHEN n % 10 <> 0 THEN 'invoice ' || (h & 16777215) || ' for customer ' || (h & 65535) END,
       jsonb_build_object('channel', (ARRAY['web', 'desk', 'file'])[1 + (n % 3)],
                          'ok', n % 7 <> 0, 'fee', ((h & 4095)::numeric / 100))
  FROM (SELECT n, hashint8extended(n, 42) AS h FROM generate_series({first}, {last}) n) rows
"""
FINISH = ("ALTER TABLE ledger ADD PRIMARY KEY (id)", "VACUUM (FREEZE, ANALYZE) ledger")
MANY = """
DO $$ BEGIN
    FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, amount numeric(18,2) NOT NULL, said text)', n);
        EXECUTE format('INSERT INTO small_%s SELECT k, k * %s / 100.0, ''line '' || k FROM generate_series(1, 10) k',
                       n, n);
    END LOOP;
END $$
"""


@dataclass(frozen=True)
class Fault:
    """A damage to the copy."""

    name: str
    plant: str
    heal: str
    keys: tuple[int, ...]
    """Of the rows that differ while it is there."""

    @classmethod
    def change(cls, name: str, key: int, plant: str, heal: str) -> Fault:
        """One row, set to something else and back."""
        return cls(name, _update(plant, key), _update(heal, key), (key,))


def a_cent(key: int) -> Fault:
    """The smallest that an amount can be off."""
    return Fault.change("a cent", key, "amount = amount + 0.01", "amount = amount - 0.01")


def swapped_amounts(one: int, other: int) -> Fault:
    """Two rows have each other's amount: every total stays what it was."""
    swap = (
        "UPDATE ledger t SET amount = o.amount FROM ledger o"
        f" WHERE t.id IN ({one}, {other}) AND o.id = {one + other} - t.id"
    )
    return Fault("two rows' amounts swapped", swap, swap, (one, other))


def trailing_space(key: int) -> Fault:
    """Nobody sees it."""
    return Fault.change("a trailing space", key, "note = note || ' '", "note = rtrim(note)")


def null_to_empty(key: int) -> Fault:
    """Every tenth row has no note; `key` is one of them."""
    return Fault.change("NULL to ''", key, "note = ''", "note = NULL")


def a_microsecond(key: int) -> Fault:
    """The smallest that an instant can be off."""
    step = "interval '1 microsecond'"
    return Fault.change("1 microsecond", key, f"posted = posted + {step}", f"posted = posted - {step}")


def handful(rows: int) -> tuple[Fault, ...]:
    """The faults that every contender is shown one by one."""
    tenth = rows // 10
    return (
        a_cent(tenth + 1),
        swapped_amounts(2 * tenth + 1, 3 * tenth + 2),
        trailing_space(4 * tenth + 1),
        null_to_empty(_without_note(5 * tenth)),
        a_microsecond(6 * tenth + 1),
    )


def ten_rows(rows: int) -> tuple[Fault, ...]:
    """Ten rows that differ, all over the table."""
    step = rows // 11
    places = [step * n + 1 for n in range(1, 9)]
    kinds = (a_cent, trailing_space, a_microsecond, a_cent, a_microsecond, trailing_space)
    faults = [kind(_with_note(place)) for kind, place in zip(kinds, places, strict=False)]
    return (*faults, swapped_amounts(places[6], places[7]), null_to_empty(_without_note(step * 9)), a_cent(rows))


def keys(faults: Sequence[Fault]) -> list[int]:
    """Of all rows that differ while these are there."""
    return sorted(key for fault in faults for key in fault.keys)


def _update(change: str, key: int) -> str:
    return f"UPDATE ledger SET {change} WHERE id = {key}"


def _with_note(key: int) -> int:
    return key if key % 10 else key + 1


def _without_note(key: int) -> int:
    return max(key // 10, 1) * 10
