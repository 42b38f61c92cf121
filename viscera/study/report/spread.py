"""How far the means of Table 1 carry: bootstrap intervals over patients and seeds, and how stable the ranking is."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from viscera.metrics.statistics import Array, bootstrap_means, percentile_interval, rank_range, rank_shares
from viscera.study.report.samples import mean_of_defined, sample_of
from viscera.study.results import StudyResult

DRAWS = 2000


@dataclass(frozen=True)
class RankStability:
    """Where one arm stands by foreground mean when patients and seeds are drawn again.

    Attributes:
        best: share of the resamples in which it is first, 0 to 1.
        first, last: the ranks that it holds in 95 % of them.
    """

    best: float
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Spread:
    """Bootstrap of Table 1 on one grid.

    Attributes:
        low, high: (L + 2, arms) bounds of the 95 % interval in per cent, rows: the classes, AVG, FOREGROUND (MAX and
            MIN are no means); NaN where there is no mean, or one patient.
        stability: by name of arm; only those with a foreground mean, and none where one patient is scored.
        seeds: most scored seeds of an arm.
    """

    low: pd.DataFrame
    high: pd.DataFrame
    stability: dict[str, RankStability]
    seeds: int

    def half_width(self) -> pd.DataFrame:
        """(L + 2, arms) half the interval, in points: the number behind ±."""
        return (self.high - self.low) / 2

    def interval_rows(self, percent: pd.DataFrame) -> Iterator[tuple[str, ...]]:
        """Rows of table1_intervals.csv: class, arm, per cent, low, high; four decimals, empty where undefined."""
        for name in map(str, self.low.index):
            for arm in map(str, self.low.columns):
                numbers = (float(frame[arm][name]) for frame in (percent, self.low, self.high))
                yield (name, arm, *("" if np.isnan(v) else f"{v:.4f}" for v in numbers))


def spread_of(study: StudyResult, grid: str) -> Spread:
    """Resample patients and seeds of a study; the same study gives the same intervals."""
    sample = sample_of(study, grid, "dice")
    classes_DAL = 100 * bootstrap_means(sample.values, DRAWS)
    foreground_DA = mean_of_defined(classes_DAL[:, :, 1:], axis=2)
    with_means = (classes_DAL, mean_of_defined(classes_DAL, axis=2)[:, :, None], foreground_DA[:, :, None])
    bounds = percentile_interval(np.concatenate(with_means, axis=2))
    defined_AL = (~np.isnan(sample.of_patients())).sum(axis=1)
    patients = np.column_stack([defined_AL, defined_AL.max(axis=1), defined_AL[:, 1:].max(axis=1)])
    names = [arm.name for arm in study.arms]
    rows = [*study.classes.names, "AVG", "FOREGROUND"]
    low, high = (pd.DataFrame(np.where(patients >= 2, bound, np.nan).T, index=rows, columns=names) for bound in bounds)
    ranked = patients[:, -1].max(initial=0) >= 2
    stability = _stability(names, rank_shares(foreground_DA)) if ranked else {}
    scored = (~np.isnan(sample.values)).any(axis=(1, 3)).sum(axis=1)
    return Spread(low, high, stability, int(scored.max(initial=0)))


def _stability(names: list[str], shares_AR: Array) -> dict[str, RankStability]:
    ranked = {name: shares for name, shares in zip(names, shares_AR, strict=True) if not np.isnan(shares).any()}
    return {name: RankStability(float(shares[0]), *rank_range(shares)) for name, shares in ranked.items()}
