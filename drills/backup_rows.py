"""The rows of one table as a backup holds them, on their way to whoever looks for what differs.

`drills.recovery` gives them; whoever asks needs these words only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from drills.measures import Scan


@dataclass(frozen=True)
class TableRows:
    """Rows in the text format of COPY, read while they are used."""

    columns: tuple[str, ...]
    """In the order of the fields. Columns that the server generates are not among them."""
    encoding: str
    """As PostgreSQL calls it; the columns' names are decoded."""
    pinned: bool
    """Whether money was written under the settings that sessions are pinned to, not under those of its database."""
    chunks: Iterator[bytes]
    """Whole lines, many at a time, without the end mark."""


GiveRows = Callable[[Scan, Sequence[str]], AbstractContextManager[TableRows]]
"""Gives the rows of a table which are in these buckets, or in any where there are none. It may give others as well.

Raises ToolError, ConnectError or CheckError where they cannot be had: at once, or while they are read.
"""
