"""The summary and the small tables, and what `train.batch_norm: running` cost: from hand-made curves and scores."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest

from tests.fabricated_studies import words_of
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import arms_of
from viscera.core.resolve import resolve_config
from viscera.io.runlog import RunStatus, StudyRecord
from viscera.io.scores import ScoreRow
from viscera.study.report.page_section import Report, render_page
from viscera.study.report.summary_section import COST, GAP, SETTINGS, SUMMARY, gaps
from viscera.study.results import CurvePoint, RunResult, StudyResult

StudyMaker = Callable[..., StudyResult]
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


def losses_of(study: StudyResult) -> str:
    """What the page says of batch normalisation, above its table."""
    _, found, sentence = words_of(study, GAP).partition("Running statistics")
    return (found + sentence).partition(" arm training")[0]


def test_running_arms_that_lost_are_named_with_how_much() -> None:
    study = study_of([point(0.25, 0.68), point(0.6, 0.62)], "running")
    sentence = losses_of(study)
    assert "uniform, rate 0.01 by 43 points (Dice 0.25 instead of 0.68)" in sentence
    assert "simple" not in sentence
    assert "train.batch_norm=recomputed" in sentence
    assert "cost up to 43 points" in render_page(Report(study), [GAP])


def test_seeds_are_averaged() -> None:
    study = study_of([point(0.2, 0.7), point(0.6, 0.62)], "running")
    second = dataclasses.replace(study.runs[0], seed=1, curve=(point(0.4, 0.7),))
    said = losses_of(dataclasses.replace(study, runs=(*study.runs, second)))
    assert "by 40 points (Dice 0.30 instead of 0.70)" in said


def test_no_loss_is_said_and_what_was_not_logged_is_not() -> None:
    nothing_lost = "Running statistics of batch normalisation cost no arm more than 10 points of Dice."
    assert losses_of(study_of([point(0.6, 0.62), point(0.6, 0.55)], "running")) == nothing_lost
    assert losses_of(study_of([point(0.2, None), point(0.2, None)], "running")) == ""
    assert losses_of(study_of([point(0.2, 0.7), point(0.2, 0.7)], "recomputed")) == ""


def test_a_variant_has_its_own_setting() -> None:
    variants: Variants = {"": {}, "old": {"train.batch_norm": "running"}}
    study = study_of([point(0.2, 0.7)] * 4, "recomputed", variants)
    sentence = losses_of(study)
    assert "uniform, rate 0.01, old by 50 points" in sentence
    assert "rate 0.01 by" not in sentence


def rows(**dice: float) -> tuple[ScoreRow, ...]:
    return tuple(ScoreRow(case, "liver", "original", "dice", value) for case, value in dice.items())


def test_gap_is_training_at_the_last_step_minus_test(make_study: StudyMaker) -> None:
    # the curve of conftest ends at 0.9 for every organ; the only organ scored on the test case has 0.65
    study = make_study([rows(a=0.65), None, None, None, None, None])
    found = gaps(study, "original")
    assert found.iloc[0].tolist() == pytest.approx([90, np.nan, 65, 25], nan_ok=True)  # training, validation, test, gap
    assert np.isnan(found["gap"].iloc[1])


def test_headline_names_best_and_lowest_and_claims_no_more(make_study: StudyMaker) -> None:
    study = make_study([rows(a=0.5), rows(a=0.7), rows(a=0.1), None, None, None], dataset="a Phantom set")
    text = words_of(study, SUMMARY)
    assert text.startswith(
        "After 300 steps (the paper: 10,000), simple weights at rate 0.001 reach the highest mean foreground Dice, "
        "70.0 %, and square weights at rate 0.001 the lowest, 10.0 %. Mean over 1 organ and 1 test case, original "
        "grid."
    )
    assert "Next comes uniform, rate 0.001 with 50.0 %." in text
    assert "3 of 6 arms have no finished and scored run" in text
    assert "With 1 test case there are no intervals and no tests." in text


def test_five_seeds_need_no_caution(make_study: StudyMaker) -> None:
    four, five = (make_study([rows(a=0.5, b=0.5)] * 6 * seeds, seeds=tuple(range(seeds))) for seeds in (4, 5))
    assert "With 4 seeds per arm this is about these models" in words_of(four, SUMMARY)
    assert "these models" not in words_of(five, SUMMARY)


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
    page = render_page(Report(make_study([None] * 12, seeds=(0, 1), statuses={0: status})), [COST])
    first = page[page.index("<tbody>") : page.index("</tr>", page.index("<tbody>"))]
    runs, steps, time, seconds_per_step, memory, hardware = re.findall("<td.*?>(.*?)</td>", first)
    assert (runs, steps, time) == ("2", "200", "1.7 min")
    assert seconds_per_step == "0.5"
    assert memory == "2.00 GiB"
    assert hardware == "cuda: H100"


def test_settings_say_what_the_network_is_and_how_it_was_predicted_without_batch_normalisation(
    make_study: StudyMaker,
) -> None:
    study = make_study([rows(a=0.5), *[None] * 5])
    assert " levels</dd>" in render_page(Report(study), [SETTINGS])
    network = {"train.network.normalisation": "instance", "train.network.deep_supervision": True}
    config = resolve_config(options=network)
    changed = dataclasses.replace(study, record=study.record.model_copy(update={"config": config}))
    named = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", render_page(Report(changed), [SETTINGS])))
    assert named["Network"].endswith("4 levels, normalisation instance, deep supervision True")
    assert named["Prediction"].startswith("by sub-volumes of 64×64×64 voxels")


def test_settings_say_how_it_was_predicted(make_study: StudyMaker) -> None:
    text = render_page(Report(make_study([rows(a=0.5), *[None] * 5])), [SETTINGS])
    named = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert named["Prediction"] == "in few large blocks, without the air around the body"
    assert named["Evaluation grid"] == "original"
    assert named["Hardware"] == "cpu: A CPU"
    assert named["Cases"] == "not known: the store is not available"
    assert named["Iterations"] == "300"


def test_equal_means_are_no_next(make_study: StudyMaker) -> None:
    """Two share the highest mean, two the next; nobody comes next where only highest and lowest are left."""
    several = make_study([rows(a=v) for v in (0.7, 0.7, 0.5, 0.50001, 0.1, 0.1)])
    assert "Next come square, rate 0.001 and uniform, rate 0.01 with 50.0 %." in words_of(several, SUMMARY)
    two = make_study([rows(a=v) for v in (0.7, 0.7, 0.1, 0.1, 0.1, 0.1)])
    assert "Next come" not in words_of(two, SUMMARY)


def test_the_warning_is_of_the_seeds_that_there_are(make_study: StudyMaker) -> None:
    """Five seeds are planned; the first arm has two, and two arms share none with the others."""
    scored = [rows(a=0.5, b=0.5)] * 30
    few = make_study([None if at in {2, 3, 4} else of for at, of in enumerate(scored)], seeds=(0, 1, 2, 3, 4))
    assert "With 2 to 5 seeds per arm this is about these models" in words_of(few, SUMMARY)
    ten = [rows(a=0.5, b=0.5) if (seed < 5) == (arm < 2) else None for arm in range(6) for seed in range(10)]
    apart = words_of(make_study(ten, seeds=tuple(range(10))), SUMMARY)
    assert "With 0 seeds that arms share this is about these models" in apart


def test_means_of_different_organs_are_said_beside_the_finding(make_study: StudyMaker) -> None:
    both = (*rows(a=0.4), ScoreRow("a", "spleen", "original", "dice", 0.3))
    said = words_of(make_study([both, rows(a=0.5), *[None] * 4]), SUMMARY)
    assert "their order may come from that: simple, rate 0.001 without spleen." in said


def test_a_gap_is_as_wide_where_test_cases_lie_above(make_study: StudyMaker) -> None:
    """The curve ends at 0.9: 60 points above a test Dice of 0.3, and 10 below one of 1.0."""
    page = render_page(Report(make_study([rows(a=1.0), *[None] * 5])), [GAP])
    assert "up to 10.0 points apart" in page
