"""Many tests together, and how far a mean carries: arrays in, numbers out.

scipy has neither Holm's correction nor a bootstrap over two crossed factors: these are here.

Axes: D draws, A arms, P patients, S seeds, C columns.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


def smallest_p(pairs: int, sides: int = 2) -> float:
    """The smallest p that any data of so many pairs can have, all differing in one direction.

    2 / 2^n, and 1 / 2^n of a test of one side.
    """
    return min(1.0, sides * 2.0**-pairs)


def pairs_needed(tests: int, alpha: float, sides: int = 2) -> int:
    """The fewest pairs with which one of so many tests can come below alpha after Holm's correction."""
    pairs = 1
    while tests * smallest_p(pairs, sides) >= alpha:
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


def bootstrap_means(values_APSC: Array, draws: int = 2000, seed: int = 0) -> Array:
    """Means of resampled patients and seeds, for every arm and column.

    Patients and seeds are crossed: every model of a seed is scored on all patients. So one draw takes patients with
    replacement, the same for all arms and columns, and seeds with replacement, the same for all patients (the
    pigeonhole bootstrap, Owen 2007) and for all arms that have the same seeds: arms of one seed share their first
    weights and their windows. Seeds are averaged first. With one seed only the patients vary.

    Values are NaN where undefined or not measured; a seed of which an arm has nothing is no seed of that arm. The
    result is (D, A, C), NaN where a draw has nothing defined; the same `seed` and values give the same draws. Their
    percentiles are too narrow an interval with few patients or seeds; `crossed.crossed_means` has one that is not.
    """
    arms, patients, _, columns = values_APSC.shape
    means = np.full((draws, arms, columns), np.nan)
    if not patients:
        return means
    generator = np.random.default_rng(seed)
    patients_DP = generator.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(float)
    drawn: dict[tuple[int, ...], Array] = {}  # by the seeds that an arm has
    for arm, values_PSC in enumerate(values_APSC):
        of_arm = tuple(np.flatnonzero(~np.isnan(values_PSC).all(axis=(0, 2))).tolist())
        seeds = len(of_arm)
        if seeds:
            if of_arm not in drawn:
                drawn[of_arm] = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(float)
            for column in range(columns):
                means[:, arm, column] = _resampled_means(values_PSC[:, of_arm, column], patients_DP, drawn[of_arm])
    return means


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
