"""The test of a mean: by hand, by scipy, as Student's t with the same flips, and on skewed nulls that ranks fail."""

import numpy as np
import pytest
from scipy import stats

from viscera.metrics.sign_flips import Array, sign_flip_test
from viscera.metrics.signed_rank import signed_rank_test

# what ranks make of a mean: 31 patients gain a little and 6 lose 20 points; 33 gain a little and 4 lose 45
GAINS_AND_LOSSES = np.concatenate([np.linspace(1.2, 2.3, 31), np.full(6, -20.0)])
GAINS_AND_COLLAPSES = np.concatenate([np.linspace(0.4, 1.2, 33), np.full(4, -45.0)])


def mean(values: Array, axis: int = -1) -> Array:
    return np.asarray(values.mean(axis=axis))


def two_sided(differences: Array, draws: int = 9_999) -> float:
    return float(sign_flip_test(differences[:, None], draws).two_sided[0])


def test_by_hand() -> None:
    # of the 8 flips of 1, 2 and 4 one sums to 7 and one to -7
    assert two_sided(np.array([1.0, 2.0, 4.0])) == 2 / 8
    # 1, 2 and -4 sum to -1; sums are ±1, ±3, ±5, ±7: -1 or less in 4 of 8, 1 or more as often, so twice that is 1
    assert two_sided(np.array([1.0, 2.0, -4.0])) == 1
    found = sign_flip_test(np.array([[1.0], [2.0], [4.0]]))
    assert (found.above[0], found.below[0]) == (1 / 8, 1)
    assert two_sided(np.zeros(5)) == 1


@pytest.mark.parametrize("pairs", [3, 8, 12])
def test_all_flips_are_those_of_scipy(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    for _ in range(4):
        differences = generator.integers(-3, 6, pairs).astype(float)  # ties and zeros
        for signed, p in zip((differences, -differences), sign_flip_test(differences[:, None]), strict=True):
            expected = stats.permutation_test(
                (signed,), mean, permutation_type="samples", n_resamples=2**pairs, alternative="greater"
            )
            assert p[0] == pytest.approx(float(expected.pvalue))


def test_drawn_flips_come_near_scipys_exact_ones_and_are_the_same_every_time() -> None:
    differences = np.random.default_rng(0).standard_normal(16) + 0.5
    exact = stats.permutation_test((differences,), mean, permutation_type="samples", n_resamples=2**16, vectorized=True)
    drawn, p = two_sided(differences, 40_000), float(exact.pvalue)
    assert drawn == pytest.approx(p, abs=4 * np.sqrt(p / 40_000))
    assert drawn == two_sided(differences, 40_000)
    assert two_sided(np.full(16, 1.0), 999) == 2 / 1000  # (b + 1) / (m + 1): never 0


def test_studentised_it_is_the_same_test() -> None:
    """Student's t of every flip of ten pairs, against the sum of every flip."""
    differences = np.random.default_rng(3).standard_exponential(10) - 0.4
    flips = 1.0 - 2.0 * (np.arange(2**10)[:, None] >> np.arange(10) & 1)
    flipped = flips * differences
    t = flipped.mean(axis=1) / flipped.std(axis=1, ddof=1)
    observed = differences.mean() / differences.std(ddof=1)
    assert sign_flip_test(differences[:, None]).above[0] == (t >= observed - 1e-12).mean()


def test_pairs_that_are_left_out_change_nothing() -> None:
    column = np.array([1.0, 2.0, np.nan, 4.0])
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    found = sign_flip_test(np.column_stack([column, whole]))
    assert found.two_sided[0] == two_sided(np.array([1.0, 2.0, 4.0]))
    assert found.two_sided[1] == 2 / 16


@pytest.mark.parametrize("differences", [GAINS_AND_LOSSES, GAINS_AND_COLLAPSES])
def test_ranks_call_an_arm_better_whose_mean_is_lower(differences: Array) -> None:
    """The fault: ranks show a gain where the mean is a loss of 1.8, or of 4.1, points; the mean shows no gain."""
    assert signed_rank_test(differences).p < 0.05
    assert differences.mean() < -1.7
    found = sign_flip_test(differences[:, None])
    assert found.above[0] > 0.5
    assert found.two_sided[0] > 0.05


def test_under_a_skewed_null_the_mean_keeps_its_level_where_ranks_do_not() -> None:
    """37 patients, mean 0, most gain and some lose: at 0.05 flips reject in about that share of studies."""
    generator = np.random.default_rng(4)
    differences_PT = 1.0 - generator.standard_exponential((37, 1500))
    rejected = (sign_flip_test(differences_PT, 999).two_sided <= 0.05).mean()
    ranks = np.mean([signed_rank_test(column).p <= 0.05 for column in differences_PT.T[:300]])
    assert rejected < 0.05 + 0.03
    assert ranks > 0.10
