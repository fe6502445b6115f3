"""The timeline of a drill as geometry: what stands where, for the template to draw.

Owns the picture's layout. Every stage, moment, outage and target has a row of its own, so labels cannot collide however
close two moments are. Refuses to stretch the scale for a distant target: past the scale it is drawn as an arrow and
says so. Guarantees the same numbers for the same record. There are two layouts, because a wide picture shrunk to a
phone cannot be read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from drills.record import Record
from drills.results import Objective, OutageResult, Span
from drills.units import human

_STRETCH = 1.5
"""How many times the drill's own length the scale may grow to show the target."""
_AIR, _OPEN_AIR = 1.02, 1.25
"""Room at the right, so that what ends last does not end on the edge, and what never ended has a length."""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


class Shape(StrEnum):
    """How a row is drawn. Every shape differs in form, not only in color."""

    STAGE = "stage"
    ERROR = "error"
    OPEN = "open"
    FAULT = "fault"
    UNHEALED = "unhealed"
    MARK = "mark"
    TARGET = "target"
    BEYOND = "beyond"


@dataclass(frozen=True)
class Layout:
    """Where labels, bars and figures go."""

    name: str
    width: float
    left: float
    right: float
    """Between these two lies the plot."""
    label_chars: int
    label_above: bool
    """Labels over the bars (narrow) or beside them (wide)."""
    ticks: int


WIDE = Layout("wide", 960, 236, 810, label_chars=30, label_above=False, ticks=8)
NARROW = Layout("narrow", 340, 4, 336, label_chars=26, label_above=True, ticks=4)
_LINE, _BAR, _GAP, _HEAD, _FOOT = 16.0, 12.0, 10.0, 8.0, 30.0


@dataclass(frozen=True)
class Row:
    """One thing that happened."""

    shape: Shape
    label: tuple[str, ...]
    """In lines."""
    detail: str
    text_y: float
    """Baseline of the first line."""
    x: float
    bar_y: float
    bar_width: float


@dataclass(frozen=True)
class Tick:
    """A line of the scale."""

    x: float
    label: str


@dataclass(frozen=True)
class Timeline:
    """The picture: rows, scale, and the target's line where there is one."""

    layout: Layout
    height: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    target_x: float | None
    """Where the RTO target lies; None without a target, or past the scale."""
    shapes: frozenset[Shape]
    """Those that occur, for the key."""


@dataclass(frozen=True)
class _Item:
    shape: Shape
    label: str
    begin: float
    end: float | None
    detail: str


def draw(record: Record, layout: Layout = WIDE) -> Timeline:
    """The timeline of this drill; without rows where nothing of it has a time."""
    items = sorted(_items(record), key=lambda item: item.begin)
    ends = [at for item in items for at in (item.begin, item.end) if at is not None]
    span = max([record.seconds or 0.0, *ends, 0.001])
    if any(item.end is None for item in items):
        span *= _OPEN_AIR
    scale, targets = _fit(list(_targets(record)), span)
    rows, height = _rows(items + targets, scale, layout)
    line = next(
        (row.x + row.bar_width for row in rows if row.shape is Shape.TARGET and row.label[0] == "RTO target"), None
    )
    return Timeline(layout, height, rows, _ticks(scale, layout), line, frozenset(row.shape for row in rows))


def _items(record: Record) -> Iterator[_Item]:
    for span in record.timeline:
        yield _stage(span)
    for mark in record.marks:
        yield _Item(Shape.MARK, mark.name, mark.elapsed, mark.elapsed, f"at {human(mark.elapsed)}")
    for outage in record.outages:
        yield _fault(outage, record)


def _stage(span: Span) -> _Item:
    if span.end is None:
        return _Item(Shape.OPEN, f"stage: {span.stage}", span.begin, None, "never ended")
    shape = Shape.ERROR if span.error else Shape.STAGE
    took = human(round(span.end - span.begin, 6))
    return _Item(shape, f"stage: {span.stage}", span.begin, span.end, f"{took}, error" if span.error else took)


def _fault(outage: OutageResult, record: Record) -> _Item:
    begin = (outage.injected - record.opened).total_seconds()
    if outage.healed is None:
        return _Item(Shape.UNHEALED, f"outage: {outage.name}", begin, None, "not healed")
    back = next((clock.seconds for clock in outage.clocks if clock.name == "first commit"), None)
    end = (outage.healed - record.opened).total_seconds()
    return _Item(Shape.FAULT, f"outage: {outage.name}", begin, end, "healed" if back is None else human(back))


def _targets(record: Record) -> Iterator[_Item]:
    starts = {"RTO": next((mark.elapsed for mark in record.marks if mark.name == "loss declared"), None)}
    starts |= {f"RTO of {outage.name}": (outage.injected - record.opened).total_seconds() for outage in record.outages}
    for objective in record.objectives:
        if (start := starts.get(objective.name)) is not None:
            yield _target(objective, start)


def _target(objective: Objective, start: float) -> _Item:
    label = "RTO target" if objective.name == "RTO" else f"target: {objective.name}"
    return _Item(Shape.TARGET, label, start, start + objective.target_seconds, human(objective.target_seconds))


def _fit(targets: list[_Item], span: float) -> tuple[float, list[_Item]]:
    """The end of the scale, and the targets as they can be shown on it."""
    near = [item.end for item in targets if item.end is not None and item.end <= span * _STRETCH]
    scale = max([span, *near]) * _AIR
    shown = [
        item
        if (item.end or 0) <= scale
        else _Item(Shape.BEYOND, item.label, item.begin, None, f"{item.detail}, off scale")
        for item in targets
    ]
    return scale, shown


def _rows(items: list[_Item], scale: float, layout: Layout) -> tuple[tuple[Row, ...], float]:
    rows, top = [], _HEAD
    for item in items:
        label = tuple(textwrap.wrap(item.label, layout.label_chars)) or (item.label,)
        x = _x(item.begin, scale, layout)
        end = _x(scale if item.end is None else item.end, scale, layout)
        text = len(label) * _LINE
        bar_y = top + text + 4 if layout.label_above else top + (text - _BAR) / 2 + 1
        rows.append(
            Row(item.shape, label, item.detail, round(top + 12, 2), x, round(bar_y, 2), round(max(end - x, 1.5), 2))
        )
        top += text + _GAP + (_BAR + 4 if layout.label_above else 0)
    return tuple(rows), round(top + _FOOT, 2)


def _x(at: float, scale: float, layout: Layout) -> float:
    # An instant by the wall clock can lie a hair outside the monotonic scale.
    inside = min(max(at / scale, 0.0), 1.0)
    return round(layout.left + inside * (layout.right - layout.left), 2)


def _ticks(scale: float, layout: Layout) -> tuple[Tick, ...]:
    step = next((step for step in _STEPS if scale / step <= layout.ticks), scale / layout.ticks)
    count = int(scale / step)
    # The last label would run out of the picture where its line stands close to the edge.
    labels = [human(round(index * step, 6)) for index in range(count + 1)]
    return tuple(Tick(_x(index * step, scale, layout), label) for index, label in enumerate(labels))
