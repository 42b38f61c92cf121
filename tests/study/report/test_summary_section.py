"""What `train.batch_norm: running` cost: from hand-made curves."""

import dataclasses

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import arms_of
from viscera.core.resolve import resolve_config
from viscera.io.runlog import StudyRecord
from viscera.study.report.page_section import Report, render_page
from viscera.study.report.summary_section import GAP, SUMMARY, batch_norm_losses
from viscera.study.results import CurvePoint, RunResult, StudyResult

Variants = dict[str, dict[str, object]]


def point(own: float, by_batch: float | None) -> CurvePoint:
    """The last logged step; background, which does not count, has 1 by both statistics."""
    line: dict[str, object] = {
        "step": 150,
        "loss": -0.5,
        "dice": {**dict.fromkeys(CLASS_NAMES, own), "background": 1.0},
    }
    if by_batch is not None:
        line["dice_batch_statistics"] = {**dict.fromkeys(CLASS_NAMES, by_batch), "background": 1.0}
    return CurvePoint.from_line(line)


def study_of(
    points: list[CurvePoint], setting: str, variants: dict[str, dict[str, object]] | None = None
) -> StudyResult:
    options: dict[str, object] = {"train.batch_norm": setting, "study.weightings": ("uniform", "simple")}
    options["study.learning_rates"] = (0.01,)
    config = resolve_config("demo", options=options | ({"study.variants": variants} if variants else {}))
    record = StudyRecord(version="0.1.0", store="/store", dataset="clinical CT", config=config)
    runs = (RunResult(arm, 0, None, (end,)) for arm, end in zip(arms_of(config.study), points, strict=True))
    return StudyResult(record, tuple(runs))


def test_running_arms_that_lost_are_named_with_how_much() -> None:
    study = study_of([point(0.25, 0.68), point(0.6, 0.62)], "running")
    (sentence,) = batch_norm_losses(study)
    assert "uniform, rate 0.01 by 43 points (Dice 0.25 instead of 0.68)" in sentence
    assert "simple" not in sentence
    assert "train.batch_norm=recomputed" in sentence
    assert render_page(Report(study), [SUMMARY, GAP]).count("by 43 points") == 2


def test_seeds_are_averaged() -> None:
    study = study_of([point(0.2, 0.7), point(0.6, 0.62)], "running")
    second = dataclasses.replace(study.runs[0], seed=1, curve=(point(0.4, 0.7),))
    (sentence,) = batch_norm_losses(dataclasses.replace(study, runs=(*study.runs, second)))
    assert "by 40 points (Dice 0.30 instead of 0.70)" in sentence


def test_no_loss_is_said_and_what_was_not_logged_is_not() -> None:
    assert batch_norm_losses(study_of([point(0.6, 0.62), point(0.6, 0.55)], "running")) == [
        "Running statistics of batch normalisation cost no arm more than 10 points of Dice."
    ]
    assert batch_norm_losses(study_of([point(0.2, None), point(0.2, None)], "running")) == []
    assert batch_norm_losses(study_of([point(0.2, 0.7), point(0.2, 0.7)], "recomputed")) == []


def test_a_variant_has_its_own_setting() -> None:
    variants: Variants = {"": {}, "old": {"train.batch_norm": "running"}}
    study = study_of([point(0.2, 0.7)] * 4, "recomputed", variants)
    (sentence,) = batch_norm_losses(study)
    assert "uniform, rate 0.01, old by 50 points" in sentence
    assert "rate 0.01 by" not in sentence
