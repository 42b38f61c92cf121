"""Scores side by side and forecasts, of fabricated studies with known curves; SciPy's least squares as another fit."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import curve_fit

from tests.fabricated_studies import words_of
from viscera.core.anatomy import CLASS_NAMES, ORGANS
from viscera.engine.fusion import FusionRecord
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.iterations_section import (
    FEWEST_POINTS,
    ITERATIONS,
    Settling,
    arm_curve,
    settling,
    settling_rows,
    usable_points,
)
from viscera.study.report.page_section import Report, render_page
from viscera.study.results import CurvePoint, FusedResult, RunResult, StudyResult

PaperRows = list[tuple[ScoreRow, ...]]
MakeStudy = Callable[..., StudyResult]
STAGES = (150, 300)


def curve(later: float | None = None, last: int = 300, offset: float = 0.0) -> tuple[CurvePoint, ...]:
    """0.8 - 8 / t for every organ, a little up and down, at every tenth step; background 0, which does not count."""

    def dice(step: int) -> float:
        return later if later and step > 150 else 0.8 - 8 / step + 0.003 * (-1) ** (step // 10)

    return tuple(
        CurvePoint(step, -0.1, (0.0, *[offset + dice(step)] * len(ORGANS)), ()) for step in range(10, last + 1, 10)
    )


@pytest.fixture
def study(make_study: MakeStudy, paper_rows: PaperRows) -> StudyResult:
    """Six arms after 300 steps with the paper's scores, after 150 with half of each."""
    plain = make_study(paper_rows)
    curves = [curve(), curve(0.3), curve(0.95), curve(last=150), curve(last=40), ()]

    def extended(run: RunResult, points: tuple[CurvePoint, ...]) -> RunResult:
        half = tuple(row._replace(value=(row.value or 0) / 2) for row in run.scores or ())
        return dataclasses.replace(run, curve=points, earlier={150: half})

    runs = tuple(extended(run, points) for run, points in zip(plain.runs, curves, strict=True))
    return StudyResult(plain.record.model_copy(update={"stages": STAGES}), runs)


def test_the_stages_stand_side_by_side(study: StudyResult) -> None:
    early, late = [study.at_stage(stage).percent("original") for stage in STAGES]
    first = study.arms[0].name
    assert list(late) == [arm.name for arm in study.arms]
    assert (early[first]["FOREGROUND"], late[first]["FOREGROUND"]) == pytest.approx((86.642857 / 2, 86.642857))
    assert "uniform, rate 0.001 43.3 86.6 43.3 " in words_of(study, ITERATIONS)  # and the change
    assert "liver 48.2 → 96.5 36.7 → 73.4 " in words_of(study, ITERATIONS)


def test_a_stage_without_scores_is_a_dash(study: StudyResult) -> None:
    runs = (dataclasses.replace(study.runs[0], earlier={}), *study.runs[1:])
    assert "uniform, rate 0.001 – 86.6 – " in words_of(dataclasses.replace(study, runs=runs), ITERATIONS)


def test_a_run_that_failed_between_two_stages_is_named_at_the_later(study: StudyResult) -> None:
    """The first arm diverged at step 200 of 300: its mean after 150 steps stands, with half of each score."""
    failed = RunStatus(state="failed", step=200, iterations=300, message="the loss is nan")
    runs = (dataclasses.replace(study.runs[0], status=failed), *study.runs[1:])
    said = words_of(dataclasses.replace(study, runs=runs), ITERATIONS)
    assert "uniform, rate 0.001 43.3 – – " in said
    assert "Not trained for 300 steps, or not scored, and in no mean there: 1 of 1 of uniform, rate 0.001." in said
    assert "Not trained for 150 steps" not in said


def test_the_fused_predictor_is_the_last_row(study: StudyResult) -> None:
    rows = tuple(ScoreRow("case", name, "original", "dice", 0.8) for name in CLASS_NAMES)
    record = FusionRecord(
        version="1",
        chosen_on=("v1",),
        organs={},
        evidence="own",
        settled_by="weights",
        below=(),
        models={},
        iterations=300,
        inputs_sha256="",
    )
    half = tuple(row._replace(value=0.4) for row in rows)
    fused = dataclasses.replace(study, fused=FusedResult(record, rows, (), {150: half}))
    tables = [fused.at_stage(stage).percent("original") for stage in STAGES]
    assert list(tables[0])[-1] == "fused"
    assert [table["fused"]["FOREGROUND"] for table in tables] == pytest.approx([40, 80])
    late = dataclasses.replace(study, fused=FusedResult(record, rows, ()))
    assert "fused, best arm per organ – 80.0 – " in words_of(late, ITERATIONS)


def test_the_forecast_is_made_from_the_earlier_points_alone_and_judged(study: StudyResult) -> None:
    rows = settling_rows(study)
    assert [(row.arm, row.stage) for row in rows[:2]] == [(study.arms[0].title, 150), (study.arms[0].title, 300)]
    right, _, lower, _, higher, _, stopped, *_ = rows
    assert right.found is not None
    assert right.found.limit.value == pytest.approx(0.8, abs=0.015)
    assert right.measured == pytest.approx(0.8 - 8 / 150 - 0.003)
    assert right.found == lower.found == higher.found  # they differ only afterwards
    assert right.found.forecast.value == pytest.approx(0.773, abs=0.01)  # 0.8 - 8 / 300
    assert (lower.verdict, higher.verdict) == ("lower", "higher")
    assert (lower.outcome, higher.outcome) == pytest.approx((0.3, 0.95))
    assert (stopped.outcome, stopped.verdict) == (None, "")
    assert stopped.found is not None
    assert stopped.found.limit == right.found.limit
    said = words_of(study, ITERATIONS)
    assert f"{rows[8].arm} 150 – no curve that far" in said  # the fifth arm ended at 40
    assert "In 1 of 3 forecasts, made from the earlier steps alone," in said


def test_a_curve_that_follows_the_law_is_within_its_interval(study: StudyResult) -> None:
    (right, *_) = settling_rows(study)
    assert right.outcome == pytest.approx(0.8 - 8 / 300 + 0.003)
    assert right.verdict == "within"


def test_a_curve_in_its_steep_part_gives_no_number(study: StudyResult) -> None:
    steep = tuple(
        CurvePoint(step, -0.1, (0.0, *[step / 400 + 0.01 * (-1) ** (step // 10)] * len(ORGANS)), ())
        for step in range(10, 301, 10)
    )
    rising = dataclasses.replace(study, runs=(dataclasses.replace(study.runs[0], curve=steep), *study.runs[1:]))
    assert "uniform, rate 0.001 150 36.5 open [" in words_of(rising, ITERATIONS)


def test_seeds_are_averaged_where_both_measured(make_study: MakeStudy, paper_rows: PaperRows) -> None:
    plain = make_study([row for row in paper_rows for _ in range(2)], seeds=(0, 1))
    runs = tuple(
        dataclasses.replace(run, curve=curve(offset=0.1 * run.seed)[run.seed :: 2 if run.seed else 1])
        for run in plain.runs
    )
    steps, values = arm_curve(dataclasses.replace(plain, runs=runs), plain.arms[0], 100)
    assert steps == [20, 40, 60, 80, 100]
    assert values == pytest.approx([0.853 - 8 / step for step in steps])


def test_one_stage_gives_one_small_table(make_study: MakeStudy, paper_rows: PaperRows) -> None:
    plain = make_study(paper_rows)
    rows = settling_rows(plain)
    assert len(rows) == 6
    page = words_of(plain, ITERATIONS)
    assert "too few points (3 of at least 8)" in page
    assert "forecast" not in page
    assert "Where each arm would settle" in page
    assert "More iterations" not in page


def test_the_page_shows_both_stages(study: StudyResult) -> None:
    page = render_page(Report(study), [ITERATIONS])
    assert "More iterations: mean foreground Dice on the test cases" in page
    assert "43.3</td><td>86.6</td>" in page
    assert "48.2 → 96.5" in page
    assert "no, higher" in page
    assert "In 1 of 3 forecasts" in page


# ------------------------------------------------------------ where a curve would settle
STEPS = list(range(50, 10_001, 50))


def law(limit: float, amplitude: float, exponent: float, steps: list[int] = STEPS) -> np.ndarray:
    return limit - amplitude * np.array(steps, dtype=float) ** -exponent


def fitted(values: np.ndarray, at: int = 20_000) -> Settling:
    found = settling(STEPS, values.tolist(), at)
    assert found is not None
    return found


@pytest.mark.parametrize(("limit", "amplitude", "exponent"), [(0.9, 20, 0.6), (0.7, 300, 1.0), (0.95, 5, 0.35)])
def test_a_curve_without_noise_gives_its_limit_and_its_future(limit: float, amplitude: float, exponent: float) -> None:
    found = fitted(law(limit, amplitude, exponent))
    assert found.limit.value == pytest.approx(limit, abs=0.005)
    assert found.exponent == pytest.approx(exponent, rel=0.03)
    assert found.forecast.value == pytest.approx(limit - amplitude * 20_000**-exponent, abs=0.001)
    assert found.points == 151  # of 200: from step 2500 on


def test_scipy_finds_the_same() -> None:
    noisy = law(0.85, 100, 0.8) + np.random.default_rng(1).normal(0, 0.005, len(STEPS))
    used = usable_points(STEPS)
    t, y = np.array(STEPS, dtype=float)[used] / 10_000, noisy[used]
    peer, _ = curve_fit(
        lambda t, d, a, b: d - a * t**-b, t, y, p0=(0.8, 0.1, 1.0), bounds=([0, 0, 0.1], [1, np.inf, 3])
    )
    found = fitted(noisy)
    assert found.limit.value == pytest.approx(peer[0], abs=0.002)
    assert found.forecast.value == pytest.approx(peer[0] - peer[1] * 2.0 ** -peer[2], abs=0.001)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # 95 % intervals of 40 noisy curves: fewer than 32 hits would have a chance below 0.001
    limit_hits = forecast_hits = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        found = fitted(law(0.8, 400, 1.0) + random.normal(0, 0.01, len(STEPS)))
        limit_hits += found.limit.holds(0.8)
        forecast_hits += found.forecast.holds(0.8 - 400 / 20_000 + random.normal(0, 0.01))
    assert limit_hits >= 32
    assert forecast_hits >= 32


def test_more_noise_gives_a_wider_interval() -> None:
    widths = []
    for sigma in (0.002, 0.02):
        limit = fitted(law(0.8, 400, 1.0) + np.random.default_rng(0).normal(0, sigma, len(STEPS))).limit
        assert limit.low <= limit.value <= limit.high
        widths.append(limit.high - limit.low)
    assert widths[1] > 3 * widths[0]


def test_a_flat_curve_stays_where_it_is() -> None:
    found = fitted(np.full(len(STEPS), 0.4))
    assert [found.limit.value, found.forecast.value] == pytest.approx([0.4, 0.4])
    assert found.limit.high - found.limit.low < 1e-6


def test_a_falling_curve_is_no_growth_and_a_straight_one_settles_at_one_at_most() -> None:
    assert fitted(np.linspace(0.9, 0.5, len(STEPS))).forecast.value <= 0.9
    straight = fitted(np.linspace(0.1, 0.9, len(STEPS)))
    assert straight.limit.value <= 1
    assert straight.limit.high <= 1


def test_too_few_points_are_no_estimate() -> None:
    steps = [100 * n for n in range(1, 11)]  # those from 250 on: eight
    assert len(usable_points(steps)) == FEWEST_POINTS
    assert settling(steps, law(0.8, 10, 0.6, steps).tolist(), 2000) is not None
    assert settling(steps[:9], law(0.8, 10, 0.6, steps[:9]).tolist(), 2000) is None
    assert settling([], [], 10) is None


def test_the_first_quarter_has_no_say() -> None:
    values = law(0.8, 400, 1.0)
    started_late = values.copy()
    started_late[:49] = 0.0  # up to step 2450
    on_time, late = fitted(values), fitted(started_late)
    assert (on_time.limit.value, on_time.forecast.value) == (late.limit.value, late.forecast.value)


def test_a_curve_that_breaks_with_the_law_gets_an_interval_as_wide_as_the_break() -> None:
    # settled at 0.4 up to half, then rising to 0.6: a fit to the first half stays at 0.4, one to all ends above 0.5
    values = np.array([0.4 if step <= 5000 else 0.4 + 0.2 * (step - 5000) / 5000 for step in STEPS])
    forecast = fitted(values).forecast
    assert forecast.low + 0.1 <= forecast.value <= forecast.high - 0.1


def test_the_same_curve_gives_the_same_interval() -> None:
    noisy = law(0.8, 400, 1.0) + np.random.default_rng(5).normal(0, 0.01, len(STEPS))
    assert fitted(noisy) == fitted(noisy)
