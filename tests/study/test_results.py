from collections.abc import Callable

import pytest

from viscera.core.arms import Arm
from viscera.io.scores import ScoreRow
from viscera.study.results import CurvePoint, RunResult, StudyResult, median_case

StudyMaker = Callable[..., StudyResult]


def rows(**dice: float) -> tuple[ScoreRow, ...]:
    return tuple(ScoreRow(case, "liver", "original", "dice", value) for case, value in dice.items())


def test_the_case_of_the_figures_is_the_median_over_arms(make_study: StudyMaker) -> None:
    # means over both arms: a 0.5, b 0.4, c 0.7 -> ranked b, a, c
    study = make_study([rows(a=0.9, b=0.3, c=0.6), rows(a=0.1, b=0.5, c=0.8), None, None, None, None])
    assert median_case(study, ["a", "b", "c"]) == "a"
    assert median_case(study, ["a", "b"]) == "b"  # of two, the lower
    assert median_case(study, []) is None


def test_background_does_not_pick_the_case(make_study: StudyMaker) -> None:
    background = tuple(ScoreRow(c, "background", "original", "dice", v) for c, v in (("a", 0.0), ("b", 1.0)))
    study = make_study([(*rows(a=0.9, b=0.3, c=0.6), *background), None, None, None, None, None])
    assert median_case(study, ["a", "b", "c"]) == "c"


def test_without_scores_the_first_case_is_shown(make_study: StudyMaker) -> None:
    assert median_case(make_study([None] * 6), ["b", "a"]) == "a"


def test_last_dice_is_that_of_the_last_step_that_measured_it() -> None:
    measured = CurvePoint(10, -0.5, (0.0, 0.4, None, 0.6), ())
    run = RunResult(Arm("uniform", 0.001), 0, curve=(measured, CurvePoint(20, -0.6, (), ())))
    assert run.last_dice() == pytest.approx(0.5)
    assert run.last_dice(validation=True) is None


def test_a_curve_line_is_read_by_class_name() -> None:
    point = CurvePoint.from_line({"step": 20, "loss": None, "dice": {"liver": 0.5, "artery": None}})
    assert point == CurvePoint(20, None, (None, None, None, 0.5, None, None, None, None), ())
