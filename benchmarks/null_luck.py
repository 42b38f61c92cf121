"""Studies in which no arm differs from another, with the luck of training in them.

Axes: A arms, P patients, S seeds, O organs, N studies. Values are points of Dice, without their mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.metrics.crossed import Components, CrossedMeans

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]  # of standard deviation 1, or as the scenario says


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Standard normal."""
    return np.asarray(generator.standard_normal(shape), dtype=np.float64)


def heavy(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t of three degrees of freedom, of variance 1."""
    return np.asarray(generator.standard_t(3, shape) / np.sqrt(3), dtype=np.float64)


def coin(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A training ends in one of two optima, as often in the one as in the other."""
    return np.asarray(2.0 * generator.integers(0, 2, shape) - 1, dtype=np.float64)


def collapse(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One training in ten fails; of standard deviation 1."""
    return np.asarray((0.1 - (generator.random(shape) < 0.1)) / 0.3, dtype=np.float64)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A long tail of patients who lose more: an exponential of mean 0."""
    return np.asarray(1 - generator.standard_exponential(shape), dtype=np.float64)


def rare_loss(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One patient in twelve loses eleven times what each of the others gains; of standard deviation 1, mean 0."""
    lost = generator.random(shape) < 1 / 12
    return np.asarray(np.where(lost, -11.0, 1.0) / np.sqrt(11), dtype=np.float64)


@dataclass(frozen=True)
class Scenario:
    """How arms vary around one mean; standard deviations in points, of one arm."""

    name: str
    patients: float = 4.0  # of an arm with a patient
    luck: float = 2.0  # of a training: an arm with a seed
    residual: float = 4.0  # of an arm with a patient and a seed
    hard: float = 10.0  # of a patient, for all arms
    shared_luck: float = 2.0  # of a seed, for all arms: they share first weights and windows
    of_patients: Draw = normal
    of_luck: Draw = normal
    of_residual: Draw = normal
    odd_arms: bool = False  # whether every other arm alone has the patients' distribution, and the others are normal

    @property
    def of_difference(self) -> Components:
        """The variances of the difference of two arms."""
        return Components(2 * self.patients**2, 2 * self.luck**2, 2 * self.residual**2)

    def arms(self, generator: np.random.Generator, shape: tuple[int, int, int, int, int]) -> Array:
        """(N, A, P, S, O): organs of a patient, and of a training, have half of their variance in common."""
        studies, arms, patients, seeds, organs = shape

        def together(draw: Draw, of: tuple[int, ...]) -> Array:
            return np.asarray(
                (draw(generator, (*of, 1)) + draw(generator, (*of, organs))) / np.sqrt(2), dtype=np.float64
            )

        own = self.patients * together(self.of_patients, (studies, arms, patients, 1))
        if self.odd_arms:
            own[:, ::2] = self.patients * together(normal, (studies, (arms + 1) // 2, patients, 1))
        luck = self.luck * together(self.of_luck, (studies, arms, 1, seeds))
        for_all = self.hard * together(normal, (studies, 1, patients, 1))
        for_all = for_all + self.shared_luck * together(normal, (studies, 1, 1, seeds))
        return own + luck + for_all + self.residual * self.of_residual(generator, shape)


LUCK = Scenario("luck of 2 points")
SCENARIOS = (
    Scenario("no luck", luck=0.0),
    Scenario("luck of 6 points", luck=6.0),
    Scenario("little but luck", patients=1.0, luck=4.0, residual=1.0),
    Scenario("heavy tails", of_patients=heavy, of_luck=heavy, of_residual=heavy),
    Scenario("two optima", luck=4.0, of_luck=coin),
    Scenario("one training in ten fails", luck=9.0, of_luck=collapse),
    Scenario("skewed patients", of_patients=skewed, odd_arms=True),
    Scenario("rare large losses", patients=8.0, residual=2.0, of_patients=rare_loss, odd_arms=True),
)


def crossed_of_means(patients_PC: Array, seeds_SC: Array) -> CrossedMeans:
    """`crossed.crossed_means` of complete data from its margins: a hundredth of the work, and linear in the arms."""
    patients, seeds = len(patients_PC), len(seeds_SC)
    columns = patients_PC.shape[1]
    return CrossedMeans(
        patients_PC,
        patients_PC.mean(axis=0),
        patients_PC.var(axis=0, ddof=1) / patients,
        seeds_SC.var(axis=0, ddof=1) / seeds if seeds > 1 else np.zeros(columns),
        np.zeros(columns),
        np.array([patients]),
        np.array([seeds]),
    )
