"""The timeline is drawn so that it can be read, whatever the drill was like."""

from __future__ import annotations

import pytest
from fix_record import changed, failed, interrupted, passed

from reports.timeline import NARROW, WIDE, Layout, Shape, draw


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=lambda layout: layout.name)
def test_no_two_labels_of_the_timeline_touch_and_all_of_it_lies_inside(layout: Layout) -> None:
    record = failed().record
    long = record.timeline[0].model_copy(update={"stage": "a stage whose name is as long as a title may be " * 2})
    shown = draw(changed(record, timeline=(long, *record.timeline[1:])), layout)
    bottoms = [row.text_y + 16 * (len(row.label) - 1) for row in shown.rows]
    assert all(bottom + 16 <= row.text_y for bottom, row in zip(bottoms, shown.rows[1:], strict=False))
    assert all(layout.left <= row.x and row.x + row.bar_width <= layout.right + 1.5 for row in shown.rows)
    assert max(bottoms) < shown.height
    assert all(len(label) <= layout.label_chars for row in shown.rows for label in row.label)


def test_the_timeline_shows_stages_moments_outage_and_targets() -> None:
    record = passed().record
    shown = draw(record)
    labels = [" ".join(row.label) for row in shown.rows]
    for mark in record.marks:
        assert mark.name in labels
    assert [row.shape for row in shown.rows if row.label[0] == "outage: server killed"] == [Shape.FAULT]
    assert shown.target_x is not None
    assert shown.shapes >= {Shape.STAGE, Shape.MARK, Shape.FAULT, Shape.TARGET}


def test_a_distant_target_does_not_crush_the_picture() -> None:
    record = passed().record
    far = tuple(objective.model_copy(update={"target_seconds": 14400.0}) for objective in record.objectives)
    shown = draw(changed(record, objectives=far))
    assert shown.target_x is None
    assert Shape.BEYOND in shown.shapes
    assert draw(record).rows[4].bar_width < shown.rows[4].bar_width


def test_a_stage_that_never_ended_and_an_outage_that_never_healed_are_drawn_open() -> None:
    assert Shape.OPEN in draw(interrupted().record).shapes
    record = passed().record
    shown = draw(changed(record, outages=(record.outages[0].model_copy(update={"healed": None}),)))
    assert Shape.UNHEALED in shown.shapes
