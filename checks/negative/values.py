"""Damages to values: each a template of SQL, put into the first column of its kinds that takes it.

Guarantees that what was planted is a change: the value's text afterwards is another one than before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from checks.negative.planting import Column, Damage, Planting, Site, quoted_name

# ruff: noqa: S608 - names are quoted

_TEXTS = ("text", "varchar")
NUMBERS = ("numeric", "money", "int8", "int4")
INSTANTS = ("timestamptz", "timestamp")
_FIRST_LETTER = (
    'CASE WHEN left({column}, 1) = upper(left({column}, 1)) COLLATE "C" THEN lower(left({column}, 1))'
    " ELSE upper(left({column}, 1)) END || substr({column}, 2)"
)


@dataclass(frozen=True)
class Change:
    """Other values in one column, or in two of one type."""

    kinds: tuple[str, ...]
    """Of the columns, the best first; none for any."""
    new: str
    which: str = "{column} IS NOT NULL"
    """The rows that can be changed so."""
    new_other: str = ""
    """For another column of the same type in the same table."""
    rows: int = 1
    loose: bool = False
    """Only where the collation holds different texts for equal."""

    def find(self, site: Site) -> Iterator[Planting]:
        """Every column that it may fit."""
        found = [column for column in site.columns if not column.fixed and self._fits(column)]
        found.sort(key=lambda column: (self._place(column), column.unique, column.required and self.new == "NULL"))
        for column in found:
            for other in self._others(column, found):
                yield self._in(column, other)

    def _fits(self, column: Column) -> bool:
        return (not self.kinds or column.kind in self.kinds) and (column.loose or not self.loose)

    def _place(self, column: Column) -> int:
        return self.kinds.index(column.kind) if self.kinds else 0

    def _others(self, column: Column, found: list[Column]) -> list[Column]:
        if not self.new_other:
            return [column]
        return [one for one in found if one != column and (one.shown, one.type) == (column.shown, column.type)]

    def _in(self, column: Column, other: Column) -> Planting:
        told = {"column": quoted_name(column), "other": quoted_name(other), "type": column.type, "unit": _unit(column)}
        news = [(told["column"], self.new)] + ([(told["other"], self.new_other)] if self.new_other else [])
        sets = [(name, f"({new.format(**told)})::{column.type}") for name, new in news]
        changes = " OR ".join(f"ROW({new})::text IS DISTINCT FROM ROW({name})::text" for name, new in sets)
        statement = (
            f"UPDATE ONLY {column.quoted} SET {', '.join(f'{name} = {new}' for name, new in sets)}"
            f" WHERE ctid IN (SELECT ctid FROM ONLY {column.quoted} WHERE ({self.which.format(**told)})"
            f" AND ({changes}) LIMIT {self.rows}) RETURNING 1"
        )
        where = f"{column.shown}.{column.name}" + (f" and {other.name}" if self.new_other else "")
        return Planting(where, (statement,), self.rows, frozenset({column.shown}))


def _unit(column: Column) -> str:
    """The smallest step of a number."""
    if column.kind == "numeric" and column.typmod != -1:
        # numeric.c, numeric_typmod_scale: eleven bits with a sign.
        scale = (((column.typmod - 4) & 0x7FF) ^ 1024) - 1024
        return format(Decimal(1).scaleb(-scale), "f")
    return {"numeric": "0.01", "money": "0.01::money"}.get(column.kind, "1")


def _content(meaning: str, change: Change) -> Damage:
    return Damage(meaning, "content", change.find)


VALUES: Mapping[str, Damage] = MappingProxyType(
    {
        "one cent": _content(
            "one amount is larger by the smallest unit of its column",
            Change(NUMBERS, "{column} + {unit}"),
        ),
        "signs flipped in two rows": _content(
            "two amounts have the opposite sign", Change(NUMBERS, "- {column}", rows=2)
        ),
        "amounts of equal hash": _content(
            "two amounts of one row are ten thousand times as large, which PostgreSQL's own hash sees as a change of"
            " weight that cancels out",
            Change(("numeric",), "{column} * 10000", "{column} > 0 AND {other} > 0", "{other} * 10000"),
        ),
        "amount not a number": _content("an amount is NaN", Change(("numeric",), "'NaN'")),
        "1.5 to 1.50": _content(
            "a number has one zero more behind its point, and is equal in SQL",
            Change(("numeric",), "round({column}, scale({column}) + 1)"),
        ),
        "NULL to zero": _content("an amount that was not known is zero", Change(NUMBERS, "0", "{column} IS NULL")),
        "bigint of equal hash": _content(
            "a whole number has become another one of the same hash in PostgreSQL",
            Change(("int8",), "({column} # 1) + 4294967296", "{column} >= 0 AND {column} < 4294967296"),
        ),
        "last digit of a float": _content(
            "a floating-point number differs in its last digit",
            Change(
                ("float8", "float4"),
                "{column} * CASE WHEN pg_typeof({column}) = 'float4'::regtype THEN 1.0000001192092896::float8"
                " ELSE 1.0000000000000002::float8 END",
            ),
        ),
        "minus zero": _content(
            "a floating-point zero has a sign, and is equal in SQL",
            Change(("float8", "float4"), "'-0'::float8", "{column} = 0"),
        ),
        "boolean flipped": _content("yes has become no, or no yes", Change(("bool",), "NOT {column}")),
        "one microsecond": _content(
            "an instant is later by a microsecond", Change(INSTANTS, "{column} + interval '1 microsecond'")
        ),
        "another day": _content("a date is one day later", Change(("date",), "{column} + 1")),
        "one month to thirty days": _content(
            "an interval has thirty days in the place of a month, and is equal in SQL",
            Change(("interval",), "{column} - interval '1 month' + interval '30 days'"),
        ),
        "NULL to empty text": _content("a text that was not there is empty", Change(_TEXTS, "''", "{column} IS NULL")),
        "value to NULL": _content("a value is gone", Change((), "NULL")),
        "trailing space": _content("a text ends with one more space", Change(_TEXTS, "{column} || ' '")),
        "case of one letter": _content(
            "the first letter of a text has changed its case", Change(_TEXTS, _FIRST_LETTER)
        ),
        "other text of equal collation": _content(
            "a text is another one, which its collation holds for equal", Change(_TEXTS, _FIRST_LETTER, loose=True)
        ),
        "other Unicode form": _content(
            "a text looks the same, and is made of other characters", Change(_TEXTS, "normalize({column}, NFD)")
        ),
        "trailing blank of a char": _content(
            "a char without length ends with one more blank, and is equal in SQL",
            Change(("bpchar",), "concat({column}, ' ')"),
        ),
        "letter moved across a column border": _content(
            "the last letter of one column stands at the beginning of another, so that both together read the same",
            Change(_TEXTS, "left({column}, -1)", "length({column}) > 0 AND {other} IS NOT NULL",
                   "right({column}, 1) || {other}"),
        ),
        "values exchanged between columns": _content(
            "two columns of one row have exchanged their values",
            Change((), "{other}", "{column} IS NOT NULL AND {other} IS NOT NULL", "{column}"),
        ),
        "white space in json": _content(
            "a json text has one more space", Change(("json",), "concat({column}, ' ')::json")
        ),
        "number in jsonb 5 to 5.0": _content(
            "a number inside a jsonb has one zero more behind its point, and is equal in SQL",
            Change(("jsonb",), r"regexp_replace({column}::text, '(: -?\d+)(?![\d.eE])', '\1.0')::jsonb"),
        ),
        "array element lost": _content(
            "an array lacks its first element",
            Change(("array",), "({column})[array_lower({column}, 1) + 1:]", "cardinality({column}) > 0"),
        ),
        "array in another order": _content(
            "the first element of an array is its last",
            Change(("array",), "({column})[array_lower({column}, 1) + 1:] ||"
                   " ({column})[array_lower({column}, 1):array_lower({column}, 1)]", "cardinality({column}) > 1"),
        ),
        "another enum label": _content(
            "a value of an enum is another one of its labels",
            Change(("enum",), "(SELECT e FROM unnest(enum_range({column})) e WHERE e <> {column} ORDER BY e LIMIT 1)"),
        ),
        "range bound": _content(
            "a range includes the bound that it left out",
            Change(("range",), r"regexp_replace({column}::text, '\)$', ']')"),
        ),
        "byte in bytea": _content(
            "one byte of a bytea is inverted",
            Change(("bytea",), "set_byte({column}, 0, 255 - get_byte({column}, 0))", "length({column}) > 0"),
        ),
        "bit string inverted": _content("every bit is the other one", Change(("bit", "varbit"), "~ {column}")),
        "digit of a uuid": _content(
            "the last digit of a uuid is another one",
            Change(("uuid",), "left({column}::text, -1) || translate(right({column}::text, 1), '0123456789abcdef',"
                   " '123456789abcdef0')"),
        ),
        "network mask": _content(
            "the mask of a network address is one bit shorter",
            Change(("inet", "cidr"), "set_masklen({column}::inet, masklen({column}) - 1)", "masklen({column}) > 0"),
        ),
    }
)  # fmt: skip
