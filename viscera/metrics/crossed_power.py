"""What a study of so many patients and seeds can show, from the variances of a pilot.

The tests are those that must agree (`paired_tests`): that of `crossed.CrossedMeans`, over patients and seeds, and that
of ranks. Patients' means, the seeds' mean square and the residual are independent and have known distributions (normal
and chi-squared) in the crossed model, so that studies are drawn without their values. Sign flips of the mean decide no
more here: they ask for less than the mean over patients and seeds, and at the fewest patients the same as ranks.

Axes: P patients, D draws.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from viscera.metrics.crossed import Array, Components, CrossedMeans
from viscera.metrics.signed_rank import EXACT_UP_TO, small_rank_sums
from viscera.metrics.statistics import smallest_p

DRAWS = 10_000  # a standard error of 0.5 % at most


def power_of_difference(
    variances: Components, patients: int, seeds: int, difference: float, alpha: float = 0.05
) -> float:
    """The chance, 0 to 1, that a true mean difference is significant, two-sided; on whichever side it comes out.

    `variances` are those of a paired difference (`crossed.components`), in the square of the unit of `difference`.
    Two patients or more; with one seed, what the test of patients alone finds, whose level holds for these models only.
    """
    drawn = _studies(variances, patients, seeds, difference)
    low, high = drawn.interval(1 - alpha)
    shown = (low > 0) & _ranks_lie_above(drawn.of_patients, alpha / 2)
    shown |= (high < 0) & _ranks_lie_above(-drawn.of_patients, alpha / 2)
    return float(shown.mean())


def power_of_equivalence(
    variances: Components, patients: int, seeds: int, margin: float, alpha: float = 0.05, *, difference: float = 0.0
) -> float:
    """The chance that two one-sided tests at alpha place a mean difference within plus and minus a margin.

    They do where the interval of confidence 1 - 2 alpha lies within (Schuirmann 1987), and the ranks of the distances
    to both ends show it, too.
    """
    drawn = _studies(variances, patients, seeds, difference)
    low, high = drawn.interval(1 - 2 * alpha)
    within = (low > -margin) & _ranks_lie_above(drawn.of_patients + margin, alpha)
    within &= (high < margin) & _ranks_lie_above(margin - drawn.of_patients, alpha)
    return float(within.mean())


def smallest_difference(
    variances: Components, patients: int, seeds: int, alpha: float = 0.05, wanted: float = 0.8
) -> float | None:
    """The smallest true mean difference that is significant with a chance as wanted, to 1 %; 0 where nothing varies.

    None where so few patients show no difference, however large (`statistics.pairs_needed`). Two seeds or more: the
    test of one seed, which has the luck of a training in it, would find it in differences that are not there.
    """
    if smallest_p(patients) >= alpha:
        return None
    low, high = 0.0, 10 * float(np.sqrt(sum(variances)))
    while power_of_difference(variances, patients, seeds, high, alpha) < wanted and high:
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        beyond = power_of_difference(variances, patients, seeds, middle, alpha) >= wanted
        low, high = (low, middle) if beyond else (middle, high)
    return high


def fewest(power_of: Callable[[int], float], wanted: float = 0.8, first: int = 2, most: int = 1000) -> int | None:
    """The smallest number from `first` to `most` whose power is as wanted; None where none is.

    Power rises with it, or falls slowly: with two seeds more patients leave more of the variance to the seeds, whose
    critical value is the larger one. So numbers are tried upwards, each half as large again, and then between two.
    """
    below, enough = first - 1, first
    while power_of(enough) < wanted:
        if enough >= most:
            return None
        below, enough = enough, min(most, max(enough + 1, enough * 3 // 2))
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if power_of(middle) >= wanted else (middle, enough)
    return enough


def _studies(variances: Components, patients: int, seeds: int, difference: float) -> CrossedMeans:
    """Studies with this true difference and these true variances; the same every time."""
    of_none = _studies_without_difference(variances, patients, seeds)
    return replace(of_none, mean=of_none.mean + difference, of_patients=of_none.of_patients + difference)


@lru_cache(maxsize=8)
def _studies_without_difference(variances: Components, patients: int, seeds: int) -> CrossedMeans:
    """Patients' means (P, D) are drawn as far as ranks are exact; of more patients their mean square alone."""
    generator = np.random.default_rng(0)
    residual = variances.residual / (patients * seeds)
    of_patients, of_seeds = variances.patients / patients + residual, variances.seeds / seeds
    luck = np.sqrt(of_seeds) * generator.standard_normal(DRAWS)

    def estimated(variance: float, number: int) -> Array:
        return (
            variance * generator.chisquare(max(number - 1, 1), DRAWS) / (number - 1) if number > 1 else np.zeros(DRAWS)
        )

    if patients <= EXACT_UP_TO:
        means_PD = luck + np.sqrt(of_patients * patients) * generator.standard_normal((patients, DRAWS))
        mean, by_patients = means_PD.mean(axis=0), means_PD.var(axis=0, ddof=min(1, patients - 1)) / patients
    else:
        means_PD = np.empty((0, DRAWS))
        mean = luck + np.sqrt(of_patients) * generator.standard_normal(DRAWS)
        by_patients = estimated(of_patients, patients)
    return CrossedMeans(
        means_PD,
        mean,
        by_patients,
        estimated(of_seeds + residual, seeds),
        np.full(DRAWS, variances.residual),
        np.array([patients]),
        np.array([seeds]),
    )


def _ranks_lie_above(values_PD: Array, tail: float) -> npt.NDArray[np.bool_]:
    """(D,) whether the signed ranks of patients' values show at `tail` that they lie above 0; all do without values.

    Of more patients than have exact ranks there are none: the mean over patients and seeds asks for as much there.
    """
    patients, draws = values_PD.shape
    if not patients:
        return np.ones(draws, dtype=bool)
    order_PD = np.argsort(np.abs(values_PD), axis=0)
    below_PD = np.take_along_axis(values_PD, order_PD, axis=0) <= 0
    rank_sums_D = np.arange(1, patients + 1) @ below_PD
    shown: npt.NDArray[np.bool_] = rank_sums_D < small_rank_sums(patients, tail)
    return shown
