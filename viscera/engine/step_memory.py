"""How much memory a training will take, before it is tried: from what one small window keeps for the gradient.

What autograd keeps of a forward pass grows with the voxels of the windows, whatever the network; so it is counted once,
tensor by tensor, on a window as small as the network takes. Weights do not grow. What the libraries take beside that
was measured (docs/howto/planning.md).
"""

import logging
import math
import os
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.machine_limits import machine_memory
from viscera.core.quantities import memory_text
from viscera.engine.free_memory import free_memory
from viscera.engine.noise_training import trainer_on_noise

_OF_THE_PROCESS = {"cpu": 330 * 2**20, "cuda": 0}  # Python and PyTorch; of a GPU what PyTorch allocates is counted
_WORKSPACE = 1.35  # the backward pass and what convolutions lay out anew, in times what is kept
_WEIGHTS_LAID_OUT = 1.5  # likewise, in times weights, gradients and moments
_WORTH_COUNTING = 0.02  # share of the memory that the first convolution's values may take before the rest is counted
_RECORDED = 2.0  # a recorded step keeps its memory beside that of a plain one (docs/howto/gpu.md)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training."""

    of_the_process: float  # whatever is trained
    of_the_weights: float  # with gradients, moments and average
    of_a_voxel: float  # of a window, of which a batch has `patch`³ each

    def of(self, train: TrainConfig, validation: float = 0.0) -> float:
        """Largest; `validation` is what a validation case takes (`sliding_window.prediction_bytes`)."""
        windows = self.of_a_voxel * train.batch_size * train.patch**3
        return self.of_the_process + self.of_the_weights + max(windows, validation)

    def windows_within(self, size: float, patch: int) -> int:
        """How many windows of that edge a batch can have; 0 where not one fits."""
        left = size - self.of_the_process - self.of_the_weights
        return max(0, math.floor(left / (self.of_a_voxel * patch**3)))


def step_memory(train: TrainConfig, num_classes: int, device: torch.device) -> StepMemory:
    """That of a training of these settings, whose `patch` and `batch_size` do not matter; a fraction of a second."""
    alone = {"filters": train.filters, "levels": train.levels, "network": train.network, "loss": train.loss}
    key = TrainConfig.model_validate(
        {name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in alone.items()}
        | {"precision": train.precision, "optimiser": train.optimiser.model_dump(), "average": train.average}
        | {"patch": 2 * max(train.network.scale_of(train.levels - 1, train.levels)), "capture": "never"}
    )
    found = _counted(key.model_dump_json(), num_classes, str(device))
    captured = device.type == "cuda" and train.capture != "never" and train.optimiser.is_plain_adam
    of_a_voxel = found.of_a_voxel * (_RECORDED if captured else 1.0)
    return StepMemory(found.of_the_process, found.of_the_weights, of_a_voxel)


def refuse_too_large(train: TrainConfig, num_classes: int, device: torch.device) -> None:
    """Raise BadInputError for a training on a CPU that the machine cannot hold; warn where too little is free now.

    Systems end such a process without a word. A GPU says by itself that its memory ran out.
    """
    most = machine_memory()
    first = 4.0 * train.batch_size * train.filters * train.patch**3
    several = os.environ.get("WORLD_SIZE", "1") != "1"  # processes of torchrun share the batch
    if several or device.type != "cpu" or first < _WORTH_COUNTING * most:
        return
    needed, free = step_memory(train, num_classes, device).of(train), free_memory(device)
    if needed <= min(most, free):
        return
    smaller = f"Lower --patch ({train.patch}), --batch-size ({train.batch_size}) or --filters ({train.filters})"
    takes = f"A training with these settings takes about {memory_text(needed)} of memory"
    if needed > most:
        raise BadInputError(
            f"{takes}, and this machine has {memory_text(most)}. {smaller}; `viscera plan` chooses them."
        )
    log.warning("%s, of which %s are free now. %s, or end other programs.", takes, memory_text(free), smaller)


@cache
def _counted(settings: str, num_classes: int, device_name: str) -> StepMemory:
    train, device = TrainConfig.model_validate_json(settings), torch.device(device_name)
    one, two = (_kept(train.model_copy(update={"batch_size": n}), num_classes, device) for n in (1, 2))
    process = _OF_THE_PROCESS.get(device.type, _OF_THE_PROCESS["cpu"])
    of_a_voxel = _WORKSPACE * (two - one) / train.patch**3
    return StepMemory(process, _WEIGHTS_LAID_OUT * _of_the_weights(train, num_classes), of_a_voxel)


def _kept(train: TrainConfig, num_classes: int, device: torch.device) -> int:
    """Bytes that autograd keeps of a forward pass, each piece of memory once."""
    trainer, batch = trainer_on_noise(train, num_classes, device)
    inputs, seen = trainer.network_input(batch), dict[int, int]()
    held: list[Tensor] = []  # so that no memory is used twice meanwhile

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        seen[memory.data_ptr()] = memory.nbytes()
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.forward(inputs)
    return sum(seen.values())


def _of_the_weights(train: TrainConfig, num_classes: int) -> float:
    """Bytes of weights, their gradients, the moments of the optimiser and the average, float32 each."""
    trainer, _ = trainer_on_noise(train, num_classes, torch.device("cpu"))
    number = sum(parameter.numel() for parameter in trainer.network.parameters())
    moments = 1 if train.optimiser.name == "sgd" else 2
    copies = 2 + moments + (1 if train.average > 0 else 0)
    return 4.0 * number * copies
