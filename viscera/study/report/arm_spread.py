"""How far the means of Table 1 carry: their intervals, and how stable the order of the arms is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.metrics.crossed import completed, crossed_means, joined_columns
from viscera.metrics.statistics import Array, bootstrap_means, rank_range, rank_shares
from viscera.study.results import StudyResult
from viscera.study.score_table import Sample

DRAWS = 2000
_ROUNDING = 1e-9  # points of Dice
_PRINTED = 0.1  # points of Dice: one decimal
_DECIMALS = 12  # of Dice, 0 to 1: beyond, equal arms differ by rounding


class RankStability(NamedTuple):
    """Where one arm stands by foreground mean when patients and seeds are drawn again."""

    best: float  # share of the resamples in which it is first, 0 to 1
    first: int  # first, last: the ranks that it holds in 95 % of them
    last: int


@dataclass(frozen=True, eq=False)
class Spread:
    """How far the means of Table 1 on one grid carry; rows are the classes, AVG, FOREGROUND (MAX, MIN are no means).

    Columns are arms, values per cent; NaN where there is no mean, or one patient. Intervals are those of
    `metrics.crossed`, over patients and seeds; with one seed over patients alone.
    """

    low: pd.DataFrame  # low, high: the 95 % interval as far as Dice goes, from 0 to 100
    high: pd.DataFrame
    half_width: pd.DataFrame  # half the interval, wherever it ends
    off_centre: pd.DataFrame  # whether its middle is not the mean as printed: `metrics.crossed` fills missing scores
    stability: dict[str, RankStability]  # by name of arm with a foreground mean; empty where one patient is scored
    seeds: dict[str, int]  # scored seeds, by name of arm that has any

    @property
    def is_cut(self) -> pd.DataFrame:
        """Which intervals reach beyond 0 or 100, so that half their width says nothing of Dice."""
        return (self.high - self.low) / 2 < self.half_width - _ROUNDING

    def text(self, row: str, arm: str) -> str:
        """`±3.1`; `[12.4, 100.0]` where it would reach beyond 0 or 100 or lies elsewhere; empty without an interval."""
        half = self.half_width.get(arm, pd.Series(dtype=float)).get(row, np.nan)
        if np.isnan(half):
            return ""
        bounds = f"[{self.low[arm][row]:.1f}, {self.high[arm][row]:.1f}]"
        return bounds if self.is_cut[arm][row] or self.off_centre[arm][row] else f"±{half:.1f}"


def spread_of(study: StudyResult, grid: str) -> Spread:
    """Intervals of the means of a study, and of its order; the same study gives the same."""
    sample = study.scores.sample(grid)
    rows, bounds = [*study.classes.names, "AVG", "FOREGROUND"], []
    for values_PSL in map(sample.of_arm, sample.arms):
        with_means = [values_PSL, *(joined_columns(of)[:, :, None] for of in (values_PSL, values_PSL[:, :, 1:]))]
        bounds.append(crossed_means(100 * np.concatenate(with_means, axis=2)).interval())
    low, high = (
        pd.DataFrame(np.reshape(side, (len(sample.arms), len(rows))).T, index=rows, columns=list(sample.arms))
        for side in (zip(*bounds, strict=True) if bounds else ((), ()))
    )
    scored = (~np.isnan(sample.values)).any(axis=(1, 3)).sum(axis=1)
    seeds = {arm: number for arm, number in zip(sample.arms, scored.tolist(), strict=True) if number}
    off = (study.percent(grid).loc[rows, list(sample.arms)] - (low + high) / 2).abs() >= _PRINTED / 2
    return Spread(low.clip(0, 100), high.clip(0, 100), (high - low) / 2, off, _stability(sample), seeds)


def _stability(sample: Sample) -> dict[str, RankStability]:
    """Patients and seeds are drawn again, the same for all arms."""
    organs = np.stack([completed(sample.of_arm(arm)[:, :, 1:]) for arm in sample.arms])
    patients_A = (~np.isnan(organs).all(axis=2)).sum(axis=1).max(axis=1, initial=0)
    stability: dict[str, RankStability] = {}
    if patients_A.max(initial=0) >= 2:
        foreground_DA = np.round(_mean_of_draws(bootstrap_means(organs, DRAWS)), _DECIMALS)
        for name, shares in zip(sample.arms, rank_shares(foreground_DA), strict=True):
            if not np.isnan(shares).any():
                stability[name] = RankStability(float(shares[0]), *rank_range(shares))
    return stability


def _mean_of_draws(draws_DAL: Array) -> Array:
    """(D, A) mean over the classes that a draw defines; NaN where it defines none."""
    number_DA = (~np.isnan(draws_DAL)).sum(axis=2)
    means: Array = np.nansum(draws_DAL, axis=2) / np.where(number_DA, number_DA, np.nan)
    return means
