"""Whether paired differences lie on one side of a bound: by ranks, by their mean, and over trainings. All must agree.

Ranks alone call an arm better that gains a little on most patients and loses more on a few; a mean alone can rest on
one patient; both know these models only, and the next training of the same settings may come out otherwise. So a
difference of settings is shown where all three tests show it: an intersection–union test (Berger 1982), whose p is the
largest of theirs. Axes: P patients, S seeds, T tests.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.metrics.crossed import CrossedMeans, crossed_means
from viscera.metrics.sign_flips import DRAWS, OneSided, sign_flip_test
from viscera.metrics.signed_rank import signed_rank_sides

Array = npt.NDArray[np.float64]
SEEDS_FOR_SETTINGS = 5  # shared seeds from which a difference can be one of settings, rather than of these models
DECIMALS = 9  # scores have six; beyond that, differences are those of floating point


@dataclass(frozen=True, eq=False)
class PairedTests:
    """Tests of (T,) paired differences against a bound; p = 1 where a column has no pair."""

    ranks: OneSided  # Wilcoxon's signed-rank test over patients
    means: OneSided  # sign flips over patients
    trainings: OneSided  # the mean over patients and seeds, both random
    crossed: CrossedMeans  # of the differences themselves: mean, interval, patients

    @property
    def models(self) -> OneSided:
        """Whether these models differ: ranks and mean agree."""
        return OneSided(*map(np.maximum, self.ranks, self.means))

    @property
    def of_settings(self) -> npt.NDArray[np.bool_]:
        """Whether there are seeds enough for a word on settings."""
        return self.crossed.seeds >= SEEDS_FOR_SETTINGS

    @property
    def deciding(self) -> OneSided:
        """What decides: all three tests where there are seeds enough, else those of these models."""
        sides = zip(self.models, self.trainings, strict=True)
        return OneSided(*(np.where(self.of_settings, np.maximum(of, over), of) for of, over in sides))


def paired_tests(differences_PST: Array, bound: float = 0.0, draws: int = DRAWS) -> PairedTests:
    """Test T paired differences of two arms against a bound; NaN is undefined.

    `differences_PST` are those within a seed, of the seeds that both arms have (S of 1: a difference of means over
    seeds, where they share none). Seeds are averaged first, where defined. `draws` are those of `sign_flip_test`.
    """
    crossed = crossed_means(np.round(differences_PST, DECIMALS))
    distances_PT = np.round(crossed.of_patients - bound, DECIMALS)
    sides = [
        signed_rank_sides(pairs) if (pairs := column[~np.isnan(column)]).size else (1.0, 1.0)
        for column in distances_PT.T
    ]
    ranks = OneSided(*np.array(sides, dtype=float).reshape(-1, 2).T)
    return PairedTests(ranks, sign_flip_test(distances_PT, draws), crossed.test(bound), crossed)
