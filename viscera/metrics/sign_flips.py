"""Tests of a mean by flipping the signs of paired differences: arrays in, numbers out.

Ranks ask whether most pairs differ in one direction; a mean asks by how much, and one large loss outweighs many small
gains. Axes: P patients, T tests, D draws.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
DRAWS = 9_999
EXACT_UP_TO = 14  # pairs; all of their 16,384 flips
_BLOCK = 8192  # flips at a time, so that memory does not grow with their number
_ROUNDING = 1e-9  # sums that differ by less, relative to the largest possible one, are equal


class OneSided(NamedTuple):
    """One-sided p of each of (T,) tests of a mean, or a shift, against a bound."""

    above: Array  # small where the data lie above the bound
    below: Array  # small where they lie below it

    @property
    def two_sided(self) -> Array:
        """Twice the smaller one, at most 1."""
        doubled: Array = np.minimum(1.0, 2 * np.minimum(self.above, self.below))
        return doubled


def smallest_p(pairs: int, draws: int = DRAWS) -> float:
    """The smallest two-sided p of `sign_flip_test`, whatever the data: 2 / 2^n of all flips, else of those drawn."""
    return min(1.0, 2 / (2**pairs if pairs <= EXACT_UP_TO else draws + 1))


def sign_flip_test(differences_PT: Array, draws: int = DRAWS) -> OneSided:
    """Test whether the means of paired differences are 0, by flipping the sign of each pair (Fisher 1935, Pitman 1937).

    All flips up to 14 pairs, then `draws` random ones and p = (b + 1) / (draws + 1), which is valid whatever their
    number (Phipson and Smyth 2010); the same flips for all tests, and the same every time. Exact where differences are
    symmetric about 0. Studentising changes nothing here: the sum of squares is the same after every flip, so Student's
    t rises with the sum. As a studentised test it is valid for many pairs whatever the shape of their distribution
    (Romano 1990, Janssen 1999), which a test of ranks is not. `scipy.stats.permutation_test` gives the same p, one
    test at a time, with flips drawn anew for each.

    `differences_PT` are one test a column; NaN pairs are left out. p = 1 where no pair differs from 0.
    """
    values_PT = np.nan_to_num(differences_PT)  # a pair that is left out adds nothing, whatever its sign
    sums_T, rounding_T = values_PT.sum(axis=0), _ROUNDING * np.abs(values_PT).sum(axis=0)
    drawn = int(len(values_PT) > EXACT_UP_TO)  # the data themselves are one of the flips that could have been drawn
    above_T, below_T = np.full((2, len(sums_T)), float(drawn))
    number = drawn
    for flips_DP in _flips(len(values_PT), draws):
        flipped_DT = flips_DP @ values_PT
        above_T += (flipped_DT >= sums_T - rounding_T).sum(axis=0)
        below_T += (flipped_DT <= sums_T + rounding_T).sum(axis=0)
        number += len(flips_DP)
    return OneSided(above_T / number, below_T / number)


def _flips(pairs: int, draws: int) -> Iterator[Array]:
    """Rows of P signs, a block at a time: all of them, or so many that are drawn."""
    if pairs <= EXACT_UP_TO:
        yield _signs(np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1)
        return
    generator = np.random.default_rng(0)
    for start in range(0, draws, _BLOCK):
        yield _signs(generator.integers(0, 2, (min(_BLOCK, draws - start), pairs), dtype=np.int8))


def _signs(bits: npt.NDArray[np.integer]) -> Array:
    return 1.0 - 2.0 * bits.astype(np.float64)
