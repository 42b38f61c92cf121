"""Where a learning curve would settle: a saturating power law with a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEWEST_POINTS = 8
FIRST_SHARE = 0.25  # of the steps is left out: a network that has found no organ yet follows no power law
DRAWS = 400
_EXPONENTS = np.geomspace(0.1, 3.0, 400)
_PARAMETERS = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and the 95 % interval of its bootstrap, in the unit of the curve."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Settling:
    """The law d(t) = d∞ - a t^(-b), fitted to a curve.

    Attributes:
        limit: d∞.
        forecast: what would be measured at the step asked for, noise of a single measurement included.
        exponent: b.
        points: that it was fitted to.
    """

    limit: Interval
    forecast: Interval
    exponent: float
    points: int


def usable_points(steps: Sequence[int]) -> list[int]:
    """Indices of the points that a fit to these steps uses: those after the first quarter of the steps."""
    return [at for at, step in enumerate(steps) if step > 0 and step >= FIRST_SHARE * max(steps)]


def settling(steps: Sequence[int], values: Sequence[float], forecast_at: int) -> Settling | None:
    """Fit d(t) = d∞ - a t^(-b) with 0 ≤ d∞ ≤ 1, a ≥ 0 and 0.1 ≤ b ≤ 3 by least squares.

    For a given b the law is linear, so the best d∞ and a are exact; b is searched on a grid. The intervals come from
    resampling blocks of residuals, as neighbouring points of a curve err alike. They reach at least as far as the same
    fit to the first half of the steps would have missed the last one, where that half has points enough: a curve that
    does not follow the law shows it there.

    Args:
        steps: (N,) optimiser steps, ascending.
        values: (N,) Dice, 0 to 1.
        forecast_at: step of the forecast.

    Returns:
        None where fewer than eight points are usable.
    """
    used = usable_points(steps)
    if len(used) < FEWEST_POINTS:
        return None
    t = np.array([steps[at] for at in used], dtype=float)
    y = np.array([values[at] for at in used], dtype=float)
    number, last = len(used), t[-1]
    limit, amplitude, exponent = _fit(t / last, y[:, None])
    fitted = _law(t / last, limit, amplitude, exponent)[:, 0]
    random = np.random.default_rng(0)
    residuals = (y - fitted - (y - fitted).mean()) * np.sqrt(number / (number - _PARAMETERS))
    resampled = fitted[:, None] + residuals[_blocks(random, number)]
    limits, amplitudes, exponents = _fit(t / last, resampled)
    later = np.array([forecast_at / last])
    noise = random.choice(residuals, DRAWS)
    forecasts = np.clip(_law(later, limits, amplitudes, exponents)[0] + noise, 0, 1)
    margin = _miss_of_half(steps, values, float(last), fitted[-1])
    return Settling(
        limit=_interval(limit[0], limits, margin),
        forecast=_interval(float(_law(later, limit, amplitude, exponent)[0, 0]), forecasts, margin),
        exponent=float(exponent[0]),
        points=number,
    )


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
    starts = random.integers(0, number, size=(-(-number // length), 1, DRAWS))
    index = (starts + np.arange(length)[None, :, None]) % number
    return index.reshape(-1, DRAWS)[:number]


def _miss_of_half(steps: Sequence[int], values: Sequence[float], last: float, fitted: float) -> float:
    """How far a fit to the first half of the steps misses what is fitted at the last; 0 with too few points."""
    half = [at for at, step in enumerate(steps) if 2 * step <= last]
    used = usable_points([steps[at] for at in half])
    if len(used) < FEWEST_POINTS:
        return 0.0
    t = np.array([steps[at] for at in used], dtype=float) / last
    parameters = _fit(t, np.array([values[at] for at in used], dtype=float)[:, None])
    return abs(float(_law(np.ones(1), *parameters)[0, 0]) - fitted)


def _interval(value: float, drawn: Floats, margin: float) -> Interval:
    low, high = map(float, np.percentile(drawn, [2.5, 97.5]))
    return Interval(float(value), max(0.0, min(low, value - margin)), min(1.0, max(high, value + margin)))
