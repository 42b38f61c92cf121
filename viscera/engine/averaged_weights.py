"""An exponential moving average of a training's weights (`train.average`), which is what the training is for.

It is what is monitored, validated and predicted with; steps are taken from the weights themselves.
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def decay_at(step: int, decay: float) -> float:
    """What a step, from 1 on, leaves of the average: less at first, so that the initial weights are soon forgotten.

    min(decay, (1 + t) / (10 + t)), as TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights(Generic[Network]):
    """A network beside that which is trained, whose weights are the average of that one's."""

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after a step, from 1 on; a GPU is not waited for."""
        own: list[Tensor] = [*self.network.parameters()]
        torch._foreach_lerp_(own, [*network.parameters()], 1 - decay_at(step, self._decay))

    def take_statistics(self, network: Network) -> None:
        """Those of batch normalisation, as the network has them: they follow its weights, and not their average."""
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)
