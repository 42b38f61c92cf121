"""Adam, with epsilon where Keras puts it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from viscera.core.config import AdamConfig

LEAST_EPSILON = 1e-24  # in place of 0: nothing beside a second moment that float32 can hold, and 0 / 0 becomes 0


def keras_epsilon(epsilon: float, step: float, beta2: float = 0.999) -> float:
    """PyTorch's epsilon that does at a step, from 1 on, what `epsilon` does in Keras's place."""
    return epsilon / math.sqrt(1 - beta2**step)


class KerasAdam(torch.optim.Adam):
    """Adam as in Keras: epsilon is added to the uncorrected root of the second moment.

    Keras steps by rate · √(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + ε) (the remark before section 2.1 of Kingma and Ba, 2015); PyTorch
    adds ε to √(v/(1-β₂ᵗ)). They are equal when PyTorch's ε at step t is ε/√(1-β₂ᵗ), about 30 times larger at the first.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, epsilon: float) -> None:
        super().__init__(params, lr=lr, eps=epsilon)
        self.epsilon = epsilon

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # noqa: ANN401 - as torch
        """One step."""
        self.set_epsilon()
        return super().step(closure)

    def set_epsilon(self) -> None:
        """PyTorch's epsilon of the next step."""
        for group in self.param_groups:
            first = next((p for p in group["params"] if self.state.get(p)), None)
            steps_done = int(self.state[first]["step"]) if first is not None else 0
            group["eps"] = keras_epsilon(self.epsilon, steps_done + 1, group["betas"][1])


def make_adam(network: nn.Module, learning_rate: float, config: AdamConfig) -> torch.optim.Adam:
    """Adam over the parameters of a network, with the reading of epsilon in the configuration.

    An epsilon of 0 becomes 1e-24: it changes no bit of a root of a second moment above 2e-17, a parameter without a
    gradient stays where it is, and one whose second moment underflows float32 moves by a finite step.
    """
    epsilon = max(config.epsilon, LEAST_EPSILON)
    if config.epsilon_place == "keras":
        return KerasAdam(network.parameters(), learning_rate, epsilon)
    return torch.optim.Adam(network.parameters(), lr=learning_rate, eps=epsilon)
