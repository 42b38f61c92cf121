"""Voxels that nobody labelled, in the losses: worked by hand, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import viscera
from tests.losses.test_marginal import LABELLED, PROBABILITIES
from viscera.core.anatomy import IGNORED
from viscera.core.config import LossConfig
from viscera.core.errors import BadInputError
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss, training_loss
from viscera.plugins.monai import MonaiDiceLoss

# Three classes, two sub-volumes of two voxels, of which the first's second is ignored: it leaves
# (1/2, 1/4, 1/4) of class 2; the second has (1/4, 1/4, 1/2) of background and (1/2, 1/4, 1/4) of class 1.
LABELS = torch.tensor([[2, IGNORED], [0, 1]]).view(2, 2, 1, 1)


def per_class(labels: Tensor = LABELS, labelled: Tensor | None = None, **options: Any) -> list[float]:
    loss = viscera.WeightedDiceLoss([1.0] * 3, ignore_index=IGNORED, **options)
    found: list[float] = loss.per_class(PROBABILITIES.log(), labels, labelled).tolist()
    return found


def test_sums_over_the_batch_by_hand() -> None:
    # class 0: I 1/4, C 1/2 + 1/4 + 1/2 + 1; class 1: I 1/4, C 3/4 + 1; class 2: I 1/4, C 1/4 + 1/2 + 1/4 + 1
    assert per_class() == pytest.approx([-0.5 / 2.25, -0.5 / 1.75, -0.5 / 2.0])


def test_sums_of_each_sub_volume_by_hand() -> None:
    # of the first class 2 alone: -2 (1/4) / (1/4 + 1); of the second background -2 (1/4) / (3/4 + 1), class 1
    # -2 (1/4) / (1/2 + 1); the class that a sub-volume has not gives 0
    expected = [-0.5 / 1.75 / 2, -0.5 / 1.5 / 2, -0.5 / 1.25 / 2]
    assert per_class(sums="sub_volume") == pytest.approx(expected)


def test_beside_classes_that_are_not_labelled() -> None:
    # the second does not label class 2: its background has 3/4 and 3/4. Class 0: I 3/4, C 1/2 + 3/2 + 1
    # class 1: I 1/4, C 1/4 + 1/4 + 1/4 + 1; class 2, of the first: I 1/4, C 1/4 + 1
    assert per_class(labelled=LABELLED) == pytest.approx([-1.5 / 3, -0.5 / 1.75, -0.5 / 1.25])


def test_the_cross_entropy_is_the_mean_over_the_others() -> None:
    both = DiceAndCrossEntropyLoss([1.0] * 3, [1.0, 3.0, 2.0], ignore_index=IGNORED)(PROBABILITIES.log(), LABELS)
    dice = WeightedDiceLoss([1.0] * 3, ignore_index=IGNORED)(PROBABILITIES.log(), LABELS)
    # class 2 with 1/4, background with 1/4, class 1 with 1/4, of weights 2, 1 and 3
    assert (both - dice).item() == pytest.approx(math.log(4), rel=1e-9)
    plain = torch.nn.functional.cross_entropy(
        PROBABILITIES.log(), LABELS, weight=torch.tensor([1.0, 3.0, 2.0]).double(), ignore_index=IGNORED
    )
    assert (both - dice).item() == pytest.approx(plain.item(), rel=1e-9)


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
def test_a_sub_volume_that_nobody_labelled_has_no_part_in_the_mean(sums: str) -> None:
    labels = LABELS.clone()
    labels[0] = IGNORED
    alone = viscera.WeightedDiceLoss([1.0] * 3, smoothing=0.5).per_class(PROBABILITIES.log()[1:], LABELS[1:])
    assert per_class(labels, sums=sums, smoothing=0.5) == pytest.approx(alone.tolist())


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("entropy", [0.0, 1.0])
def test_where_nobody_labelled_anything_the_loss_is_zero_and_so_is_the_gradient(
    smoothing: float, entropy: float
) -> None:
    logits = PROBABILITIES.log().requires_grad_()
    config = LossConfig(smoothing=smoothing, cross_entropy=entropy)
    loss = training_loss(config, [1.0, 9.0, 1e9], [5.0, 1.0, 1.0], ignore_index=IGNORED)
    value = loss(logits, torch.full_like(LABELS, IGNORED))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("number", [255, 300, -1, -100])
def test_any_number_that_is_no_class_will_do(number: int) -> None:
    loss = viscera.WeightedDiceLoss([1.0] * 3, ignore_index=number)
    labels = torch.where(LABELS == IGNORED, number, LABELS)
    assert loss.per_class(PROBABILITIES.log(), labels).tolist() == pytest.approx(per_class())
    bytes_without = torch.tensor([[2, 1], [0, 1]], dtype=torch.uint8).view(2, 2, 1, 1)
    plain = viscera.WeightedDiceLoss([1.0] * 3)(PROBABILITIES.log(), bytes_without)
    assert torch.equal(loss(PROBABILITIES.log(), bytes_without), plain)


def test_what_is_refused() -> None:
    with pytest.raises(BadInputError, match="ignore_index: 2 is a class"):
        viscera.WeightedDiceLoss([1.0] * 3, ignore_index=2)
    with pytest.raises(BadInputError, match="labels: numbers from 0 to 254"):
        per_class(torch.tensor([[254, IGNORED], [0, 1]]).view(2, 2, 1, 1))
    with pytest.raises(BadInputError, match="labels: numbers from 0 to 255"):
        viscera.WeightedDiceLoss([1.0] * 3)(PROBABILITIES.log(), LABELS)
    with pytest.raises(BadInputError, match="ignore_index: a one-hot code"):
        MonaiDiceLoss([1.0] * 3, ignore_index=IGNORED)(PROBABILITIES, PROBABILITIES)
