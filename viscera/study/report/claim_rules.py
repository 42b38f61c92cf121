"""What a claim is tested on, and how it is settled: contrasts of settings in points per patient, then verdicts.

Every part of a claim must hold, by ranks, by the mean and, from five seeds on, over trainings; Holm's correction is
over the claims. The rules and their reasons stand in docs/decisions/0008-claim-ledger.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from operator import itemgetter
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm
from viscera.core.wording import counted
from viscera.metrics.paired_tests import DECIMALS, SEEDS_FOR_SETTINGS, PairedTests, paired_tests
from viscera.metrics.sign_flips import OneSided
from viscera.metrics.signed_rank import hodges_lehmann
from viscera.metrics.statistics import Array, holm, pairs_needed, smallest_p
from viscera.study.report.claim_power import what_equivalence_takes
from viscera.study.report.comparisons import ALPHA
from viscera.study.results import RunResult, StudyResult, signed
from viscera.study.score_table import Sample, mean_over

FOREGROUND = tuple(organ.name for organ in ORGANS)
MINUS = "\N{MINUS SIGN}"
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
        """The finished and scored runs of an arm; those that diverged, or are cut off or unscored, are left out."""
        return [] if arm is None else self.study.counted_runs_of(arm)

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

    @cached_property
    def _tests(self) -> dict[tuple[float, bool], PairedTests]:
        return {}

    def tests(self, bound: float, *, above: bool) -> PairedTests:
        """Of how far it lies above the bound, or below it, in one column; each is computed once."""
        if (bound, above) not in self._tests:
            distances_PS = self.by_case_and_seed() - bound
            self._tests[bound, above] = paired_tests((distances_PS if above else -distances_PS)[:, :, None])
        return self._tests[bound, above]

    @property
    def shared_seeds(self) -> int:
        """How many seeds both sides have, on a case that both have; 0 where each side is averaged over its own."""
        return sum(bool(points) for points in self.by_seed.values())

    def by_case_and_seed(self) -> Array:
        """(P, S) the same by patient and seed, NaN where undefined; one column of means where no seed is shared."""
        of_seeds = self.by_seed or {0: self.patients}
        return pd.DataFrame({seed: dict(points) for seed, points in of_seeds.items()}).to_numpy(float)


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
    """Foreground Dice on the training patches at the last logged step, minus that of each test patient."""
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
    one_sided: bool = False  # whether it is shown at 0.05 on one side: half of an equivalence

    def tests(self) -> PairedTests:
        """Of how far the contrast lies on the claimed side of the bound, in one column."""
        return self.contrast.tests(self.bound, above=self.above)


def within(contrast: Contrast, margin: float) -> tuple[Part, Part]:
    """Equivalence: above -margin and below +margin, two one-sided tests at 0.05 (Schuirmann 1987).

    It is shown where the 90 % interval lies within the margin: only one of both ends can be the wrong one, so the
    chance of a false verdict is 5 %, not 10.
    """
    return Part(contrast, -margin, one_sided=True), Part(contrast, margin, above=False, one_sided=True)


@dataclass(frozen=True)
class Reading:
    """What one claim comes to in one study."""

    parts: tuple[Part, ...] = ()  # all of which the claim says; empty where it cannot be tested
    missing: str = ""  # why it cannot be tested and what it would take, in sentences; empty where it can
    remark: str = ""  # further numbers that decide nothing, in sentences
    reserve: str = ""  # why parts that do not count against the claim do not, in a sentence
    takes: str = f"It takes {SEEDS_FOR_SETTINGS} seeds or more (--seeds)."  # for more than these models, in a sentence


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

    word: Word  # supported, contradicted or undecided; about settings, never about these models alone
    p_holm: float | None = None  # None where it was not tested
    reason: str = ""  # why it is undecided, and what it would take; which part of several contradicts it; else empty
    seeds: int = 0  # those behind it; 0 where not tested
    patients: int = 0  # the fewest of its parts
    models: Word = "undecided"  # what these models show, where there are too few seeds for a word on their settings


def settle(readings: Sequence[Reading]) -> list[Verdict]:
    """One verdict per reading; Holm's correction is over those that could be tested."""
    testable = [r for r in readings if r.parts and not r.missing and all(part.contrast.patients for part in r.parts)]
    weighed = [weigh(reading.parts) for reading in testable]
    corrected = holm(np.array([w.p for w in weighed])).tolist()
    found = {id(r): _verdict(r, w, p, len(weighed)) for r, w, p in zip(testable, weighed, corrected, strict=True)}
    no_case = "No test case was scored on both sides of a comparison."
    return [found.get(id(r)) or Verdict("undecided", reason=r.missing or no_case) for r in readings]


def deciding(tests: PairedTests) -> OneSided:
    """What claims are settled by: all tests that must agree."""
    return tests.deciding


def weigh(parts: Sequence[Part], by: Callable[[PairedTests], OneSided] = deciding) -> Weighed:
    """Weigh the parts by the tests that must agree, or by some of them; each needs one patient or more."""
    sides = [by(part.tests()) for part in parts]
    support = [float(side.above[0]) * (1 if part.one_sided else 2) for side, part in zip(sides, parts, strict=True)]
    against = [(2 * float(side.below[0]), part) for side, part in zip(sides, parts, strict=True) if part.counts_against]
    smallest, reversed_part = min(against, key=itemgetter(0), default=(1.0, None))
    return Weighed(min(1.0, max(support)), min(1.0, smallest * max(1, len(against))), reversed_part)


def _verdict(reading: Reading, weighed: Weighed, p_holm: float, claims: int) -> Verdict:
    parts = reading.parts
    patients = min(len(part.contrast.patients) for part in parts)
    seeds = min(part.contrast.shared_seeds for part in parts)
    if p_holm >= ALPHA:
        return Verdict("undecided", p_holm, _why_not_shown(reading, weighed, patients, claims), max(1, seeds), patients)
    supported = weighed.support <= weighed.against
    word: Word = "supported" if supported else "contradicted"
    reversed_part, of_several = weighed.reversed_part, len(parts) > 1 and not supported
    reason = f"The reverse is shown for {reversed_part.contrast.title}." if reversed_part and of_several else ""
    if seeds >= SEEDS_FOR_SETTINGS:
        return Verdict(word, p_holm, reason, seeds, patients)
    about = f"These models {'support' if supported else 'contradict'} it, the next training may not."
    reason = " ".join(filter(None, (about, reason, reading.takes)))
    return Verdict("undecided", p_holm, reason, max(1, seeds), patients, word)


def _why_not_shown(reading: Reading, weighed: Weighed, patients: int, claims: int) -> str:
    parts = reading.parts
    alike = [part for part in parts if part.one_sided]
    sides = 1 if len(alike) == len(parts) else 2
    if claims * smallest_p(patients, sides) >= ALPHA:
        return (
            f"Too few test cases: {patients} can show nothing, however clear. With {counted(claims, 'claim')} tested "
            f"it takes {pairs_needed(claims, ALPHA, sides)} or more."
        )
    if reading.reserve and any(part.tests().deciding.below[0] < ALPHA / 2 for part in parts):
        return reading.reserve
    if disagreement := _disagreement(parts):
        return disagreement
    by_models = weigh(parts, lambda tests: tests.models)
    if by_models.p < ALPHA <= weighed.p:
        shown = "it" if by_models.support <= by_models.against else "the reverse"
        return (
            f"These models show {shown} (p = {by_models.p:.2g}), but the trainings vary: over cases and seeds p = "
            f"{weighed.p:.2g}. More seeds would tell."
        )
    unclear = "" if weighed.p >= ALPHA else " once corrected for the number of claims"
    reason = (
        f"Neither the claim nor its reverse is shown{unclear}. More test cases, or a clearer difference, would tell."
    )
    if alike:
        differences_PS = alike[0].contrast.by_case_and_seed()
        reason += f" {what_equivalence_takes(differences_PS, abs(alike[0].bound), ALPHA / claims)}"
    return reason.strip()


def _disagreement(parts: Sequence[Part]) -> str:
    """Where ranks would settle the claim and means would not, or the other way round: a sentence; else empty."""
    by_ranks, by_means = weigh(parts, lambda tests: tests.ranks), weigh(parts, lambda tests: tests.means)
    if (by_ranks.p < ALPHA) == (by_means.p < ALPHA):
        return ""
    most = max(parts, key=lambda part: float(np.abs(part.tests().means.above - part.tests().ranks.above)[0]))
    shift = hodges_lehmann(np.array(list(most.contrast.patients.values()))).estimate
    mean = fmean(most.contrast.patients.values())
    return (
        f"Ranks and mean disagree ({most.contrast.title}: median shift {signed(shift)}, p = {by_ranks.p:.2g}; mean "
        f"{signed(mean)}, p = {by_means.p:.2g}): most cases differ a little in one direction and a few much more in "
        "the other, or all of it rests on a few cases. A claim about a mean needs both."
    )
