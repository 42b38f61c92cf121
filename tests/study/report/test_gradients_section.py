"""The section that says why: from hand-made curves."""

import dataclasses
from collections.abc import Callable

import pytest

from tests.fabricated_studies import draw_no_curves, words_of
from viscera.core.anatomy import CLASS_NAMES
from viscera.doctor.forecast import ArmForecast
from viscera.drawing.canvas import to_bytes
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.gradients_section import (
    GRADIENTS,
    ForecastRow,
    arm_reasons,
    brier_sentence,
    forecast_rows,
    forecast_sentence,
    gradient_panel,
    has_gradients,
)
from viscera.study.report.page_section import Report, render_page
from viscera.study.results import CurvePoint, StudyResult

MakeStudy = Callable[..., StudyResult]


def line(step: int, spleen_dice: float, spleen_share: float, *, full: bool = False) -> CurvePoint:
    entry: dict[str, object] = {
        "step": step,
        "loss": -0.5,
        "dice": {**dict.fromkeys(CLASS_NAMES, 0.8), "spleen": spleen_dice},
        "gradient_share": {**dict.fromkeys(CLASS_NAMES, 0.14), "spleen": spleen_share},
    }
    if full:
        entry |= {"step_over_rate": {"a": 0.1, "b": 0.3}, "step_over_rate_without_epsilon": {"a": 0.2, "b": 0.4}}
    return CurvePoint.from_line(entry)


def failing() -> tuple[CurvePoint, ...]:
    """The spleen has Dice until step 20 and a share of 0.2 %."""
    return tuple(line(10 * n, 0.3 if n <= 2 else 0.0, 0.002, full=n == 8) for n in range(1, 9))


@pytest.fixture
def study(make_study: MakeStudy) -> StudyResult:
    """Six arms; in the second the spleen is lost."""
    result = make_study([None] * 6, dataset="a phantom")
    fine = tuple(line(10 * n, 0.8, 0.14) for n in range(1, 9))
    runs = [dataclasses.replace(run, curve=failing() if n == 1 else fine) for n, run in enumerate(result.runs)]
    return dataclasses.replace(result, runs=tuple(runs))


def test_the_organ_left_behind_is_named_with_its_step_and_share(study: StudyResult) -> None:
    reasons = arm_reasons(study, "original")
    assert reasons[1].left_behind == ("spleen: Dice below 0.05 since step 30 (0.2 % of the gradient)",)
    assert reasons[1].shares[CLASS_NAMES.index("spleen")] == pytest.approx(0.002)
    assert reasons[1].kept == pytest.approx((0.5 + 0.75) / 2)
    assert reasons[0].left_behind == ()
    assert reasons[0].kept is None


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


@pytest.mark.usefixtures("undrawn")
def test_none_left_behind_is_not_said_where_table_1_says_otherwise(study: StudyResult) -> None:
    """Nothing was lost on the training patches of the first arm, but its test cases have no liver."""
    rows = tuple(ScoreRow("a", name, "original", "dice", 0.0 if name == "liver" else 0.8) for name in CLASS_NAMES)
    runs = (dataclasses.replace(study.runs[0], scores=rows), *study.runs[1:])
    said = words_of(dataclasses.replace(study, runs=runs), GRADIENTS)
    assert "uniform, rate 0.001: 1 organ with a mean Dice on the test cases below 0.2: liver;" in said
    assert "none of them was lost or received too little gradient, so the gradient does not explain it." in said
    assert "simple, rate 0.001: in training spleen: Dice below 0.05 since step 30 (0.2 % of the gradient)." in said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_too_few_logged_steps_are_no_verdict_and_no_empty_plot(study: StudyResult, steps: int) -> None:
    runs = tuple(dataclasses.replace(run, curve=run.curve[:steps]) for run in study.runs)
    short = dataclasses.replace(study, runs=runs)
    expected = f"not known, with {steps} logged step{'' if steps == 1 else 's'} (at least 4)."
    assert not steps or f"uniform, rate 0.001: in training {expected}" in words_of(
        short, GRADIENTS
    )  # without any, no section
    (axes,) = gradient_panel(short, short.arms[0]).axes
    shown = [line for line in axes.lines if line.get_label() in {"liver", "background"}]
    assert all(line.get_marker() == ("o" if steps == 1 else "") for line in shown)
    assert (len(shown), [text.get_text() for text in axes.texts]) == (
        (2, []) if steps else (0, ["no share of the gradient is logged"])
    )


def test_small_shares_are_powers_of_ten_on_the_axis(study: StudyResult) -> None:
    (axes,) = gradient_panel(study, study.arms[0]).axes
    ticks = axes.yaxis.get_major_formatter()
    assert [ticks(share, 0) for share in (1, 0.01, 1e-4, 1e-8)] == ["100 %", "1 %", "0.01 %", "10\u207b\u2076 %"]


def test_several_seeds_say_in_how_many(make_study: MakeStudy) -> None:
    result = make_study([None] * 12, seeds=(0, 1))
    runs = [dataclasses.replace(run, curve=failing()) if n == 1 else run for n, run in enumerate(result.runs)]
    (reason, *_) = arm_reasons(dataclasses.replace(result, runs=tuple(runs)), "original")
    assert reason.left_behind == ("spleen: Dice below 0.05 since step 30 (0.2 % of the gradient), 1 of 2 seeds",)


def test_the_page_has_the_section_with_its_pictures(study: StudyResult) -> None:
    page = render_page(Report(study), [GRADIENTS])
    assert "Why: how much of the gradient each class received" in page
    assert "spleen: Dice below 0.05 since step 30" in page
    assert page.count("share of the gradient of each class over steps") == 6
    assert to_bytes(gradient_panel(study, study.arms[1]), "svg").startswith(b"<?xml")


def test_without_shares_there_is_no_section(make_study: MakeStudy) -> None:
    study = make_study([None] * 6)
    assert not has_gradients(study)
    assert GRADIENTS.values(Report(study)) is None


def test_the_forecast_is_scored(make_study: MakeStudy, paper_rows: list[tuple[ScoreRow, ...]]) -> None:
    """In the paper's Table 1 liver, spleen and stomach of square at 0.001 end below 20, and nothing else does."""
    study = make_study(paper_rows)
    square = study.arms[2].name
    named = ArmForecast(square, (), 0, 1, (), (), ("liver", "spleen", "artery"))
    others = [ArmForecast(arm.name, (), 0, 1, (), (), ()) for arm in study.arms if arm.name != square]
    study = dataclasses.replace(study, forecasts=(named, *others))
    rows = forecast_rows(study, "original")
    assert [(row.named, row.failed) for row in rows if row.named or row.failed] == [
        (("artery", "liver", "spleen"), ("liver", "spleen", "stomach"))
    ]
    assert "named 3 organs, of which 2 failed (precision 0.67)" in forecast_sentence(rows)
    assert "3 organs failed, of which it had named 2 (recall 0.67)" in forecast_sentence(rows)
    assert "Over 6 arms, an organ counted once in each, it named" in forecast_sentence(rows)
    failed = RunStatus(state="failed", step=0, iterations=300)
    runs = [dataclasses.replace(r, status=failed) if r.arm.name == square else r for r in study.runs]
    without = forecast_rows(dataclasses.replace(study, runs=tuple(runs)), "original")
    assert [row.title for row in without] == [row.title for row in rows if row.title != study.arms[2].title]
    # neither a precision of nothing nor a recall of nothing is 1
    assert forecast_sentence([ForecastRow("a", (), ("liver",))]) == "Over 1 arm it named no organ, and 1 organ failed."
    assert forecast_sentence([ForecastRow("a", ("liver",), ())]) == "Over 1 arm it named 1 organ, and none failed."
    assert forecast_sentence([]) == "No arm is both forecast and scored yet."


def test_chances_are_shown_and_scored(make_study: MakeStudy, paper_rows: list[tuple[ScoreRow, ...]]) -> None:
    """Square at 0.001, forecast alone: of seven organs liver, spleen and stomach failed, at chances of .8, 0 and 0."""
    study = make_study(paper_rows)
    chance, nobody = (0.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0), ("",) * 8
    square = ArmForecast(study.arms[2].name, (), 0, 1, (), chance, ("liver",))
    now = dataclasses.replace(
        square,
        failing_chance_low=(0, 0, 0, 0.6, *[0] * 4),
        failing_chance_high=(0, 0, 0, 0.9, *[0] * 4),
        confused_with=(*nobody[:3], "gallbladder", *nobody[4:]),
    )
    (row,) = forecast_rows(dataclasses.replace(study, forecasts=(now,)), "original")
    assert row.said == ("liver (80 %, 60 to 90 %; called gallbladder)",)
    # (0.2² + 1 + 1) / 7, and 3/7 * 4/7
    assert "0.291; of the share that failed, 0.43, alone: 0.245" in brier_sentence([row])
    (earlier,) = forecast_rows(dataclasses.replace(study, forecasts=(square,)), "original")
    assert earlier.said == ("liver",)
    assert brier_sentence([]) == ""


@pytest.mark.usefixtures("undrawn")
def test_an_organ_of_no_training_case_counts_in_no_forecast(study: StudyResult) -> None:
    """The liver of no training case fails in the test cases, as it must: the other six organs alone are judged."""
    counts = tuple(0 if name == "liver" else 100 for name in CLASS_NAMES)
    record = study.record.model_copy(update={"training_voxel_counts": counts})
    rows = tuple(ScoreRow("a", name, "original", "dice", 0.0 if name == "liver" else 0.8) for name in CLASS_NAMES)
    # of an earlier version, which called it failing
    forecast = ArmForecast(study.arms[0].name, (), 0, 1, (), (0.0, *[0.5] * 2, 1.0, *[0.5] * 4), ("liver", "spleen"))
    runs = (dataclasses.replace(study.runs[0], scores=rows), *study.runs[1:])
    trained = dataclasses.replace(study, record=record, runs=runs, forecasts=(forecast,))
    (row,) = forecast_rows(trained, "original")
    assert (row.named, row.failed) == (("spleen",), ())
    assert row.outcomes == ((0.5, False),) * 6
    assert "Brier score" in brier_sentence([row])
    assert "smaller is better): 0.250" in brier_sentence([row])
    said = words_of(trained, GRADIENTS)
    assert "below 0.2: liver (not in the training cases); in training no organ was left behind." in said
    assert "Not counted, because no training case has it: liver." in said


def test_an_organ_of_no_test_case_is_neither_a_hit_nor_a_miss(study: StudyResult) -> None:
    """Of two organs that were named one failed, the other is in no test case: a precision of 1, not of a half."""
    dice: dict[str, float | None] = {**dict.fromkeys(CLASS_NAMES, 0.8), "liver": 0.1, "spleen": None}
    rows = tuple(ScoreRow("a", name, "original", "dice", value) for name, value in dice.items())
    forecast = ArmForecast(study.arms[0].name, (), 0, 1, (), (), ("liver", "spleen"))
    runs = (dataclasses.replace(study.runs[0], scores=rows), *study.runs[1:])
    (row,) = forecast_rows(dataclasses.replace(study, runs=runs, forecasts=(forecast,)), "original")
    assert (row.named, row.failed) == (("liver",), ("liver",))
    assert row.said == ("liver", "spleen (not counted: it has no Dice on the test cases)")
    assert "named 1 organ, of which 1 failed (precision 1.00)" in forecast_sentence([row])
