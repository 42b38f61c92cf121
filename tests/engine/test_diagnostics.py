"""Whose gradient it is: closed forms against autograd, and that looking changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import viscera
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, TrainConfig
from viscera.engine.diagnostics import (
    full_diagnosis,
    full_steps,
    logit_gradient_norms,
    parameter_gradient_norms,
    shares,
    steps_over_rate,
)
from viscera.engine.feed import Feed, NetworkInput, TrainingFacts
from viscera.engine.optimiser import make_adam
from viscera.engine.trainer import Trainer
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import DiceAndCrossEntropyLoss

Configure = Callable[..., Config]
WEIGHTS = np.array([0.003, 1.7, 0.9, 0.2, 0.11, 0.4, 5.0, 2.2])


def sample(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 8, 4, 3, 5, generator=generator) * 2
    labels = torch.randint(0, 7, (2, 4, 3, 5), generator=generator)  # the last class is absent
    return logits, labels.to(torch.uint8)


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_the_closed_form_is_autograds(sums: str, smoothing: float) -> None:
    logits, labels = sample()
    loss = viscera.WeightedDiceLoss(WEIGHTS, sums=sums, smoothing=smoothing)  # type: ignore[arg-type]
    logits.requires_grad_()
    terms = loss.per_class(logits, labels) * loss.class_weights.float() / 8
    expected = [torch.autograd.grad(term, logits, retain_graph=True)[0].norm().item() for term in terms]
    assert logit_gradient_norms(logits, labels, loss).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert (expected[-1] == 0) == (smoothing == 0)  # an absent class has no gradient, unless it is smoothed


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_the_closed_form_is_autograds_where_classes_are_not_labelled(sums: str, smoothing: float) -> None:
    logits, labels = sample()
    labelled = torch.ones(2, 8, dtype=torch.bool)
    labelled[0, [2, 5]], labelled[:, 6] = False, False  # two in one sub-volume, one in neither
    loss = viscera.WeightedDiceLoss(WEIGHTS, sums=sums, smoothing=smoothing)  # type: ignore[arg-type]
    logits.requires_grad_()
    terms = loss.per_class(logits, labels, labelled) * loss.class_weights.float() / 8
    expected = [torch.autograd.grad(term, logits, retain_graph=True)[0].norm().item() for term in terms]
    found = logit_gradient_norms(logits, labels, loss, labelled)
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert expected[6] == found[6] == 0


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("partly", [False, True])
def test_the_closed_form_is_autograds_with_the_cross_entropy_beside(sums: str, partly: bool) -> None:
    logits, labels = sample()
    labelled = torch.ones(2, 8, dtype=torch.bool)
    labelled[0, [2, 5]], labelled[:, 6] = False, False
    mask = labelled if partly else None
    loss = DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS[::-1].copy(), factor=0.3, sums=sums)
    logits.requires_grad_()
    terms, factors = loss.terms(logits, labels, mask)
    expected = [torch.autograd.grad(term, logits, retain_graph=True)[0].norm().item() for term in terms * factors]
    assert logit_gradient_norms(logits, labels, loss, mask).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_with_everything_labelled_the_norms_are_those_without_a_mask() -> None:
    logits, labels = sample()
    loss = viscera.WeightedDiceLoss(WEIGHTS)
    everything = logit_gradient_norms(logits, labels, loss, torch.ones(2, 8, dtype=torch.bool))
    torch.testing.assert_close(everything, logit_gradient_norms(logits, labels, loss), rtol=1e-5, atol=0)


def test_weights_too_small_for_float32_squares_do_not_vanish() -> None:
    logits, labels = sample()
    plain, tiny = (logit_gradient_norms(logits, labels, viscera.WeightedDiceLoss(WEIGHTS * s)) for s in (1, 2.0**-80))
    assert torch.equal(tiny, plain * 2.0**-80)


def test_weights_of_float32_as_on_mps_give_the_same_norms() -> None:
    logits, labels = sample()
    for loss in (viscera.WeightedDiceLoss(WEIGHTS), DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS)):
        expected = logit_gradient_norms(logits, labels, loss)
        for name, weights_L in loss.named_buffers():
            setattr(loss, name, weights_L.float())
        found, (_, factors_L) = logit_gradient_norms(logits, labels, loss), loss.terms(logits, labels)
        assert found.dtype == factors_L.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_parameter_norms_of_a_linear_network_are_autograds_and_nothing_moves() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.BatchNorm3d(8))
    _, labels = sample()
    x = torch.rand(2, 1, 4, 3, 5)
    loss = viscera.WeightedDiceLoss(WEIGHTS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = parameter_gradient_norms(network, loss, NetworkInput(x, labels))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    (loss.per_class(network(x), labels)[6] * float(WEIGHTS[6]) / 8).backward()  # type: ignore[no-untyped-call]
    squares = sum(p.grad.square().sum().item() for p in network.parameters() if p.grad is not None)
    assert found[6].item() == pytest.approx(squares**0.5, rel=1e-4)
    assert found[7].item() == 0


@pytest.mark.parametrize("place", ["keras", "pytorch"])
def test_the_step_over_the_rate_is_what_adam_did(tiny_config: Configure, place: str) -> None:
    config = tiny_config(adam={"epsilon": 1e-4, "epsilon_place": place}).train
    torch.manual_seed(0)
    layer = nn.Conv3d(1, 4, 3)
    network = nn.Sequential(layer)
    optimizer = make_adam(network, 0.01, config.adam)
    for scale in (1.0, 3e-4, 2.0):
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        (network(torch.rand(1, 1, 4, 4, 4)).square().sum() * scale).backward()
        optimizer.step()
    ((name, (with_epsilon, without)),) = steps_over_rate(network, optimizer).items()
    assert name == "0"
    moved = (layer.weight - before).abs().mean().item()
    assert with_epsilon == pytest.approx(moved / 0.01, rel=1e-3)
    assert without > with_epsilon


def test_shares_sum_to_one() -> None:
    assert sum(shares(torch.arange(8.0)).values()) == pytest.approx(1)
    assert shares(torch.arange(8.0))["pancreas"] == 7 / 28
    assert set(shares(torch.zeros(8)).values()) == {0.0}


@pytest.mark.parametrize(
    ("iterations", "log_every", "count"),
    [(10_000, 50, 13), (300, 30, 1), (1000, 10, 5), (40, 10, 1)],
)
def test_full_steps_are_logged_ones_few_enough_to_cost_one_per_cent(
    iterations: int, log_every: int, count: int
) -> None:
    steps = full_steps(TrainConfig(iterations=iterations, log_every=log_every))
    assert max(steps) == iterations
    assert len(steps) <= count
    assert all(step % log_every == 0 for step in steps)
    # one forward pass is a third of a step, a backward pass two thirds; two windows of three
    assert len(steps) == 1 or len(steps) * (1 / 3 + 8 * 2 / 3) * 2 / 3 <= 0.01 * iterations


def test_diagnosis_changes_no_bit_of_the_training(tiny_config: Configure) -> None:
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-500, 500, (9, 10, 8)).astype(np.int16), random.integers(0, 8, (9, 10, 8)).astype(np.uint8))
        for _ in range(3)
    ]
    facts = TrainingFacts(torch.arange(1, 9), WeightSchedule(WEIGHTS, WEIGHTS), ((1.0, 1.0, 1.0),))
    states = []
    for diagnose in (False, True):
        trainer = Trainer.create(tiny_config(), facts, torch.device("cpu"))
        feed = Feed(cases, 8, 2, seed=0)
        for step in range(1, 4):
            batch = feed.batch(step)
            result = trainer.training_step(batch, diagnose=diagnose)
            trainer.step += 1
            if diagnose:
                assert result.gradient_norms is not None
                x = torch.rand(batch.hu.unsqueeze(1).shape)
                line = full_diagnosis(trainer.network, trainer.optimizer, trainer.loss, NetworkInput(x, batch.labels))
                assert set(line["parameter_gradient_share"]) == set(CLASS_NAMES)
                assert all(0 < value <= 1 for value in line["step_over_rate"].values())
        states.append(trainer.network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
