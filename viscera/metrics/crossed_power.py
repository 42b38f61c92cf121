"""What a study of so many patients and seeds can show, from the variances of a pilot.

The test is that of `crossed.CrossedMeans`, over patients and seeds. Its mean squares and its mean are independent and
have known distributions (chi-squared and normal) in the crossed model, so that studies are drawn without their values.
"""

from collections.abc import Callable

import numpy as np

from viscera.metrics.crossed import Array, Components, CrossedMeans

DRAWS = 20_000  # a standard error of 0.4 % at most


def power_of_difference(
    variances: Components, patients: int, seeds: int, difference: float, alpha: float = 0.05
) -> float:
    """The chance, 0 to 1, that a true mean difference is significant, two-sided; on whichever side it comes out.

    `variances` are those of a paired difference (`crossed.components`), in the square of the unit of `difference`.
    Two patients or more; with one seed, what the test of patients alone finds, whose level holds for these models only.
    """
    low, high = _drawn(variances, patients, seeds, difference).interval(1 - alpha)
    return float(((low > 0) | (high < 0)).mean())


def power_of_equivalence(
    variances: Components, patients: int, seeds: int, margin: float, alpha: float = 0.05, *, difference: float = 0.0
) -> float:
    """The chance that two one-sided tests at alpha place a mean difference within plus and minus a margin.

    They do where the interval of confidence 1 - 2 alpha lies within (Schuirmann 1987).
    """
    low, high = _drawn(variances, patients, seeds, difference).interval(1 - 2 * alpha)
    return float(((low > -margin) & (high < margin)).mean())


def smallest_difference(
    variances: Components, patients: int, seeds: int, alpha: float = 0.05, wanted: float = 0.8
) -> float:
    """The smallest true mean difference that is significant with a chance as wanted, to 1 %; 0 where nothing varies.

    Two patients and two seeds or more: the test of one seed, which has the luck of a training in it, would find it in
    differences that are not there.
    """
    low, high = 0.0, 10 * float(np.sqrt(sum(variances)))
    while power_of_difference(variances, patients, seeds, high, alpha) < wanted and high:
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        beyond = power_of_difference(variances, patients, seeds, middle, alpha) >= wanted
        low, high = (low, middle) if beyond else (middle, high)
    return high


def fewest(power_of: Callable[[int], float], wanted: float = 0.8, first: int = 2, most: int = 1000) -> int | None:
    """The smallest number from `first` to `most` whose power is as wanted; None where none is. Power rises with it."""
    if power_of(most) < wanted:
        return None
    below, enough = first - 1, most
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if power_of(middle) >= wanted else (middle, enough)
    return enough


def _drawn(variances: Components, patients: int, seeds: int, difference: float) -> CrossedMeans:
    """Studies with these true variances; the same every time."""
    generator = np.random.default_rng(0)
    residual = variances.residual / (patients * seeds)
    of_patients, of_seeds = variances.patients / patients, variances.seeds / seeds
    spread = np.sqrt(of_patients + of_seeds + residual)
    mean = difference + spread * generator.standard_normal(DRAWS)

    def estimated(variance: float, number: int) -> Array:
        return (
            variance * generator.chisquare(max(number - 1, 1), DRAWS) / (number - 1) if number > 1 else np.zeros(DRAWS)
        )

    return CrossedMeans(
        np.empty((0, DRAWS)),
        mean,
        estimated(of_patients + residual, patients),
        estimated(of_seeds + residual, seeds),
        np.full(DRAWS, variances.residual),
        np.array([patients]),
        np.array([seeds]),
    )
