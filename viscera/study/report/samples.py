"""What the statistics are made from: one metric of a Study as an array of arms, patients, seeds and classes."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.study.results import StudyResult

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """One metric on one grid.

    Attributes:
        metric: as in scores.csv.
        cases: names of all cases that any arm was scored on, sorted; one a patient.
        values: (arms, cases, seeds, classes) in the metric's unit; NaN where undefined or not scored.
        scored: (arms, cases) whether an arm has a row of the case, with whatever value.
    """

    metric: str
    cases: tuple[str, ...]
    values: Array
    scored: npt.NDArray[np.bool_]

    def of_patients(self) -> Array:
        """(A, P, L): the mean over those seeds that define it; NaN where none does."""
        return mean_of_defined(self.values, axis=2)


def sample_of(study: StudyResult, grid: str, metric: str) -> Sample:
    """Collect one metric from all runs; values that are not finite count as undefined, unknown classes are left out."""
    arms = {arm: index for index, arm in enumerate(study.arms)}
    seeds = {seed: index for index, seed in enumerate(study.record.config.study.seeds)}
    organs = {name: index for index, name in enumerate(study.classes.names)}
    rows = [
        (arms[run.arm], row.case, seeds[run.seed], organs[row.organ], row.value)
        for run in study.runs
        for row in run.scores or ()
        if row.grid == grid and row.metric == metric and row.organ in organs
    ]
    cases = tuple(sorted({case for _, case, *_ in rows}))
    position = {case: index for index, case in enumerate(cases)}
    values = np.full((len(arms), len(cases), len(seeds), len(organs)), np.nan)
    scored = np.zeros((len(arms), len(cases)), dtype=bool)
    for arm, case, seed, organ, value in rows:
        scored[arm, position[case]] = True
        if value is not None and math.isfinite(value):
            values[arm, position[case], seed, organ] = value
    return Sample(metric, cases, values, scored)


def metrics_of(study: StudyResult, grid: str) -> list[str]:
    """The metrics that were scored on a grid: Dice first, then by name; without volumes, which are no scores."""
    found = {row.metric for run in study.runs for row in run.scores or () if row.grid == grid}
    found = {metric for metric in found if not metric.endswith("volume_ml")}
    return sorted(found, key=lambda metric: (metric != "dice", metric))


def mean_of_defined(values: Array, axis: int) -> Array:
    """The mean without NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means: Array = np.nanmean(values, axis=axis)
    return means
