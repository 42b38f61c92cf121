"""The MONAI adapter without MONAI; tests/oracle/test_monai_plugin.py holds it against MONAI itself."""

from typing import Any

import pytest
import torch

from viscera.core.errors import BadInputError
from viscera.plugins.monai import MonaiDiceLoss

# Two classes, one row of four voxels. Class 1 has probability 0.8, 0.4, 0.2, 0.2; the first two are class 1 in truth.
# Class 0: -2 * 1.6 / 4.4 = -8/11; class 1: -2 * 1.2 / 3.6 = -2/3 (tests/losses/test_dice.py works them out)
CLASS_1 = torch.tensor([0.8, 0.4, 0.2, 0.2], dtype=torch.float64)
PROBABILITIES = torch.stack([1 - CLASS_1, CLASS_1]).view(1, 2, 4, 1, 1)
LABELS = torch.tensor([1, 1, 0, 0]).view(1, 1, 4, 1, 1)
ONE_HOT = torch.cat([1 - LABELS, LABELS], dim=1)
LOSS_0, LOSS_1 = -8 / 11, -2 / 3
WEIGHTS = [3.0, 1.0]
EXACT: dict[str, Any] = {"smooth_nr": 0, "smooth_dr": 0}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_class_numbers(dtype: torch.dtype) -> None:
    loss = MonaiDiceLoss(WEIGHTS, to_onehot_y=True, **EXACT)
    assert loss(PROBABILITIES, LABELS.to(dtype)).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool])
def test_one_hot_labels(dtype: torch.dtype) -> None:
    loss = MonaiDiceLoss(WEIGHTS, **EXACT)
    assert loss(PROBABILITIES, ONE_HOT.to(dtype)).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


def test_logits() -> None:
    loss = MonaiDiceLoss(WEIGHTS, to_onehot_y=True, softmax=True, **EXACT)
    assert loss(PROBABILITIES.log(), LABELS).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


def test_slices() -> None:
    loss = MonaiDiceLoss(WEIGHTS, to_onehot_y=True, **EXACT)
    assert loss(PROBABILITIES[..., 0], LABELS[..., 0]).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


def test_without_background() -> None:
    loss = MonaiDiceLoss([3.0, 5.0], to_onehot_y=True, include_background=False, **EXACT)
    assert loss(PROBABILITIES, LABELS).item() == pytest.approx(5 * LOSS_1, rel=1e-14)


@pytest.mark.parametrize(("batch", "terms"), [(True, 2), (False, 2 * 3)])  # classes; classes times sub-volumes
def test_sum_instead_of_mean(batch: bool, terms: int) -> None:
    three = (PROBABILITIES.repeat(3, 1, 1, 1, 1), LABELS.repeat(3, 1, 1, 1, 1))
    loss = MonaiDiceLoss(WEIGHTS, to_onehot_y=True, reduction="sum", batch=batch, **EXACT)
    assert loss(*three).item() == pytest.approx(terms * (3 * LOSS_0 + LOSS_1) / 2, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigmoid": True}, "sigmoid=True is not possible.*softmax=True"),
        ({"other_act": torch.tanh}, "other_act"),
        ({"squared_pred": True}, "squared_pred"),
        ({"jaccard": True}, "jaccard"),
        ({"weight": [1.0, 2.0]}, "first argument"),
        ({"soft_label": True}, "soft_label"),
        ({"ignore_index": 0}, "ignore_index"),
        ({"softmx": True}, "softmx: neither"),
        ({"reduction": "none"}, '"mean", "sum"'),
        ({"smooth_nr": 0.0, "smooth_dr": 1e-5}, "one smoothing for both"),
    ],
)
def test_what_cannot_be_mapped_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        MonaiDiceLoss(WEIGHTS, **arguments)


def test_defaults_of_the_others_are_no_wish() -> None:
    loss = MonaiDiceLoss(WEIGHTS, sigmoid=False, other_act=None, squared_pred=False, ignore_index=None, **EXACT)
    assert loss(PROBABILITIES, ONE_HOT).item() == pytest.approx((3 * LOSS_0 + LOSS_1) / 2)


@pytest.mark.parametrize(
    ("to_onehot_y", "labels", "message"),
    [
        (True, ONE_HOT, "axis 1 must hold 1"),
        (False, LABELS, "axis 1 must hold 2"),
        (True, LABELS[:, :, :2], "shape"),
        (True, LABELS[:, 0], "shape"),
        (True, LABELS * 0.5, "not whole"),
        (False, ONE_HOT * 0.5, "not a one-hot code"),
        (True, LABELS * 2, "numbers from 0 to 2"),
    ],
)
def test_labels_that_do_not_fit(to_onehot_y: bool, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        MonaiDiceLoss(WEIGHTS, to_onehot_y=to_onehot_y)(PROBABILITIES, labels)


def test_logits_without_softmax_are_refused() -> None:
    with pytest.raises(BadInputError, match="0 to 1 was expected"):
        MonaiDiceLoss(WEIGHTS, to_onehot_y=True)(PROBABILITIES.log(), LABELS)


def test_arrays_and_complex_labels_are_a_type_error() -> None:
    loss, array = MonaiDiceLoss(WEIGHTS, to_onehot_y=True), LABELS.numpy()
    with pytest.raises(TypeError, match="ndarray, a tensor was expected"):
        loss(PROBABILITIES, array)
    with pytest.raises(TypeError, match=r"labels: torch.complex64, class numbers were expected"):
        loss(PROBABILITIES, LABELS.to(torch.complex64))
