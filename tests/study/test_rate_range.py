"""Reading range tests: curves with known turning points, noise alone, and gradient descent on a quadratic."""

import numpy as np
import numpy.typing as npt
import pytest

from viscera.study.rate_range import read_range

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
    assert reading.suggestion == reading.slows_from
    assert falls / 2 < (reading.slows_from or 0) < 4 * falls
    assert not reading.remark
    assert len(reading.smoothed) == 200


def test_scale_offset_and_noise_change_little() -> None:
    curve = valley(1e-4, 1e-1)
    plain = read_range(RATES, curve)
    assert read_range(RATES, 1e9 * curve - 7e9).suggestion == pytest.approx(plain.suggestion)
    noisy = curve + np.random.default_rng(0).normal(0, 0.1, 200)
    assert read_range(RATES, noisy).suggestion == pytest.approx(plain.suggestion, rel=0.6)


def test_a_slow_fall_slows_where_nine_tenths_are_done() -> None:
    """A logistic fall of width 0.4 decades: nine tenths are done 0.4 ln 9 = 0.88 decades behind its middle."""
    reading = read_range(RATES, valley(1e-4, 1e9, width=0.4))
    assert np.log10(reading.falls_from or 0) == pytest.approx(-4.88, abs=0.15)
    assert np.log10(reading.slows_from or 0) == pytest.approx(-3.12, abs=0.15)


def test_a_loss_that_does_not_rise_is_said_so() -> None:
    reading = read_range(RATES, valley(1e-4, 1e9))
    assert reading.rises_from == 1
    assert reading.suggestion == pytest.approx(1e-4, rel=2)
    assert "does not rise" in reading.remark


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_and_a_loss_that_only_rises_suggest_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, 200)
    for curve in (noise, noise + 50 * valley(1e9, 1e-2)):
        reading = read_range(RATES, curve)
        assert reading.suggestion is None
        assert "did not fall" in reading.remark


@pytest.mark.parametrize("curvature", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("per_decade", [20, 40])
def test_on_a_quadratic_it_finds_the_limit_of_stability_and_suggests_a_rate_below_it(
    curvature: float, per_decade: int
) -> None:
    """Gradient descent on c x²/2: unstable above 2/c.

    A tenth of the loss is left when x² is: the sum of the rates is then ln 10 / 2c, and of a geometric series it is
    the last rate times per_decade / ln 10: that rate is (ln 10)² / (2 c per_decade).
    """
    rates = np.geomspace(1.03e-4, 1.03e3, 7 * per_decade + 1) / curvature  # never 1/c itself: it ends there
    x, losses = 1.0, []
    for rate in rates.tolist():
        x *= 1 - rate * curvature
        losses.append(min(curvature * x * x / 2, 1e30))
    reading = read_range(rates, losses)
    assert reading.suggestion == pytest.approx(np.log(10) ** 2 / (2 * curvature * per_decade), rel=0.6)
    assert 1 / curvature < (reading.rises_from or 0) < 8 / curvature
