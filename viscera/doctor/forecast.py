"""From what is known before training (gradients, counts, HU) to the organs that an arm will leave behind."""

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
from viscera.io.records import read_json, write_json
from viscera.metrics.learning import starving_share

Array = npt.NDArray[np.float64]
_LEAST_SHARE = 1e-6  # of the largest: below it nothing changes any more
_LEAST_PATH = 1e-12
_UNSTABLE_RATE = 0.01  # above it training grew unstable on the phantoms
_NAMED_ABOVE = 0.30
# of the log odds of failing, for the features below; fitted on phantoms by `python -m benchmarks.fit_forecast`, and
# what they are worth elsewhere is scored in every report
_CONSTANTS = np.array([-2.95, -1.17, -0.39, 0.18, -0.44, -3.22, 1.13, -0.56, -4.22, -0.81])


@dataclass(frozen=True)
class Outlook:
    """What is known of an arm before it is trained: from an untrained network, the counts and the HU of the classes."""

    gradient_share: tuple[float, ...]  # (L,) of each class in the gradient at the logits
    gradient_rms: float  # root mean square of the gradient over the parameters, no unit
    step_kept: float  # share of Adam's step that epsilon leaves
    learning_rate: float  # times `iterations`, the path length, is how far Adam can move a weight
    iterations: int
    fraction: tuple[float, ...]  # (L,) share of all training voxels
    separability: tuple[float, ...]  # (L,) see `separability_of`
    hu_claim: tuple[float, ...]  # (L,) see `hu_claims`
    unforeseen: str = ""  # see `unforeseen`


@dataclass(frozen=True)
class ArmForecast:
    """What to expect of one arm, from an untrained network; the first three as in `Outlook`."""

    arm: str  # its name
    gradient_share: tuple[float, ...]
    gradient_rms: float  # what Adam's epsilon is to be held against
    step_kept: float
    starving: tuple[str, ...]  # names of the classes that will get less than a tenth of an equal share
    failing_chance: tuple[float, ...]  # (L,) of a mean test Dice below 0.2; 0 for background
    failing: tuple[str, ...]  # organs for which that is above 0.3, where as many are missed as are named wrongly
    unforeseen: str = ""  # what nothing is forecast of, though the arm is trained with it; the last two are then empty

    @classmethod
    def of(cls, arm: str, outlook: Outlook, classes: ClassTable = ABDOMEN) -> "ArmForecast":
        """Judge an arm by its name and what is known of it."""
        share, little = outlook.gradient_share, starving_share(len(classes))
        chance = failing_chance(forecast_features(outlook), np.asarray(share))[: 0 if outlook.unforeseen else None]
        return cls(
            arm=arm,
            gradient_share=share,
            gradient_rms=outlook.gradient_rms,
            step_kept=outlook.step_kept,
            starving=tuple(name for name, s in zip(classes.names, share, strict=True) if 0 < s < little),
            failing_chance=tuple(chance.tolist()),
            failing=tuple(name for name, odds in zip(classes.names, chance, strict=False) if odds > _NAMED_ABOVE),
            unforeseen=outlook.unforeseen,
        )


def unforeseen(train: TrainConfig) -> str:
    """What of the settings the forecast was not made for: it is of Adam on the Dice loss, with the paper's network."""
    found = {"SGD": train.optimiser.name == "sgd", "cross-entropy beside Dice": train.loss.cross_entropy > 0}
    found["another network than the paper's"] = train.network != NetworkConfig()
    found["windows on organs"] = train.organ_windows > 0
    found["averaged weights"] = train.average > 0
    plain = train.optimiser.name == "adam" and train.optimiser.is_plain_adam
    found["weight decay, clipping or a rate of its own for the way down"] = train.optimiser.name != "sgd" and not plain
    return " and ".join(what for what, there in found.items() if there)


def forecast_features(outlook: Outlook) -> Array:
    """What the log odds are linear in, (L, 10).

    Of the arm: 1; log10 of path length times step kept; excess, log10 of how far the rate lies above 0.01, 0 below;
    log10 of background's share over the largest, alone and times excess. Of the class: log10 of its share over the
    largest; log10 of its HU claim; log10 of its fraction; its separability; log10 of its fraction times excess.
    """
    share = np.asarray(outlook.gradient_share)
    relative = np.log10(np.maximum(share / share.max(), _LEAST_SHARE))
    rate = max(outlook.learning_rate * outlook.step_kept, _LEAST_PATH)
    excess = max(np.log10(rate / _UNSTABLE_RATE), 0.0)
    claim = np.log10(np.maximum(np.asarray(outlook.hu_claim), _LEAST_SHARE))
    fraction = np.log10(np.maximum(np.asarray(outlook.fraction), _LEAST_PATH))
    separability = np.asarray(outlook.separability)
    of_arm = [1.0, np.log10(rate * outlook.iterations), excess, relative[0], relative[0] * excess]
    alike = np.tile(of_arm, (share.size, 1))
    return np.column_stack([alike, relative, claim, fraction, separability, fraction * excess])


def failing_chance(features: Array, gradient_share: Array) -> Array:
    """Chance of each class to end with a mean Dice below 0.2, (L,); background 0, a class without any gradient 1."""
    chance: Array = np.where(gradient_share > 0, 1 / (1 + np.exp(-(features @ _CONSTANTS))), 1.0)
    chance[0] = 0.0
    return chance


def separability_of(hu_counts: Array) -> tuple[float, ...]:
    """How far HU alone tell each class from all others, (L,): the Dice of the best set of (L, bins) voxels by HU."""
    total = hu_counts.sum(axis=0)
    found = []
    for own in hu_counts:
        best_first = np.argsort(-own / np.maximum(total, 1), kind="stable")
        hits, taken = np.cumsum(own[best_first]), np.cumsum(total[best_first])
        found.append(float((2 * hits / np.maximum(taken + own.sum(), 1)).max()))
    return tuple(found)


def hu_claims(hu_counts: Array, class_weights: Array) -> tuple[float, ...]:
    """How much of the weight at HU like its own each class holds, (L,), 0 to 1.

    Where classes share their HU, a network that sees little more than HU gives a voxel to the class of the largest
    weight times count. Mean over a class's voxels of its part of that product over all classes; `hu_counts` (L, bins).
    """
    weighted = hu_counts * class_weights[:, None]
    part = weighted / np.maximum(weighted.sum(axis=0), np.finfo(float).tiny)
    own = (part * hu_counts).sum(axis=1) / np.maximum(hu_counts.sum(axis=1), 1)
    return tuple(own.tolist())


def precision_and_recall(forecast: set[tuple[str, str]], happened: set[tuple[str, str]]) -> tuple[float, float]:
    """Of the (arm, organ) pairs named the share that failed, and of those that failed the share named; 1 where none."""
    hits = len(forecast & happened)
    return hits / len(forecast) if forecast else 1.0, hits / len(happened) if happened else 1.0


def save_forecasts(path: Path, iterations: int, forecasts: Sequence[ArmForecast]) -> None:
    """Write what was expected of each arm before it was trained for so many iterations."""
    write_json(path, {"iterations": iterations, "arms": [dataclasses.asdict(forecast) for forecast in forecasts]})


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
