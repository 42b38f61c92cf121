"""From each class's share of the gradient of an untrained network to the organs that an arm will leave behind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import CLASS_NAMES
from viscera.metrics.learning import STARVING_SHARE

FAILING_DICE = 0.2  # an organ fails in an arm when its mean Dice on the test cases ends below it
_LEAST_SHARE = 1e-6  # of the largest: below it nothing changes any more
# log odds of failing = A + B log10(share / largest share) + C log10(rate x steps x step kept), fitted on phantoms by
# `python -m benchmarks.fit_forecast`; what it is worth elsewhere is scored in every report
_A, _B, _C = -3.0, -6.0, -1.0


@dataclass(frozen=True)
class ArmForecast:
    """What to expect of one arm, from an untrained network.

    Attributes:
        arm: name.
        gradient_share: (L,) of each class in the gradient at the logits.
        gradient_rms: root mean square of the gradient over the parameters, no unit: what Adam's epsilon is to be held
            against.
        step_kept: share of Adam's step that epsilon leaves.
        starving: names of the classes that will get less than a tenth of an equal share.
        failing_chance: (L,) chance that the mean test Dice of a class ends below 0.2; 0 for background.
        failing: names of the organs for which that is more likely than not.
    """

    arm: str
    gradient_share: tuple[float, ...]
    gradient_rms: float
    step_kept: float
    starving: tuple[str, ...]
    failing_chance: tuple[float, ...]
    failing: tuple[str, ...]

    @classmethod
    def of(
        cls, arm: str, gradient_share: Sequence[float], gradient_rms: float, step_kept: float, path_length: float
    ) -> "ArmForecast":
        """Judge an arm.

        Args:
            arm: name.
            gradient_share: (L,).
            gradient_rms: no unit.
            step_kept: 0 to 1.
            path_length: learning rate times steps: how far Adam can move a weight.
        """
        chance = failing_chance(np.asarray(gradient_share), path_length * step_kept)
        by_name = dict(zip(CLASS_NAMES, gradient_share, strict=True))
        return cls(
            arm=arm,
            gradient_share=tuple(gradient_share),
            gradient_rms=gradient_rms,
            step_kept=step_kept,
            starving=tuple(name for name, share in by_name.items() if 0 < share < STARVING_SHARE),
            failing_chance=tuple(chance.tolist()),
            failing=tuple(name for name, odds in zip(CLASS_NAMES, chance, strict=True) if odds > 0.5),
        )


def failing_chance(gradient_share: npt.NDArray[np.float64], path_length: float) -> npt.NDArray[np.float64]:
    """Chance of each class to end with a mean Dice below 0.2, (L,); background 0, a class without any gradient 1.

    Args:
        gradient_share: (L,) at the logits of an untrained network.
        path_length: learning rate times steps times the share of the step that Adam's epsilon leaves.
    """
    relative = np.maximum(gradient_share / gradient_share.max(), _LEAST_SHARE)
    log_odds = _A + _B * np.log10(relative) + _C * np.log10(max(path_length, 1e-12))
    chance: npt.NDArray[np.float64] = 1 / (1 + np.exp(-log_odds))
    chance = np.where(gradient_share > 0, chance, 1.0)
    chance[0] = 0.0
    return chance


def precision_and_recall(forecast: set[tuple[str, str]], happened: set[tuple[str, str]]) -> tuple[float, float]:
    """Of the (arm, organ) pairs named the share that failed, and of those that failed the share named; 1 where none."""
    hits = len(forecast & happened)
    return hits / len(forecast) if forecast else 1.0, hits / len(happened) if happened else 1.0
