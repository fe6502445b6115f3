"""The catalogue of damages: everything that a drill can plant in a scratch clone to see whether its checks catch it.

The names are words of a plan (`drills.plans.negative`); here each has its meaning, the check that claims it, and the
way it is planted. docs/checks.md is written from it, and the tests plant all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from checks.negative.books import BOOKS
from checks.negative.planting import Damage
from checks.negative.rows import ROWS
from checks.negative.structure import STRUCTURE
from checks.negative.tables import SEQUENCES, TABLES
from checks.negative.values import VALUES

DAMAGES: Mapping[str, Damage] = MappingProxyType({**VALUES, **ROWS, **TABLES, **STRUCTURE, **SEQUENCES, **BOOKS})
"""By name."""
