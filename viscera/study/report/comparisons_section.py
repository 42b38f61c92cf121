"""The section "Comparisons": whether arms differ (one Holm family of paired tests per metric), how far means carry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from viscera.io.scores import metric_title
from viscera.metrics import statistics
from viscera.metrics.statistics import Array
from viscera.study.report.page_section import Content, Report, Rows, Section
from viscera.study.results import StudyResult
from viscera.study.score_table import Sample

ALPHA = 0.05
FEWEST_PAIRS = 2  # one pair always has p = 1: that is no test
PER_CENT = ("dice", "surface_dice")  # whose effects are points
DRAWS = 2000
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
    def spread(self) -> "Spread":
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
    shift = statistics.hodges_lehmann(pairs)
    row = empty._replace(n=len(pairs), effect=shift.estimate, ci_low=shift.low, ci_high=shift.high)
    if len(pairs) < FEWEST_PAIRS:
        return row
    test = statistics.signed_rank_test(pairs)
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


class OrganFinding(NamedTuple):
    """The arm of highest mean Dice on one organ against the others."""

    organ: str  # its name
    best: str  # name of that arm
    percent: float  # its mean
    tests: tuple[Comparison, ...]  # it minus each other arm, the arm of the next highest mean first

    @property
    def alike(self) -> list[str]:
        """Names of the arms that were tested against it, and are not significantly different."""
        return [test.arm_b for test in self.tests if test.p_holm is not None and not test.significant]


class ArmStanding(NamedTuple):
    """One arm among the others."""

    arm: str  # its name
    percent: float  # mean foreground Dice
    rank: int  # by that mean
    tests: int  # over organs and other arms
    better: int  # better, worse: those in which it is significantly higher or lower
    worse: int


def organ_findings(compared: Comparisons) -> list[OrganFinding]:
    """One per organ that any arm has a mean of."""
    findings = []
    for organ in compared.study.classes.organs:
        means = compared.highest_first(organ.name)
        if not means.empty:
            best, *others = map(str, means.index)
            tests = tuple(compared.dice[organ.name, best, arm] for arm in others)
            findings.append(OrganFinding(organ.name, best, means[best], tests))
    return findings


def arm_standings(compared: Comparisons) -> list[ArmStanding]:
    """One per arm with a foreground mean, the highest first."""
    means = compared.highest_first("FOREGROUND")
    standings = []
    for arm, mean in means.items():
        tests = [row for row in compared.dice.values() if row.arm_a == arm and row.p_holm is not None]
        effects = [row.effect or 0 for row in tests if row.significant]
        better, worse = sum(effect > 0 for effect in effects), sum(effect < 0 for effect in effects)
        standings.append(ArmStanding(str(arm), mean, 1 + int((means > mean).sum()), len(tests), better, worse))
    return standings


def primary_comparisons(report: Report) -> Comparisons:
    """The comparisons on the primary grid."""
    return compare(report.study, report.grid)


def _values(report: Report) -> Mapping[str, object]:
    compared = report.once(primary_comparisons)
    return {
        "compared": compared,
        "findings": organ_findings(compared),
        "standings": arm_standings(compared),
        "metric_title": metric_title,
        "smallest_p": statistics.smallest_p,
        "pairs_needed": statistics.pairs_needed,
        "alpha": ALPHA,
        "draws": DRAWS,
    }


def _files(report: Report) -> Mapping[str, Content]:
    rows = report.once(primary_comparisons).rows
    return {"comparisons.csv": Rows(Comparison._fields, (row.cells() for row in rows))}


COMPARISONS = Section("comparisons", "Comparisons", _values, _files)
