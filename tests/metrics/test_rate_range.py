"""Reading range tests: curves with known turning points, noise alone, and gradient descent on a quadratic."""

import numpy as np
import numpy.typing as npt
import pytest

from viscera.metrics.rate_range import read_range

RATES = np.geomspace(1e-6, 1, 200)
DECADES = np.log10(RATES)
Curve = npt.NDArray[np.float64]


def valley(falls_at: float, rises_at: float, width: float = 0.05) -> Curve:
    """From 0 down to -1 about one rate, and up to 0 again about another; `width` in decades."""
    down = 1 / (1 + np.exp((DECADES - np.log10(falls_at)) / width))
    up = 1 / (1 + np.exp((np.log10(rises_at) - DECADES) / width))
    curve: Curve = down + up - 1
    return curve


@pytest.mark.parametrize(("falls", "rises"), [(1e-4, 1e-1), (1e-5, 1e-3), (3e-3, 3e-1)])
def test_the_turning_points_are_found_within_the_smoothing(falls: float, rises: float) -> None:
    reading = read_range(RATES, valley(falls, rises))
    assert reading.falls_from == pytest.approx(falls, rel=0.6)
    assert reading.rises_from == pytest.approx(rises, rel=0.6)
    assert reading.suggestion == pytest.approx(rises / 10, rel=0.6)
    assert not reading.remark
    assert len(reading.smoothed) == 200


def test_scale_offset_and_noise_change_little() -> None:
    curve = valley(1e-4, 1e-1)
    plain = read_range(RATES, curve)
    assert read_range(RATES, 1e9 * curve - 7e9).suggestion == pytest.approx(plain.suggestion)
    noisy = curve + np.random.default_rng(0).normal(0, 0.1, 200)
    assert read_range(RATES, noisy).suggestion == pytest.approx(plain.suggestion, rel=0.6)


def test_a_narrow_valley_is_not_left_to_the_other_side() -> None:
    """A tenth of 3e-3 lies before the fall at 1e-3: the suggestion is where the loss begins to fall."""
    reading = read_range(RATES, valley(1e-3, 3e-3))
    assert reading.suggestion == reading.falls_from
    assert 3e-4 < (reading.suggestion or 0) < 3e-3


def test_a_loss_that_does_not_rise_is_said_so() -> None:
    reading = read_range(RATES, valley(1e-4, 1e9))
    assert reading.rises_from == 1
    assert reading.suggestion == pytest.approx(0.1)
    assert "does not rise" in reading.remark


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_and_a_loss_that_only_rises_suggest_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, 200)
    for curve in (noise, noise + 50 * valley(1e9, 1e-2)):
        reading = read_range(RATES, curve)
        assert reading.suggestion is None
        assert "did not fall" in reading.remark


@pytest.mark.parametrize("curvature", [1.0, 30.0, 1e4])
def test_on_a_quadratic_the_suggestion_is_within_an_order_of_magnitude_of_the_best_rate(curvature: float) -> None:
    """Gradient descent on c x²/2: best rate 1/c, unstable above 2/c; a long test, as it rises far beyond."""
    rates = np.geomspace(1e-4, 1e3, 300) / curvature
    x, losses = 1.0, []
    for rate in rates.tolist():
        x *= 1 - rate * curvature
        losses.append(min(curvature * x * x / 2, 1e30))
    reading = read_range(rates, losses)
    assert 0.1 / curvature < (reading.suggestion or 0) < 2 / curvature
    assert 1 / curvature < (reading.rises_from or 0) < 8 / curvature
