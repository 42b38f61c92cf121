from collections.abc import Callable

import pytest

from viscera.core.arms import Arm
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.summary_section import caution, cost_rows, gap_rows, headline, settings
from viscera.study.report.table1_section import table1
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


def test_gap_is_training_at_the_last_step_minus_test(make_study: StudyMaker) -> None:
    # the curve of conftest ends at 0.9 for every organ; the only organ scored on the test case has 0.65
    study = make_study([rows(a=0.65), None, None, None, None, None])
    gaps = gap_rows(study, table1(study, "original"))
    assert gaps[0].training == pytest.approx(90)
    assert gaps[0].validation is None
    assert gaps[0].test == pytest.approx(65)
    assert gaps[0].gap == pytest.approx(25)
    assert gaps[1].gap is None


def test_last_dice_is_that_of_the_last_step_that_measured_it() -> None:
    measured = CurvePoint(10, -0.5, (0.0, 0.4, None, 0.6), ())
    run = RunResult(Arm("uniform", 0.001), 0, curve=(measured, CurvePoint(20, -0.6, (), ())))
    assert run.last_dice() == pytest.approx(0.5)
    assert run.last_dice(validation=True) is None


def test_a_curve_line_is_read_by_class_name() -> None:
    point = CurvePoint.from_line({"step": 20, "loss": None, "dice": {"liver": 0.5, "artery": None}})
    assert point == CurvePoint(20, None, (None, None, None, 0.5, None, None, None, None), ())


def test_headline_names_best_and_lowest_and_claims_no_more(make_study: StudyMaker) -> None:
    study = make_study([rows(a=0.5), rows(a=0.7), rows(a=0.1), None, None, None], dataset="a Phantom set")
    text = " ".join(headline(study, table1(study, "original"))).replace("\N{NO-BREAK SPACE}", " ")
    assert "70.0 % with simple, rate 0.001 (1 phantom test case, original grid)" in text
    assert "uniform, rate 0.001 with 50.0 %, 20.0 points below; lowest is square, rate 0.001 with 10.0 %" in text
    assert "3 of 6 arms have no scores" in text
    assert "conclusions are about these models, not about the weightings in general" in text


def test_five_seeds_need_no_caution(make_study: StudyMaker) -> None:
    assert caution(make_study([None] * 24, seeds=(0, 1, 2, 3)))
    assert not caution(make_study([None] * 30, seeds=(0, 1, 2, 3, 4)))


def test_cost_adds_up_over_seeds(make_study: StudyMaker) -> None:
    status = RunStatus(
        state="finished",
        step=100,
        iterations=100,
        wall_seconds=50,
        device="cuda",
        hardware="H100",
        peak_memory_mib=2048,
    )
    cost = cost_rows(make_study([None] * 12, seeds=(0, 1), statuses={0: status}))[0]
    assert (cost.runs, cost.steps, cost.time) == (2, 200, "1.7 min")
    assert cost.seconds_per_step == pytest.approx(0.5)
    assert cost.peak_memory_gib == pytest.approx(2)
    assert cost.hardware == "cuda: H100"


def test_settings_say_how_it_was_predicted(make_study: StudyMaker) -> None:
    named = dict(settings(make_study([rows(a=0.5), *[None] * 5])))
    assert named["Prediction"] == "by sub-volumes of 24×24×24 voxels, overlap 50%, gaussian blend"
    assert named["Evaluation grid"] == "original"
    assert named["Hardware"] == "cpu: A CPU"
