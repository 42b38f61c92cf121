"""Trainings in miniature: what they must agree with, and what weights, steps and epsilon must do to them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from viscera.core.config import AdamConfig, Config, LossConfig, TrainConfig
from viscera.doctor.surrogate import HIDDEN, Outcome, Speed, SurrogateArm, _Adam, _Perceptrons, trained
from viscera.doctor.voxel_sample import Voxels, VoxelSample
from viscera.engine.optimiser import PlainAdam
from viscera.losses.balance import WeightSchedule

EVERY = torch.ones(3, dtype=torch.bool)
SPEED = Speed(hidden=HIDDEN**0.5, last=8)
TRAIN = TrainConfig(iterations=60, batch_size=2)


def voxels(counts: tuple[int, int, int], noise: float, seed: int, labelled: torch.Tensor = EVERY) -> Voxels:
    """Class k lies at feature value k, blurred; the second feature says nothing. One voxel stands for ten."""
    labels = torch.from_numpy(np.repeat(np.arange(3), counts))
    x = torch.from_numpy(np.random.default_rng(seed).normal(scale=noise, size=(len(labels), 2))).float()
    x[:, 0] += labels
    return Voxels(x, labels, torch.full((len(labels),), 10.0), labelled)


def sample(noise: float = 0.1, counts: tuple[int, int, int] = (200, 40, 20)) -> VoxelSample:
    windows = [voxels(counts, noise, seed) for seed in range(8)]
    return VoxelSample(windows, np.arange(8) // 2, [voxels(counts, noise, 100)])


def arm(weights: list[float], rate: float = 0.01, steps: int = 60, epsilon: float = 0.0) -> SurrogateArm:
    w = np.array(weights)
    return SurrogateArm(WeightSchedule(w, w), np.full(steps, rate), epsilon, AdamConfig())


BLIND = sample(noise=1e4, counts=(200, 40, 4))  # nothing tells the classes apart
UNIFORM, SQUARE = [1.0, 1.0, 1.0], [1 / 200**2, 1 / 40**2, 1 / 4**2]
AS_USUAL = (TRAIN, SPEED)


def dice(outcome: Outcome) -> np.ndarray:
    return np.asarray(outcome.dice.mean(axis=0))


def test_what_can_be_told_apart_is_learnt() -> None:
    (clear,) = dice(trained(sample(), [arm(UNIFORM, rate=0.03)], TRAIN, SPEED, seeds=(0, 1)))
    assert (clear > 0.9).all()


def given(outcome: Outcome) -> np.ndarray:
    """(arms, L) share of all voxels that is given to each class."""
    return np.asarray(outcome.confusion[0].sum(axis=1) / outcome.confusion[0].sum(axis=(1, 2))[:, None])


def test_what_cannot_be_told_apart_goes_to_voxels_times_weight_first_and_to_voxels_in_the_end() -> None:
    """The two ends of the table in docs/decisions/0039: R w at the start, R when converged."""
    first_uniform, first_square = given(trained(BLIND, [arm(UNIFORM, steps=10), arm(SQUARE, steps=10)], *AS_USUAL))
    assert first_uniform[2] < 0.01
    assert first_square[2] > 0.2
    (late_square,) = given(trained(BLIND, [arm(SQUARE, steps=150)], *AS_USUAL))
    assert late_square.argmax() == 0
    assert late_square[2] < 0.1


def test_a_schedule_of_weights_is_followed() -> None:
    turned = SurrogateArm(WeightSchedule(np.array(SQUARE), np.ones(3), 0, 2), np.full(10, 0.01), 0.0, AdamConfig())
    train = TRAIN.model_copy(update={"iterations": 10})
    found = given(trained(BLIND, [turned, arm(SQUARE, steps=10)], train, SPEED))
    assert found[0, 2] < 0.05
    assert found[1, 2] > 0.2


def test_few_steps_and_an_epsilon_that_takes_them_leave_everybody_unlearnt() -> None:
    arms = [arm(UNIFORM, rate=0.03), arm(UNIFORM, rate=0.03, epsilon=1e6)]
    learnt, drowned = dice(trained(sample(), arms, *AS_USUAL))
    (short,) = dice(trained(sample(), [arm(UNIFORM, rate=1e-4, steps=2)], *AS_USUAL))
    assert learnt[1:].min() > 0.9
    assert drowned[1:].mean() < 0.6
    assert short == pytest.approx(drowned, abs=0.2)


def test_arms_side_by_side_are_as_each_alone() -> None:
    arms = [arm(UNIFORM), arm([1, 5, 100], rate=0.03, epsilon=0.1)]
    together = dice(trained(sample(0.5), arms, TRAIN, SPEED, seeds=(0, 1)))
    alone = np.concatenate([dice(trained(sample(0.5), [each], TRAIN, SPEED, seeds=(0, 1))) for each in arms])
    assert together == pytest.approx(alone, abs=0.02)


def test_the_scale_of_the_weights_is_in_epsilon_alone() -> None:
    arms = [arm([1, 2, 3]), arm([1e-9, 2e-9, 3e-9])]
    one, other = dice(trained(sample(0.5), arms, TRAIN, SPEED))
    assert one == pytest.approx(other, abs=1e-3)


def test_one_step_of_adam_is_pytorchs() -> None:
    """The first step moves every weight by rate × speed against the sign of its gradient, wherever it is far from 0."""
    perceptrons = _Perceptrons(2, 3, 1, (0,), SPEED)
    before = [each.detach().clone() for each in perceptrons.parameters]
    theirs = [each.detach().clone().requires_grad_() for each in perceptrons.parameters]
    gradients = [torch.randn(each.shape, generator=torch.Generator().manual_seed(5)) for each in before]
    groups = [{"params": [p], "lr": 0.01 * by} for p, by in zip(theirs, perceptrons.speeds, strict=True)]
    optimiser = PlainAdam(groups, eps=1e-12)
    adam = _Adam(perceptrons, [arm(UNIFORM)], 1)
    for step in (1, 2, 3):
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient * step
        optimiser.step()
        adam.step([gradient * step for gradient in gradients], step)
    for own, other in zip(perceptrons.parameters, theirs, strict=True):
        assert own.detach().numpy() == pytest.approx(other.detach().numpy(), abs=1e-6)


def test_a_long_training_is_shortened_at_a_higher_rate() -> None:
    train = TRAIN.model_copy(update={"iterations": 9000})
    found = SurrogateArm.of(train, WeightSchedule(np.ones(3), np.ones(3)), 1e-6, most_steps=3000)
    assert len(found.rates) == 3000
    assert found.rates.sum() == pytest.approx(9000 * train.learning_rate)
    assert found.epsilon_over_gradient == pytest.approx(1e-8 / 1e-6)


def test_classes_that_a_case_does_not_label_are_background_there() -> None:
    """The last class is labelled in half of the cases; where it is not, its voxels are called background."""
    partly = torch.tensor([True, True, False])
    windows = []
    for seed in range(8):
        own = voxels((200, 40, 40), 0.1, seed, EVERY if seed < 4 else partly)
        labels = own.labels if seed < 4 else own.labels * partly[own.labels]
        windows.append(Voxels(own.features, labels, own.weight, own.labelled))
    partial = VoxelSample(windows, np.arange(8) // 2, [voxels((200, 40, 40), 0.1, 100)])
    for sums in ("batch", "sub_volume"):
        train = TRAIN.model_copy(update={"loss": LossConfig(sums=sums)})
        assert dice(trained(partial, [arm(UNIFORM)], train, speed=SPEED))[0, 2] > 0.8


def test_speed_follows_the_width_of_the_network(tiny_config: Callable[..., Config]) -> None:
    of = partial(Speed.of, num_classes=8)
    narrow, wide = of(tiny_config(filters=4).train), of(tiny_config(filters=16).train)
    assert wide.last == 4 * narrow.last
    assert 1 < wide.hidden / narrow.hidden < 2  # √4 of all convolutions but the first
