"""Figure 1 and the range tests, with much, little and nothing to draw."""

from collections.abc import Callable

from viscera.drawing.canvas import to_bytes
from viscera.study.report.curves_section import arm_panel, figure1
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]


def test_curves_draw_with_and_without_anything_to_draw(make_study: StudyMaker) -> None:
    study = make_study([None] * 6)
    first = to_bytes(figure1(study, {study.arms[0].name: 0.5}), "svg")
    assert first == to_bytes(figure1(study, {study.arms[0].name: 0.5}), "svg")  # no date, no random names
    empty = StudyResult(study.record, ())
    assert b"<svg" in to_bytes(arm_panel(empty, study.arms[0], None), "svg")
    several = make_study([None] * 12, seeds=(0, 1))
    assert b"<svg" in to_bytes(arm_panel(several, study.arms[0], 0.5), "svg")
