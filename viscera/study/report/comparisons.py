"""Whether arms differ: one Holm family of paired tests per metric, over all pairs of arms and organs.

A difference is shown where ranks, mean and, from five shared seeds on, trainings agree (`metrics.paired_tests`);
with fewer seeds it is one of these models, and no verdict about the settings of the arms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from math import ceil, isnan
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from viscera.core.wording import counted, range_of
from viscera.io.scores import metric_title
from viscera.metrics import sign_flips, statistics
from viscera.metrics.paired_tests import DECIMALS, SEEDS_FOR_SETTINGS, PairedTests, paired_tests
from viscera.metrics.signed_rank import hodges_lehmann, signed_rank_statistic
from viscera.metrics.statistics import Array
from viscera.study.report.arm_spread import Spread, spread_of
from viscera.study.results import StudyResult
from viscera.study.score_table import Sample

ALPHA = 0.05
FEWEST_PAIRS = 2  # one pair always has p = 1: that is no test
PER_CENT = ("dice", "surface_dice")  # whose effects are points
POINTS = 100.0  # the largest difference of two means that are per cent
_MOST_NAMED = 3  # tests that a note names
_NO_DISTANCE = (
    " Where a model did not find an organ there is no distance, so that an arm is not held to account here for the "
    "organs that it misses: see Dice."
)

Outcome = Literal[
    "",  # no test
    "differ",
    "these models differ",  # with fewer than five shared seeds
    "ranks and mean disagree",
    "trainings vary",  # these models differ, another training may not
    "not shown",
]


class Comparison(NamedTuple):
    """One row of comparisons.csv: two arms on one organ, by one metric; None where there are too few patients."""

    organ: str
    metric: str
    arm_a: str
    arm_b: str
    n: int  # patients for whom both arms define the metric
    statistic: float | None = None  # the smaller rank sum
    p: float | None = None  # two-sided, of the signed-rank test over patients alone
    p_holm: float | None = None  # largest p of the tests that must agree, corrected over all pairs of arms and organs
    effect: float | None = None  # Hodges-Lehmann, arm_a minus arm_b, in points (per cent) or the metric's unit
    ci_low: float | None = None  # ci_low, ci_high: its 95 % interval, not corrected for the number of tests
    ci_high: float | None = None
    mean: float | None = None  # of the differences, arm_a minus arm_b
    mean_low: float | None = (
        None  # mean_low, mean_high: its 95 % interval over patients and shared seeds, not corrected
    )
    mean_high: float | None = None
    p_mean: float | None = None  # two-sided, of the mean over patients alone: sign flips
    seeds: int = 0  # that both arms have
    p_trainings: float | None = None  # two-sided, of the mean over patients and seeds; None below two shared seeds
    outcome: Outcome = ""

    @property
    def significant(self) -> bool:
        """Whether the settings of the arms differ at 0.05 after Holm's correction."""
        return self.outcome == "differ"

    @property
    def different(self) -> bool:
        """Whether at least these models do."""
        return self.outcome in {"differ", "these models differ"}

    def flipped(self) -> "Comparison":
        """The same, arm_b minus arm_a."""
        effect, low, high = (None if v is None else -v for v in (self.effect, self.ci_high, self.ci_low))
        turned = self._replace(arm_a=self.arm_b, arm_b=self.arm_a, effect=effect, ci_low=low, ci_high=high)
        mean, low, high = (None if v is None else -v for v in (self.mean, self.mean_high, self.mean_low))
        return turned._replace(mean=mean, mean_low=low, mean_high=high)

    def cells(self) -> tuple[str, ...]:
        """As in the file: p to six digits, effects to four decimals, empty where there is none."""
        forms = ("g", "g", "g", *[".4f"] * 6, "g", "d", "g")
        cells = ("" if v is None else f"{v:{form}}" for v, form in zip(self[5:17], forms, strict=True))
        return (*self[:4], str(self.n), *(cell.replace("-0.0000", "0.0000") for cell in cells), self.outcome)


@dataclass(frozen=True)
class Family:
    """The tests of one metric, which Holm's correction takes together."""

    metric: str  # as in scores.csv
    tests: int  # those that could be made
    cases: int  # the most of any pair of arms; one per patient
    seeds: int  # the fewest that both arms of a test have
    numbers_of_seeds: tuple[int, ...]  # all different ones, ascending
    of_enough: int  # tests with seeds enough for a verdict about settings
    significant: int  # tests below 0.05 after the correction, in pairs of arms with seeds enough
    of_models: int  # the same in pairs with fewer seeds: these models differ
    flips: int = field(default=sign_flips.DRAWS, compare=False)  # that were drawn, where there are too many for all

    @property
    def of_settings(self) -> bool:
        """Whether every test has seeds enough for a verdict about the settings of its arms."""
        return self.seeds >= SEEDS_FOR_SETTINGS

    @property
    def fewer_seeds(self) -> str:
        """Of those tests that have fewer, how many shared seeds: `3`, `1 to 3`."""
        few = [number for number in self.numbers_of_seeds if number < SEEDS_FOR_SETTINGS]
        return range_of(few[0], few[-1]) if few else ""

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many cases allow, by ranks and by the sign flips that were made."""
        return sign_flips.smallest_p(self.cases, self.flips)

    @property
    def smallest_p_holm(self) -> float:
        """The same, corrected."""
        return min(1.0, self.tests * self.smallest_p)

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

    def family(self, metric: str) -> Family | None:
        """The tests of one metric; None where nothing is scored by it."""
        return next((family for family in self.families if family.metric == metric), None)

    def highest_first(self, row: str) -> "pd.Series[float]":
        """One of its rows by names of arms, without undefined values; equal ones in the order of Table 1."""
        of_arms = self.percent[list(self.study.scores.arms)].T[row]
        return of_arms.dropna().sort_values(ascending=False, kind="stable")


def compare(study: StudyResult, grid: str, metrics: Sequence[str] | None = None) -> Comparisons:
    """Compare all arms of a study on one grid, by all of its metrics or some; the unit is the patient.

    Arms are compared on the seeds that both have, seeds averaged first; where they share none, each is averaged over
    its own. Pairs of arms that are not scored on the grid have n = 0.
    """
    rows: list[Comparison] = []
    families: list[Family] = []
    notes: list[str] = []
    for metric in study.scores.metrics(grid) if metrics is None else metrics:
        sample = study.scores.sample(grid, metric)
        of_metric = _rows(sample, study)
        rows += of_metric
        tests = [row for row in of_metric if row.p is not None]
        most, seeds = max((row.n for row in of_metric), default=0), [row.seeds for row in tests] or [0]
        of_enough = sum(number >= SEEDS_FOR_SETTINGS for number in seeds)
        significant = sum(row.significant for row in tests)
        of_models = sum(row.different for row in tests) - significant
        numbers, flips = tuple(sorted(set(seeds))), _flips_for(len(of_metric))
        families.append(Family(metric, len(tests), most, min(seeds), numbers, of_enough, significant, of_models, flips))
        of_family = [*_notes(study, sample, of_metric), *_disagreements(study, metric, tests)]
        notes += [note for note in of_family if note not in notes]
    return Comparisons(study, grid, tuple(rows), tuple(families), tuple(notes))


def _rows(sample: Sample, study: StudyResult) -> list[Comparison]:
    """By organ and pair of arms, corrected over all that could be tested."""
    pairs = list(combinations(range(len(sample.arms)), 2))
    labels = [organ.label for organ in study.classes.organs]
    compared = [_differences(sample, a, b) for a, b in pairs]
    seeds = [shared for _, shared in compared]
    cells = [
        Comparison(organ.name, sample.metric, sample.arms[a], sample.arms[b], 0, seeds=shared)
        for organ, ((a, b), shared) in product(study.classes.organs, zip(pairs, seeds, strict=True))
    ]
    if not cells:
        return []
    scale = 100 if sample.metric in PER_CENT else 1
    columns_PST = scale * np.stack([values[:, :, label] for label, (values, _) in product(labels, compared)], axis=2)
    tests = paired_tests(columns_PST, draws=_flips_for(len(cells)))
    tested = tests.crossed.patients >= FEWEST_PAIRS

    def corrected(p: Array) -> Array:
        adjusted = np.ones(len(p))
        adjusted[tested] = statistics.holm(p[tested])
        return adjusted

    p_holm = corrected(tests.deciding.two_sided)
    ranks, means = corrected(tests.ranks.two_sided) < ALPHA, corrected(tests.means.two_sided) < ALPHA
    models = corrected(tests.models.two_sided) < ALPHA
    rows = []
    for at, cell in enumerate(_with_numbers(cells, tests)):
        if not tested[at]:
            rows.append(cell)
            continue
        outcome: Outcome = "not shown"
        if p_holm[at] < ALPHA:
            outcome = "differ" if cell.seeds >= SEEDS_FOR_SETTINGS else "these models differ"
        elif models[at] and cell.seeds >= SEEDS_FOR_SETTINGS:
            outcome = "trainings vary"
        elif (ranks[at] or means[at]) and not models[at]:
            outcome = "ranks and mean disagree"
        rows.append(cell._replace(p_holm=float(p_holm[at]), outcome=outcome))
    return rows


def _flips_for(cells: int) -> int:
    """So many that the smallest p is small enough after Holm's correction."""
    return max(sign_flips.DRAWS, ceil(10 * cells / ALPHA))


def _differences(sample: Sample, a: int, b: int) -> tuple[Array, int]:
    """(P, S, L) arm a minus arm b within each seed, NaN in those that they do not share, and how many they share.

    Where they share none: the difference of their means over seeds, in the place of the first.
    """
    differences_PSL = sample.of_arm(sample.arms[a]) - sample.of_arm(sample.arms[b])
    shared = int((~np.isnan(differences_PSL)).any(axis=(0, 2)).sum())
    if not shared and differences_PSL.shape[1]:
        of_cases_APL = sample.per_case()
        differences_PSL[:, 0] = of_cases_APL[a] - of_cases_APL[b]
    return differences_PSL, shared


def _with_numbers(cells: Sequence[Comparison], tests: PairedTests) -> list[Comparison]:
    """Each row with its n, statistic, uncorrected p, shift and mean with their intervals."""
    crossed = tests.crossed
    limits = np.array([POINTS if cell.metric in PER_CENT else np.inf for cell in cells])
    low, high = (np.clip(bound, -limits, limits) for bound in crossed.interval())
    p_ranks, p_means, p_trainings = (each.two_sided for each in (tests.ranks, tests.means, tests.trainings))
    rows = []
    for at, cell in enumerate(cells):
        column = crossed.of_patients[:, at]
        pairs = np.round(column[~np.isnan(column)], DECIMALS)
        if not pairs.size:
            rows.append(cell)
            continue
        shift, seeds = hodges_lehmann(pairs), min(cell.seeds, int(crossed.seeds[at]))
        row = cell._replace(n=len(pairs), effect=shift.estimate, ci_low=shift.low, ci_high=shift.high, seeds=seeds)
        row = row._replace(mean=float(crossed.mean[at]))
        if len(pairs) >= FEWEST_PAIRS:
            row = row._replace(
                statistic=signed_rank_statistic(pairs),
                p=float(p_ranks[at]),
                mean_low=None if isnan(low[at]) else float(low[at]),
                mean_high=None if isnan(high[at]) else float(high[at]),
                p_mean=float(p_means[at]),
                p_trainings=float(p_trainings[at]) if seeds >= FEWEST_PAIRS else None,
            )
        rows.append(row)
    return rows


def _disagreements(study: StudyResult, metric: str, tests: Sequence[Comparison]) -> list[str]:
    """What one test shows and another does not, in sentences."""
    titles, name = {arm.name: arm.title for arm in study.arms}, metric_title(metric)

    def named(rows: Sequence[Comparison], numbers: str) -> str:
        of = [
            f"{row.organ.replace('_', ' ')}, {titles[row.arm_a]} against {titles[row.arm_b]} "
            f"({numbers.format(row=row)})"
            for row in rows[:_MOST_NAMED]
        ]
        return "; ".join(of) + (f"; {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else "")

    notes = []
    if split := [row for row in tests if row.outcome == "ranks and mean disagree"]:
        notes.append(
            f"{name}: in {counted(len(split), 'test')} ranks and mean disagree, because most cases differ a little in "
            "one direction and a few differ much more in the other, or the difference rests on a few cases. These "
            "are not called significant: "
            + named(split, "median shift {row.effect:+.1f}, mean {row.mean:+.1f}").replace("-", "\N{MINUS SIGN}")
            + "."
        )
    if vary := [row for row in tests if row.outcome == "trainings vary"]:
        notes.append(
            f"{name}: in {counted(len(vary), 'test')} these models differ, but the trainings vary too much to say so "
            "of their settings; more seeds would tell: "
            + named(vary, "{row.seeds} seeds, p over trainings {row.p_trainings:.2g}")
            + "."
        )
    return notes


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
            + (_NO_DISTANCE if sample.metric == "hd95_mm" else "")
        )
    if any(0 < row.n < FEWEST_PAIRS for row in rows):
        notes.append(f"{title}: one case allows no test; such rows have an effect and no p.")
    return notes
