"""Adam with epsilon in Keras's place and in PyTorch's, worked by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from viscera.core.config import AdamConfig
from viscera.engine.optimiser import make_adam


class OneNumber(nn.Module):
    """A network of one parameter that starts at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones((), dtype=torch.float64))


def after(gradients: list[float], config: AdamConfig, rate: float = 0.1) -> float:
    network = OneNumber()
    optimizer = make_adam(network, rate, config)
    for gradient in gradients:
        network.value.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return network.value.item()


def test_keras_first_step() -> None:
    # g = 0.001: m = 0.0001, v = 1e-9. Keras: rate √(1-0.999)/(1-0.9) · m / (√v + ε)
    # with ε = 1e-3: √1e-9 = 3.1623e-5; 0.1 · 0.031623/0.1 · 1e-4 / (3.1623e-5 + 1e-3) = 3.06534e-3
    step = 0.1 * np.sqrt(0.001) / 0.1 * 1e-4 / (np.sqrt(1e-9) + 1e-3)
    assert step == pytest.approx(3.06534e-3, rel=1e-5)
    assert after([0.001], AdamConfig(epsilon=1e-3, epsilon_place="keras")) == pytest.approx(1 - step, rel=1e-12)


def test_pytorch_first_step() -> None:
    # m̂ = g, v̂ = g²: rate · g / (g + ε) = 0.1 · 0.001 / 0.002 = 0.05
    assert after([0.001], AdamConfig(epsilon=1e-3, epsilon_place="pytorch")) == pytest.approx(1 - 0.05, rel=1e-12)


def test_keras_three_steps_against_its_formula() -> None:
    m = v = 0.0
    expected, rate, epsilon = 1.0, 0.01, 1e-4
    for t, g in enumerate([0.3, -0.2, 1e-5], start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected -= rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + epsilon)
    config = AdamConfig(epsilon=epsilon, epsilon_place="keras")
    assert after([0.3, -0.2, 1e-5], config, rate) == pytest.approx(expected, rel=1e-12)


def test_steps_are_those_of_pytorchs_adam_bit_by_bit() -> None:
    ours, plain = (nn.Linear(5, 3) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    optimizers = [make_adam(ours, 0.1, AdamConfig(epsilon_place="pytorch")), torch.optim.Adam(plain.parameters(), 0.1)]
    for step in range(3):
        for network, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            network(torch.linspace(-1, step, 5)).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True))
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert all(torch.equal(states[0][key][name], value) for key in states[1] for name, value in states[1][key].items())


def test_without_epsilon_the_place_does_not_matter() -> None:
    keras, pytorch = (after([0.3, -0.2], AdamConfig(epsilon=0, epsilon_place=place)) for place in ("keras", "pytorch"))
    assert keras == pytest.approx(pytorch, rel=1e-14)


def test_a_restored_optimiser_goes_on_with_the_right_epsilon() -> None:
    config = AdamConfig(epsilon=1e-3, epsilon_place="keras")
    whole, first, second = OneNumber(), OneNumber(), OneNumber()
    optimizers = {network: make_adam(network, 0.1, config) for network in (whole, first, second)}
    for gradient in (0.3, 0.1):
        whole.value.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizers[whole].step()
    first.value.grad = torch.tensor(0.3, dtype=torch.float64)
    optimizers[first].step()
    second.load_state_dict(first.state_dict())
    optimizers[second].load_state_dict(optimizers[first].state_dict())
    second.value.grad = torch.tensor(0.1, dtype=torch.float64)
    optimizers[second].step()
    assert second.value.item() == whole.value.item()
