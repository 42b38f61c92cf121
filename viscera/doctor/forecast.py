"""From a training in miniature to the organs that an arm will leave behind, and which class will take their voxels."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.io.records import read_json, write_record
from viscera.metrics.learning import starving_share

Array = npt.NDArray[np.float64]
NAMED_ABOVE = 0.3  # chances of failing: as many organs are then missed as are named wrongly
_TAKEN = 0.2  # share of a class's voxels from which on it is said who takes them
_Z90 = 1.645  # standard deviations on either side of 90 % of a normal distribution


@dataclass(frozen=True)
class Calibration:
    """Log odds of failing, intercept + slope × Dice of the miniature, and how well the two constants are known."""

    intercept: float
    slope: float
    covariance: tuple[tuple[float, float], tuple[float, float]]  # of intercept and slope, by bootstrap over the arms

    def log_odds(self, dice: Array) -> Array:
        """For Dice of any shape."""
        return self.intercept + self.slope * dice

    def variance(self, dice: Array, dice_variance: Array) -> Array:
        """Of the log odds: of the constants, and of the Dice itself."""
        (a, ab), (_, b) = self.covariance
        return a + 2 * ab * dice + b * dice**2 + self.slope**2 * dice_variance


# fitted by `python -m benchmarks.fit_forecast` (docs/decisions/0039); the miniature itself has no fitted constant
CALIBRATION = Calibration(1.66, -12.36, ((0.040, -0.171), (-0.171, 1.457)))


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of an arm before it is trained: from an untrained network, and from a training in miniature."""

    gradient_share: tuple[float, ...]  # (L,) of each class in the gradient at the logits
    gradient_rms: float  # root mean square of the gradient over the parameters, no unit
    step_kept: float  # share of Adam's step that epsilon leaves
    dice: Array  # (seeds, L) that the miniature ends with; NaN where no case kept apart has the class
    confusion: Array  # (L, L) voxels of a class (row) that the miniature gives to a class (column), all seeds
    unforeseen: str = ""  # see `unforeseen`; dice and confusion are then empty
    absent: tuple[str, ...] = ()  # names of the classes that no training case has
    unmet: tuple[str, ...] = ()  # and of those in no batch that was looked at: their share is 0 and says nothing


@dataclass(frozen=True)
class ArmForecast:
    """What to expect of one arm, before it is trained; the first three as in `Outlook`.

    Sequences (L,) are empty where nothing is forecast, and those with a default in files of earlier versions.
    """

    arm: str  # its name
    gradient_share: tuple[float, ...]
    gradient_rms: float  # what Adam's epsilon is to be held against
    step_kept: float
    starving: tuple[str, ...]  # names of the classes that will get less than a tenth of an equal share
    failing_chance: tuple[float, ...]  # (L,) of a mean test Dice below 0.2; 0 for background
    failing: tuple[str, ...]  # organs for which that is above 0.3, where as many are missed as are named wrongly
    unforeseen: str = ""  # what nothing is forecast of, though the arm is trained with it; the last two are then empty
    failing_chance_low: tuple[float, ...] = ()  # (L,) 90 % interval of it: seeds, constants
    failing_chance_high: tuple[float, ...] = ()
    expected_dice: tuple[float, ...] = ()  # (L,) of the miniature: lower than a network's, in the same order
    # (L,) the other class that will take most of a class's voxels, where that is a fifth of them or more, or ""
    confused_with: tuple[str, ...] = ()
    volume_ratio: tuple[float, ...] = ()  # (L,) voxels called so over those that are: 0 empty, far above 1 flooded
    # names of the classes that no training case has: their chance is 1, as nobody learns them, and means nothing; they
    # are in none of `failing`, and no forecast is judged by them
    absent: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()  # names of those in no batch that was looked at: their share of the gradient is unknown

    @classmethod
    def of(cls, arm: str, outlook: Outlook, classes: ClassTable = ABDOMEN) -> "ArmForecast":
        """Judge an arm by its name and what is known of it."""
        share, little = outlook.gradient_share, starving_share(len(classes))
        known = cls(
            arm=arm,
            gradient_share=share,
            gradient_rms=outlook.gradient_rms,
            step_kept=outlook.step_kept,
            starving=tuple(name for name, s in zip(classes.names, share, strict=True) if 0 < s < little),
            failing_chance=(),
            failing=(),
            unforeseen=outlook.unforeseen,
            absent=outlook.absent,
            unmet=outlook.unmet,
        )
        if outlook.unforeseen:
            return known
        of_gradient = np.where(np.isin(classes.names, outlook.unmet), np.nan, share)
        low, chance, high = failing_chances(outlook.dice, of_gradient)
        for each in (low, chance, high):
            each[1:][np.isin(classes.names[1:], outlook.absent)] = 1.0
        return dataclasses.replace(
            known,
            failing_chance=tuple(chance.tolist()),
            failing=tuple(
                name
                for name, odds in zip(classes.names, chance, strict=True)
                if odds > NAMED_ABOVE and name not in outlook.absent
            ),
            failing_chance_low=tuple(low.tolist()),
            failing_chance_high=tuple(high.tolist()),
            expected_dice=tuple(np.nan_to_num(mean_dice(outlook.dice)).tolist()),
            confused_with=confused_with(outlook.confusion, classes.names),
            volume_ratio=tuple((outlook.confusion.sum(axis=0) / _at_least_1(outlook.confusion.sum(axis=1))).tolist()),
        )


def unforeseen(train: TrainConfig) -> str:
    """What of the settings the forecast was not made for: it is of Adam on the Dice loss, with the paper's network."""
    found = {"SGD": train.optimiser.name == "sgd", "cross-entropy beside Dice": train.loss.cross_entropy > 0}
    found["another network than the paper's"] = train.network != NetworkConfig()
    found["patches on organs"] = train.organ_windows > 0
    found["averaged weights"] = train.average > 0
    plain = train.optimiser.name == "adam" and train.optimiser.is_plain_adam
    found["weight decay, clipping or a learning rate of its own for the encoder"] = (
        train.optimiser.name != "sgd" and not plain
    )
    return " and ".join(what for what, there in found.items() if there)


def failing_chances(dice: Array, gradient_share: Array, known: Calibration = CALIBRATION) -> tuple[Array, Array, Array]:
    """Chance of each class to end with a mean Dice below 0.2, (L,), between the two ends of its 90 % interval.

    From the (seeds, L) Dice of the miniature. One that could not be measured, as the class is in too few cases, counts
    as 0, and may be anything up to 1: the interval is as wide. Background has a chance of 0, a class without any
    gradient one of 1; NaN is a share that is not known.
    """
    mean = np.nan_to_num(mean_dice(dice))
    luck = np.nan_to_num(dice).var(axis=0, ddof=1) / len(dice) if len(dice) > 1 else np.zeros_like(mean)
    margin = _Z90 * np.sqrt(known.variance(mean, luck))
    low, chance, high = (1 / (1 + np.exp(-(known.log_odds(mean) + by))) for by in (-margin, 0.0, margin))
    low[np.isnan(mean_dice(dice))] = 1 / (1 + np.exp(-known.log_odds(np.ones(()))))
    for each in (low, chance, high):
        each[gradient_share == 0] = 1.0
        each[0] = 0.0
    return low, chance, high


def mean_dice(dice: Array) -> Array:
    """(L,) over the seeds; NaN where none has a value."""
    known = ~np.isnan(dice)
    mean: Array = np.where(known, dice, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    return mean


def confused_with(confusion: Array, names: Sequence[str]) -> tuple[str, ...]:
    """(L,) of each class (row) the other one that takes most of its voxels; "" where that is less than a fifth."""
    others = confusion * (1 - np.eye(len(names)))
    taken = others.max(axis=1) / _at_least_1(confusion.sum(axis=1))
    pairs = zip(others.argmax(axis=1), taken, strict=True)
    return tuple(names[other] if share >= _TAKEN else "" for other, share in pairs)


def _at_least_1(voxels: Array) -> Array:
    return np.maximum(voxels, 1.0)


def precision_and_recall(forecast: set[tuple[str, str]], happened: set[tuple[str, str]]) -> tuple[float, float]:
    """Of the (arm, organ) pairs named the share that failed, and of those that failed the share named; 1 where none."""
    hits = len(forecast & happened)
    return hits / len(forecast) if forecast else 1.0, hits / len(happened) if happened else 1.0


def save_forecasts(path: Path, iterations: int, forecasts: Sequence[ArmForecast]) -> None:
    """Write what was expected of each arm before it was trained for so many iterations."""
    write_record(path, {"iterations": iterations, "arms": [dataclasses.asdict(forecast) for forecast in forecasts]})


def load_forecasts(path: Path, iterations: int) -> tuple[ArmForecast, ...]:
    """Read it; nothing where there is no file, or one of other iterations. Raises BadInputError for a damaged one."""
    if not path.exists():
        return ()
    value = read_json(path)
    try:
        if value["iterations"] != iterations:
            return ()
        return TypeAdapter(tuple[ArmForecast, ...]).validate_python(value["arms"])
    except (KeyError, TypeError, ValidationError) as error:
        raise BadInputError(f"{path}: damaged. Delete it, and the study makes it again.") from error
