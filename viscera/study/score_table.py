"""All scores of a study in one table, and the means that the report asks it for: over seeds first, then over cases.

Axes: A arms, P patients (cases), S seeds, L classes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd

from viscera.core.arms import FUSED
from viscera.io.scores import ScoreRow

Array = npt.NDArray[np.float64]
GRIDS = ("original", "prepared")
_COLUMNS = ("arm", "seed", "case", "organ", "grid", "metric", "value")


@dataclass(frozen=True, eq=False)
class Sample:
    """One metric on one grid as an array."""

    metric: str  # as in scores.csv
    arms: tuple[str, ...]  # names
    cases: tuple[str, ...]  # names of all cases that any of the arms was scored on, sorted; one per patient
    seeds: tuple[int, ...]  # of the study
    values: Array  # (A, P, S, L) in the metric's unit; NaN where undefined or not scored
    scored: npt.NDArray[np.bool_]  # (A, P) whether an arm has a row of the case, with whatever value

    def of_run(self, arm: str, seed: int) -> Array:
        """(P, L): the values of one arm with one seed."""
        return self.values[self.arms.index(arm), :, self.seeds.index(seed)]

    def of_arm(self, arm: str) -> Array:
        """(P, S, L): the values of one arm."""
        values: Array = self.values[self.arms.index(arm)]
        return values

    def per_case(self) -> Array:
        """(A, P, L): the mean over those seeds that define it; NaN where none does."""
        return mean_over(self.values, axis=2)

    def per_organ(self) -> Array:
        """(A, L): that mean averaged over those cases that define it; NaN where none does."""
        return mean_over(self.per_case(), axis=1)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Every score of a study; the best model per organ is the arm `fused`, with the first seed, as in scores.csv."""

    rows: pd.DataFrame  # columns arm, seed, case, organ, grid, metric, value, one row per score; NaN where undefined
    arms: tuple[str, ...]  # names of the plan's arms, in the order of Table 1
    seeds: tuple[int, ...]  # of the plan
    classes: tuple[str, ...]  # names, in label order; rows of other classes are left out

    @classmethod
    def of(
        cls,
        runs: Iterable[tuple[str, int, Iterable[ScoreRow]]],
        arms: Sequence[str],
        seeds: Sequence[int],
        classes: Sequence[str],
    ) -> "ScoreTable":
        """From the rows of each arm and seed; values that are not finite count as undefined."""
        cells = [(arm, seed, *row) for arm, seed, rows in runs for row in rows if row.organ in classes]
        frame = pd.DataFrame(cells, columns=list(_COLUMNS))
        values = frame["value"].astype(float)
        frame["value"] = values.where(np.isfinite(values))
        return cls(frame, tuple(arms), tuple(seeds), tuple(classes))

    @property
    def columns(self) -> tuple[str, ...]:
        """Of Table 1: the arms, and `fused` where it is scored."""
        return self.arms + (FUSED,) * bool((self.rows["arm"] == FUSED).any())

    def of_arms(self, metric: str | None = None, grid: str | None = None) -> pd.DataFrame:
        """The arms' rows, all of them or those of a metric and a grid."""
        wanted = self.rows["arm"] != FUSED
        for column, value in (("metric", metric), ("grid", grid)):
            if value is not None:
                wanted &= self.rows[column] == value
        return self.rows[wanted]

    def grids(self) -> list[str]:
        """Grids that an arm has Dice on; the first is the primary one."""
        found = set(self.of_arms("dice")["grid"])
        return [grid for grid in GRIDS if grid in found]

    def metrics(self, grid: str) -> list[str]:
        """Metrics that an arm was scored by on a grid: Dice first, then by name; volumes are no scores."""
        found = {metric for metric in self.of_arms(grid=grid)["metric"] if not metric.endswith("volume_ml")}
        return sorted(found, key=lambda metric: (metric != "dice", metric))

    def cases(self, grid: str | None = None) -> list[str]:
        """Names of the cases that an arm has Dice of, on one grid or any; sorted."""
        return sorted(set(self.of_arms("dice", grid)["case"]))

    def sample(self, grid: str, metric: str = "dice", arms: Sequence[str] | None = None) -> Sample:
        """One metric on one grid, of the plan's arms or of some."""
        names = self.arms if arms is None else tuple(arms)
        rows = self.rows[(self.rows["grid"] == grid) & (self.rows["metric"] == metric) & self.rows["arm"].isin(names)]
        cases = tuple(sorted(set(rows["case"])))
        axes = {"arm": names, "case": cases, "seed": self.seeds, "organ": self.classes}
        numbers = {axis: {label: at for at, label in enumerate(labels)} for axis, labels in axes.items()}
        places = tuple(rows[axis].map(number).to_numpy(np.intp) for axis, number in numbers.items())
        values = np.full(tuple(map(len, axes.values())), np.nan)
        values[places] = rows["value"].to_numpy(float)
        scored = np.zeros(values.shape[:2], dtype=bool)
        scored[places[:2]] = True
        return Sample(metric, names, cases, self.seeds, values, scored)

    def class_percent(self, grid: str) -> pd.DataFrame:
        """(L, columns) mean Dice in per cent: over seeds, then over the cases where it is defined; NaN: nowhere."""
        means_AL = self.sample(grid, arms=self.columns).per_organ().tolist()
        columns = {arm: [100 * m for m in means] for arm, means in zip(self.columns, means_AL, strict=True)}
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"), dtype=float)


def mean_over(values: Array, axis: int) -> Array:
    """The mean along an axis of what is defined; NaN where nothing is.

    It is exact up to one rounding, so that it does not depend on the order of the values: Table 1 prints the same
    digits however its rows are sorted.
    """
    rows = np.moveaxis(values, axis, -1)
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]).tolist()
    defined = ([value for value in row if value == value] for row in flat)  # noqa: PLR0124 - NaN is not itself
    means = np.array([fmean(row) if row else np.nan for row in defined])
    return means.reshape(rows.shape[:-1])


def with_summary(classes: pd.DataFrame) -> pd.DataFrame:
    """Append to (L, arms) AVG, MAX, MIN of the classes and FOREGROUND, the mean over organs, of what is defined."""
    summary = {"AVG": classes.mean(), "MAX": classes.max(), "MIN": classes.min(), "FOREGROUND": classes.iloc[1:].mean()}
    return pd.concat([classes, pd.DataFrame(summary).T]).rename_axis(index="class")
