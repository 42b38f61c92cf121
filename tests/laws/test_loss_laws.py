"""Laws of the loss, for any logits and labels."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import viscera

SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=25, deadline=None)


def sample(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 3, 4, 3, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 5, (2, 3, 4, 3), generator=generator)
    weights = torch.rand(5, generator=generator, dtype=torch.float64) * 10
    return logits, labels, weights


@quick
@given(SEEDS, st.floats(1e-6, 1e6))
def test_scaling_the_weights_scales_the_loss(seed: int, scale: float) -> None:
    logits, labels, weights = sample(seed)
    loss = viscera.WeightedDiceLoss(weights)(logits, labels)
    scaled = viscera.WeightedDiceLoss(weights * scale)(logits, labels)
    torch.testing.assert_close(scaled, loss * scale, rtol=1e-12, atol=0)


@quick
@given(SEEDS)
def test_permuting_the_classes_changes_nothing(seed: int) -> None:
    logits, labels, weights = sample(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(5))
    new_number = torch.argsort(order)
    permuted = viscera.WeightedDiceLoss(weights[order])(logits[:, order], new_number[labels])
    torch.testing.assert_close(permuted, viscera.WeightedDiceLoss(weights)(logits, labels), rtol=1e-12, atol=0)


@quick
@given(SEEDS)
def test_a_perfect_prediction_gives_minus_the_mean_weight(seed: int) -> None:
    _, labels, weights = sample(seed)
    labels.view(-1)[:5] = torch.arange(5)  # every class is present
    logits = torch.nn.functional.one_hot(labels, 5).movedim(-1, 1).double() * 1000
    loss = viscera.WeightedDiceLoss(weights)(logits, labels)
    torch.testing.assert_close(loss, -weights.mean(), rtol=1e-12, atol=0)


@quick
@given(SEEDS)
def test_no_prediction_is_better_than_a_perfect_one_or_worse_than_zero(seed: int) -> None:
    logits, labels, weights = sample(seed)
    loss = viscera.WeightedDiceLoss(weights)(logits, labels)
    assert -weights.mean() <= loss <= 0


@quick
@given(SEEDS)
def test_the_order_of_voxels_does_not_matter(seed: int) -> None:
    logits, labels, weights = sample(seed)
    loss = viscera.WeightedDiceLoss(weights)
    torch.testing.assert_close(loss(logits.flip(2, 4), labels.flip(1, 3)), loss(logits, labels), rtol=1e-12, atol=0)
