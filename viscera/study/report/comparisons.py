"""Every pair of arms on every organ: `comparisons.csv`, one Holm family a metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from viscera.metrics.statistics import Array, hodges_lehmann, holm, pairs_needed, signed_rank_test, smallest_p
from viscera.study.report.samples import Sample, metrics_of, sample_of
from viscera.study.results import StudyResult

ALPHA = 0.05
FEWEST_PAIRS = 2  # one pair always has p = 1: that is no test
PER_CENT = ("dice", "surface_dice")  # whose effects are points
_DECIMALS = 9  # scores have six; beyond that, differences are those of floating point


class Comparison(NamedTuple):
    """One row of comparisons.csv: two arms on one organ, by one metric.

    Attributes:
        n: patients for whom both arms define the metric.
        statistic: the smaller rank sum; None, as p and p_holm, where there are too few patients for a test.
        p: two-sided, of this test alone.
        p_holm: corrected within the metric's family: all pairs of arms and organs.
        effect: Hodges-Lehmann difference, arm_a minus arm_b, in points (per cent) or the metric's unit; None without
            patients.
        ci_low, ci_high: its 95 % interval, not corrected for the number of tests; None below six patients.
    """

    organ: str
    metric: str
    arm_a: str
    arm_b: str
    n: int
    statistic: float | None = None
    p: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    ci_low: float | None = None
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
        tested = (_cell(v, "g") for v in (self.statistic, self.p, self.p_holm))
        return (*self[:4], str(self.n), *tested, *(_cell(v, ".4f") for v in self[8:]))


@dataclass(frozen=True)
class Family:
    """The tests of one metric, which Holm's correction takes together.

    Attributes:
        metric: as in scores.csv.
        tests: those that could be made.
        cases: the most of any pair of arms; one a patient.
        significant: tests below 0.05 after the correction.
    """

    metric: str
    tests: int
    cases: int
    significant: int

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many cases allow."""
        return smallest_p(self.cases)

    @property
    def smallest_p_holm(self) -> float:
        """The smallest corrected p that they allow."""
        return min(1.0, self.tests * self.smallest_p)

    @property
    def can_show(self) -> bool:
        """Whether any difference, however large, could be significant."""
        return self.tests > 0 and self.smallest_p_holm < ALPHA

    @property
    def cases_needed(self) -> int:
        """The fewest cases with which one test of so many could be significant."""
        return pairs_needed(max(self.tests, 1), ALPHA)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """All comparisons on one grid.

    Attributes:
        rows: by metric, organ and pair of arms, in the order of Table 1.
        families: one a metric.
        notes: what could not be compared, and why; plain text.
    """

    rows: tuple[Comparison, ...]
    families: tuple[Family, ...]
    notes: tuple[str, ...] = ()

    def dice(self) -> dict[tuple[str, str, str], Comparison]:
        """Those by Dice, by (organ, arm_a, arm_b), in both directions."""
        rows = [row for row in self.rows if row.metric == "dice"]
        return {(r.organ, r.arm_a, r.arm_b): r for row in rows for r in (row, row.flipped())}


def compare(study: StudyResult, grid: str, metrics: Sequence[str] | None = None) -> Comparisons:
    """Compare all arms of a study on one grid; the unit is the patient, seeds are averaged first.

    Args:
        study: finished or not.
        grid: `original` or `prepared`; pairs of arms that are not scored on it have n = 0.
        metrics: those of scores.csv to compare by; all of the grid's where None.
    """
    rows: list[Comparison] = []
    families: list[Family] = []
    notes: list[str] = []
    for metric in metrics_of(study, grid) if metrics is None else metrics:
        sample = sample_of(study, grid, metric)
        of_metric = _corrected(_compared(study, sample))
        rows += of_metric
        tests = [row for row in of_metric if row.p is not None]
        most = max((row.n for row in of_metric), default=0)
        families.append(Family(metric, len(tests), most, sum(row.significant for row in tests)))
        notes += [note for note in _notes(study, sample, of_metric) if note not in notes]
    return Comparisons(tuple(rows), tuple(families), tuple(notes))


def metric_title(metric: str) -> str:
    """A metric's name for people."""
    return {"dice": "Dice", "surface_dice": "surface Dice", "hd95_mm": "HD95 (mm)"}.get(
        metric, metric.replace("_", " ")
    )


def _compared(study: StudyResult, sample: Sample) -> list[Comparison]:
    values_APL = sample.of_patients() * (100 if sample.metric in PER_CENT else 1)
    arms = list(enumerate(arm.name for arm in study.arms))
    return [
        _compare_pair(
            Comparison(organ.name, sample.metric, name_a, name_b, 0),
            values_APL[a, :, organ.label] - values_APL[b, :, organ.label],
        )
        for organ in study.classes.organs
        for (a, name_a), (b, name_b) in combinations(arms, 2)
    ]


def _compare_pair(empty: Comparison, differences: Array) -> Comparison:
    """Fill in a row from (P,) differences, NaN where one of both is undefined."""
    pairs = np.round(differences[~np.isnan(differences)], _DECIMALS)
    if not pairs.size:
        return empty
    shift = hodges_lehmann(pairs)
    row = empty._replace(n=len(pairs), effect=shift.estimate, ci_low=shift.low, ci_high=shift.high)
    if len(pairs) < FEWEST_PAIRS:
        return row
    test = signed_rank_test(pairs)
    return row._replace(statistic=test.statistic, p=test.p)


def _corrected(rows: list[Comparison]) -> list[Comparison]:
    """With p_holm: rows without a test are no part of the family."""
    adjusted = iter(holm(np.array([row.p for row in rows if row.p is not None])).tolist())
    return [row if row.p is None else row._replace(p_holm=next(adjusted)) for row in rows]


def _notes(study: StudyResult, sample: Sample, rows: Sequence[Comparison]) -> list[str]:
    title, cases = metric_title(sample.metric), len(sample.cases)
    scored_A = sample.scored.sum(axis=1).tolist()
    absent = [arm.title for arm, scored in zip(study.arms, scored_A, strict=True) if not scored]
    partly = [f"{arm.title} {scored}" for arm, scored in zip(study.arms, scored_A, strict=True) if 0 < scored < cases]
    notes = []
    if absent:
        notes.append(f"Without scores by {title}, so in no test: {'; '.join(absent)}.")
    if partly:
        notes.append(
            f"{title}: not all arms were scored on the same cases. Each pair is tested on the cases that both have; of "
            f"the {cases} cases, fewer were scored for: {'; '.join(partly)}."
        )
    most = max((row.n for row in rows), default=0)
    organs = study.classes.organs
    fewest = {o.title: min((r.n for r in rows if r.organ == o.name and r.n), default=0) for o in organs}
    fewer = [f"{organ} {n}" for organ, n in fewest.items() if n < most]
    if fewer:
        notes.append(
            f"{title}: some tests have fewer than {most} cases, because the value is undefined or missing for the "
            f"others. The fewest by organ: {', '.join(fewer)}."
        )
    if any(0 < row.n < FEWEST_PAIRS for row in rows):
        notes.append(f"{title}: with one case there is no test; such rows have an effect, and no p.")
    return notes


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}".replace("-0.0000", "0.0000")
