"""What the parts of a plan are made from: a section, and the errors that know their place.

Guarantees that an error which a section raises itself is shown with the line it is about, and that none of pydantic's
own errors repeats a value, since one of them may be a misplaced secret. What a section says itself may repeat a value
where no secret belongs, such as a name, a number or a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from drills.records import Model

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
"""A number that a value of PostgreSQL's is held against; an exponent beyond these digits no value of its types has."""


def _as_written(value: object) -> object:
    """A number in the plan is meant as PostgreSQL would write it."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return format(value, "f" if isinstance(value, Decimal) else "d")
    return value


Value = Annotated[str, BeforeValidator(_as_written), WithJsonSchema({"type": ["string", "number"]})]
"""A value as PostgreSQL writes it."""


def fault(said: str, *at: str | int, hint: str = "") -> PydanticCustomError:
    """An error that knows its place below the model which raises it, so that it is shown with the right line."""
    return PydanticCustomError("plan_rule", "{said}", {"said": said, "at": at, "hint": hint})


def all_at_once(faults: Sequence[PydanticCustomError]) -> ValidationError:
    """Several of them, for a section that has more than one thing to say; each keeps its place."""
    # Never the value itself: it may hold a misplaced secret.
    lines = [InitErrorDetails(type=one, loc=(), input=None) for one in faults]
    return ValidationError.from_exception_data("plan", lines, hide_input=True)


def refuse_twice(kind: str, places: Sequence[tuple[str, tuple[str | int, ...]]]) -> None:
    """Two of one name could not be told apart in the report, nor, in another case, as files."""
    seen: set[str] = set()
    for name, at in places:
        if name.casefold() in seen:
            raise fault(f"duplicate name of {kind}: {name!r}", *at)
        seen.add(name.casefold())


class Section(Model):
    """A part of the plan. Its values stay out of pydantic's own errors: one of them may be a misplaced secret."""

    model_config = ConfigDict(hide_input_in_errors=True)
