"""The factor on the class counts at which Adam's epsilon takes from square what it took in the paper."""

import math
from collections.abc import Callable

import numpy as np
import torch

from viscera.core.arms import Arm, arm_config
from viscera.core.config import Config
from viscera.doctor.untrained import UnitGradients, plain_feed
from viscera.engine.hardware import choose_device
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule

SQUARE_KEEPS, SQUARE_KEEPS_OF_ALL = 0.07, 0.013  # of the step: at the review's counts, and of all 340 scans (0038)
PAPER_VOLUMES = 340  # of its training set, 512 × 512 × 460 to 1,177, a quarter along each axis
PAPER_VOXELS = PAPER_VOLUMES * (512 / 4) ** 2 * (460 + 1177) / 2 / 4
_LOWEST, _HIGHEST, _HALVINGS = 1e-6, 1e12, 60  # between which it is looked for, on a logarithmic scale


class StepKept:
    """What epsilon leaves of Adam's step in an untrained network of a configuration, for any weights of a store."""

    def __init__(self, store: Store, config: Config, batches: int = 6) -> None:
        """Look at untrained networks of so many seeds, a batch each: one backward pass a class.

        `viscera doctor` looks at one batch. Where the rarest class is in it or not changes what square weights keep by
        a factor of several, and Adam's second moment is a mean over a thousand batches.
        """
        self.store, self.config = store, config
        found = []
        for seed in range(batches):
            train = config.train.model_copy(update={"seed": seed})
            found.append(UnitGradients.of(plain_feed(store, train), train, choose_device(train.device)))
        self.gradients = UnitGradients(
            np.concatenate([each.logit_norms for each in found]),
            torch.cat([each.parameters for each in found]),
            found[0].parameters_of_the_model,
        )

    def __call__(self, weighting: str | float, count_scale: float, epsilon: float | None = None) -> float:
        """Mean over the parameters, half-way through the training, 0 to 1."""
        train = arm_config(self.config, Arm(weighting, 0.001), 0).train
        loss = train.loss.model_copy(update={"count_scale": count_scale})
        counts, volumes = self.store.voxel_counts(loss.counts), len(self.store.names("train"))
        weights = WeightSchedule.of(counts, weighting, loss, volumes, self.store.classes.names).start
        adam = train.adam if epsilon is None else train.adam.model_copy(update={"epsilon": epsilon})
        return self.gradients.step_kept(weights, adam, train.iterations)


def count_scale_for(of: Callable[[str, float], float], kept: float = SQUARE_KEEPS) -> float:
    """The factor at which square keeps a share of the step, to three digits: by bisection."""
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if of("square", math.exp(middle)) > kept else (low, middle)
    return float(f"{math.exp((low + high) / 2):.3g}")
