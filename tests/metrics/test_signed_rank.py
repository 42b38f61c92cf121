"""The signed-rank test and its shift: worked examples of the literature, scipy as a second implementation, nulls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from viscera.core.errors import BadInputError
from viscera.metrics.signed_rank import Array, hodges_lehmann, midranks, signed_rank_test

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
