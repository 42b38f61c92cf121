"""Synthetic curves of known limit; SciPy's least squares as the other implementation."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from viscera.study.report.settling import FEWEST_POINTS, Settling, settling, usable_points

STEPS = list(range(50, 10_001, 50))


def curve(limit: float, amplitude: float, exponent: float, steps: list[int] = STEPS) -> np.ndarray:
    return limit - amplitude * np.array(steps, dtype=float) ** -exponent


def fitted(values: np.ndarray, at: int = 20_000) -> Settling:
    found = settling(STEPS, values.tolist(), at)
    assert found is not None
    return found


@pytest.mark.parametrize(("limit", "amplitude", "exponent"), [(0.9, 20, 0.6), (0.7, 300, 1.0), (0.95, 5, 0.35)])
def test_a_curve_without_noise_gives_its_limit_and_its_future(limit: float, amplitude: float, exponent: float) -> None:
    found = fitted(curve(limit, amplitude, exponent))
    assert found.limit.value == pytest.approx(limit, abs=0.005)
    assert found.exponent == pytest.approx(exponent, rel=0.03)
    assert found.forecast.value == pytest.approx(limit - amplitude * 20_000**-exponent, abs=0.001)
    assert found.points == 151  # of 200: from step 2500 on


def test_scipy_finds_the_same() -> None:
    noisy = curve(0.85, 100, 0.8) + np.random.default_rng(1).normal(0, 0.005, len(STEPS))
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
        found = fitted(curve(0.8, 400, 1.0) + random.normal(0, 0.01, len(STEPS)))
        limit_hits += found.limit.holds(0.8)
        forecast_hits += found.forecast.holds(0.8 - 400 / 20_000 + random.normal(0, 0.01))
    assert limit_hits >= 32
    assert forecast_hits >= 32


def test_more_noise_gives_a_wider_interval() -> None:
    widths = []
    for sigma in (0.002, 0.02):
        limit = fitted(curve(0.8, 400, 1.0) + np.random.default_rng(0).normal(0, sigma, len(STEPS))).limit
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
    assert settling(steps, curve(0.8, 10, 0.6, steps).tolist(), 2000) is not None
    assert settling(steps[:9], curve(0.8, 10, 0.6, steps[:9]).tolist(), 2000) is None
    assert settling([], [], 10) is None


def test_the_first_quarter_has_no_say() -> None:
    values = curve(0.8, 400, 1.0)
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
    noisy = curve(0.8, 400, 1.0) + np.random.default_rng(5).normal(0, 0.01, len(STEPS))
    assert fitted(noisy) == fitted(noisy)
