"""Power, where formulas or simulated values give it."""

import numpy as np
import pytest
from scipy import stats

from viscera.metrics.crossed import Components, crossed_means
from viscera.metrics.crossed_power import fewest, power_of_difference, power_of_equivalence, smallest_difference
from viscera.metrics.paired_tests import paired_tests


def test_one_seed_has_the_power_of_a_paired_t_test() -> None:
    """By the noncentral t distribution, an effect of 0.36 standard deviations; ranks of 20 find a little less."""

    def of_mean(patients: int, effect: float) -> float:
        critical, shift = stats.t.isf(0.025, patients - 1), effect * np.sqrt(patients)
        return float(stats.nct.sf(critical, patients - 1, shift) + stats.nct.cdf(-critical, patients - 1, shift))

    assert power_of_difference(Components(9, 0, 16), 60, 1, 1.8) == pytest.approx(of_mean(60, 0.36), abs=0.015)
    of_both = power_of_difference(Components(9, 0, 16), 20, 1, 3.0)
    assert of_mean(20, 0.6) - 0.06 < of_both < of_mean(20, 0.6)


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
    assert fewest(lambda n: n / 100, 0.2, first=1, most=20) == 20


def test_enough_patients_are_found_where_more_are_not_enough() -> None:
    """With two seeds critical values rise from Student's t of the patients, 2.4, towards that of the seeds, 12.7."""
    variances = Components(13.7, 0.8, 0.25)

    def power(patients: int) -> float:
        return power_of_difference(variances, patients, 2, 9.0)

    assert power(9) > 0.8 > power(2000)
    found = fewest(power, first=6, most=2000)
    assert found is not None
    assert power(found) >= 0.8 > power(found - 1)
    assert found <= 9


@pytest.mark.parametrize(("patients", "tests"), [(5, 1), (8, 7), (12, 105)])
def test_too_few_patients_show_nothing_however_large(patients: int, tests: int) -> None:
    """No p of ranks or sign flips is below 2 / 2^n: 0.0625 of 5, 7 * 0.0078 of 8, 105 * 0.00049 of 12."""
    alpha = 0.05 / tests
    assert smallest_difference(Components(4, 1, 1), patients, 5, alpha) is None
    assert power_of_difference(Components(4, 1, 1), patients, 5, 1000.0, alpha) == 0
    one_more = smallest_difference(Components(4, 1, 1), patients + 1, 5, alpha)
    assert one_more is not None
    assert power_of_difference(Components(4, 1, 1), patients + 1, 5, one_more, alpha) >= 0.8


def test_too_few_patients_are_never_alike() -> None:
    """One-sided, no p is below 1 / 2^n: 0.0625 of 4 patients, 0.031 of 5."""
    assert power_of_equivalence(Components(1, 0, 1), 4, 5, 1000.0) == 0
    assert power_of_equivalence(Components(1, 0, 1), 5, 5, 1000.0) == 1


@pytest.mark.parametrize(("patients", "tests"), [(6, 1), (8, 1), (9, 7), (13, 42)])
def test_the_chance_is_that_of_all_tests_which_must_agree(patients: int, tests: int) -> None:
    """400 studies with values, by ranks, sign flips and trainings; three standard errors of chance are 6 points."""
    variances, alpha = Components(4, 1, 2), 0.05 / tests
    difference = smallest_difference(variances, patients, 5, alpha)
    assert difference is not None
    generator = np.random.default_rng(3)
    parts = [(patients, 1, 400), (1, 5, 400), (patients, 5, 400)]
    values = sum(np.sqrt(v) * generator.standard_normal(part) for v, part in zip(variances, parts, strict=True))
    shown = paired_tests(np.asarray(values) + difference).deciding.two_sided < alpha
    assert shown.mean() == pytest.approx(0.8, abs=0.06)
