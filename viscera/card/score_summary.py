"""Scores of many cases in a few numbers: the mean of each organ, and how far it carries."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.settings import Settings
from viscera.io.scores import ScoreRow

FOREGROUND = "foreground"  # the mean over organs of their means, as in Table 1
DRAWS = 2000
_BACKGROUND = CLASS_NAMES[0]
_OF_ORGANS_TOGETHER = ("dice", "surface_dice", "hd95_mm")  # a mean of volumes says nothing
_FEWEST = 2  # cases of an interval


class ScoreSummary(Settings):
    """One metric of one organ, or of all: its mean over cases, with the interval of a bootstrap over these."""

    grid: str
    metric: str
    organ: str
    cases: int  # in which it is a finite number, and stands in the mean
    mean: float | None  # None where it is in no case
    low: float | None = None  # None of a single case
    high: float | None = None
    absent: int = 0  # cases in which it is undefined
    infinite: int = 0  # cases in which it is infinite: distances to an organ that was not found


def summaries(rows: Sequence[ScoreRow]) -> list[ScoreSummary]:
    """Of every grid, metric and organ in the order of the rows; after the organs of a metric, all of them together.

    Intervals are percentiles of 2,000 bootstrap draws of cases, the same for all organs of a metric
    (`metrics.statistics.bootstrap_means`).
    """
    # scipy.stats takes half a second and 40 MiB, and the card of a training has no scores
    from viscera.metrics.statistics import bootstrap_means  # noqa: PLC0415

    found = list[ScoreSummary]()
    for grid, metric in dict.fromkeys((row.grid, row.metric) for row in rows):
        own = [row for row in rows if (row.grid, row.metric) == (grid, metric)]
        organs = list(dict.fromkeys(row.organ for row in own))
        cases = {case: number for number, case in enumerate(sorted({row.case for row in own}))}
        values_PL = np.full((len(cases), len(organs)), np.nan)
        for row in own:
            if row.value is not None:
                values_PL[cases[row.case], organs.index(row.organ)] = row.value
        finite_PL = np.where(np.isfinite(values_PL), values_PL, np.nan)
        draws_DL = bootstrap_means(finite_PL[None, :, None, :], DRAWS)[:, 0]
        for number, organ in enumerate(organs):
            absent, infinite = (int(each(values_PL[:, number]).sum()) for each in (np.isnan, np.isinf))
            mean, low, high, count = _summary(finite_PL[:, [number]], draws_DL[:, [number]])
            found.append(
                ScoreSummary(
                    grid=grid, metric=metric, organ=organ, cases=count, mean=mean, low=low, high=high,
                    absent=absent, infinite=infinite,
                )
            )  # fmt: skip
        of_organs = [number for number, organ in enumerate(organs) if organ != _BACKGROUND]
        if metric in _OF_ORGANS_TOGETHER and len(of_organs) > 1:
            mean, low, high, count = _summary(finite_PL[:, of_organs], draws_DL[:, of_organs])
            found.append(
                ScoreSummary(grid=grid, metric=metric, organ=FOREGROUND, cases=count, mean=mean, low=low, high=high)
            )
    return found


def _summary(
    values_PL: npt.NDArray[np.float64], draws_DL: npt.NDArray[np.float64]
) -> tuple[float | None, float | None, float | None, int]:
    """Mean over organs of their means over cases, its interval, and the cases that have a part in it."""
    from viscera.metrics.statistics import percentile_interval  # noqa: PLC0415 - as above

    cases = int((~np.isnan(values_PL)).any(axis=1).sum())
    (mean,) = _mean_of_organs(_mean(values_PL, axis=0)[None])
    low, high = (float(each) for each in percentile_interval(_mean_of_organs(draws_DL)))
    if cases < _FEWEST or math.isnan(low):
        return (_rounded(mean), None, None, cases)
    return _rounded(mean), _rounded(low), _rounded(high), cases


def _mean_of_organs(means_DL: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return _mean(means_DL, axis=1)


def _mean(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Of what is defined; NaN where nothing is, without NumPy's warning."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=axis)
    total = np.where(defined, values, 0).sum(axis=axis)
    means: npt.NDArray[np.float64] = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return means


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
