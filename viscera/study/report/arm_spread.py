"""How far the means of Table 1 carry: their intervals, and how stable the order of the arms is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.metrics import statistics
from viscera.metrics.statistics import Array
from viscera.study.results import StudyResult

DRAWS = 2000


class RankStability(NamedTuple):
    """Where one arm stands by foreground mean when patients and seeds are drawn again."""

    best: float  # share of the resamples in which it is first, 0 to 1
    first: int  # first, last: the ranks that it holds in 95 % of them
    last: int


@dataclass(frozen=True, eq=False)
class Spread:
    """Bootstrap of Table 1 on one grid: rows are the classes, AVG, FOREGROUND (MAX, MIN are no means), columns arms."""

    low: pd.DataFrame  # low, high: bounds of the 95 % interval in per cent; NaN where there is no mean, or one patient
    high: pd.DataFrame
    stability: dict[str, RankStability]  # by name of arm with a foreground mean; empty where one patient is scored
    seeds: int  # most scored seeds of an arm

    def half_width(self) -> pd.DataFrame:
        """(L + 2, arms) half the interval, in points: the number behind ±."""
        return (self.high - self.low) / 2


def spread_of(study: StudyResult, grid: str) -> Spread:
    """Resample patients and seeds of a study; the same study gives the same intervals."""
    sample = study.scores.sample(grid)
    classes_DAL = 100 * statistics.bootstrap_means(sample.values, DRAWS)
    foreground_DA = _mean_of_draws(classes_DAL[:, :, 1:])
    with_means = (classes_DAL, _mean_of_draws(classes_DAL)[:, :, None], foreground_DA[:, :, None])
    bounds = statistics.percentile_interval(np.concatenate(with_means, axis=2))
    defined_AL = (~np.isnan(sample.values).all(axis=2)).sum(axis=1)
    patients = np.column_stack([defined_AL, defined_AL.max(axis=1), defined_AL[:, 1:].max(axis=1)])
    rows = [*study.classes.names, "AVG", "FOREGROUND"]
    low, high = (
        pd.DataFrame(np.where(patients >= 2, bound, np.nan).T, index=rows, columns=list(sample.arms))
        for bound in bounds
    )
    stability: dict[str, RankStability] = {}
    if patients[:, -1].max(initial=0) >= 2:
        for name, shares in zip(sample.arms, statistics.rank_shares(foreground_DA), strict=True):
            if not np.isnan(shares).any():
                stability[name] = RankStability(float(shares[0]), *statistics.rank_range(shares))
    scored = (~np.isnan(sample.values)).any(axis=(1, 3)).sum(axis=1)
    return Spread(low, high, stability, int(scored.max(initial=0)))


def _mean_of_draws(draws_DAL: Array) -> Array:
    """(D, A) mean over the classes that a draw defines; NaN where it defines none."""
    number_DA = (~np.isnan(draws_DAL)).sum(axis=2)
    means: Array = np.nansum(draws_DAL, axis=2) / np.where(number_DA, number_DA, np.nan)
    return means
