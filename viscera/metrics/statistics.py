"""Paired comparisons and how far a mean carries: arrays in, numbers out.

scipy gives ranks and the normal approximation. It has no exact signed-rank test of more than 13 pairs with ties, and
neither Holm's correction, nor Hodges and Lehmann's interval, nor a bootstrap over two crossed factors: these are here.

Axes: D draws, A arms, P patients, S seeds, C columns.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from viscera.core.errors import BadInputError

Array = npt.NDArray[np.float64]
_walsh_indices = lru_cache(maxsize=64)(np.triu_indices)
EXACT_UP_TO = 50  # pairs; above, the normal approximation is as good (and is where scipy takes it)


class SignedRank(NamedTuple):
    """The smaller of both rank sums, and the two-sided p."""

    statistic: float
    p: float


class Shift(NamedTuple):
    """A shift with its interval, in the unit of the differences; bounds None where too few pairs allow none."""

    estimate: float
    low: float | None
    high: float | None


def signed_rank_test(differences: Array) -> SignedRank:
    """Wilcoxon's signed-rank test (Wilcoxon 1945), two-sided: do the pairs differ systematically?

    The p is exact, ties and zeros included, up to 50 pairs that differ: the distribution of the rank sum over all
    sign flips of the observed ranks, by the shift algorithm (Streitberg and Röhmel 1986). Above, scipy's normal
    approximation. Zeros are ranked with the others and then left out (Pratt 1959): patients whom both arms treat
    alike, or fail alike, weaken the evidence, where leaving them out first can make a p smaller.
    Of (P,) differences, one a pair: min(T+, T-), and p; p = 1 where no pair differs. Raises BadInputError where there
    are none, or one is not finite.
    """
    _check(differences)
    ranks = midranks(np.abs(differences))
    positive, negative = float(ranks[differences > 0].sum()), float(ranks[differences < 0].sum())
    statistic = min(positive, negative)
    counted = ranks[differences != 0]
    if len(counted) > EXACT_UP_TO:
        return SignedRank(statistic, float(stats.wilcoxon(differences, zero_method="pratt", method="approx").pvalue))
    doubled = np.rint(2 * np.sort(counted)).astype(int)  # midranks are halves
    below = _sum_probabilities(tuple(doubled.tolist()))[: round(2 * statistic) + 1].sum()
    return SignedRank(statistic, min(1.0, 2 * float(below)))


def midranks(values: Array) -> Array:
    """Ranks from 1 on, those of equal values their mean: scipy's `rankdata` of (P,) values, in a fifth of its time."""
    ordered = np.sort(values)
    ranks: Array = (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right") + 1) / 2
    return ranks


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that any data of so many pairs can have: all differ in one direction, 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(tests: int, alpha: float) -> int:
    """The fewest pairs with which one of so many tests can come below alpha after Holm's correction."""
    pairs = 1
    while tests * smallest_p(pairs) >= alpha:
        pairs += 1
    return pairs


def holm(p: Array) -> Array:
    """Holm's step-down correction of one family of p values (Holm 1979), in their order.

    The smallest is multiplied by their number m, the next by m - 1 and so on; none may fall below the one before it.
    The chance of any false rejection stays below alpha however the tests depend on each other.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def hodges_lehmann(differences: Array, confidence: float = 0.95) -> Shift:
    """The shift that fits the pairs best, and its distribution-free interval.

    The estimate is the median of the Walsh averages, the means of all two (or one and the same) differences (Hodges
    and Lehmann 1963). The interval runs from the k-th smallest to the k-th largest of them, k by the distribution of
    the signed-rank statistic (Hollander and Wolfe 1999, section 3.3): exact up to 50 pairs, at least `confidence`;
    by its normal approximation above. Below six pairs no such interval reaches 95 per cent. `differences` are as for
    `signed_rank_test`.
    """
    _check(differences)
    first, second = _walsh_indices(len(differences))
    averages = (differences[first] + differences[second]) / 2
    number, k = len(averages), _interval_order(len(differences), confidence)
    wanted = [(number - 1) // 2, number // 2, *((k - 1, number - k) if k else ())]
    ordered = np.partition(averages, wanted)
    estimate = float(ordered[wanted[0]] + ordered[wanted[1]]) / 2
    return Shift(estimate, float(ordered[k - 1]), float(ordered[number - k])) if k else Shift(estimate, None, None)


def bootstrap_means(values_APSC: Array, draws: int = 2000, seed: int = 0) -> Array:
    """Means of resampled patients and seeds, for every arm and column.

    Patients and seeds are crossed: every model of a seed is scored on all patients. So one draw takes patients with
    replacement, the same for all arms and columns, and seeds with replacement, the same for all patients of an arm
    (the pigeonhole bootstrap, Owen 2007). Seeds are averaged first. With one seed only the patients vary.

    Values are NaN where undefined or not measured; a seed of which an arm has nothing is no seed of that arm. The
    result is (D, A, C), NaN where a draw has nothing defined; the same `seed` and values give the same draws.
    """
    arms, patients, _, columns = values_APSC.shape
    means = np.full((draws, arms, columns), np.nan)
    if not patients:
        return means
    generator = np.random.default_rng(seed)
    patients_DP = generator.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(float)
    for arm, values_PSC in enumerate(values_APSC):
        run_PSC = values_PSC[:, ~np.isnan(values_PSC).all(axis=(0, 2))]
        seeds = run_PSC.shape[1]
        if seeds:
            seeds_DS = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(float)
            for column in range(columns):
                means[:, arm, column] = _resampled_means(run_PSC[:, :, column], patients_DP, seeds_DS)
    return means


def percentile_interval(draws: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The percentile interval of bootstrap draws (Efron 1979) of shape (D, ...): low and high, each of shape (...).

    Draws that are NaN are left out; the bounds are NaN where no draw is defined.
    """
    columns = draws.reshape(len(draws), -1)
    bounds = np.full((2, columns.shape[1]), np.nan)
    defined = ~np.isnan(columns).all(axis=0)
    tail = (1 - confidence) / 2
    bounds[:, defined] = np.nanquantile(columns[:, defined], [tail, 1 - tail], axis=0)
    low, high = bounds.reshape(2, *draws.shape[1:])
    return low, high


def rank_shares(draws_DA: Array) -> Array:
    """How stable a ranking is: (A, A), arm by rank, the share of draws in which it holds it, the highest value first.

    Equal values share the better rank; an arm that is NaN in a draw is last in it. Rows sum to 1; NaN for an arm that
    is always NaN.
    """
    arms = draws_DA.shape[1]
    shares = np.full((arms, arms), np.nan)
    ranked = ~np.isnan(draws_DA).all(axis=0)
    if ranked.any():
        ranks = stats.rankdata(-np.nan_to_num(draws_DA[:, ranked], nan=-np.inf), method="min", axis=1)
        shares[ranked] = (ranks[:, :, None] == np.arange(1, arms + 1)).mean(axis=0)
    return shares


def rank_range(shares: Array, confidence: float = 0.95) -> tuple[int, int]:
    """First and last of the middle ranks that one arm holds in at least `confidence` of the draws.

    `shares` is its row (A,) of `rank_shares`, not NaN.
    """
    tail = (1 - confidence) / 2
    reached = np.cumsum(shares)
    return int(np.argmax(reached > tail)) + 1, int(np.argmax(reached >= 1 - tail - 1e-12)) + 1


def _check(differences: Array) -> None:
    if differences.ndim != 1 or not differences.size or not np.isfinite(differences).all():
        raise BadInputError(
            f"paired differences of shape {differences.shape} with {np.count_nonzero(~np.isfinite(differences))} that "
            "are not finite: a row of one finite number or more was expected. Leave pairs out that are not defined."
        )


@lru_cache(maxsize=4096)
def _sum_probabilities(doubled_ranks: tuple[int, ...]) -> Array:
    """Chance of each sum of (doubled) ranks, every one of them counted or not by the toss of a coin."""
    probability = np.zeros(sum(doubled_ranks) + 1)
    probability[0] = 1
    for rank in doubled_ranks:
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = (probability + shifted) / 2
    return probability


@lru_cache(maxsize=1024)
def _interval_order(pairs: int, confidence: float) -> int:
    """The largest k with P(T <= k - 1) <= (1 - confidence) / 2; 0 where there is none."""
    tail = (1 - confidence) / 2
    if pairs > EXACT_UP_TO:
        spread = np.sqrt(pairs * (pairs + 1) * (2 * pairs + 1) / 24)
        return max(0, int(np.floor(pairs * (pairs + 1) / 4 + stats.norm.ppf(tail) * spread)) + 1)
    reached = np.cumsum(_sum_probabilities(tuple(range(2, 2 * pairs + 1, 2)))[::2])
    return int(np.count_nonzero(reached <= tail))


def _resampled_means(values_PS: Array, patients_DP: Array, seeds_DS: Array) -> Array:
    """(D,) seeds averaged within each patient where defined, then patients where defined."""
    defined_PS = ~np.isnan(values_PS)
    known_P = defined_PS.any(axis=1)
    values_PS, defined_PS, weight_DP = values_PS[known_P], defined_PS[known_P], patients_DP[:, known_P]
    if defined_PS.all():  # the same sum in another order, without an array of draws by patients for each column
        sum_D = (weight_DP @ values_PS * seeds_DS).sum(axis=1) / seeds_DS.sum(axis=1)
    else:
        number_DP = seeds_DS @ defined_PS.T.astype(float)
        total_DP = seeds_DS @ np.where(defined_PS, values_PS, 0).T
        weight_DP = weight_DP * (number_DP > 0)
        sum_D = (weight_DP * total_DP / np.maximum(number_DP, 1)).sum(axis=1)
    weight_D = weight_DP.sum(axis=1)
    means: Array = np.divide(sum_D, weight_D, out=np.full(len(sum_D), np.nan), where=weight_D > 0)
    return means
