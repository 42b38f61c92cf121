"""Eq. 2 and 6 worked by hand, on probabilities that softmax gives exactly."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import viscera
from viscera.core.errors import BadInputError
from viscera.losses.dice import soft_dice_loss, soft_dice_sums, weighted_dice_loss


def logits_of(probabilities: Tensor) -> Tensor:
    """Logits whose softmax over axis 1 is this."""
    return probabilities.log()


# Two classes, one row of four voxels. Class 1 has probability 0.8, 0.4, 0.2, 0.2; the first two are class 1 in truth.
CLASS_1 = torch.tensor([0.8, 0.4, 0.2, 0.2], dtype=torch.float64)
PROBABILITIES = torch.stack([1 - CLASS_1, CLASS_1]).view(1, 2, 4, 1, 1)
LABELS = torch.tensor([1, 1, 0, 0]).view(1, 4, 1, 1)
# Class 1: intersection 0.8 + 0.4 = 1.2, cardinality 1.6 + 2 = 3.6, loss -2.4 / 3.6 = -2/3
# Class 0: intersection 0.8 + 0.8 = 1.6, cardinality 2.4 + 2 = 4.4, loss -3.2 / 4.4 = -8/11
LOSS_0, LOSS_1 = -8 / 11, -2 / 3


def test_sums_of_eq_2() -> None:
    intersection, cardinality = soft_dice_sums(PROBABILITIES, LABELS)
    assert intersection[0].tolist() == pytest.approx([1.6, 1.2])
    assert cardinality[0].tolist() == pytest.approx([4.4, 3.6])


def test_eq_2() -> None:
    loss = soft_dice_loss(torch.tensor([1.6, 1.2]), torch.tensor([4.4, 3.6]))
    assert loss.tolist() == pytest.approx([LOSS_0, LOSS_1])


def test_eq_6() -> None:
    # (3 * -0.5 + 1 * -0.25) / 2 = -0.875
    assert weighted_dice_loss(torch.tensor([-0.5, -0.25]), torch.tensor([3.0, 1.0])).item() == -0.875


def test_the_loss_of_logits() -> None:
    loss = viscera.WeightedDiceLoss([3.0, 1.0])(logits_of(PROBABILITIES), LABELS)
    assert loss.item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_type_with_or_without_channel(dtype: torch.dtype) -> None:
    loss = viscera.WeightedDiceLoss([3.0, 1.0])
    plain = loss(logits_of(PROBABILITIES), LABELS.to(dtype))
    assert loss(logits_of(PROBABILITIES), LABELS.to(dtype).unsqueeze(1)).item() == plain.item()
    assert plain.item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2)


def two_sub_volumes() -> tuple[Tensor, Tensor]:
    """A batch of two: the voxels above, and four voxels of class 0 with probability 0.5 for either class."""
    half = torch.full((1, 2, 4, 1, 1), 0.5, dtype=torch.float64)
    return torch.cat([PROBABILITIES, half]), torch.cat([LABELS, torch.zeros_like(LABELS)])


def test_sums_over_the_batch() -> None:
    probabilities, labels = two_sub_volumes()
    # class 1: 2 * 1.2 / (1.6 + 2 + 2 + 0) = 2.4 / 5.6
    per_class = viscera.WeightedDiceLoss([1.0, 1.0]).per_class(logits_of(probabilities), labels)
    assert per_class[1].item() == pytest.approx(-2.4 / 5.6)


def test_sums_of_each_sub_volume_then_the_mean() -> None:
    probabilities, labels = two_sub_volumes()
    # class 1: -2/3 in the first, 0 in the second where it is absent; the mean is -1/3
    loss = viscera.WeightedDiceLoss([1.0, 1.0], sums="sub_volume")
    assert loss.per_class(logits_of(probabilities), labels)[1].item() == pytest.approx(-1 / 3)


def test_smoothing_as_in_monai() -> None:
    # class 1: -(2.4 + 0.1) / (3.6 + 0.1)
    loss = viscera.WeightedDiceLoss([1.0, 1.0], smoothing=0.1)
    assert loss.per_class(logits_of(PROBABILITIES), LABELS)[1].item() == pytest.approx(-2.5 / 3.7)


def test_probabilities_instead_of_logits() -> None:
    loss = viscera.WeightedDiceLoss([3.0, 1.0], inputs="probabilities")
    assert loss(PROBABILITIES, LABELS).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


@pytest.mark.parametrize("wrong", [-0.5, 1.5])
def test_logits_are_no_probabilities(wrong: float) -> None:
    with pytest.raises(BadInputError, match="0 to 1 was expected"):
        viscera.WeightedDiceLoss([3.0, 1.0], inputs="probabilities")(PROBABILITIES * 0 + wrong, LABELS)


def test_an_absent_class_gives_exactly_zero_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (2, 4, 4, 4))  # class 2 is absent
    absent = viscera.WeightedDiceLoss([0.0, 0.0, 1e6])(logits, labels)
    absent.backward()
    assert absent.item() == 0
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 0


def test_probabilities_that_underflow_give_no_nan() -> None:
    logits = torch.zeros(1, 2, 2, 2, 2)
    logits[:, 1] = -1000.0  # exp underflows: class 1 has probability 0 everywhere, and is absent from the labels
    logits.requires_grad_()
    loss = viscera.WeightedDiceLoss([1.0, 1.0])(logits, torch.zeros(1, 2, 2, 2, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == -0.5
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_float32_whatever_the_logits_are(dtype: torch.dtype) -> None:
    # 32768 voxels of probability 1/2: a float16 sum would stop growing at 2048, a bfloat16 sum at 256
    logits = torch.zeros(1, 2, 32, 32, 32, dtype=dtype)
    labels = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    loss = viscera.WeightedDiceLoss([1.0, 1.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, labels)
    assert value.dtype == torch.float32
    # class 0: 2 * 16384 / (16384 + 32768) = 2/3; class 1 absent
    assert value.item() == pytest.approx(-1 / 3, rel=1e-6)


def test_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (2, 2, 3, 2))
    for sums in ("batch", "sub_volume"):
        loss = viscera.WeightedDiceLoss([0.5, 2.0, 7.0], sums=sums)
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, labels), (logits,))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.uint8), r"\(B, 2, I, J, K\) was expected"),
        (torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8), "was expected"),
        (torch.zeros(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 3, dtype=torch.uint8), "does not fit"),
        (torch.zeros(1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2), "integer type"),
        (torch.zeros(1, 2, 2, 2, 2), torch.full((1, 2, 2, 2), 2), "numbers from 2 to 2"),
        (torch.zeros(1, 2, 2, 2, 2), torch.full((1, 2, 2, 2), -1), "numbers from -1 to -1"),
    ],
)
def test_bad_input(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.WeightedDiceLoss([1.0, 1.0])(logits, labels)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_numbers_beyond_the_classes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(BadInputError, match="numbers from 0 to 2"):
        viscera.WeightedDiceLoss([1.0, 1.0])(torch.zeros(1, 2, 1, 1, 2), torch.tensor([[[[0, 2]]]]).to(dtype))


@pytest.mark.parametrize(
    "labels", [torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2).bool(), np.zeros((1, 2, 2, 2), int)]
)
def test_labels_of_another_type_are_a_type_error(labels: Any) -> None:
    with pytest.raises(TypeError, match="tensor of class numbers of an integer type"):
        viscera.WeightedDiceLoss([1.0, 1.0])(torch.zeros(1, 2, 2, 2, 2), labels)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((2, 2)), "one weight for each class"),
        ([], "one weight for each class"),
        (["a", "b"], "one weight for each class"),
        ([1.0, float("nan")], "finite numbers of at least 0"),
        (torch.tensor([1.0, float("inf")]), "finite numbers of at least 0"),
        ([1.0, -1.0], "finite numbers of at least 0"),
        (torch.tensor([1j, 1]), "one weight for each class"),
    ],
)
def test_weights_are_a_vector_of_finite_numbers(weights: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.WeightedDiceLoss(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sums": "mean"}, 'sums=\'mean\'.*"batch", "sub_volume"'),
        ({"sums": None}, '"batch", "sub_volume"'),
        ({"inputs": "logit"}, '"logits", "probabilities"'),
        ({"smoothing": float("nan")}, "finite number"),
        ({"smoothing": -1.0}, "at least 0"),
        ({"smoothing": "1e-5"}, "a number"),
    ],
)
def test_a_misspelt_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        viscera.WeightedDiceLoss([1.0, 1.0], **options)
