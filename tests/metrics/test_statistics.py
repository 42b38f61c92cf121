"""Worked examples of the literature, scipy as a second implementation, laws, and simulated nulls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from viscera.core.errors import BadInputError
from viscera.metrics.statistics import (
    Array,
    bootstrap_means,
    hodges_lehmann,
    holm,
    midranks,
    pairs_needed,
    percentile_interval,
    rank_range,
    rank_shares,
    signed_rank_test,
    smallest_p,
)

# Hollander and Wolfe (1999), table 3.1: Hamilton depression scale factor IV of nine patients before and after a
# tranquilizer (data of Salsburg, 1970)
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
# Darwin's maize (Fisher 1935): cross- minus self-fertilised, in eighths of an inch
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)


def test_hollander_and_wolfes_depression_example() -> None:
    # T+ of after minus before is 5; P(T+ <= 5) = 10/512, so the two-sided p is 20/512
    assert signed_rank_test(AFTER - BEFORE) == (5, 20 / 512)
    # they give the estimate -.46, and (-.786, -.010) as the interval of 96.1 %: the smallest that reaches 95 %
    shift = hodges_lehmann(AFTER - BEFORE)
    assert shift == pytest.approx((-0.46, -0.786, -0.010))
    assert hodges_lehmann(AFTER - BEFORE, confidence=1 - 20 / 512) == shift
    assert hodges_lehmann(BEFORE - AFTER) == pytest.approx((0.46, 0.010, 0.786))


def test_darwins_maize() -> None:
    # the negative ones, 48 and 67, have ranks 10 and 14: T- = 24; p as in scipy's manual
    assert signed_rank_test(MAIZE) == pytest.approx((24, 0.041259765625))


@given(st.lists(st.integers(0, 9), max_size=30))
def test_midranks_are_those_of_scipy(values: list[int]) -> None:
    assert midranks(np.array(values, dtype=float) / 7).tolist() == stats.rankdata(np.array(values) / 7).tolist()


def test_ties_and_zeros_by_hand() -> None:
    # ranks 2, 2, 2 and 4, the negative one 2; of the 16 sign flips one has sum 0 and three have sum 2: 2 * 4 / 16
    assert signed_rank_test(np.array([1.0, 1.0, -1.0, 2.0])) == (2, 0.5)
    # the zero takes rank 1 and has no sign: of the 8 flips of ranks 2, 3 and 4 one has sum 0: 2 / 8
    assert signed_rank_test(np.array([0.0, 1.0, 2.0, 3.0])) == (0, 0.25)
    # Pratt: ranks 3 and 4 positive, 5 negative after two zeros; without their ranks T = min(1 + 2, 3) = 3
    assert signed_rank_test(np.array([0.0, 0.0, 1.0, 2.0, -3.0])) == (5, 1.0)
    assert signed_rank_test(np.zeros(6)) == (0, 1.0)


@pytest.mark.parametrize("pairs", [2, 5, 9, 17, 50])
def test_without_ties_p_is_scipys_exact_one(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    for shift in (0.0, 0.3, 2.0):
        differences = generator.standard_normal(pairs) + shift
        expected = stats.wilcoxon(differences, method="exact")
        assert signed_rank_test(differences) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


@pytest.mark.parametrize("pairs", [3, 7, 9])
def test_with_ties_and_zeros_p_is_that_of_all_sign_flips(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    for _ in range(5):
        differences = generator.integers(-3, 5, pairs).astype(float)
        every_flip = stats.PermutationMethod(n_resamples=2**pairs)
        expected = stats.wilcoxon(differences, zero_method="pratt", method=every_flip)
        assert signed_rank_test(differences) == pytest.approx((expected.statistic, expected.pvalue))


def test_many_pairs_take_the_normal_approximation_which_joins_the_exact_p() -> None:
    differences = np.random.default_rng(5).standard_normal(51) + 0.3
    approximate = signed_rank_test(differences)
    assert approximate.p == stats.wilcoxon(differences, zero_method="pratt", method="approx").pvalue
    assert approximate.p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=0.05)
    mostly_zeros = np.concatenate([np.zeros(90), np.arange(1.0, 5.0)])
    assert signed_rank_test(mostly_zeros).p == 2 / 2**4  # four pairs have a sign: exact


@pytest.mark.parametrize(("pairs", "p"), [(0, 1), (1, 1), (2, 0.5), (6, 0.03125), (8, 0.0078125)])
def test_the_smallest_p_is_reached_when_all_pairs_agree(pairs: int, p: float) -> None:
    assert smallest_p(pairs) == p
    if pairs:
        assert signed_rank_test(np.arange(1.0, pairs + 1)).p == p


def test_pairs_needed_for_one_significant_test() -> None:
    assert pairs_needed(1, 0.05) == 6  # 2 / 2^6 = 0.031, and 2 / 2^5 = 0.063
    assert pairs_needed(105, 0.05) == 13  # 105 * 2 / 2^13 = 0.026, and 105 * 2 / 2^12 = 0.051


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


def test_too_few_pairs_have_no_interval() -> None:
    assert hodges_lehmann(np.array([3.0])) == (3.0, None, None)
    assert hodges_lehmann(np.arange(5.0))[1:] == (None, None)  # 1 - 2 / 2^5 = 93.75 %
    assert hodges_lehmann(np.arange(6.0)) == (2.5, 0, 5)  # 96.9 %: from the smallest to the largest


@pytest.mark.parametrize("pairs", [15, 50, 51, 120])
def test_the_interval_is_where_the_test_stops_rejecting(pairs: int) -> None:
    """The interval holds those shifts that the test of the same level does not reject: just inside, just outside."""
    differences = np.random.default_rng(pairs).standard_normal(pairs) + 0.2
    shift = hodges_lehmann(differences)
    assert shift.low is not None
    assert shift.high is not None
    for bound, inwards in ((shift.low, 1e-6), (shift.high, -1e-6)):
        assert signed_rank_test(differences - bound - inwards).p > 0.05
        assert signed_rank_test(differences - bound + inwards).p <= 0.05


@pytest.mark.parametrize("differences", [np.array([]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_what_is_no_row_of_numbers_is_refused(differences: Array) -> None:
    for function in (signed_rank_test, hodges_lehmann):
        with pytest.raises(BadInputError, match="finite"):
            function(differences)


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


def test_percentile_interval_and_ranks_by_hand() -> None:
    draws = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    low, high = percentile_interval(draws)
    assert low[0] == pytest.approx(2.5)
    assert high[0] == pytest.approx(97.5)
    assert np.isnan([low[1], high[1]]).all()
    # four draws of three arms: the first is first three times, shares it once; the last has no value at all
    nan = np.nan
    shares = rank_shares(np.array([[3, 2, nan], [3, 2, nan], [3, 3, nan], [1, 2, nan]], dtype=float))
    assert shares[:2].tolist() == [[0.75, 0.25, 0], [0.5, 0.5, 0]]
    assert np.isnan(shares[2]).all()
    assert rank_range(np.array([0.02, 0.96, 0.02])) == (2, 2)
    assert rank_range(np.array([0.03, 0.94, 0.03])) == (1, 3)
    assert rank_range(np.array([1.0, 0.0, 0.0])) == (1, 1)


def test_under_the_null_one_test_rejects_as_often_as_its_exact_level() -> None:
    """Ten pairs without ties: the largest p below 0.05 that they can have is 50/1024; so often it must come out."""
    generator = np.random.default_rng(1)
    studies = 4000
    rejected = sum(signed_rank_test(generator.standard_normal(10)).p < 0.05 for _ in range(studies))
    level = 50 / 1024
    assert rejected / studies == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / studies))


def test_the_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(2)
    studies = 1500
    covered = 0
    for _ in range(studies):
        shift = hodges_lehmann(generator.standard_t(3, size=9) + 0.7)
        covered += shift.low is not None and shift.high is not None and shift.low <= 0.7 <= shift.high
    exact = 1 - 20 / 512  # nine pairs: Hollander and Wolfe's 96.1 %
    assert covered / studies == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / studies))


@pytest.mark.slow
def test_bootstrap_intervals_cover_the_truth_with_enough_patients_and_seeds() -> None:
    generator = np.random.default_rng(3)
    studies = 1000
    covered = 0
    for study in range(studies):
        values = generator.standard_normal((40, 1)) + 0.2 * generator.standard_normal(8) + 0.1
        noisy = values + 0.3 * generator.standard_normal((40, 8))
        low, high = percentile_interval(bootstrap_means(noisy[None, :, :, None], draws=1000, seed=study))
        covered += bool(low[0, 0] <= 0.1 <= high[0, 0])
    assert covered / studies > 0.95 - 0.03
