"""A study trained on: scores at each number of iterations, where each arm would settle, and whether that was right.

Where a curve would settle is read from a saturating power law with a bootstrap interval.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viscera.core.arms import FUSED, Arm
from viscera.study.report.page_section import Report, Section
from viscera.study.results import StudyResult, counted, mean_defined
from viscera.study.score_table import with_summary

FEWEST_POINTS = 8
FIRST_SHARE = 0.25  # of the steps is left out: a network that has found no organ yet follows no power law
DRAWS_OF_CURVE = 400
_EXPONENTS = np.geomspace(0.1, 3.0, 400)
_PARAMETERS = 3
_OPEN = 0.25  # width of an interval, Dice, from which an estimate is no estimate

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value and the 95 % interval of its bootstrap, in the unit of the curve."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


class Settling(NamedTuple):
    """The law d(t) = d∞ - a t^(-b), fitted to a curve."""

    limit: Interval  # d∞
    forecast: Interval  # what would be measured at the step asked for, noise of a single measurement included
    exponent: float  # b
    points: int  # that it was fitted to


def usable_points(steps: Sequence[int]) -> list[int]:
    """Indices of the points that a fit to these steps uses: those after the first quarter of the steps."""
    return [at for at, step in enumerate(steps) if step > 0 and step >= FIRST_SHARE * max(steps)]


def settling(steps: Sequence[int], values: Sequence[float], forecast_at: int) -> Settling | None:
    """Fit d(t) = d∞ - a t^(-b) with 0 ≤ d∞ ≤ 1, a ≥ 0 and 0.1 ≤ b ≤ 3 by least squares.

    For a given b the law is linear, so the best d∞ and a are exact; b is searched on a grid. The intervals come from
    resampling blocks of residuals, as neighbouring points of a curve err alike. They reach at least as far as the same
    fit to the first half of the steps would have missed the last one, where that half has points enough: a curve that
    does not follow the law shows it there.

    `steps` (N,) ascend, `values` (N,) are Dice, 0 to 1; None where fewer than eight points are usable.
    """
    used = usable_points(steps)
    if len(used) < FEWEST_POINTS:
        return None
    t, y = np.array(steps, dtype=float)[used], np.array(values, dtype=float)[used]
    number, last = len(used), t[-1]
    limit, amplitude, exponent = _fit(t / last, y[:, None])
    fitted = _law(t / last, limit, amplitude, exponent)[:, 0]
    random = np.random.default_rng(0)
    residuals = (y - fitted - (y - fitted).mean()) * np.sqrt(number / (number - _PARAMETERS))
    resampled = fitted[:, None] + residuals[_blocks(random, number)]
    limits, amplitudes, exponents = _fit(t / last, resampled)
    later = np.array([forecast_at / last])
    noise = random.choice(residuals, DRAWS_OF_CURVE)
    forecasts = np.clip(_law(later, limits, amplitudes, exponents)[0] + noise, 0, 1)
    margin = _miss_of_half(steps, values, float(last), fitted[-1])
    forecast = float(_law(later, limit, amplitude, exponent)[0, 0])
    settles_at = _bootstrap_interval(limit[0], limits, margin)
    return Settling(settles_at, _bootstrap_interval(forecast, forecasts, margin), float(exponent[0]), number)


def _law(t: Floats, limit: Floats, amplitude: Floats, exponent: Floats) -> Floats:
    """(N, B) values at times (N,) under parameters (B,)."""
    values: Floats = limit - amplitude * t[:, None] ** -exponent
    return values


def _fit(t: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """d∞, a and b, each (B,), of curves (N, B) at times (N,)."""
    number = len(t)
    x = t[None, :] ** -_EXPONENTS[:, None]  # (G, N)
    sum_x, sum_xx = x.sum(axis=1)[:, None], (x**2).sum(axis=1)[:, None]
    sum_y, sum_yy, sum_xy = y.sum(axis=0), (y**2).sum(axis=0), x @ y  # (B,), (B,), (G, B)
    amplitude = (sum_x * sum_y / number - sum_xy) / (sum_xx - sum_x**2 / number)
    amplitude = np.clip(amplitude, 0, None)
    limit = (sum_y + amplitude * sum_x) / number
    over = limit > 1  # then the best fit lies on the edge d∞ = 1
    limit = np.minimum(limit, 1)
    amplitude = np.where(over, np.clip((sum_x - sum_xy) / sum_xx, 0, None), amplitude)
    squares = sum_yy + number * limit**2 + amplitude**2 * sum_xx
    squares = squares - 2 * limit * sum_y + 2 * amplitude * sum_xy - 2 * amplitude * limit * sum_x
    best = squares.argmin(axis=0)
    curves = np.arange(y.shape[1])
    return limit[best, curves], amplitude[best, curves], _EXPONENTS[best]


def _blocks(random: np.random.Generator, number: int) -> npt.NDArray[np.intp]:
    """(N, B) indices of residuals: blocks of neighbours, round the end, of about the cube root of N."""
    length = max(1, round(number ** (1 / 3)))
    starts = random.integers(0, number, size=(-(-number // length), 1, DRAWS_OF_CURVE))
    index = (starts + np.arange(length)[None, :, None]) % number
    return index.reshape(-1, DRAWS_OF_CURVE)[:number]


def _miss_of_half(steps: Sequence[int], values: Sequence[float], last: float, fitted: float) -> float:
    """How far a fit to the first half of the steps misses what is fitted at the last; 0 with too few points."""
    used = usable_points([step for step in steps if 2 * step <= last])  # steps ascend
    if len(used) < FEWEST_POINTS:
        return 0.0
    parameters = _fit(np.array(steps, dtype=float)[used] / last, np.array(values, dtype=float)[used][:, None])
    return abs(float(_law(np.ones(1), *parameters)[0, 0]) - fitted)


def _bootstrap_interval(value: float, drawn: Floats, margin: float) -> Interval:
    low, high = map(float, np.percentile(drawn, [2.5, 97.5]))
    return Interval(float(value), max(0.0, min(low, value - margin)), min(1.0, max(high, value + margin)))


class StageRow(NamedTuple):
    """Mean Dice on the test cases of one arm or one organ of it, in per cent, at each stage; None: undefined."""

    title: str
    percents: tuple[float | None, ...]

    @property
    def change(self) -> float | None:
        """Points between the first and the last stage."""
        first, last = self.percents[0], self.percents[-1]
        return None if first is None or last is None else last - first

    @property
    def text(self) -> str:
        """`61.2 → 70.1`."""
        return " → ".join("–" if value is None else f"{value:.1f}" for value in self.percents)


class SettlingRow(NamedTuple):
    """Where one arm would settle, by its curve up to one stage; Dice on the training windows, texts in per cent."""

    title: str  # of the arm
    stage: int  # iterations up to which the curve was read
    measured: float | None  # at that stage
    limit: str  # d∞ with its interval; or why there is none
    later: int | None = None  # the next stage; None after the last
    forecast: str = ""  # for the next stage, with its interval; empty where there is none
    outcome: float | None = None  # measured at the next stage
    verdict: str = ""  # whether the outcome lies in the forecast's interval; empty where there is none


def stage_rows(study: StudyResult, grid: str) -> list[StageRow]:
    """Foreground mean of each arm, in the order of Table 1, and of the fused predictor, at each stage."""
    titles = {FUSED: "fused, best arm per organ"} if study.fused is not None else {}
    return _rows_at_stages(study, grid, titles)["FOREGROUND"]


def organ_stages(study: StudyResult, grid: str) -> list[tuple[str, list[StageRow]]]:
    """For each organ its title, and its mean Dice in each arm at each stage."""
    rows = _rows_at_stages(study, grid, {})
    return [(organ.title, rows[organ.name]) for organ in study.classes.organs]


def _rows_at_stages(study: StudyResult, grid: str, more: dict[str, str]) -> dict[str, list[StageRow]]:
    """Every row of Table 1 at each stage, by arm and by the titles of more columns."""
    titles = {arm.name: arm.title for arm in study.arms} | more
    tables = [with_summary(study.at_stage(stage).scores.class_percent(grid)) for stage in study.record.all_stages]
    columns = [table.reindex(columns=list(titles)).astype(object) for table in tables]
    defined = [column.where(column.notna(), None) for column in columns]
    return {
        row: [StageRow(title, tuple(column[arm][row] for column in defined)) for arm, title in titles.items()]
        for row in tables[0].index
    }


def settling_rows(study: StudyResult) -> list[SettlingRow]:
    """For each arm and stage, where it would settle by its curve up to there, and what the next stage gave."""
    stages = study.record.all_stages
    pairs = list(zip(stages, (*stages[1:], None), strict=True))
    return [_settling_row(study, arm, stage, later) for arm in study.arms for stage, later in pairs]


def settling_sentence(rows: Sequence[SettlingRow]) -> str:
    """How many forecasts were right; empty where there was none."""
    judged = [row.verdict for row in rows if row.verdict]
    forecasts = counted(len(judged), "forecast")
    sentence = (
        f"In {judged.count('within')} of {forecasts}, made from the earlier steps alone, "
        "the later Dice lies within the interval."
    )
    return sentence if judged else ""


def arm_curve(study: StudyResult, arm: Arm, until: int) -> tuple[list[int], list[float]]:
    """Steps and mean foreground Dice on the training windows, 0 to 1, averaged over the seeds that came that far."""
    curves: list[dict[int, float]] = []
    for run in study.runs_of(arm):
        means = {point.step: mean_defined(point.dice[1:]) for point in run.curve}
        if max(means, default=0) >= until:
            curves.append({step: mean for step, mean in means.items() if mean is not None and 0 < step <= until})
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return steps, [fmean(curve[step] for curve in curves) for step in steps]


def _settling_row(study: StudyResult, arm: Arm, stage: int, later: int | None) -> SettlingRow:
    steps, values = arm_curve(study, arm, stage)
    measured = 100 * values[-1] if steps and steps[-1] == stage else None
    found = settling(steps, values, later or stage)
    if found is None:
        too_few = f"too few points ({len(usable_points(steps))} of at least {FEWEST_POINTS})"
        return SettlingRow(arm.title, stage, measured, too_few if steps else "no curve that far", later)
    row = SettlingRow(arm.title, stage, measured, _interval(found.limit), later)
    if later is None:
        return row
    after, curve = arm_curve(study, arm, later)
    row = row._replace(forecast=_interval(found.forecast))
    if later not in after:
        return row
    verdict = "within" if found.forecast.holds(curve[-1]) else "higher" if curve[-1] > found.forecast.high else "lower"
    return row._replace(outcome=100 * curve[-1], verdict=verdict)


def _interval(interval: Interval) -> str:
    low, high = 100 * interval.low, 100 * interval.high
    value = "open" if interval.high - interval.low > _OPEN else f"{100 * interval.value:.1f}"
    return f"{value} [{low:.1f}, {high:.1f}]"


def _values(report: Report) -> Mapping[str, object]:
    settled = settling_rows(report.study)
    return {
        "stages": report.study.record.all_stages,
        "stage_rows": stage_rows(report.study, report.grid),
        "organ_stages": organ_stages(report.study, report.grid),
        "settlings": settled,
        "settling_sentence": settling_sentence(settled),
    }


def _title(report: Report) -> str:
    return "More iterations" if len(report.study.record.all_stages) > 1 else "Where it settles"


ITERATIONS = Section("iterations", _title, _values)
