"""The rate of each step; Adam with epsilon where Keras puts it, and its update on a device; AdamW and SGD."""
# ruff: noqa: SLF001 - torch._foreach_* is how PyTorch's documentation names them

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from viscera.core.config import AdamConfig, TrainConfig
from viscera.core.recipe_config import OptimiserConfig

_SHARE = "share_of_rate"  # of a group of parameters
LEAST_EPSILON = 1e-24  # in place of 0: nothing beside a second moment that float32 can hold, and 0 / 0 becomes 0


def learning_rate_at(step: int, train: TrainConfig) -> float:
    """The rate of a step, from 1 on: a pure function of the settings (`train.rate_schedule`).

    As PyTorch's `PolynomialLR` (nnU-Net's `PolyLRScheduler`) and `CosineAnnealingLR`: the first step after the warm-up
    has the whole rate, and the step after the span, if there is one, the lowest.
    """
    schedule, rate = train.rate_schedule, train.learning_rate
    if step <= schedule.warm_up:
        return rate * step / (schedule.warm_up + 1)
    if schedule.shape == "constant":
        return rate
    passed = min((step - 1 - schedule.warm_up) / (schedule.span(train.iterations) - schedule.warm_up), 1.0)
    left = (1 - passed) ** schedule.power if schedule.shape == "polynomial" else (1 + math.cos(math.pi * passed)) / 2
    return rate * (schedule.lowest + (1 - schedule.lowest) * left)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_SHARE, 1.0)


def with_span(train: TrainConfig, before: TrainConfig | None = None) -> TrainConfig:
    """The settings with the span of the rate's schedule: as `before`, or as a training that begins has iterations.

    So a run that is trained on has the rates that it had. A constant rate needs none.
    """
    schedule = train.rate_schedule
    if schedule.steps is not None or schedule.shape == "constant":
        return train
    steps = train.iterations if before is None else before.rate_schedule.steps
    return train.model_copy(update={"rate_schedule": schedule.model_copy(update={"steps": steps})})


def mean_learning_rate(train: TrainConfig) -> float:
    """Over all steps: times their number, how far Adam can move a weight."""
    schedule = train.rate_schedule
    if schedule.shape == "constant" and not schedule.warm_up:
        return train.learning_rate
    return math.fsum(learning_rate_at(step + 1, train) for step in range(train.iterations)) / train.iterations


def keras_epsilon(epsilon: float, step: float, beta2: float = 0.999) -> float:
    """PyTorch's epsilon that does at a step, from 1 on, what `epsilon` does in Keras's place."""
    return epsilon / math.sqrt(1 - beta2**step)


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over a state; raises anything where it is not of these parameters, as else the next step would."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            values = optimizer.state.get(parameter, {}).values()
            sizes = {each.shape for each in values if torch.is_tensor(each) and each.ndim}
            if not sizes <= {parameter.shape}:
                raise ValueError(f"a state of {sizes} for a parameter of {parameter.shape}")


class _Uncompiled(torch.optim.Optimizer):
    """PyTorch's methods, without what surrounds them for `torch.compile`: it loads the compiler, in 2 s or more."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class PlainAdam(_Uncompiled, torch.optim.Adam):
    """PyTorch's Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class PlainSGD(_Uncompiled, torch.optim.SGD):
    """PyTorch's SGD."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class KerasAdam(PlainAdam):
    """Adam as in Keras: epsilon is added to the uncorrected root of the second moment.

    Keras steps by rate · √(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + ε) (the remark before section 2.1 of Kingma and Ba, 2015); PyTorch
    adds ε to √(v/(1-β₂ᵗ)). They are equal when PyTorch's ε at step t is ε/√(1-β₂ᵗ), about 30 times larger at the first.
    """

    def __init__(self, params: Iterable[Any], lr: float, epsilon: float, **decay: Any) -> None:  # noqa: ANN401
        super().__init__(params, lr=lr, eps=epsilon, **decay)
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


def make_optimiser(network: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """What the settings say, over all parameters of a network: biases and normalisation decay too, as nnU-Net's do."""
    config, rate = train.optimiser, train.learning_rate
    if config.name != "sgd":
        return make_adam(network, rate, train.adam, config)
    how: dict[str, Any] = {"momentum": config.momentum, "nesterov": config.momentum > 0}
    return PlainSGD(_groups(network, config.encoder_rate), lr=rate, weight_decay=config.weight_decay, **how)


def _groups(network: nn.Module, encoder_rate: float) -> Any:  # noqa: ANN401 - as torch
    """The parameters, those of the way down apart where they have a rate of their own; at 0 they get no gradient."""
    if encoder_rate == 1:
        return network.parameters()
    encoder = list(network.get_submodule("down").parameters())
    own = {id(each) for each in encoder}
    others = [each for each in network.parameters() if id(each) not in own]
    if encoder_rate == 0:
        for each in encoder:
            each.requires_grad_(False)
        return others
    return [{"params": others}, {"params": encoder, _SHARE: encoder_rate}]


def make_adam(
    network: nn.Module, learning_rate: float, config: AdamConfig, optimiser: OptimiserConfig | None = None
) -> torch.optim.Adam:
    """Adam over the parameters of a network, with the reading of epsilon in the configuration; AdamW likewise.

    An epsilon of 0 becomes 1e-24: it changes no bit of a root of a second moment above 2e-17, a parameter without a
    gradient stays where it is, and one whose second moment underflows float32 moves by a finite step.
    """
    optimiser = optimiser or OptimiserConfig()
    decay: dict[str, Any] = {
        "weight_decay": optimiser.weight_decay,
        "decoupled_weight_decay": optimiser.name == "adamw",
        "betas": (0.9, config.beta2),
    }
    epsilon = max(config.epsilon, LEAST_EPSILON)
    if config.epsilon_place == "keras":
        return KerasAdam(_groups(network, optimiser.encoder_rate), learning_rate, epsilon, **decay)
    return PlainAdam(_groups(network, optimiser.encoder_rate), lr=learning_rate, eps=epsilon, **decay)


class AdamOnDevice:
    """The update of `torch.optim.Adam` on its own state, the numbers that change from step to step on the device.

    Operation by operation as PyTorch's for one tensor, and equal to it bit by bit on a CPU.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        (self._group,) = optimizer.param_groups
        self._keras = optimizer if isinstance(optimizer, KerasAdam) else None
        self.parameters: list[Tensor] = self._group["params"]
        states = [optimizer.state[each] for each in self.parameters]
        self._means, self._squares, self._counts = (
            [state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        first = self.parameters[0]
        self._root_of_correction, self._epsilon, self._rate = (first.new_zeros(()).detach() for _ in range(3))

    @property
    def moments(self) -> list[Tensor]:
        """The first and second of each parameter."""
        return [*self._means, *self._squares]

    def set_numbers(self) -> None:
        """Those of the next step; a GPU is not waited for."""
        if self._keras is not None:
            self._keras.set_epsilon()
        number, (beta1, beta2) = int(self._counts[0]) + 1, self._group["betas"]
        self._root_of_correction.fill_(math.sqrt(1 - beta2**number))
        self._epsilon.fill_(self._group["eps"])
        self._rate.fill_(-self._group["lr"] / (1 - beta1**number))

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor]) -> None:
        """Move moments and parameters, one gradient a parameter."""
        beta1, beta2 = self._group["betas"]
        laid_out = [  # as the parameters, or each would be a kernel of its own
            g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
            for g, p in zip(gradients, self.parameters, strict=True)
        ]
        torch._foreach_lerp_(self._means, laid_out, 1 - beta1)
        torch._foreach_mul_(self._squares, beta2)
        torch._foreach_addcmul_(self._squares, laid_out, laid_out, 1 - beta2)
        roots = torch._foreach_sqrt(self._squares)
        by_tensor = torch.ops.aten  # torch._foreach_add_ makes a number of a tensor without axes, and waits for it
        by_tensor._foreach_div_.Tensor(roots, self._root_of_correction)
        by_tensor._foreach_add_.Tensor(roots, self._epsilon)
        torch._foreach_addcdiv_(self.parameters, by_tensor._foreach_mul.Tensor(self._means, self._rate), roots)

    def count(self) -> None:
        """Say that a step has been done; PyTorch counts on the CPU."""
        torch._foreach_add_(self._counts, 1)
