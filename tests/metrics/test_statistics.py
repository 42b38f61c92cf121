"""Worked examples, laws and simulated nulls of families of tests and of the bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.metrics.signed_rank import signed_rank_test
from viscera.metrics.statistics import (
    bootstrap_means,
    holm,
    pairs_needed,
    rank_range,
    rank_shares,
    smallest_p,
)


@pytest.mark.parametrize(("pairs", "p"), [(0, 1), (1, 1), (2, 0.5), (6, 0.03125), (8, 0.0078125)])
def test_the_smallest_p_is_reached_when_all_pairs_agree(pairs: int, p: float) -> None:
    assert smallest_p(pairs) == p
    if pairs:
        assert signed_rank_test(np.arange(1.0, pairs + 1)).p == p


def test_pairs_needed_for_one_significant_test() -> None:
    assert pairs_needed(1, 0.05) == 6  # 2 / 2^6 = 0.031, and 2 / 2^5 = 0.063
    assert pairs_needed(105, 0.05) == 13  # 105 * 2 / 2^13 = 0.026, and 105 * 2 / 2^12 = 0.051
    assert pairs_needed(1, 0.05, sides=1) == 5  # 1 / 2^5 = 0.031, and 1 / 2^4 = 0.063
    assert pairs_needed(2, 0.05, sides=1) == 6


def test_holm_by_hand() -> None:
    # in order .005, .01, .03, .04, times 4, 3, 2, 1: .02, .03, .06, .04, the last lifted to .06
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.5])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([])).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, len(p) * np.array(p)))
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(adjusted[order]) >= 0)


def test_bootstrap_variance_of_patients_and_seeds() -> None:
    # Values are a patient's part plus a seed's part, so the variance of a resampled mean is exactly
    # var(patients) / P + var(seeds) / S (with divisors P and S): 1.25 / 4 + 0.25 / 2 = 0.4375
    values = np.array([1.0, 2.0, 3.0, 4.0])[:, None] + np.array([0.0, 1.0])
    draws = bootstrap_means(values[None, :, :, None], draws=40_000)[:, 0, 0]
    assert draws.mean() == pytest.approx(3.0, abs=4 * 0.66 / 200)
    assert draws.var() == pytest.approx(0.4375, rel=0.03)
    one_seed = bootstrap_means(values[None, :, :1, None], draws=40_000)[:, 0, 0]
    assert one_seed.var() == pytest.approx(0.3125, rel=0.03)


def test_bootstrap_is_deterministic_and_shares_its_patients_among_arms() -> None:
    values = np.random.default_rng(0).random((2, 6, 1, 3))
    values[1] = values[0] - 0.01  # always worse by 0.01, whichever patients are drawn
    draws = bootstrap_means(values, draws=50)
    assert np.array_equal(draws, bootstrap_means(values, draws=50))
    assert not np.array_equal(draws, bootstrap_means(values, draws=50, seed=1))
    assert draws[:, 0] - draws[:, 1] == pytest.approx(0.01)


def test_bootstrap_shares_its_seeds_among_arms_that_have_the_same() -> None:
    """Every arm is as lucky with a seed as the others, and patients are alike: their differences do not vary at all."""
    luck = np.array([0.0, 3.0, 9.0, 27.0])
    values = np.broadcast_to(luck[:, None], (3, 5, 4, 1)).copy()
    values[1] -= 1.0
    values[2, :, 3] = np.nan  # another set of seeds: drawn for itself
    draws = bootstrap_means(values, draws=200)[:, :, 0]
    assert draws[:, 0] - draws[:, 1] == pytest.approx(np.ones(200))
    assert draws[:, 0].std() > 1
    assert np.all(draws[:, 2] <= 9)


def test_bootstrap_leaves_out_what_is_undefined() -> None:
    values = np.full((3, 4, 2, 2), np.nan)
    values[0, :, :, 0] = 7.0  # column 1 never defined
    values[1, :3, 0, :] = 5.0  # one patient without, the second seed never run
    values[1, 0, 0, 1] = np.nan
    draws = bootstrap_means(values, draws=200)
    assert np.all(draws[:, 0, 0] == 7)
    assert np.isnan(draws[:, 0, 1]).all()
    defined = draws[:, 1][~np.isnan(draws[:, 1])]
    assert np.all(defined == 5)
    assert np.isnan(draws[:, 2]).all()
    # column 1 of arm 1 is defined for two of four patients: none of them is drawn in (1/2)^4 of the draws
    many = bootstrap_means(values, draws=20_000)
    assert np.isnan(many[:, 1, 1]).mean() == pytest.approx(1 / 16, abs=0.006)
    assert bootstrap_means(np.empty((2, 0, 1, 3)), draws=5).shape == (5, 2, 3)


def test_bootstrap_averages_the_seeds_of_each_patient_first() -> None:
    # Patient 0 has 0 with one seed of two, patient 1 has 10 and 30. Whichever seeds are drawn, a draw that holds
    # patient 1 alone has 10, 20 or 30; with both it has 5 or 10, or patient 1's 30 where patient 0's seed is not drawn.
    values = np.array([[0.0, np.nan], [10.0, 30.0]])[None, :, :, None]
    draws = bootstrap_means(values, draws=4000)[:, 0, 0]
    assert set(draws[~np.isnan(draws)].tolist()) == {0.0, 5.0, 10.0, 20.0, 30.0}
    # twice patient 0 (1/4) and twice the seed that it lacks (1/4): nothing defined
    assert np.isnan(draws).mean() == pytest.approx(1 / 16, abs=0.012)
    # both patients and both seeds: (0 + 20) / 2; both patients and twice the first: (0 + 10) / 2
    assert (draws == 5).mean() == pytest.approx(1 / 2 * 1 / 4, abs=0.016)


def test_ranks_by_hand() -> None:
    # four draws of three arms: the first is first three times, shares it once; the last has no value at all
    nan = np.nan
    shares = rank_shares(np.array([[3, 2, nan], [3, 2, nan], [3, 3, nan], [1, 2, nan]], dtype=float))
    assert shares[:2].tolist() == [[0.75, 0.25, 0], [0.5, 0.5, 0]]
    assert np.isnan(shares[2]).all()
    assert rank_range(np.array([0.02, 0.96, 0.02])) == (2, 2)
    assert rank_range(np.array([0.03, 0.94, 0.03])) == (1, 3)
    assert rank_range(np.array([1.0, 0.0, 0.0])) == (1, 1)


@pytest.mark.slow
def test_bootstrap_intervals_cover_the_truth_with_enough_patients_and_seeds() -> None:
    generator = np.random.default_rng(3)
    studies = 1000
    covered = 0
    for study in range(studies):
        values = generator.standard_normal((40, 1)) + 0.2 * generator.standard_normal(8) + 0.1
        noisy = values + 0.3 * generator.standard_normal((40, 8))
        draws = bootstrap_means(noisy[None, :, :, None], draws=1000, seed=study)[:, 0, 0]
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += bool(low <= 0.1 <= high)
    assert covered / studies > 0.95 - 0.03
