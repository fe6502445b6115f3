"""Reading a plan's file: YAML to `Plan`, every fault with its file and line; and the JSON Schema for editors.

Refuses what `drills.yamltree` and `drills.plan` refuse, and values of another type than a key takes: nothing is
converted on the quiet. Guarantees that all faults of the model are told at once, in the order of their lines, and that
none of them repeats what may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from drills.errors import PlanError
from drills.fields import FORMS
from drills.plan import Plan
from drills.provenance import trace
from drills.records import Provenance
from drills.secrets import VAULT
from drills.units import show_duration
from drills.yamltree import Location, read_tree, shown_key

_LARGEST = 1_000_000
"""Bytes. What is larger is some other file."""


@dataclass(frozen=True)
class PlanFile:
    """A plan, the bytes it was read from, and where they came from."""

    plan: Plan
    text: bytes
    provenance: Provenance


def read_plan(path: Path) -> PlanFile:
    """The plan in this file.

    Raises:
        PlanError: the file cannot be read, is not YAML, or is not a plan; every fault is named with its line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise PlanError(
            f"{path}: cannot be read: {error.strerror}", hint="give the path of a plan's YAML file"
        ) from None
    if len(text) > _LARGEST:
        raise PlanError(f"{path}: larger than {_LARGEST} bytes", hint="give the path of a plan's YAML file")
    plan = parse_plan(text, str(path))
    return PlanFile(plan, text, trace(path, text))


def parse_plan(text: bytes, name: str) -> Plan:
    """The plan in this text; `name` stands before the lines in errors."""
    tree = read_tree(text, name)
    try:
        return Plan.model_validate(tree.content, strict=True)
    except ValidationError as error:
        faults = sorted((_explain(fault, tree.lines, name) for fault in error.errors()), key=lambda fault: fault[0])
        hints = dict.fromkeys(hint for _, _, hint in faults if hint)
        raise PlanError(
            "\n".join(message for _, message, _ in faults),
            hint="; ".join(hints) or "every key is described in docs/plan.md",
        ) from None


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of a plan (draft 2020-12), for editors that know YAML.

    It knows keys, types and forms. Rules between parts, and passwords in addresses, are left to `parse_plan`.
    """
    schema = Plan.model_json_schema(schema_generator=_Untitled)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "Drillbook plan"}


class _Untitled(GenerateJsonSchema):
    """Without a title on each key, which would only repeat its name; defaults as a plan would write them."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's own signature
        return False

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - same
        return show_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _explain(fault: ErrorDetails, lines: dict[Location, int], name: str) -> tuple[int, str, str]:
    """Line, message and hint for one fault that pydantic found."""
    context = fault.get("ctx", {})
    loc, keys = _follow((*fault["loc"], *context.get("at", ()), *([_tag(fault)] if fault["type"] in _KINDS else [])))
    at = loc
    while at not in lines:
        at = at[:-1]
    where = _where(loc)
    hint = ""
    if fault["type"] == "extra_forbidden":
        said, hint = "unknown key", _known_instead(shown_key(loc[-1]), keys)
    elif fault["type"] in {"missing", "union_tag_not_found"}:
        said = "missing"
    elif fault["type"] == "string_pattern_mismatch":
        said = f"expected {FORMS.get(str(context['pattern']), context['pattern'])}"
    elif fault["type"] in _TOLD:
        said = _TOLD[fault["type"]].format(**context) + _got(fault)
    else:
        said = fault["msg"].removeprefix("Value error, ")
        said, hint = said[:1].lower() + said[1:], context.get("hint", "")
    return lines[at], VAULT.redact(f"{name}:{lines[at]}: {where}: {said}"), hint


_KINDS = {"union_tag_invalid", "union_tag_not_found"}
"""Faults of the key that says which of several models it is, which pydantic tells of the element."""
_TAGS = ("kind", "method")
"""What such keys are called."""
_TOLD: Mapping[str, str] = MappingProxyType(
    {
        "string_type": "expected a text",
        "int_type": "expected a whole number",
        "bool_type": "expected true or false",
        "tuple_type": "expected a list",
        "dict_type": "expected a mapping",
        "model_type": "expected a mapping",
        "model_attributes_type": "expected a mapping",
        "literal_error": "expected {expected}",
        "greater_than_equal": "expected at least {ge}",
        "less_than_equal": "expected at most {le}",
        "union_tag_invalid": "expected one of {expected_tags}",
    }
)


def _got(fault: ErrorDetails) -> str:
    """What came instead. A text is told only where the key takes no free text: elsewhere it may be a secret."""
    value = fault["input"]
    if fault["type"] in _KINDS and isinstance(value, dict):
        value = value.get(_tag(fault))
    if isinstance(value, dict | tuple) or value is None:
        return f", got {'nothing' if value is None else 'a mapping' if isinstance(value, dict) else 'a list'}"
    if fault["type"] in {"tuple_type", "dict_type", "model_type", "model_attributes_type"}:
        return ", got a single value"
    if fault["type"] == "string_type":
        return f", got {'true or false' if isinstance(value, bool) else 'a number'} (put it in quotes)"
    return f", got {str(value).lower() if isinstance(value, bool | Decimal) else repr(value)}"


def _where(loc: Location) -> str:
    """As in `checks.totals[1].amount`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}" for part in loc if part != "[key]")
    return "".join(parts).removeprefix(".") or "the plan"


def _known_instead(given: str, keys: list[str]) -> str:
    near = difflib.get_close_matches(re.sub(r"[ -]", "_", given.lower()), keys, n=1)
    return f"for `{given}`, did you mean `{near[0]}`?" if near else f"known beside `{given}`: {', '.join(keys)}"


def _follow(loc: Location) -> tuple[Location, list[str]]:
    """The place as the plan has it, and the keys that are known where its last part is one.

    Where the model of an element depends on its kind, pydantic tells the kind behind the element's number.
    """
    place: Location = ()
    keys: list[str] = []
    models: list[type[BaseModel]] = [Plan]
    for part in loc:
        kinds = {kind: model for model in models for kind in get_args(_kind_of(model))} if len(models) > 1 else {}
        if part in kinds:
            models = [kinds[str(part)]]
            continue
        place += (part,)
        if isinstance(part, int):
            continue
        fields = models[0].model_fields if models else {}
        keys = list(fields)
        models = list(_models_in(fields[part].annotation)) if part in fields else []
    return place, keys


def _tag(fault: ErrorDetails) -> str:
    """The key by which pydantic chooses among models; it tells it in quotes."""
    return str(fault.get("ctx", {}).get("discriminator", "")).strip("'")


def _kind_of(model: type[BaseModel]) -> object:
    tag = next((tag for tag in _TAGS if tag in model.model_fields), None)
    return model.model_fields[tag].annotation if tag else None


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
