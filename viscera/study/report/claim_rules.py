"""What a claim is tested on, and how it is settled: contrasts of settings in points per patient, then verdicts.

Every part of a claim must hold, Holm's correction is over the claims, and the seeds must agree. The rules and their
reasons stand in docs/decisions/0008-claim-ledger.md; they were written before any study was read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from operator import itemgetter
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm
from viscera.metrics.signed_rank import hodges_lehmann, signed_rank_test
from viscera.metrics.statistics import Array, holm, pairs_needed, smallest_p
from viscera.study.report.comparisons import ALPHA, DECIMALS
from viscera.study.results import RunResult, StudyResult, counted
from viscera.study.score_table import Sample, mean_over

FOREGROUND = tuple(organ.name for organ in ORGANS)
MINUS = "\N{MINUS SIGN}"
SEEDS_FOR_CONCLUSIONS = 5
# by the same formula; power 0 is not Eq. 3, it has the factor N / L
_NAMES_OF_POWERS: dict[str | float, str] = {1.0: "simple", 2.0: "square"}

PatientDice = pd.DataFrame  # cases by organs: Dice, 0 to 1, NaN where it is not defined
Points = Mapping[str, float]  # by case
Word = Literal["supported", "contradicted", "undecided"]


class Setting(NamedTuple):
    """One of the paper's models: weighting and learning rate."""

    weighting: str
    learning_rate: float

    @property
    def title(self) -> str:
        """For people: `simple at 0.01`."""
        return f"{self.weighting} at {self.learning_rate:g}"


PAPER_SETTINGS = tuple(Setting(w, rate) for rate in (0.001, 0.01) for w in ("uniform", "simple", "square"))


@dataclass(frozen=True)
class Evidence:
    """What a claim can be tested on: a study, finished or not, and the grid whose scores count."""

    study: StudyResult
    grid: str

    @cached_property
    def sample(self) -> Sample:
        """Dice of the arms and, where there is one, of the fused predictor."""
        return self.study.scores.sample(self.grid, arms=self.study.scores.columns)

    @property
    def base_variant(self) -> str:
        """The variant that claims are read from: the unnamed one, or the first."""
        variants = self.study.record.config.study.variants
        return "" if "" in variants else next(iter(variants))

    def arm(self, setting: Setting) -> Arm | None:
        """The study's arm of a setting, its weighting by name or as a power; None where the plan has none."""
        wanted = (*setting, self.base_variant)
        named = ((_NAMES_OF_POWERS.get(arm.weighting, arm.weighting), arm) for arm in self.study.arms)
        return next((arm for name, arm in named if (name, arm.learning_rate, arm.variant) == wanted), None)

    def finished(self, arm: Arm | None) -> list[RunResult]:
        """The finished and scored runs of an arm; those cut off, damaged or unscored are left out."""
        return [run for run in self.study.runs if run.arm == arm and not run.standing()]

    def dice_by_seed(self, arm: Arm | None) -> dict[int, PatientDice]:
        """Dice of these runs by seed."""
        found = {run.seed: self.dice(run.arm.name, run.seed) for run in self.finished(arm)}
        return {seed: dice for seed, dice in found.items() if not dice.empty}

    def missing(self, settings: Iterable[Setting]) -> str:
        """What keeps these settings from being compared, and what it takes; empty where nothing does."""
        arms = {setting.title: self.arm(setting) for setting in settings}
        absent = ", ".join(title for title, arm in arms.items() if arm is None)
        unscored = ", ".join(title for title, arm in arms.items() if arm is not None and not self.dice_by_seed(arm))
        sentences = (
            absent and f"Not in this study: {absent} (--weightings, --learning-rates).",
            unscored and f"No finished and scored run: {unscored}; the notes of Table 1 say why.",
        )
        return " ".join(filter(None, sentences))

    def dice(self, arm: str, seed: int) -> PatientDice:
        """Dice of an arm, or of `fused`, with one seed; empty where there is none. To read only: each is kept."""
        if (arm, seed) not in self._dice:
            self._dice[arm, seed] = self._dice_of(arm, seed)
        return self._dice[arm, seed]

    @cached_property
    def _dice(self) -> dict[tuple[str, int], PatientDice]:
        return {}

    def _dice_of(self, arm: str, seed: int) -> PatientDice:
        sample, classes = self.sample, list(self.study.classes.names)
        if arm not in sample.arms:
            return pd.DataFrame()
        values_PL = sample.of_run(arm, seed)
        return pd.DataFrame(values_PL, list(sample.cases), classes).reindex(columns=list(FOREGROUND)).dropna(how="all")


@dataclass(frozen=True)
class Contrast:
    """One difference (`title`: which side minus which) in points, by case.

    Seeds are averaged first; `by_seed` has the same of each seed alone. Cases that one side lacks are left out.
    """

    title: str
    patients: Points
    by_seed: Mapping[int, Points] = field(default_factory=dict)


def difference(
    title: str, a: Mapping[int, PatientDice], b: Mapping[int, PatientDice], organs: Collection[str] = FOREGROUND
) -> Contrast:
    """Side a minus side b: the mean over those of the organs that both sides define for a patient.

    Only seeds that both sides have are compared; where they share none, each side is averaged over its own.
    """
    seeds = [seed for seed in a if seed in b]
    of_a, of_b = (_averaged(side[seed] for seed in seeds or side) for side in (a, b))
    by_seed = {seed: _in_points((a[seed] - b[seed]).reindex(columns=list(organs))) for seed in seeds}
    return Contrast(title, _in_points((of_a - of_b).reindex(columns=list(organs))), by_seed)


def training_gap(title: str, evidence: Evidence, arm: Arm) -> Contrast:
    """Foreground Dice on the training windows at the last logged step, minus that of each test patient."""
    test = evidence.dice_by_seed(arm)
    runs = {run.seed: run for run in evidence.finished(arm)}
    training = {seed: last for seed in test if (last := runs[seed].last_dice()) is not None}
    if not training:
        return Contrast(title, {})
    by_seed = {seed: _in_points(last - test[seed]) for seed, last in training.items()}
    mean = fmean(training.values()) - _averaged(test[seed] for seed in training)
    return Contrast(title, _in_points(mean), by_seed)


def mean_contrast(title: str, contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of several contrasts over the cases, and the seeds, that all of them have."""

    def mean(sides: Iterable[Points]) -> Points:
        shared = pd.DataFrame(map(dict, sides)).dropna(axis="columns").astype(float)
        return {str(case): round(points, DECIMALS) for case, points in shared.mean().items()}

    seeds = set.intersection(*(set(c.by_seed) for c in contrasts))
    by_seed = {seed: mean(c.by_seed[seed] for c in contrasts) for seed in sorted(seeds)}
    return Contrast(title, mean(c.patients for c in contrasts), by_seed)


def _averaged(of_seeds: Iterable[PatientDice]) -> PatientDice:
    """Mean over seeds of each case and organ, where defined."""
    return pd.concat(of_seeds).groupby(level=0).mean()


def _in_points(dice: PatientDice) -> Points:
    """Mean over the organs that a patient defines."""
    means = zip(dice.index, mean_over(dice.to_numpy(float), axis=1).tolist(), strict=True)
    return {case: round(100 * mean, DECIMALS) for case, mean in means if not isnan(mean)}


class Part(NamedTuple):
    """One inequality of a claim: the contrast lies above (or below) a bound."""

    contrast: Contrast  # in points
    bound: float = 0.0  # in points
    above: bool = True  # whether it is claimed to lie above the bound, or else below it
    counts_against: bool = True  # whether a contrast on the other side contradicts the claim

    def claimed(self, points: Points) -> Array:
        """(P,) how far the patients lie on the claimed side of the bound."""
        distance = np.array(list(points.values())) - self.bound
        return np.round(distance if self.above else -distance, DECIMALS)

    def p_values(self) -> tuple[float, float]:
        """That the patients lie on the claimed side, and on the other; the two-sided p on its side, 1 on the other."""
        distances = self.claimed(self.contrast.patients)
        tendency, p = (np.sign(distances) * stats.rankdata(np.abs(distances))).sum(), signed_rank_test(distances).p
        return (p if tendency > 0 else 1.0), (p if tendency < 0 else 1.0)


def within(contrast: Contrast, margin: float) -> tuple[Part, Part]:
    """Equivalence: above -margin and below +margin, two one-sided tests (Schuirmann 1987)."""
    return Part(contrast, -margin), Part(contrast, margin, above=False)


@dataclass(frozen=True)
class Reading:
    """What one claim comes to in one study."""

    parts: tuple[Part, ...] = ()  # all of which the claim says; empty where it cannot be tested
    missing: str = ""  # why it cannot be tested and what it would take, in sentences; empty where it can
    remark: str = ""  # further numbers that decide nothing, in sentences
    reserve: str = ""  # why parts that do not count against the claim do not, in a sentence


class Weighed(NamedTuple):
    """The p of a claim, before Holm's correction over the claims."""

    support: float  # that all parts hold: the largest p of a part, 1 where one points the other way
    against: float  # that a part is reversed: the smallest such p times the number of parts that count
    reversed_part: Part | None  # the part of that p; None where none counts

    @property
    def p(self) -> float:
        """Of whichever is shown better."""
        return min(self.support, self.against)


class Verdict(NamedTuple):
    """What became of a claim."""

    word: Word  # supported, contradicted or undecided
    p_holm: float | None = None  # None where it was not tested
    reason: str = ""  # why it is undecided, and what it would take; which part of several contradicts it; else empty
    seeds: int = 0  # those behind it; 0 where not tested
    patients: int = 0  # the fewest of its parts


def settle(readings: Sequence[Reading]) -> list[Verdict]:
    """One verdict per reading; Holm's correction is over those that could be tested."""
    testable = [r for r in readings if r.parts and not r.missing and all(part.contrast.patients for part in r.parts)]
    weighed = [weigh(reading.parts) for reading in testable]
    corrected = holm(np.array([w.p for w in weighed])).tolist()
    found = {id(r): _verdict(r, w, p, len(weighed)) for r, w, p in zip(testable, weighed, corrected, strict=True)}
    no_case = "No test case was scored on both sides of a comparison."
    return [found.get(id(r)) or Verdict("undecided", reason=r.missing or no_case) for r in readings]


def weigh(parts: Sequence[Part]) -> Weighed:
    """Test the parts; each needs one patient or more."""
    support, against = zip(*(part.p_values() for part in parts), strict=True)
    counting = [(p, part) for p, part in zip(against, parts, strict=True) if part.counts_against]
    smallest, reversed_part = min(counting, key=itemgetter(0), default=(1.0, None))
    return Weighed(max(support), min(1.0, smallest * max(1, len(counting))), reversed_part)


def seeds_agree(agreeing: int, seeds: int) -> bool:
    """Whether single seeds point the way of the verdict often enough: all of two to four.

    Of five or more by the one-sided sign test below 0.05: all of five to seven, all but one of eight.
    """
    if seeds < SEEDS_FOR_CONCLUSIONS:
        return seeds < 2 or agreeing == seeds
    return float(stats.binomtest(agreeing, seeds, alternative="greater").pvalue) < ALPHA


def _verdict(reading: Reading, weighed: Weighed, p_holm: float, claims: int) -> Verdict:
    parts = reading.parts
    patients = min(len(part.contrast.patients) for part in parts)
    seeds = sorted(set.intersection(*(set(part.contrast.by_seed) for part in parts)))
    supported = weighed.support <= weighed.against
    deciding = parts if supported or weighed.reversed_part is None else (weighed.reversed_part,)
    agreeing = sum(_points_to(deciding, seed, supported=supported) for seed in seeds)
    word: Word = "supported" if supported else "contradicted"
    reason = f"The reverse is shown for {deciding[0].contrast.title}." if len(parts) > 1 and not supported else ""
    if p_holm >= ALPHA:
        word, reason = "undecided", _why_not_shown(reading, weighed, patients, claims)
    elif not seeds_agree(agreeing, len(seeds)):
        word, shown = "undecided", "support it" if supported else "contradict it"
        reason = (
            f"The seeds disagree: the means over seeds {shown}, but only {agreeing} of {counted(len(seeds), 'seed')} "
            f"alone. More seeds would tell (--seeds, {SEEDS_FOR_CONCLUSIONS} or more)."
        )
    return Verdict(word, p_holm, reason, max(1, len(seeds)), patients)


def _why_not_shown(reading: Reading, weighed: Weighed, patients: int, claims: int) -> str:
    if claims * smallest_p(patients) >= ALPHA:
        return (
            f"Too few test cases: {patients} can show nothing, however clear. With {counted(claims, 'claim')} tested "
            f"it takes {pairs_needed(claims, ALPHA)} or more."
        )
    if reading.reserve and any(part.p_values()[1] < ALPHA for part in reading.parts):
        return reading.reserve
    unclear = "" if weighed.p >= ALPHA else " once corrected for the number of claims"
    return f"Neither the claim nor its reverse is shown{unclear}. More test cases, or a clearer difference, would tell."


def _points_to(parts: Iterable[Part], seed: int, *, supported: bool) -> bool:
    """Whether one seed alone lies on the side of the verdict in every part."""
    distances = (part.claimed(part.contrast.by_seed[seed]) for part in parts)
    shifts = (hodges_lehmann(values).estimate if values.size else 0.0 for values in distances)
    return all(shift > 0 if supported else shift < 0 for shift in shifts)
