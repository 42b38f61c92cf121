"""Scores of many cases in a few numbers: the mean of each organ, and how far it carries."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.settings import Settings
from viscera.io.scores import ScoreRow

FOREGROUND = "foreground"  # the mean over organs of their means, as in Table 1
_BACKGROUND = CLASS_NAMES[0]
_OF_ORGANS_TOGETHER = ("dice", "surface_dice", "hd95_mm")  # a mean of volumes says nothing
_FEWEST = 2  # cases of an interval
_HIGHEST = {"dice": 1.0, "surface_dice": 1.0}  # of the others there is none; none is below 0


class ScoreSummary(Settings):
    """One metric of one organ, or of all: its mean over cases, with its 95 % interval over these."""

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

    Intervals are Student's t over the cases (`metrics.crossed`), as far as the metric goes.
    """
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
        for number, organ in enumerate(organs):
            absent, infinite = (int(each(values_PL[:, number]).sum()) for each in (np.isnan, np.isinf))
            mean, low, high, count = _summary(finite_PL[:, [number]], metric)
            found.append(
                ScoreSummary(
                    grid=grid, metric=metric, organ=organ, cases=count, mean=mean, low=low, high=high,
                    absent=absent, infinite=infinite,
                )
            )  # fmt: skip
        of_organs = [number for number, organ in enumerate(organs) if organ != _BACKGROUND]
        if metric in _OF_ORGANS_TOGETHER and len(of_organs) > 1:
            mean, low, high, count = _summary(finite_PL[:, of_organs], metric)
            found.append(
                ScoreSummary(grid=grid, metric=metric, organ=FOREGROUND, cases=count, mean=mean, low=low, high=high)
            )
    return found


def _summary(values_PL: npt.NDArray[np.float64], metric: str) -> tuple[float | None, float | None, float | None, int]:
    """Mean over organs of their means over cases, its interval, and the cases that have a part in it."""
    # scipy takes half a second and 40 MiB, and the card of a training has no scores
    from viscera.metrics.crossed import crossed_means, joined_columns  # noqa: PLC0415

    joined_PS = joined_columns(values_PL[:, None])
    found = crossed_means(joined_PS[:, :, None])
    (mean,), cases = found.mean, int(found.patients[0])
    if cases < _FEWEST:
        return _rounded(mean), None, None, cases
    (low,), (high,) = (np.clip(bound, 0, _HIGHEST.get(metric)) for bound in found.interval())
    return _rounded(mean), _rounded(low), _rounded(high), cases


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
