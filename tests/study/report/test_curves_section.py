"""Figure 1 and the range tests, with much, little and nothing to draw."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from viscera.drawing.canvas import to_bytes
from viscera.study.rate_range import RateRange
from viscera.study.report.curves_section import arm_panel, figure1, rate_range_panel, validation_text
from viscera.study.results import SplitSizes, StudyResult

StudyMaker = Callable[..., StudyResult]


def test_curves_draw_with_and_without_anything_to_draw(make_study: StudyMaker) -> None:
    study = make_study([None] * 6)
    first = to_bytes(figure1(study, {study.arms[0].name: 0.5}), "svg")
    assert first == to_bytes(figure1(study, {study.arms[0].name: 0.5}), "svg")  # no date, no random names
    empty = StudyResult(study.record, ())
    assert b"<svg" in to_bytes(arm_panel(empty, study.arms[0], None), "svg")
    several = make_study([None] * 12, seeds=(0, 1))
    assert b"<svg" in to_bytes(arm_panel(several, study.arms[0], 0.5), "svg")


@pytest.mark.parametrize(("steps", "words"), [(0, "no step is logged"), (1, ""), (4, "")])
def test_few_logged_steps_give_points_or_a_sentence_and_no_empty_plot(
    make_study: StudyMaker, steps: int, words: str
) -> None:
    study = make_study([None] * 6)
    runs = tuple(dataclasses.replace(run, curve=run.curve[:steps]) for run in study.runs)
    panel = arm_panel(StudyResult(study.record, runs), study.arms[0], None)
    for axes in panel.axes:
        assert [text.get_text() for text in axes.texts] == ([words] if words else [])
        assert [line.get_marker() for line in axes.lines] == (["o" if steps == 1 else ""] if steps else [])


def test_a_seed_that_has_just_begun_leaves_the_mean_of_the_others(make_study: StudyMaker) -> None:
    study = make_study([None] * 18, seeds=(0, 1, 2))
    runs = [dataclasses.replace(run, curve=run.curve[: 1 if run.seed == 2 else None]) for run in study.runs]
    axes = arm_panel(StudyResult(study.record, tuple(runs)), study.arms[0], None).axes[0]
    mean = axes.lines[-1]
    assert mean.get_label() == "training patches, mean of 2 of 3 seeds"
    assert np.size(mean.get_xdata()) == len(study.runs[0].curve) > 1


def test_legend_and_caption_name_validation_cases_only_where_they_were_measured(make_study: StudyMaker) -> None:
    study = make_study([None] * 6)
    config = study.record.config.model_copy(
        update={"train": study.record.config.train.model_copy(update={"validate_every": 250})}
    )
    record = study.record.model_copy(update={"config": config})
    dice = (0.9, *[0.5] * 7)
    for measured, cases, line, said in (
        (0, 0, None, "; there is no validation set"),
        (0, 2, None, "; none on the 2 validation cases, which are measured every 250 steps and at the end: not yet"),
        (1, 2, ("o", "None"), " (solid) and on the validation cases (a circle: they are measured every 250 steps and"),
        (2, 2, ("o", "--"), " (solid) and on the validation cases (dashed)"),
    ):
        curve = tuple(
            dataclasses.replace(point, validation_dice=dice if number < measured else ())
            for number, point in enumerate(study.runs[0].curve)
        )
        run = dataclasses.replace(study.runs[0], curve=curve)
        now = StudyResult(record, (run, *study.runs[1:]), SplitSizes(8, cases, 2))
        assert validation_text(now).startswith(said)
        axes = arm_panel(now, study.arms[0], None).axes[0]
        legend = axes.get_legend()
        assert legend is not None
        named = dict(zip([text.get_text() for text in legend.get_texts()], axes.lines, strict=True))
        found = named.get("validation cases")
        assert (found and (found.get_marker(), found.get_linestyle())) == line


def test_seeds_without_a_step_in_common_are_named_without_a_mean(make_study: StudyMaker) -> None:
    study = make_study([None] * 12, seeds=(0, 1))
    runs = (
        dataclasses.replace(study.runs[0], curve=study.runs[0].curve[:1]),
        dataclasses.replace(study.runs[1], curve=study.runs[1].curve[1:2]),
    )
    axes = arm_panel(StudyResult(study.record, runs), study.arms[0], None).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training patches"]
    assert all(np.size(line.get_xdata()) for line in axes.lines)


def test_what_was_never_measured_is_said(make_study: StudyMaker) -> None:
    study = make_study([None] * 6)
    unmeasured = tuple(dataclasses.replace(point, dice=()) for point in study.runs[0].curve)
    runs = (dataclasses.replace(study.runs[0], curve=unmeasured), *study.runs[1:])
    dice, loss = arm_panel(StudyResult(study.record, runs), study.arms[0], None).axes
    assert [text.get_text() for text in dice.texts] == ["not measured"]
    assert not loss.texts


def test_a_range_test_of_one_step_is_a_point() -> None:
    test = RateRange(
        weighting="simple",
        seed=0,
        steps=1,
        rates=(0.01,),
        losses=(-0.2,),
        smoothed=(-0.2,),
        falls_from=None,
        slows_from=None,
        rises_from=None,
        suggestion=None,
    )
    (axes,) = rate_range_panel(test, [0.01]).axes
    assert {line.get_marker() for line in axes.lines[:2]} == {"o"}
    assert axes.get_xlim() == (0.005, 0.02)


def test_a_training_just_begun_is_drawn_as_far_as_it_came(make_study: StudyMaker) -> None:
    """Steps 0 to 300 of 10,000: at the left edge of the whole axis nothing could be told apart."""
    study = make_study([None] * 6)
    assert arm_panel(study, study.arms[0], None).axes[1].get_xlim() == pytest.approx((0, 306))
    train = study.record.config.train.model_copy(update={"iterations": 10_000})
    config = study.record.config.model_copy(update={"train": train})
    begun = dataclasses.replace(study, record=study.record.model_copy(update={"config": config}))
    _, loss = arm_panel(begun, study.arms[0], None).axes
    assert loss.get_xlim() == pytest.approx((0, 1.25 * 300 * 1.02))
    assert loss.get_xlabel() == "step, of 10,000"
