"""Gradients of an untrained network: linear in the weights, and what epsilon leaves of a step, by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.noise_feed import feed
from viscera.core.config import AdamConfig, Config
from viscera.doctor.untrained import UnitGradients
from viscera.engine.feed import TrainingFacts
from viscera.engine.trainer import Trainer
from viscera.losses.balance import WeightSchedule

Configure = Callable[..., Config]
WEIGHTS = np.array([0.003, 1.7, 0.9, 0.2, 0.11, 0.4, 5.0, 2.2])


@pytest.mark.parametrize("unlabelled", [(), (2, 5)])
def test_any_weights_gradient_is_that_of_the_first_training_step(
    tiny_config: Configure, unlabelled: tuple[int, ...]
) -> None:
    config = tiny_config()
    of_cases = np.ones((3, 8), dtype=np.bool_)
    of_cases[:2, list(unlabelled)] = False
    windows = replace(feed(), labelled=of_cases)
    found = UnitGradients.of(windows, config.train, torch.device("cpu"))
    facts = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS, WEIGHTS), ((1.0, 1.0, 1.0),))
    trainer = Trainer.create(config, facts, torch.device("cpu"))
    batch = windows.batch(1)
    assert (batch.labelled is None) == (not unlabelled)
    result = trainer.training_step(batch, diagnose=True)
    gradient = torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None])
    assert found.root_second_moment(WEIGHTS) == pytest.approx(gradient.abs().numpy(), rel=1e-3, abs=1e-7)
    assert result.gradient_norms is not None
    assert found.logit_norms[0] * WEIGHTS == pytest.approx(result.gradient_norms.numpy(), rel=1e-4)


def test_shares_and_steps_by_hand() -> None:
    gradients = torch.zeros(1, 2, 4)
    gradients[0, 0, :2] = torch.tensor([3e-8, 1e-8])
    gradients[0, 1, 2] = 1e-8
    unit = UnitGradients(np.array([[1.0, 3.0], [2.0, 0.0]]), gradients, 4)
    weights = np.array([1.0, 2.0])
    assert unit.shares(weights) == pytest.approx([(1 / 7 + 1) / 2, 6 / 7 / 2])
    assert unit.root_second_moment(weights) == pytest.approx([3e-8, 1e-8, 2e-8, 0])
    # 3/4, 1/2 and 2/3 of the step; the parameter without gradient does not count
    pytorch = AdamConfig(epsilon=1e-8, epsilon_place="pytorch")
    assert unit.step_kept(weights, pytorch, 300) == pytest.approx((3 / 4 + 1 / 2 + 2 / 3) / 3)
    # Keras's place at step 150: epsilon over the root of 1 - 0.999^150
    keras = 1e-8 / (1 - 0.999**150) ** 0.5
    expected = np.mean([g / (g + keras) for g in (3e-8, 1e-8, 2e-8)])
    assert unit.step_kept(weights, AdamConfig(epsilon=1e-8), 300) == pytest.approx(expected)
    # four times as many parameters share the same norm
    assert UnitGradients(unit.logit_norms, gradients, 16).root_second_moment(weights)[0] == pytest.approx(1.5e-8)


def test_a_wide_network_is_looked_at_in_a_narrow_version(tiny_config: Configure) -> None:
    found = UnitGradients.of(feed(), tiny_config(filters=16).train, torch.device("cpu"))
    assert found.parameters_of_the_model > 3 * found.parameters.shape[2]
