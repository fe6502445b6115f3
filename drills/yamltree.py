"""YAML to plain data, with the line of each part of it.

Refuses what would let a reviewer read one thing and the program another: keys given twice, anchors and aliases (and
with them merge keys and documents that grow without end), tags, invisible characters, several documents in one file.
Guarantees that no number passes through a binary float: what YAML reads as a float is a `Decimal`, and what only old
YAML reads as a number (010, 1_000, 12:30) or as a date stays text. No error repeats a value: it may be a secret.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent

from drills.errors import PlanError

Location = tuple[str | int, ...]
"""Keys and indexes from the top down."""

_DEEPEST = 20
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]*|[-+]?\.[0-9]+")
_NAMED = re.compile(r"(alias|anchor|handle) .*", re.DOTALL)


@dataclass(frozen=True)
class Tree:
    """A mapping, and where each part of it begins."""

    content: dict[str, Any]
    """Made of dict, tuple, str, int, bool, Decimal and None."""
    lines: dict[Location, int]


class _RefusedYamlError(yaml.MarkedYAMLError):
    """YAML that is well formed and still has no place in a plan."""


class _Loader(yaml.SafeLoader):
    """Refuses while it reads, before anything is built."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        said = ""
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            said = "anchors and aliases have no place in a plan"
        elif isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            said = "tags have no place in a plan"
        elif self.depth >= _DEEPEST:
            said = f"nested deeper than {_DEEPEST} levels"
        if said:
            raise _RefusedYamlError(problem=said, problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_tree(text: bytes, name: str) -> Tree:
    """The mapping in this text; `name` stands before the lines in errors.

    Raises:
        PlanError: the text is not UTF-8, not YAML, not a mapping, or has in it what the module refuses.
    """
    node = _compose(text, name)
    if not isinstance(node, yaml.MappingNode):
        raise PlanError(
            f"{name}:1: expected a mapping with the key `version`, got {_shape(node)}",
            hint="see `drillbook plan schema` and docs/plan.md",
        )
    lines: dict[Location, int] = {(): _line(node.start_mark)}
    return Tree(_mapping(node, (), lines, name), lines)


def _compose(text: bytes, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text.decode("utf-8"), _Loader)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise PlanError(f"{name}:{line}: not UTF-8 text (byte {error.start})", hint="a plan is a YAML file") from None
    except _RefusedYamlError as error:
        line = _line(error.problem_mark)
        raise PlanError(f"{name}:{line}: {error.problem}", hint="write each value out where it stands") from None
    except yaml.MarkedYAMLError as error:
        said = _NAMED.sub(r"\1", ", ".join(part for part in (error.context, error.problem) if part))
        raise PlanError(
            f"{name}:{_line(error.problem_mark)}: not YAML: {said}",
            hint="check indentation (blanks, no tabs), colons and quotes",
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.decode("utf-8").count("\n", 0, error.position) + 1
        raise PlanError(f"{name}:{line}: not YAML: {error.reason}", hint="a plan is a text file") from None


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1


def _shape(node: yaml.Node | None) -> str:
    if node is None:
        return "an empty file"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _mapping(node: yaml.MappingNode, at: Location, lines: dict[Location, int], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":null"):
            raise PlanError(f"{name}:{line}: expected a name as key", hint="every key is described in docs/plan.md")
        # Whatever YAML takes a bare key for (on, 2024), a plan means its letters.
        key = _visible(key_node, name)
        if key in found:
            raise PlanError(f"{name}:{line}: the key `{shown_key(key)}` is given twice", hint="keep one of them")
        lines[*at, key] = line
        found[key] = _content(value_node, (*at, key), lines, name)
    return found


def _content(node: yaml.Node, at: Location, lines: dict[Location, int], name: str) -> object:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, at, lines, name)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*at, index] = _line(item.start_mark)
        return tuple(_content(item, (*at, index), lines, name) for index, item in enumerate(node.value))
    return _scalar(_visible(node, name), node.tag.rsplit(":", 1)[-1])


def _scalar(text: str, kind: str) -> object:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in {"yes", "true", "on"}
    if kind == "int" and _INT.fullmatch(text):
        return int(text)
    if kind == "float" and _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text


def _visible(node: yaml.Node, name: str) -> str:
    """The text of a scalar, all of which a reader can see."""
    text = str(node.value)
    for letter in text:
        if letter not in "\n\t" and unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            raise PlanError(
                f"{name}:{_line(node.start_mark)}: an invisible character (U+{ord(letter):04X})",
                hint="type the line anew; such characters make a plan read otherwise than it runs",
            )
    return text


def shown_key(key: str | int) -> str:
    """A key as errors show it: cut where it stops looking like a key, as in `{password:hunter2}`, which is one."""
    match = re.match(r"[\w .-]{1,60}", str(key))
    plain = match[0] if match else ""
    return plain if plain == str(key) else f"{plain}…"
