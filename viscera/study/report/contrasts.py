"""Differences between two settings of a study, one a patient, in points: what the paper's claims are tested on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm
from viscera.io.scores import ScoreRow
from viscera.study.results import RunResult, StudyResult

FOREGROUND = tuple(organ.name for organ in ORGANS)
MINUS = "\N{MINUS SIGN}"
_NAMES_OF_POWERS = {1.0: "simple", 2.0: "square"}  # the same formula; power 0 is not Eq. 3, it has the factor N / L

PatientDice = Mapping[str, Mapping[str, float]]  # case, organ: Dice, 0 to 1, where it is defined
Points = Mapping[str, float]  # by case


class Setting(NamedTuple):
    """One of the paper's models: weighting and learning rate."""

    weighting: str
    learning_rate: float

    @property
    def title(self) -> str:
        """For people: `simple at 0.01`."""
        return f"{self.weighting} at {self.learning_rate:g}"

    def is_of(self, arm: Arm) -> bool:
        """Whether an arm has this weighting, by name or as a power, and this rate."""
        name = arm.weighting if isinstance(arm.weighting, str) else _NAMES_OF_POWERS.get(arm.weighting)
        return name == self.weighting and arm.learning_rate == self.learning_rate


PAPER_SETTINGS = tuple(Setting(w, rate) for rate in (0.001, 0.01) for w in ("uniform", "simple", "square"))


@dataclass(frozen=True)
class Evidence:
    """What a claim can be tested on.

    Attributes:
        study: finished or not.
        grid: the scores that count, `original` or `prepared`.
        fused: test scores of the predictor that takes each organ from its best model; empty where there is none.
        earlier: the same study as it stood after fewer iterations, by their number.
    """

    study: StudyResult
    grid: str
    fused: tuple[ScoreRow, ...] = ()
    earlier: Mapping[int, StudyResult] = field(default_factory=dict)

    @property
    def base_variant(self) -> str:
        """The variant that claims are read from: the unnamed one, which changes nothing, or the first."""
        variants = self.study.record.config.study.variants
        return "" if "" in variants else next(iter(variants))

    def arm(self, setting: Setting, variant: str | None = None) -> Arm | None:
        """The study's arm of a setting; None where the plan has none."""
        wanted = self.base_variant if variant is None else variant
        return next((arm for arm in self.study.arms if setting.is_of(arm) and arm.variant == wanted), None)

    def missing(self, settings: Iterable[Setting], variant: str | None = None) -> str:
        """What keeps these settings from being compared, and what it takes; empty where nothing does."""
        absent, unscored = [], []
        for setting in dict.fromkeys(settings):
            arm = self.arm(setting, variant)
            if arm is None:
                absent.append(setting.title)
            elif not dice_by_seed(self.study, arm, self.grid):
                unscored.append(setting.title)
        sentences = []
        if absent:
            sentences.append(f"Not in this study: {', '.join(absent)} (--weightings, --learning-rates).")
        if unscored:
            sentences.append(f"No finished and scored run: {', '.join(unscored)}; the notes of Table 1 say why.")
        return " ".join(sentences)


@dataclass(frozen=True)
class Contrast:
    """One difference, in points (per cent), by case.

    Attributes:
        title: for people, which side minus which.
        patients: seeds averaged first; cases without a defined value on both sides are left out.
        by_seed: the same of each seed alone; empty where a side has no seeds.
    """

    title: str
    patients: Points
    by_seed: Mapping[int, Points] = field(default_factory=dict)


def dice_by_seed(study: StudyResult, arm: Arm, grid: str) -> dict[int, PatientDice]:
    """Dice of an arm's finished and scored runs by seed; runs that are cut off, damaged or unscored are left out."""
    usable = (run for run in study.runs_of(arm) if not run.standing())
    found = {run.seed: dice_of_rows(run.scores or (), grid) for run in usable}
    return {seed: dice for seed, dice in found.items() if dice}


def dice_of_rows(rows: Iterable[ScoreRow], grid: str) -> PatientDice:
    """Defined Dice of the organs on one grid, by case."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.metric == "dice" and row.grid == grid and row.organ in FOREGROUND and row.value is not None:
            found.setdefault(row.case, {})[row.organ] = row.value
    return found


def difference(
    title: str, a: Mapping[int, PatientDice], b: Mapping[int, PatientDice], organs: Collection[str] = FOREGROUND
) -> Contrast:
    """Side a minus side b: the mean over those of the organs that both sides define for a patient.

    Only seeds that both sides have are compared; where they share none, each side is averaged over its own.
    """
    seeds = [seed for seed in a if seed in b]
    if not seeds:
        return Contrast(title, _points(_averaged(a.values()), _averaged(b.values()), organs))
    by_seed = {seed: _points(a[seed], b[seed], organs) for seed in seeds}
    whole = _points(_averaged(a[s] for s in seeds), _averaged(b[s] for s in seeds), organs)
    return Contrast(title, whole, by_seed)


def between(evidence: Evidence, a: Setting, b: Setting, organs: Sequence[str] = FOREGROUND, of: str = "") -> Contrast:
    """Two settings that the study has (`Evidence.missing` says so)."""
    same_rate = a.learning_rate == b.learning_rate
    title = f"{a.weighting} {MINUS} {b.title}" if same_rate else f"{a.title} {MINUS} at {b.learning_rate:g}"
    sides = [evidence.arm(setting) for setting in (a, b)]
    dice_a, dice_b = (dice_by_seed(evidence.study, arm, evidence.grid) if arm else {} for arm in sides)
    return difference(title + (f", {of}" if of else ""), dice_a, dice_b, organs)


def training_gap(title: str, runs: Sequence[RunResult], grid: str) -> Contrast:
    """Foreground Dice on the training windows at the last logged step, minus that of each test patient."""
    training = {run.seed: last for run in runs if not run.standing() and (last := run.last_dice()) is not None}
    test = {run.seed: dice_of_rows(run.scores or (), grid) for run in runs if run.seed in training}
    by_seed = {seed: _below(training[seed], dice) for seed, dice in test.items()}
    if not training:
        return Contrast(title, {})
    return Contrast(title, _below(fmean(training.values()), _averaged(test.values())), by_seed)


def mean_contrast(title: str, contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of several contrasts, over the cases and the seeds that all of them have."""
    seeds = [s for s in contrasts[0].by_seed if all(s in c.by_seed for c in contrasts)]
    by_seed = {s: _mean_points([c.by_seed[s] for c in contrasts]) for s in seeds}
    return Contrast(title, _mean_points([c.patients for c in contrasts]), by_seed)


def _averaged(sides: Iterable[PatientDice]) -> PatientDice:
    """Mean over seeds of each case and organ, where defined."""
    collected: dict[str, dict[str, list[float]]] = {}
    for side in sides:
        for case, organs in side.items():
            for organ, value in organs.items():
                collected.setdefault(case, {}).setdefault(organ, []).append(value)
    return {case: {organ: fmean(values) for organ, values in organs.items()} for case, organs in collected.items()}


def _below(dice: float, of_patients: PatientDice) -> Points:
    """How far each patient's mean over the organs lies below a Dice."""
    return {case: _rounded(100 * (dice - fmean(organs.values()))) for case, organs in of_patients.items()}


def _points(a: PatientDice, b: PatientDice, organs: Collection[str]) -> Points:
    differences = {
        case: [a[case][organ] - b[case][organ] for organ in organs if organ in a[case] and organ in b[case]]
        for case in sorted(set(a) & set(b))
    }
    return {case: _rounded(100 * fmean(values)) for case, values in differences.items() if values}


def _mean_points(sides: Sequence[Points]) -> Points:
    shared = [case for case in sides[0] if all(case in side for side in sides)]
    return {case: _rounded(fmean(side[case] for side in sides)) for case in shared}


def _rounded(points: float) -> float:
    """Without the noise of floating point: scores have six decimals."""
    return round(points, 9)
