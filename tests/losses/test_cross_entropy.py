"""Cross-entropy beside Dice: PyTorch's, by hand where classes are not labelled, and the weights of its own."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import viscera
from tests.losses.test_marginal import LABELLED, LABELS, PROBABILITIES
from viscera.core.config import LossConfig
from viscera.losses import dice_of_logits
from viscera.losses.balance import cross_entropy_weights
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss, training_loss

DICE_WEIGHTS, VOXEL_WEIGHTS = torch.linspace(0.5, 4, 5), torch.tensor([0.1, 2.0, 1.0, 7.0, 0.5])
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}


def sample(dtype: torch.dtype = torch.float64, layout: str = "contiguous") -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    logits = (torch.randn(3, 5, 4, 5, 6, generator=random, dtype=torch.float64) * 3).to(dtype)
    labels = torch.randint(0, 5, (3, 4, 5, 6), generator=random)
    labelled = torch.ones(3, 5, dtype=torch.bool)
    labelled[0, 2], labelled[1, [1, 4]] = False, False
    return logits.to(memory_format=LAYOUTS[layout]).requires_grad_(), labels, labelled


def loss(**options: Any) -> DiceAndCrossEntropyLoss:
    return DiceAndCrossEntropyLoss(DICE_WEIGHTS, VOXEL_WEIGHTS, **{"factor": 0.7, **options})


def value_and_gradient(of: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return of.detach(), torch.autograd.grad(of, logits)[0]


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [30, 2**17])
def test_it_is_the_dice_loss_plus_pytorchs_cross_entropy(
    sums: Any, layout: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dice_of_logits, "_BLOCK", block)
    logits, labels, _ = sample(layout=layout)
    ours = value_and_gradient(loss(sums=sums)(logits, labels), logits)
    plain = WeightedDiceLoss(DICE_WEIGHTS, sums=sums)(logits, labels)
    expected = plain + 0.7 * cross_entropy(logits, labels, weight=VOXEL_WEIGHTS.double())
    for mine, theirs in zip(ours, value_and_gradient(expected, logits), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-13)
    _, dice_loss_L = loss(sums=sums).parts(logits, labels)
    assert torch.equal(dice_loss_L, WeightedDiceLoss(DICE_WEIGHTS, sums=sums).per_class(logits, labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("serial", [True, False])
def test_low_precision_is_close_to_it(dtype: torch.dtype, serial: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not serial:  # as a GPU adds up
        monkeypatch.setattr(dice_of_logits, "_ONE_AFTER_ANOTHER", set())
    logits, labels, labelled = sample(dtype)
    exact = logits.detach().double().requires_grad_()
    for mask in (None, labelled):
        (value, gradient), right = (value_and_gradient(loss()(x, labels, mask), x) for x in (logits, exact))
        assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
        torch.testing.assert_close(value.double(), right[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient.double(), right[1], rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_what_is_not_labelled_is_background_by_hand() -> None:
    # class 2 and 1 of the first sub-volume: 1/4 and 1/2; background and class 1 of the second, which does not label
    # class 2: 1/4 + 1/2 = 3/4, and 1/4. Weights 1, 3, 2: (2 ln 4 + 3 ln 2 + ln 4/3 + 3 ln 4) / (2 + 3 + 1 + 3)
    both = DiceAndCrossEntropyLoss([1.0] * 3, [1.0, 3.0, 2.0])(PROBABILITIES.log(), LABELS, LABELLED)
    dice = WeightedDiceLoss([1.0] * 3)(PROBABILITIES.log(), LABELS, LABELLED)
    expected = (5 * math.log(4) + 3 * math.log(2) + math.log(4 / 3)) / 9
    assert (both - dice).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_by_blocks_is_autograds_of_the_plain_version(partly: bool, layout: str) -> None:
    logits, labels, labelled = sample(layout=layout)
    mask = labelled if partly else None
    ours = value_and_gradient(loss()(logits, labels, mask), logits)
    plain = loss(inputs="probabilities")(torch.softmax(logits, dim=1), labels, mask)
    for mine, theirs in zip(ours, value_and_gradient(plain, logits), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("partly", [False, True])
def test_first_and_second_derivatives_are_those_of_finite_differences(partly: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 5, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 5, (2, 2, 2, 1))
    labelled = sample()[2][:2] if partly else None
    assert torch.autograd.gradcheck(lambda x: loss()(x, labels, labelled), (logits,))
    assert torch.autograd.gradgradcheck(lambda x: loss()(x, labels, labelled), (logits,))


def test_a_voxel_that_is_sure_and_wrong_has_a_finite_loss_and_the_whole_gradient() -> None:
    logits = torch.tensor([0.0, 500.0]).view(1, 2, 1, 1, 1).requires_grad_()
    both = DiceAndCrossEntropyLoss([0.0, 0.0], [1.0, 1.0])
    value, gradient = value_and_gradient(both(logits, torch.zeros(1, 1, 1, 1, dtype=torch.uint8)), logits)
    assert 80 < value.item() < 500
    assert gradient.flatten().tolist() == [-1, 1]


def test_its_terms_add_up_to_it_a_class_each() -> None:
    logits, labels, labelled = sample()
    terms_L, factors_L = loss().terms(logits, labels, labelled)
    assert (terms_L * factors_L).sum().item() == pytest.approx(loss()(logits, labels, labelled).item(), rel=1e-12)
    alone = DiceAndCrossEntropyLoss(DICE_WEIGHTS, torch.tensor([0.0, 0, 0, 1, 0]))
    terms_L, _ = alone.terms(logits, labels)
    expected = cross_entropy(logits, labels, weight=alone.voxel_weights)
    dice_L = WeightedDiceLoss(DICE_WEIGHTS).per_class(logits, labels) * DICE_WEIGHTS / 5
    assert (terms_L - dice_L).tolist() == pytest.approx([0, 0, 0, expected.item(), 0])


def test_weights_of_its_own_have_a_mean_of_one_and_heed_the_readings_but_no_schedule() -> None:
    # 10 and 30 voxels, ε 0: N / (L R) = 40 / 20 and 40 / 60, 2 and 2/3; over their mean of 4/3: 1.5 and 0.5
    config = LossConfig(epsilon=0, cross_entropy_weighting="simple")
    assert cross_entropy_weights([10, 30], config, 2).tolist() == pytest.approx([1.5, 0.5])
    moving = LossConfig.model_validate(config.model_dump() | {"schedule": {"to": "uniform"}})
    assert cross_entropy_weights([10, 30], moving, 2).tolist() == pytest.approx([1.5, 0.5])
    limited = config.model_copy(update={"max_ratio": 2.0})
    assert cross_entropy_weights([10, 30], limited, 2).tolist() == pytest.approx([4 / 3, 2 / 3])
    assert cross_entropy_weights([10, 30], LossConfig(), 2).tolist() == [1, 1]


def test_a_factor_of_zero_is_the_papers_loss() -> None:
    assert type(training_loss(LossConfig(), np.ones(3))) is viscera.WeightedDiceLoss
    both = training_loss(LossConfig(cross_entropy=0.5), np.ones(3), [1.0, 2.0, 3.0])
    assert isinstance(both, DiceAndCrossEntropyLoss)
    assert (both.factor, both.voxel_weights.tolist()) == (0.5, [1, 2, 3])
    alike = training_loss(LossConfig(cross_entropy=0.5), np.ones(3))
    assert isinstance(alike, DiceAndCrossEntropyLoss)
    assert alike.voxel_weights.tolist() == [1, 1, 1]
