"""A study trained on: scores at each number of iterations, where each arm would settle, and whether that was right.

Where a curve would settle is read from a saturating power law with a bootstrap interval.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viscera.core.arms import Arm
from viscera.study.report.page_section import Group, Report, Section
from viscera.study.results import StudyResult, mean_defined

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


class SettlingRow(NamedTuple):
    """Where one arm would settle, by its curve up to one stage; Dice on the training patches, 0 to 1."""

    arm: str  # its title
    stage: int  # iterations up to which the curve was read
    measured: float | None  # at that stage
    points: int  # of the curve, that could be fitted to; 0 where no curve came that far
    found: Settling | None  # with the forecast for the next stage; None where there are too few points
    outcome: float | None  # measured at the next stage; None after the last, or where no curve came that far

    @property
    def verdict(self) -> str:
        """Whether the outcome lies `within` the forecast's interval, `higher` or `lower`; empty where not known."""
        if self.found is None or self.outcome is None:
            return ""
        forecast = self.found.forecast
        return "within" if forecast.holds(self.outcome) else "higher" if self.outcome > forecast.high else "lower"


def settling_rows(study: StudyResult) -> list[SettlingRow]:
    """For each arm and stage, where it would settle by its curve up to there, and what the next stage gave."""
    stages, rows = study.record.all_stages, []
    for arm in study.arms:
        for stage, later in zip(stages, (*stages[1:], None), strict=True):
            steps, values = arm_curve(study, arm, stage)
            after, curve = arm_curve(study, arm, later) if later else ([], [])
            measured = values[-1] if stage in steps else None
            outcome = curve[-1] if later in after else None
            found = settling(steps, values, later or stage)
            rows.append(SettlingRow(arm.title, stage, measured, len(usable_points(steps)), found, outcome))
    return rows


def arm_curve(study: StudyResult, arm: Arm, until: int) -> tuple[list[int], list[float]]:
    """Steps and mean foreground Dice on the training patches, 0 to 1, averaged over the seeds that came that far."""
    curves: list[dict[int, float]] = []
    for run in study.runs_of(arm):
        means = {point.step: mean_defined(point.dice[1:]) for point in run.curve}
        if max(means, default=0) >= until:
            curves.append({step: mean for step, mean in means.items() if mean is not None and 0 < step <= until})
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return steps, [fmean(curve[step] for curve in curves) for step in steps]


def _values(report: Report) -> Mapping[str, object]:
    study, stages = report.study, report.study.record.all_stages
    at_stages = [study.at_stage(stage) for stage in stages]
    return {
        "stages": stages,
        "tables": [at_stage.percent(report.grid) for at_stage in at_stages],  # Table 1
        "left_out": [(stage, named) for stage, of in zip(stages, at_stages, strict=True) if (named := of.left_out)],
        "settlings": settling_rows(study),
        "fewest_points": FEWEST_POINTS,
        "widest": _OPEN,
    }


def _title(report: Report) -> str:
    return "More iterations" if len(report.study.record.all_stages) > 1 else "Where it settles"


def _heading(report: Report) -> str:
    several = len(report.study.record.all_stages) > 1
    more = "More iterations: mean foreground Dice on the test cases, per cent"
    return more if several else "Where each arm would settle"


ITERATIONS = Section("iterations", _title, _values, group=Group.REASONS, heading=_heading)
