"""Adam with epsilon in Keras's place and in PyTorch's, worked by hand; AdamW, SGD and clipping beside PyTorch's."""

import sys
from collections.abc import Callable, Mapping
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.same_checkpoints import same_state
from tests.warm_processes import warm_context
from viscera.core.config import AdamConfig, Config, TrainConfig
from viscera.engine.distributed import ALONE
from viscera.engine.feed import Feed, TrainingFacts
from viscera.engine.optimiser import make_adam, make_optimiser
from viscera.engine.trainer import Trainer
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule
from viscera.stages.train import train

Configure = Callable[..., Config]


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


@pytest.mark.parametrize("beta2", [0.999, 0.9])
def test_keras_three_steps_against_its_formula(beta2: float) -> None:
    m = v = 0.0
    expected, rate, epsilon = 1.0, 0.01, 1e-4
    for t, g in enumerate([0.3, -0.2, 1e-5], start=1):
        m, v = 0.9 * m + 0.1 * g, beta2 * v + (1 - beta2) * g * g
        expected -= rate * np.sqrt(1 - beta2**t) / (1 - 0.9**t) * m / (np.sqrt(v) + epsilon)
    config = AdamConfig(epsilon=epsilon, epsilon_place="keras", beta2=beta2)
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


BESIDE: dict[str, tuple[dict[str, Any], Callable[..., torch.optim.Optimizer]]] = {
    "adam": ({"weight_decay": 0.1}, lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1)),
    "adamw": ({"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1)),
    "sgd": (
        {"weight_decay": 3e-5},
        lambda p: torch.optim.SGD(p, 0.1, 0.99, weight_decay=3e-5, nesterov=True),
    ),  # nnU-Net's
}


@pytest.mark.parametrize("name", BESIDE)
def test_weight_decay_and_momentum_are_pytorchs_bit_by_bit(name: str) -> None:
    settings, theirs = BESIDE[name]
    config = TrainConfig.model_validate(
        {"learning_rate": 0.1, "adam": {"epsilon_place": "pytorch"}, "optimiser": {"name": name, **settings}}
    )
    ours, plain = (nn.Linear(5, 3) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    optimizers = [make_optimiser(ours, config), theirs(plain.parameters())]
    for step in range(4):
        for network, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            (network(torch.linspace(-1, step, 5)).square().sum() / 100).backward()
            optimizer.step()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True))


def stepped(settings: Mapping[str, Any], gradients: list[float], place: str = "keras") -> float:
    network = OneNumber()
    values = {"learning_rate": 0.1, "adam": {"epsilon_place": place}, "optimiser": settings}
    optimizer = make_optimiser(network, TrainConfig.model_validate(values))
    for gradient in gradients:
        network.value.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return network.value.item()


def test_nesterov_by_hand() -> None:
    # v = 0.5 v + g, step 0.1 (g + 0.5 v): v = 1, step 0.15; then g = 2: v = 2.5, step 0.325
    assert stepped({"name": "sgd", "momentum": 0.5}, [1.0, 2.0]) == pytest.approx(1 - 0.15 - 0.325)
    assert stepped({"name": "sgd", "momentum": 0}, [1.0, 2.0]) == pytest.approx(1 - 0.1 - 0.2)


@pytest.mark.parametrize("place", ["keras", "pytorch"])
def test_weight_decay_by_hand(place: str) -> None:
    """Without a gradient AdamW shrinks a weight by rate times decay; L2 is a gradient, of which Adam takes the sign."""
    assert stepped({"name": "adamw", "weight_decay": 0.2}, [0.0], place) == pytest.approx(1 * (1 - 0.1 * 0.2))
    assert stepped({"name": "adam", "weight_decay": 0.2}, [0.0], place) == pytest.approx(1 - 0.1, rel=1e-6)
    assert stepped({"name": "sgd", "momentum": 0, "weight_decay": 0.2}, [0.0]) == pytest.approx(1 - 0.1 * 0.2)


def test_the_papers_optimiser_is_as_before() -> None:
    network = nn.Linear(5, 3)
    for place in ("keras", "pytorch"):
        settings = AdamConfig(epsilon_place=place)
        now, before = make_optimiser(network, TrainConfig(adam=settings)), make_adam(network, 1e-3, settings)
        assert type(now) is type(before)
        assert now.state_dict() == before.state_dict()


def _step_with_each(found: "SimpleQueue[bool]") -> None:
    for name in ("adam", "adamw", "sgd"):
        network = nn.Linear(2, 1)
        config = TrainConfig.model_validate({"optimiser": {"name": name, "weight_decay": 0.1}})
        optimizer = make_optimiser(network, config)
        network(torch.ones(2)).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1e-3)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
    found.put("torch._dynamo" in sys.modules)


def test_no_optimiser_loads_pytorchs_compiler() -> None:
    context = warm_context()  # this process may have loaded it
    found: SimpleQueue[bool] = context.SimpleQueue()
    process = context.Process(target=_step_with_each, args=(found,))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert found.get() is False


WEIGHTS = np.linspace(0.5, 2, 8)
FACTS = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS, WEIGHTS), ((1.0, 1.0, 1.0),) * 2)


def feed() -> Feed:
    random = np.random.default_rng(0)
    hu, labels = random.integers(-500, 500, (2, 9, 10, 8)), random.integers(0, 8, (2, 9, 10, 8))
    return Feed(list(zip(hu.astype(np.int16), labels.astype(np.uint8), strict=True)), 8, 2, seed=0)


def test_the_whole_gradient_is_clipped_to_the_norm(tiny_config: Configure) -> None:
    """Plain SGD moves all weights together by rate times norm; a norm that is not reached changes no bit."""
    sgd = {"name": "sgd", "momentum": 0}
    found: dict[float | None, tuple[float, float | None]] = {}
    for clip_norm in (None, 1e-3, 1e9):
        config = tiny_config(learning_rate=0.5, optimiser={**sgd, "clip_norm": clip_norm}, batch_norm="running")
        trainer = Trainer.create(config, FACTS, torch.device("cpu"), ALONE)
        before = [each.detach().clone() for each in trainer.network.parameters()]
        norm = trainer.training_step(feed().batch(1)).parameter_norm
        after_it = [each.detach() for each in trainer.network.parameters()]
        pairs = zip(after_it, before, strict=True)
        moved = sum(float((now.double() - then.double()).square().sum()) for now, then in pairs) ** 0.5
        found[clip_norm] = moved / 0.5, None if norm is None else float(norm)
    assert found[1e-3][0] == pytest.approx(1e-3, rel=1e-2)
    assert found[1e9][0] == found[None][0]
    assert found[None][1] is None
    assert found[1e-3][1] == found[1e9][1] == pytest.approx(found[None][0], rel=1e-2)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_run_is_trained_on_to_the_bit_and_says_when_it_clips(
    name: str, tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    def config(iterations: int, clip_norm: float = 1e-3) -> Config:
        settings = {"name": name, "weight_decay": 1e-3, "clip_norm": clip_norm}
        return tiny_config(iterations=iterations, log_every=1, optimiser=settings)

    whole = train(tiny_store.path, tmp_path / "whole", config(5))
    train(tiny_store.path, tmp_path / "r", config(3))
    run = train(tiny_store.path, tmp_path / "r", config(5), resume=True)
    assert same_state(whole.last, run.last)
    curve = run.read_curve()
    assert all(line["clipped_norm"] > 1e-3 for line in curve)
    assert bool(curve[-1]["step_over_rate"]) == (name == "adamw")  # SGD has no epsilon that takes of its step
    loose = train(tiny_store.path, tmp_path / "loose", config(5, 1e9))
    assert not any("clipped_norm" in line for line in loose.read_curve())


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
