from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from viscera.core.arms import Arm
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.claim_rules import Evidence, Setting
from viscera.study.report.comparisons import compare
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


def test_last_dice_is_that_of_the_last_step_that_measured_it() -> None:
    measured = CurvePoint(10, -0.5, (0.0, 0.4, None, 0.6), ())
    run = RunResult(Arm("uniform", 0.001), 0, curve=(measured, CurvePoint(20, -0.6, (), ())))
    assert run.last_dice() == pytest.approx(0.5)
    assert run.last_dice(validation=True) is None


def test_a_curve_line_is_read_by_class_name() -> None:
    point = CurvePoint.from_line({"step": 20, "loss": None, "dice": {"liver": 0.5, "artery": None}})
    assert point == CurvePoint(20, None, (None, None, None, 0.5, None, None, None, None), ())


def test_a_diverged_run_is_in_no_mean_no_test_and_no_claim(study_of_dice: StudyMaker) -> None:
    """Uniform has Dice 0.6 and, with the seed that diverged, the 0 of an untrained checkpoint: its mean is 60 %."""
    options = {"study.weightings": ["uniform", "simple"], "study.learning_rates": [0.01], "study.seeds": (0, 1, 2)}

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float:
        del case, organ
        return 0.0 if (arm.weighting, seed) == ("uniform", 1) else 0.6 if arm.weighting == "uniform" else 0.5

    study = study_of_dice(dice, **options)
    diverged = RunStatus(state="failed", step=2, iterations=300, message="the loss is nan at step 3")
    runs = tuple(
        replace(run, status=diverged) if (run.arm.weighting, run.seed) == ("uniform", 1) else run for run in study.runs
    )
    study = replace(study, runs=runs)
    percent = study.percent("original")
    assert percent["uniform_lr0.01"]["FOREGROUND"] == pytest.approx(60)
    assert percent["simple_lr0.01"]["FOREGROUND"] == pytest.approx(50)
    compared = compare(study, "original", ["dice"])
    assert {row.seeds for row in compared.rows} == {2}
    assert [row.mean for row in compared.rows] == pytest.approx([10] * 7)
    assert compared.spread.low["uniform_lr0.01"]["FOREGROUND"] == pytest.approx(60)
    evidence = Evidence(study, "original")
    assert list(evidence.dice_by_seed(evidence.arm(Setting("uniform", 0.01)))) == [0, 2]
    assert study.left_out == "1 of 3 of uniform, rate 0.01"
    notes = table1(study, "original").footnotes
    assert notes[0].endswith("and so in no mean, test or claim of this report: 1 of 3 of uniform, rate 0.01.")
    assert notes[1].endswith("seed 1: failed at step 2 of 300: the loss is nan at step 3.")


def test_a_run_that_diverged_later_counts_at_the_stage_that_it_reached(make_study: StudyMaker) -> None:
    """Scored after 150 and 300 steps; one diverged at step 200, the other at 100, with scores put aside both times."""
    early, late = rows(a=0.4), rows(a=0.2)
    study = make_study([late, late, *[None] * 4])
    failed = [RunStatus(state="failed", step=step, iterations=300, message="diverged") for step in (200, 100)]
    runs = [replace(run, status=s, earlier={150: early}) for run, s in zip(study.runs, failed, strict=False)]
    record = study.record.model_copy(update={"stages": (150, 300)})
    study = replace(study, runs=(*runs, *study.runs[2:]), record=record)
    assert study.grids == []
    liver = study.at_stage(150).percent("original").loc["liver"].to_numpy(float)
    assert liver[0] == pytest.approx(40)
    assert np.isnan(liver[1:]).all()
