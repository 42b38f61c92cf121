"""Several runs as one predictor, whose probabilities are averaged: the folds of a training, or an arm with its seeds.

The mean is taken of what the networks say of one window, so that memory and all that comes after are those of one.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from viscera.core.config import IntensityConfig
from viscera.core.errors import BadInputError
from viscera.core.settings import differences
from viscera.core.wording import counted
from viscera.engine.trained_model import Model
from viscera.io.checkpoint import Checkpoint
from viscera.io.runlog import runs_in, without_weights

log = logging.getLogger(__name__)
# settings that decide what a network is given of a scan, but for z-scores
_SEEN = ("downsample ", "spacing_mm ", "patch ", "intensity.low_hu ", "intensity.high_hu ", "intensity.scaling ")
_LEAST = 1e-30  # probability whose logarithm float32 holds


class MeanOfNetworks(nn.Module):
    """The logarithm of the mean of several networks' probabilities: logits whose softmax is that mean.

    `inputs`: what a network is given is so many times what the first is given, plus so much. `temperatures`: what each
    one's logits are divided by.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        inputs: Sequence[tuple[float, float]],
        temperatures: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.networks, self.inputs = nn.ModuleList(networks), tuple(inputs)
        self.temperatures = tuple(temperatures or [1.0] * len(networks))

    @property
    def values_per_voxel(self) -> int:
        """As a `FoldedUNet3D` says it; networks take turns."""
        return max(cast("int", each.values_per_voxel) for each in self.networks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, I, J, K) float32 of (B, C, I, J, K)."""
        first, *others = self.networks
        total = _softmax(first(x), self.temperatures[0])
        for network, (factor, offset), temperature in zip(others, self.inputs[1:], self.temperatures[1:], strict=True):
            own = x if (factor, offset) == (1, 0) else x * factor + offset
            total += _softmax(network(own), temperature)
        return total.div_(len(self.networks)).clamp_(min=_LEAST).log_()


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits if temperature == 1 else logits.float() / temperature, dim=1, dtype=torch.float32)


def _input_of(own: IntensityConfig, first: IntensityConfig) -> tuple[float, float]:
    """Factor and offset from what the first network is given to what this one is: z-scores of its own training set."""
    if own.mean_hu is None or own.sd_hu is None or first.mean_hu is None or first.sd_hu is None:
        return 1.0, 0.0
    return first.sd_hu / own.sd_hu, (first.mean_hu - own.mean_hu) / own.sd_hu


def refuse_unlike(checkpoints: Mapping[str, Checkpoint], folder: Path) -> None:
    """Raise BadInputError where models, by the names of their runs, know other classes or do not see the same."""
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        both = f"{folder}: {first_name} and {name} cannot be one predictor"
        if other.classes != first.classes:
            one, two = (", ".join(each.classes.names) for each in (first, other))
            raise BadInputError(f"{both}: they know {one}, and {two}.")
        wrong = [
            text
            for section in ("prepare", "train")
            for text in differences(getattr(first.config, section), getattr(other.config, section))
            if text.startswith(_SEEN)
        ]
        if wrong:
            raise BadInputError(f"{both}: they see a scan differently, {', '.join(wrong)}.")


def mean_of(models: dict[str, Model], folder: Path) -> Model:
    """One model of several, by the names of their runs; raises BadInputError as `refuse_unlike`."""
    refuse_unlike({name: model.checkpoint for name, model in models.items()}, folder)
    first = next(iter(models.values()))
    checksum = hashlib.sha256("".join(model.checksum for model in models.values()).encode()).hexdigest()
    spacings = tuple(spacing for model in models.values() for spacing in model.checkpoint.training_spacings_mm)
    seen = [model.trained_with.train.intensity for model in models.values()]
    networks, temperatures = zip(*((model.network, model.temperature) for model in models.values()), strict=True)
    network = MeanOfNetworks(networks, [_input_of(own, seen[0]) for own in seen], temperatures)
    checkpoint = replace(first.checkpoint, training_spacings_mm=spacings)
    config = first.config
    if config.mode == "auto" and not all(
        each.trained_with.train.network.normalises_batches for each in models.values()
    ):
        config = config.model_copy(update={"mode": "sub_volumes"})  # as such a network alone
    mean = replace(first, network=network.eval(), checkpoint=checkpoint, config=config, checksum=checksum)
    return replace(mean, temperature=1.0)  # each network has its own


def warn_without_weights(folder: Path) -> None:
    """Say which runs of a folder were begun and have no part in the mean of its runs."""
    number = counted(len(runs_in(folder)), "run")
    for run in without_weights(folder):
        log.warning("%s: this run has no weights yet, and no part in the mean of %s.", run, number)
