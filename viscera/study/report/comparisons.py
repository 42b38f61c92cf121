"""Whether arms differ: one Holm family of paired tests per metric, over all pairs of arms and organs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.io.scores import metric_title
from viscera.metrics import statistics
from viscera.metrics.signed_rank import hodges_lehmann, signed_rank_test
from viscera.metrics.statistics import Array
from viscera.study.report.arm_spread import Spread, spread_of
from viscera.study.results import StudyResult
from viscera.study.score_table import Sample

ALPHA = 0.05
FEWEST_PAIRS = 2  # one pair always has p = 1: that is no test
PER_CENT = ("dice", "surface_dice")  # whose effects are points
DECIMALS = 9  # scores have six; beyond that, differences are those of floating point


class Comparison(NamedTuple):
    """One row of comparisons.csv: two arms on one organ, by one metric; None where there are too few patients."""

    organ: str
    metric: str
    arm_a: str
    arm_b: str
    n: int  # patients for whom both arms define the metric
    statistic: float | None = None  # the smaller rank sum
    p: float | None = None  # two-sided, of this test alone
    p_holm: float | None = None  # corrected within the metric's family: all pairs of arms and organs
    effect: float | None = None  # Hodges-Lehmann, arm_a minus arm_b, in points (per cent) or the metric's unit
    ci_low: float | None = None  # ci_low, ci_high: its 95 % interval, not corrected for the number of tests
    ci_high: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the arms differ at 0.05 after Holm's correction."""
        return self.p_holm is not None and self.p_holm < ALPHA

    def flipped(self) -> "Comparison":
        """The same, arm_b minus arm_a."""
        effect, low, high = (None if v is None else -v for v in (self.effect, self.ci_high, self.ci_low))
        return self._replace(arm_a=self.arm_b, arm_b=self.arm_a, effect=effect, ci_low=low, ci_high=high)

    def cells(self) -> tuple[str, ...]:
        """As in the file: p to six digits, effects to four decimals, empty where there is none."""
        forms = ("g", "g", "g", ".4f", ".4f", ".4f")
        cells = ("" if v is None else f"{v:{form}}" for v, form in zip(self[5:], forms, strict=True))
        return (*self[:4], str(self.n), *(cell.replace("-0.0000", "0.0000") for cell in cells))


@dataclass(frozen=True)
class Family:
    """The tests of one metric, which Holm's correction takes together."""

    metric: str  # as in scores.csv
    tests: int  # those that could be made
    cases: int  # the most of any pair of arms; one per patient
    significant: int  # tests below 0.05 after the correction

    @property
    def smallest_p_holm(self) -> float:
        """The smallest corrected p that so many cases allow."""
        return min(1.0, self.tests * statistics.smallest_p(self.cases))

    @property
    def can_show(self) -> bool:
        """Whether any difference, however large, could be significant."""
        return self.tests > 0 and self.smallest_p_holm < ALPHA


@dataclass(frozen=True, eq=False)
class Comparisons:
    """All arms on one grid."""

    study: StudyResult
    grid: str
    rows: tuple[Comparison, ...]  # by metric, organ and pair of arms, in the order of Table 1
    families: tuple[Family, ...]  # one per metric
    notes: tuple[str, ...]  # what could not be compared, and why; plain text

    @cached_property
    def dice(self) -> dict[tuple[str, str, str], Comparison]:
        """Those by Dice, by (organ, arm_a, arm_b), in both directions."""
        rows = [row for row in self.rows if row.metric == "dice"]
        return {(r.organ, r.arm_a, r.arm_b): r for row in rows for r in (row, row.flipped())}

    @cached_property
    def percent(self) -> pd.DataFrame:
        """The numbers of Table 1."""
        return self.study.percent(self.grid)

    @cached_property
    def spread(self) -> Spread:
        """How far its means carry."""
        return spread_of(self.study, self.grid)

    def highest_first(self, row: str) -> "pd.Series[float]":
        """One of its rows by names of arms, without undefined values; equal ones in the order of Table 1."""
        of_arms = self.percent[list(self.study.scores.arms)].T[row]
        return of_arms.dropna().sort_values(ascending=False, kind="stable")


def compare(study: StudyResult, grid: str, metrics: Sequence[str] | None = None) -> Comparisons:
    """Compare all arms of a study on one grid, by all of its metrics or some; the unit is the patient.

    Seeds are averaged first. Pairs of arms that are not scored on the grid have n = 0.
    """
    rows: list[Comparison] = []
    families: list[Family] = []
    notes: list[str] = []
    for metric in study.scores.metrics(grid) if metrics is None else metrics:
        sample = study.scores.sample(grid, metric)
        values_APL = sample.per_case() * (100 if metric in PER_CENT else 1)
        pairs = combinations(enumerate(sample.arms), 2)
        differences = {(a, b): values_APL[i] - values_APL[j] for (i, a), (j, b) in pairs}
        uncorrected = [
            _compare_pair(Comparison(organ.name, metric, *arms, 0), differences_PL[:, organ.label])
            for organ in study.classes.organs
            for arms, differences_PL in differences.items()
        ]
        adjusted = iter(statistics.holm(np.array([row.p for row in uncorrected if row.p is not None])).tolist())
        of_metric = [row if row.p is None else row._replace(p_holm=next(adjusted)) for row in uncorrected]
        rows += of_metric
        tests = [row for row in of_metric if row.p is not None]
        most = max((row.n for row in of_metric), default=0)
        families.append(Family(metric, len(tests), most, sum(row.significant for row in tests)))
        notes += [note for note in _notes(study, sample, of_metric) if note not in notes]
    return Comparisons(study, grid, tuple(rows), tuple(families), tuple(notes))


def _compare_pair(empty: Comparison, differences: Array) -> Comparison:
    """Fill in a row from (P,) differences, NaN where one of both is undefined."""
    pairs = np.round(differences[~np.isnan(differences)], DECIMALS)
    if not pairs.size:
        return empty
    shift = hodges_lehmann(pairs)
    row = empty._replace(n=len(pairs), effect=shift.estimate, ci_low=shift.low, ci_high=shift.high)
    if len(pairs) < FEWEST_PAIRS:
        return row
    test = signed_rank_test(pairs)
    return row._replace(statistic=test.statistic, p=test.p)


def _notes(study: StudyResult, sample: Sample, rows: Sequence[Comparison]) -> list[str]:
    title, cases = metric_title(sample.metric), len(sample.cases)
    scored_A = sample.scored.sum(axis=1).tolist()
    absent = [arm.title for arm, scored in zip(study.arms, scored_A, strict=True) if not scored]
    partly = [f"{arm.title}: {scored}" for arm, scored in zip(study.arms, scored_A, strict=True) if 0 < scored < cases]
    notes = []
    if absent:
        notes.append(f"These arms have no scores by {title} and are in no test: {'; '.join(absent)}.")
    if partly:
        notes.append(
            f"{title}: not all arms were scored on the same cases. Each pair is tested on the cases that both have. "
            f"Arms with fewer than all {cases} cases: {'; '.join(partly)}."
        )
    most = max((row.n for row in rows), default=0)
    numbers = {o.title: [r.n for r in rows if r.organ == o.name and r.n] for o in study.classes.organs}
    fewest = {organ: min(of_organ, default=0) for organ, of_organ in numbers.items()}
    fewer = [f"{organ} {number}" for organ, number in fewest.items() if number < most]
    if fewer:
        notes.append(
            f"{title}: some tests have fewer than {most} cases, because the value is undefined or missing for the "
            f"other cases. The smallest number of cases per organ: {', '.join(fewer)}."
        )
    if any(0 < row.n < FEWEST_PAIRS for row in rows):
        notes.append(f"{title}: one case allows no test; such rows have an effect and no p.")
    return notes
