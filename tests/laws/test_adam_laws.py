"""The law behind the study of scale: Adam sees the loss and its epsilon as one factor, gradient scale over epsilon."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from viscera.core.config import Config
from viscera.engine.feed import Feed, TrainingFacts
from viscera.engine.trainer import Trainer
from viscera.losses.balance import WeightSchedule

Configure = Callable[..., Config]
WEIGHTS = np.array([0.003, 1.7, 0.9, 0.2, 0.11, 0.4, 5.0, 2.2])


def trained(configure: Configure, scale: float, epsilon: float, place: str) -> list[Tensor]:
    """The parameters after four steps, the loss multiplied by `scale`."""
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-500, 500, (9, 10, 8)).astype(np.int16), random.integers(0, 8, (9, 10, 8)).astype(np.uint8))
        for _ in range(3)
    ]
    config = configure(adam={"epsilon": epsilon, "epsilon_place": place}, filters=4)
    facts = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS * scale, WEIGHTS * scale), ((1.0, 1.0, 1.0),))
    trainer = Trainer.create(config, facts, torch.device("cpu"))
    feed = Feed(cases, 8, 2, seed=0)
    for step in range(1, 5):
        trainer.training_step(feed.batch(step))
        trainer.step += 1
    return [parameter.detach() for parameter in trainer.network.parameters()]


@pytest.mark.parametrize("place", ["keras", "pytorch"])
@pytest.mark.parametrize("power", [-10, -1, 13])
def test_without_epsilon_a_power_of_two_changes_no_bit(tiny_config: Configure, place: str, power: int) -> None:
    plain, scaled = (trained(tiny_config, scale, 0.0, place) for scale in (1.0, 2.0**power))
    assert all(torch.equal(a, b) for a, b in zip(plain, scaled, strict=True))


@pytest.mark.parametrize("place", ["keras", "pytorch"])
def test_loss_and_epsilon_multiplied_alike_change_no_bit(tiny_config: Configure, place: str) -> None:
    plain = trained(tiny_config, 1.0, 1e-3, place)
    scaled = trained(tiny_config, 2.0**-12, 1e-3 * 2.0**-12, place)
    assert all(torch.equal(a, b) for a, b in zip(plain, scaled, strict=True))


@pytest.mark.parametrize("place", ["keras", "pytorch"])
def test_with_epsilon_the_scale_matters(tiny_config: Configure, place: str) -> None:
    plain, scaled = (trained(tiny_config, scale, 1e-3, place) for scale in (1.0, 2.0**-12))
    assert not all(torch.equal(a, b) for a, b in zip(plain, scaled, strict=True))
