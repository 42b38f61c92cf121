"""The arms of several studies on the same test cases, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import CLASS_NAMES, ORGANS
from viscera.core.arms import Arm, arm_config
from viscera.doctor.forecast import precision_and_recall
from viscera.engine.optimiser import LEAST_EPSILON, keras_epsilon
from viscera.losses.balance import WeightSchedule
from viscera.metrics.learning import FAILING_DICE
from viscera.metrics.statistics import bootstrap_means
from viscera.study.results import StudyResult, mean_defined

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """One arm of one study.

    Attributes:
        values: (P, S, L) Dice of the test cases, 0 to 1; NaN where undefined.
        step_kept: share of Adam's step that epsilon left, mean over seeds and logged steps; None: not logged.
        validation: foreground Dice of the validation cases at the end, 0 to 1, mean over seeds; None: not measured.
    """

    arm: Arm
    values: Array
    step_kept: float | None
    validation: float | None

    @property
    def organs(self) -> Array:
        """(7,) mean Dice of each organ, seeds averaged first."""
        result: Array = np.nanmean(np.nanmean(self.values[:, :, 1:], axis=1), axis=0)
        return result

    @property
    def foreground(self) -> float:
        """Mean over the organs, 0 to 1."""
        return float(self.organs.mean())

    @property
    def seeds(self) -> Array:
        """(S,) foreground mean of each seed."""
        result: Array = np.nanmean(np.nanmean(self.values[:, :, 1:], axis=0), axis=1)
        return result

    @property
    def dead(self) -> frozenset[str]:
        """Organs with a mean Dice below 0.2."""
        return frozenset(o.title for o, value in zip(ORGANS, self.organs, strict=True) if value < FAILING_DICE)


def repeated(arms: Iterable[Measured]) -> tuple[float, float]:
    """How well the other seeds of an arm foretell which organs fail in one: precision and recall, 0 to 1."""
    named, happened = set(), set()
    for number, arm in enumerate(arms):
        by_seed_SL = np.nanmean(arm.values[:, :, 1:], axis=0)
        for seed, organs in enumerate(by_seed_SL):
            others = np.nanmean(np.delete(by_seed_SL, seed, axis=0), axis=0)
            named |= {(f"{number} {seed}", str(o)) for o in np.flatnonzero(others < FAILING_DICE)}
            happened |= {(f"{number} {seed}", str(o)) for o in np.flatnonzero(organs < FAILING_DICE)}
    return precision_and_recall(named, happened)


@dataclass(frozen=True)
class Gap:
    """A difference of two foreground means in Dice points, with its 95 % interval over patients and seeds."""

    points: float
    low: float
    high: float

    @property
    def counts(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.points:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def measured(study: StudyResult) -> dict[Arm, Measured]:
    """All arms of a study that are scored with every seed that they have."""
    if not study.grids:
        return {}
    sample = study.scores.sample(study.grids[0])
    found = {}
    for index, arm in enumerate(study.arms):
        values = sample.values[index]
        values = values[:, ~np.isnan(values).all(axis=(0, 2))]
        if values.shape[1]:
            runs = study.runs_of(arm)
            kept = mean_defined(p.step_kept for run in runs for p in run.curve)
            found[arm] = Measured(arm, values, kept, mean_defined(run.last_dice(validation=True) for run in runs))
    return found


def gap(one: list[Measured], other: list[Measured]) -> Gap:
    """Mean foreground of some arms minus that of others, in points; patients and seeds drawn together."""
    arms = [*one, *other]
    seeds = max(arm.values.shape[1] for arm in arms)
    stacked = np.full((len(arms), arms[0].values.shape[0], seeds, len(CLASS_NAMES)), np.nan)
    for index, arm in enumerate(arms):
        stacked[index, :, : arm.values.shape[1]] = arm.values
    draws_DA = 100 * bootstrap_means(stacked)[:, :, 1:].mean(axis=2)
    sign_A = np.array([1 / len(one)] * len(one) + [-1 / len(other)] * len(other))
    points = 100 * float(sign_A @ [arm.foreground for arm in arms])
    low, high = np.nanpercentile(draws_DA @ sign_A, [2.5, 97.5])
    return Gap(points, float(low), float(high))


def epsilon_over_scale(study: StudyResult, arm: Arm) -> float:
    """Adam's epsilon as it would be beside weights that sum to L, in Keras's place half-way through."""
    train = arm_config(study.record.config, arm, 0).train
    counts = np.array(study.record.training_voxel_counts)
    volumes = study.split.training if study.split else 0
    scale = WeightSchedule.of(counts, train.weighting, train.loss, volumes, study.record.classes).start.mean()
    place = 1.0 if train.adam.epsilon_place == "keras" else 1 / keras_epsilon(1.0, train.iterations / 2)
    return max(train.adam.epsilon, LEAST_EPSILON) * place / float(scale)
