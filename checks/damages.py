"""The catalogue of damages: everything that a drill can plant in a scratch clone to see whether its checks catch it.

The names are words of a plan (`drills.plan_negative`); here each has its meaning, the check that claims it, and the way
it is planted. docs/checks.md is written from it, and the tests plant all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks.damages_books import BOOKS
from checks.damages_rows import ROWS
from checks.damages_structure import STRUCTURE
from checks.damages_tables import SEQUENCES, TABLES
from checks.damages_values import VALUES
from checks.planting import Damage

DAMAGES: Mapping[str, Damage] = MappingProxyType({**VALUES, **ROWS, **TABLES, **STRUCTURE, **SEQUENCES, **BOOKS})
"""By name."""
