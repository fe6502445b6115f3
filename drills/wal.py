"""Places in the WAL: positions, the segments that they lie in, and the pages of those.

Owns how PostgreSQL writes a position and calls a segment's file. Refuses what is neither.
"""

from __future__ import annotations

import re

HERE = "(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text"
"""Asked of a server: where its WAL is."""
PARTIAL = ".partial"
"""How the name of a segment ends that pg_receivewal has not received all of."""
UNREADABLE = 200
"""The code by which whatever fetches a segment ends a recovery that needs it: any above 125 does (xlogarchive.c); up
to 125 PostgreSQL takes the segment to be missing."""
PAGE, SHORT_HEADER, LONG_HEADER = 8192, 24, 40
"""Bytes of a page as PostgreSQL is built everywhere, and of the headers of a page and of a segment's first one
(XLogPageHeaderData, XLogLongPageHeaderData)."""
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_FILE = 1 << 32
"""What the middle part of a segment's name counts."""


def parse_lsn(written: str) -> int:
    """`16/B374D848` as the number of a byte in the WAL.

    Raises:
        ValueError: it is not that.
    """
    found = _LSN.fullmatch(written)
    if found is None:
        raise ValueError(f"expected a WAL position such as 16/B374D848, got {written!r}")
    return int(found[1], 16) << 32 | int(found[2], 16)


def show_lsn(position: int) -> str:
    """As PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_name(timeline: int, number: int, size: int) -> str:
    """The file name of the WAL segment with this number, with segments of so many bytes."""
    per = _FILE // size
    return f"{timeline:08X}{number // per:08X}{number % per:08X}"


def segment_number(name: str, size: int) -> int:
    """The number of the WAL segment of this file name, likewise: it begins at so many times `size`.

    Raises:
        ValueError: no segment is called that.
    """
    if not _SEGMENT.fullmatch(name):
        raise ValueError(f"expected the name of a WAL segment, 24 hexadecimal digits, got {name!r}")
    return int(name[8:16], 16) * (_FILE // size) + int(name[16:], 16)


def page_start(position: int, segment: int, page: int = PAGE) -> int:
    """The same position, or the beginning of its page where nothing but a header lies between.

    The page may not have been written yet, and nothing of it is needed.

    Args:
        position: of a byte.
        segment: bytes of one.
        page: bytes of one.
    """
    header = LONG_HEADER if position % segment < page else SHORT_HEADER
    return position - header if position % page == header else position
