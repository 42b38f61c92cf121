"""Power, where formulas or simulated values give it."""

import numpy as np
import pytest
from scipy import stats

from viscera.metrics.crossed import Components, crossed_means
from viscera.metrics.crossed_power import fewest, power_of_difference, power_of_equivalence


def test_one_seed_has_the_power_of_a_paired_t_test() -> None:
    """By the noncentral t distribution, 20 patients, an effect of 0.6 standard deviations."""
    critical, shift = stats.t.isf(0.025, 19), 0.6 * np.sqrt(20)
    expected = stats.nct.sf(critical, 19, shift) + stats.nct.cdf(-critical, 19, shift)
    assert power_of_difference(Components(9, 0, 16), 20, 1, 3.0) == pytest.approx(expected, abs=0.015)


def test_nothing_to_find_is_found_as_often_as_alpha_at_most() -> None:
    assert power_of_difference(Components(16, 8, 4), 16, 5, 0.0) <= 0.055
    assert power_of_equivalence(Components(16, 8, 4), 16, 5, 5.0, difference=5.0) <= 0.055


def test_power_is_that_of_studies_with_values() -> None:
    """2,000 studies of 12 patients and 6 seeds with values, against the draws of mean squares."""
    variances, margin = Components(9, 4, 9), 4.0
    generator = np.random.default_rng(5)
    parts = [(12, 1, 2000), (1, 6, 2000), (12, 6, 2000)]
    values = sum(np.sqrt(v) * generator.standard_normal(part) for v, part in zip(variances, parts, strict=True))
    low, high = crossed_means(np.asarray(values)).interval(0.9)
    within = ((low > -margin) & (high < margin)).mean()
    assert power_of_equivalence(variances, 12, 6, margin) == pytest.approx(within, abs=0.035)
    low, high = crossed_means(np.asarray(values) + 4).interval()
    assert power_of_difference(variances, 12, 6, 4.0) == pytest.approx(((low > 0) | (high < 0)).mean(), abs=0.035)


def test_more_seeds_and_more_patients_find_more() -> None:
    variances = Components(16, 8, 16)
    assert power_of_difference(variances, 16, 10, 5.0) > power_of_difference(variances, 16, 5, 5.0)
    assert power_of_difference(variances, 37, 5, 5.0) > power_of_difference(variances, 16, 5, 5.0)


def test_the_fewest_that_are_enough() -> None:
    assert fewest(lambda n: n / 10, 0.75, first=1, most=20) == 8
    assert fewest(lambda n: n / 10, 0.75, first=9, most=20) == 9
    assert fewest(lambda n: n / 100, 0.75, first=1, most=20) is None
