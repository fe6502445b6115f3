"""One of every kind of value that PostgreSQL keeps, next to those that it is most easily taken for."""

from __future__ import annotations

import random
from dataclasses import dataclass

SETUP = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad', 'Sad', '');
CREATE TYPE pair AS (one int, other text);
CREATE TYPE sum_of AS (amount numeric, at bpchar);
CREATE DOMAIN money_of AS numeric(18,2); CREATE DOMAIN price AS money_of CHECK (VALUE > -1e15);
CREATE DOMAIN free AS numeric; CREATE DOMAIN word AS text; CREATE DOMAIN short AS varchar(20);
CREATE DOMAIN code AS char(3);
CREATE DOMAIN loose_code AS bpchar; CREATE DOMAIN real_one AS float8; CREATE DOMAIN instant AS timestamptz;
CREATE DOMAIN local_time AS timestamp; CREATE DOMAIN day AS date; CREATE DOMAIN big AS int8; CREATE DOMAIN yes AS bool;
CREATE DOMAIN feeling AS mood; CREATE DOMAIN numbers AS int[]; CREATE DOMAIN couple AS pair;
CREATE DOMAIN document AS jsonb;
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TYPE own;
CREATE FUNCTION own_in(cstring) RETURNS own LANGUAGE internal IMMUTABLE STRICT AS 'int8in';
CREATE FUNCTION own_out(own) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int8out';
CREATE TYPE own (INPUT = own_in, OUTPUT = own_out, LIKE = bigint);
CREATE FUNCTION lossy(own) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'all the same'::text$$;
CREATE CAST (own AS text) WITH FUNCTION lossy(own) AS IMPLICIT;
CREATE FUNCTION lossy(time) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'all the same'::text$$;
CREATE CAST (time AS text) WITH FUNCTION lossy(time);
CREATE FUNCTION lossy(pair) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'all the same'::text$$;
CREATE CAST (pair AS text) WITH FUNCTION lossy(pair);
CREATE CAST (int4 AS text) WITH INOUT AS IMPLICIT;
CREATE FUNCTION never(numeric, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR public.< (FUNCTION = never, LEFTARG = numeric, RIGHTARG = int);
"""
"""Also what people do to a database: casts to text that leave something out, an operator that fits too well."""


@dataclass(frozen=True)
class Kind:
    """A type, and SQL of values of it that must all be told apart."""

    type: str
    values: tuple[str, ...]
    since: int = 0
    """The first major version that has it."""
    needs: str = ""
    """What is needed besides: an extension, ICU or libxml."""
    same: tuple[tuple[str, str], ...] = ()
    """Pairs that are one value, differently spelled."""

    @property
    def told(self) -> str:
        """For the name of a test."""
        return self.type.replace('"', "")


def _texts(*values: str) -> tuple[str, ...]:
    return tuple("'" + value.replace("'", "''") + "'" for value in values)


def folded(count: int = 6) -> list[tuple[int, int]]:
    """Pairs of bigints that `hashint8extended` takes for the same: it joins both halves before it hashes."""
    dice, pairs = random.Random(3), []  # noqa: S311 - the same ones every time
    for _ in range(count):
        low, high, other = dice.getrandbits(32), dice.getrandbits(17), dice.getrandbits(17)
        pairs.append((high << 32 | low, other << 32 | (low ^ high ^ other)))
    return pairs


_EPOCH = "'2000-01-01'::timestamp"
_FOLDED = [number for pair in folded() for number in pair]
_FIRST = -49316670
"""Times 2^32 microseconds, counted from 2000: the first multiple that an instant can have."""
_EARLY = (_FIRST << 32) - 2**31 - 7
_MIRRORED = [
    *(-(number >> 32) - 1 << 32 | number & 0xFFFFFFFF for number in _FOLDED),
    _EARLY, _FIRST << 32 | (_EARLY & 0xFFFFFFFF) ^ ((_FIRST ^ _FIRST - 1) & 0xFFFFFFFF),
    _FIRST - 1 << 32 | 2**31 + _FIRST - 1, _FIRST << 32, (_FIRST << 32) - 1,
]  # fmt: skip
"""What folding confuses where the sign is left out; an instant of the first minutes and one of the next hour, and one
that is like -infinity, if they are not told apart; the border."""
_STAMPS = (
    *_texts("2026-11-21 22:09:00", "2026-11-21 22:09:00.000001", "2026-11-21 22:09:00.000002", "1970-01-01 00:00:00",
            "1970-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999", "2000-01-01", "1999-12-31 23:59:59.999999",
            "4000-01-01", "4000-01-01 00:00:00.000001", "294276-12-31 23:59:59.999998", "294276-12-31 23:59:59.999999",
            "0044-03-15 BC", "0044-03-15", "0044-03-15 00:00:00.000001 BC", "1834-01-01", "1833-12-31 23:59:59.999999",
            "1833-12-31 23:59:59.999998", "2105-12-31 23:59:59.999999", "2106-01-01", "2106-01-01 00:00:00.000001",
            "4714-11-24 BC", "4714-11-24 00:00:00.000001 BC", "infinity", "-infinity"),
    *(f"{_EPOCH} + interval '{number} microseconds'" for number in [*_FOLDED, *_MIRRORED]),
)  # fmt: skip
_AMOUNTS = _texts(
    "0", "1", "-1", "10000", "-10000", "100000000", "0.01", "100", "-0.01", "NaN", "1234567890.12", "1234567890.13",
    "99.99", "1000000000000", "-1000000000000", "0.10",
)  # fmt: skip
_FREE = _texts(
    "0", "0.0", "0.00", "1", "1.0", "1.00", "-1", "-1.0", "10000", "10000.0", "100000000", "0.0001", "1.5", "1.50",
    "-1.5", "NaN", "1e100", "-1e100", "123456789012345678901234567890.12", "-123456789012345678901234567890.12",
)  # fmt: skip
_FLOATS = _texts(
    "0", "-0", "NaN", "Infinity", "-Infinity", "1", "-1", "1.0000000000000002", "5e-324", "-5e-324", "0.1",
    "0.10000000000000002", "1e308", "4294967296", "1e-10",
)  # fmt: skip
_WORDS = _texts("", " ", "a", "a ", "A", "NULL", "null", "<null>", "\\N", "ä", "a\u0308", "x|y", "a,b", '"a"', "(a)")
_DAYS = _texts("2026-11-21", "2026-11-22", "2000-01-01", "1999-12-31", "infinity", "-infinity", "0044-03-15 BC",
               "0044-03-15", "5874897-12-31", "4714-11-24 BC")  # fmt: skip
_BIGS = ("1", "4294967296", "0", "-1", "4294967295", "-4294967296", "9223372036854775807",
         "(-9223372036854775807 - 1)", *map(str, _FOLDED))  # fmt: skip
_MOODS = _texts("sad", "glad", "Sad", "")
_ARRAYS = _texts("{}", "{1,2}", "{{1,2}}", "{{1},{2}}", "[2:3]={1,2}", "[0:1]={1,2}", "{1,NULL}", "{NULL}", "{12}")

ZOO = (
    Kind("int2", ("0", "1", "-1", "32767", "-32768")),
    Kind("int4", ("0", "1", "-1", "65536", "2147483647", "-2147483647 - 1")),
    Kind("int8", _BIGS),
    Kind("big", _BIGS),
    Kind("oid", ("0", "1", "4294967295")),
    Kind("numeric(18,2)", _AMOUNTS, same=(("1", "1.00"), ("0", "'-0.00'"))),
    Kind("price", _AMOUNTS[:9]),
    Kind("money_of", _AMOUNTS),
    Kind("numeric", _FREE, same=(("1e2", "100"),)),
    Kind("free", _FREE),
    Kind("numeric(40,20)", _texts("0", "1", "-1", "1e-20", "10000", "1e16", "NaN")),
    Kind("numeric(5,-2)", _texts("0", "100", "-100", "1000000", "NaN"), since=15, same=(("149", "100"),)),
    Kind("numeric(3,5)", _texts("0", "0.00001", "0.00999", "-0.00001"), since=15),
    Kind("numeric ", _texts("Infinity", "-Infinity", "NaN", "0", "1"), since=14),
    Kind("float4", _texts("0", "-0", "NaN", "Infinity", "-Infinity", "1", "1.0000001", "0.1", "1e-45", "-1",
                          "16777216")),
    Kind("float8", _FLOATS),
    Kind("real_one", _FLOATS),
    Kind("money", _texts("0", "0.01", "-0.01", "100", "10000", "-92233720368547758.08")),
    Kind("bool", ("true", "false")),
    Kind("yes", ("true", "false")),
    Kind('"char"', ("'a'", "'b'", "''", "'-'")),
    Kind("name", _texts("", "a", "A", "a ", "x" * 63)),
    Kind("bpchar", _texts("", " ", "a", "a ", "a  ", "A")),
    Kind("loose_code", _texts("", " ", "a", "a ", "a  ", "A")),
    Kind("char(3)", _texts("", "a", "ab", "A"), same=(("'a'", "'a  '"),)),
    Kind("code", _texts("", "a", "ab", "A"), same=(("'a'", "'a  '"),)),
    Kind("varchar(20)", _WORDS),
    Kind("short", _WORDS),
    Kind("text", _WORDS),
    Kind("word", _WORDS),
    Kind("text COLLATE loose", _WORDS[:9], needs="ICU"),
    Kind("varchar COLLATE loose", _WORDS[:9], needs="ICU"),
    Kind("char(3) COLLATE loose", _texts("a", "A", "b"), needs="ICU", same=(("'a'", "'a '"),)),
    Kind("citext", _texts("", "a", "A", "a ", "b"), needs="citext"),
    Kind("hstore", _texts("", "a=>1", "a=>NULL", 'a=>"NULL"', "A=>1"), needs="hstore"),
    Kind("date", _DAYS),
    Kind("day", _DAYS),
    Kind("time", (*_texts("00:00", "24:00", "00:00:00.000001", "23:59:59.999999", "12:00"),
                  *(f"('00:00'::time + interval '{number % 86400000000} microseconds')"
                    for number in (4294967297, 8589934594, 4294967296 << 2)))),
    Kind("timetz", _texts("12:00+00", "12:00+01", "13:00+01", "24:00+00", "00:00+00")),
    Kind("timestamp", _STAMPS),
    Kind("local_time", _STAMPS),
    Kind("timestamptz", _STAMPS, same=(("'2026-01-01 12:00+00'", "'2026-01-01 14:00+02'"),)),
    Kind("instant", _STAMPS),
    Kind("interval", _texts("1 month", "30 days", "720 hours", "1 day", "24 hours", "-1 month", "1 month -30 days", "0",
                            "0.000001 s", "-0.000001 s", "1 year"), same=(("'1 year'", "'12 months'"),)),
    Kind("uuid", _texts("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001",
                        "10000000-0000-0000-0000-000000000000")),
    Kind("bytea", _texts("", r"\x00", r"\x0000", r"\x0001", r"\x0100", r"\x5c78", r"\xff")),
    Kind("bit(3)", _texts("000", "001", "100")),
    Kind("varbit", _texts("", "0", "00", "000000000", "1")),
    Kind("inet", _texts("1.2.3.4", "1.2.3.4/24", "1.2.3.0/24", "::1", "::ffff:1.2.3.4", "0.0.0.0/0", "::/0")),
    Kind("cidr", _texts("1.2.3.0/24", "1.2.3.0/25", "1.2.3.0/32", "::/0", "0.0.0.0/0")),
    Kind("macaddr", _texts("00:00:00:00:00:00", "00:00:00:00:00:01", "01:00:00:00:00:00")),
    Kind("macaddr8", _texts("00:00:00:00:00:00:00:00", "00:00:00:00:00:00:00:01", "01:00:00:00:00:00:00:00")),
    Kind("json", _texts('{"a":1}', '{"a": 1}', '{"a":1,"a":1}', '{"a":1.0}', "1", "1.0", "null", '"null"',
                        '{"a":1,"b":2}', '{"b":2,"a":1}')),
    Kind("jsonb", _texts("1", "1.0", "1.00", "-5", "5", '"5"', "null", '"null"', "[]", "{}", "[null]", "[[1]]", "[1]",
                         "true", '"true"', '{"a":1}', '{"a":1.0}', '{"b":1}', "[1,2]", "[12]", "1e100"),
         same=(("""'{"a":1,"b":2}'""", """'{"b":2, "a":1}'"""),)),
    Kind("document", _texts("1", "1.0", "-1", "null", "[]")),
    Kind("xml", _texts("<a/>", "<a></a>", "<a>1</a>", "<a> </a>", "a"), needs="libxml",
         same=(("""'<?xml version="1.0" encoding="UTF-8"?><a/>'""", "'<a/>'"),)),
    Kind("int4[]", _ARRAYS),
    Kind("numbers", _ARRAYS),
    Kind("numeric[]", _texts("{}", "{1.0}", "{1.00}", "{-1.0}", "{NULL}", "{1.0,NULL}", "[0:0]={1.0}",
                             "{{1.0}}", "{NaN}")),
    Kind("float8[]", _texts("{0}", "{-0}", "{0,0}", "{}", "{NaN}")),
    Kind("text[]", _texts("{}", '{""}', "{NULL}", '{"NULL"}', "{a,b}", '{"a,b"}', "{ab}", '{"a "}')),
    Kind("mood[]", _texts("{}", "{sad}", "{glad}", "{Sad}", "{sad,glad}", '{""}', "{NULL}")),
    Kind("pair[]", _texts("{}", '{"(1,a)"}', '{"(,)"}', "{NULL}", '{"(1,)"}', '{"(1,\\"\\")"}')),
    Kind("mood", _MOODS),
    Kind("feeling", _MOODS),
    Kind("pair", ("ROW(NULL,NULL)", "ROW(1,NULL)", "ROW(NULL,'')", "ROW(1,'')", "ROW(1,' ')", "ROW(1,'1')",
                  "ROW(11,'')")),
    Kind("couple", ("ROW(NULL,NULL)::pair", "ROW(1,NULL)::pair", "ROW(NULL,'')::pair")),
    Kind("sum_of", ("ROW(1.0,'a')", "ROW(1.00,'a')", "ROW(1.0,'a ')", "ROW(-1.0,'a')", "ROW(NULL,'a')")),
    Kind("int4range", _texts("empty", "[1,2)", "[1,3)", "(,)", "[1,)", "(,1)"), same=(("'[1,1]'", "'[1,2)'"),)),
    Kind("numrange", _texts("[1.0,2]", "[1.00,2]", "[1.0,2)", "(1.0,2)", "empty", "[-2,-1]", "[1,2]")),
    Kind("tstzrange", _texts("[2026-01-01,2026-01-02)", "[2026-01-01,2026-01-02]",
                             "[2026-01-01 00:00:00.000001,2026-01-02)")),
    Kind("span", _texts("[0,1)", "[-0,1)", "[0,1]", "empty")),
    Kind("int4multirange", _texts("{}", "{[1,2)}", "{[1,2),[3,4)}", "{[1,4)}"), since=14),
    Kind("nummultirange", _texts("{}", "{[1.0,2]}", "{[1.00,2]}", "{(1.0,2]}"), since=14),
    Kind("own", _texts("0", "1", "4294967296", "-1")),
    Kind("regclass", _texts("pg_class", "pg_type", "0")),
    Kind("regtype", _texts("int4", "int8", "mood")),
    Kind("regproc", _texts("now", "own_in")),
    Kind("regrole", _texts("pg_monitor", "pg_read_all_data")),
    Kind("regnamespace", _texts("public", "pg_catalog")),
    Kind("point", _texts("(0,0)", "(-0,0)", "(0,-0)", "(0,1)", "(0.1,0)", "(0.10000000000000002,0)")),
    Kind("path", _texts("[(0,0),(1,1)]", "((0,0),(1,1))", "[(0,0)]")),
    Kind("box", _texts("(1,1),(0,0)", "(1,2),(0,0)", "(1,1),(-0,0)"), same=(("'(0,0),(1,1)'", "'(1,1),(0,0)'"),)),
    Kind("circle", _texts("<(0,0),1>", "<(0,0),0>", "<(0,1),1>")),
    Kind("pg_lsn", _texts("0/0", "0/1", "1/0", "FFFFFFFF/FFFFFFFF")),
    Kind("xid", _texts("0", "1", "4294967295")),
    Kind("tid", _texts("(0,0)", "(0,1)", "(1,0)")),
    Kind("tsvector", _texts("", "a", "a:1", "a:1A", "a:2", "a b", "'a b'")),
    Kind("tsquery", _texts("a & b", "a | b", "a <-> b", "b & a", "!a")),
    Kind("jsonpath", _texts("$.a", "strict $.a", "$.a[*]", "$")),
)  # fmt: skip
"""A domain of each kind is hashed as what it stands on."""
