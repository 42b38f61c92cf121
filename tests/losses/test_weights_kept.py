"""Class weights stay what they are, whatever type and device the loss is brought to."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import viscera
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss
from viscera.plugins.monai import MonaiDiceLoss

# "square" weights of organs of 10^3 to 10^7 voxels: from 1e-14 to 1e-6, below what 16 bits hold; and one of 1e9
WEIGHTS = torch.tensor([1.25e-14, 3e-9, 1e-6, 1e9], dtype=torch.float64)
LOGITS = torch.randn(2, 4, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 4, (2, 3, 4, 5), generator=torch.Generator().manual_seed(1))

BROUGHT: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": lambda loss: loss.half(),
    "bfloat16": lambda loss: loss.bfloat16(),
    "to": lambda loss: loss.to(torch.float16),
    "to device and type": lambda loss: loss.to("cpu", torch.float16),
    "float": lambda loss: loss.float(),
    "within another": lambda loss: nn.Sequential(nn.Conv3d(1, 1, 1), loss).half()[1],
    "deepcopy": copy.deepcopy,
    "pickle": lambda loss: pickle.loads(pickle.dumps(loss)),  # noqa: S301 - written here
}


@pytest.mark.parametrize("how", BROUGHT)
def test_of_any_type(how: str) -> None:
    plain: list[Any] = [
        WeightedDiceLoss(WEIGHTS),
        DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS.flip(0)),
        MonaiDiceLoss(WEIGHTS, softmax=True, to_onehot_y=True),
    ]
    for loss in plain:
        brought = BROUGHT[how](copy.deepcopy(loss))
        for name, weights_L in loss.named_buffers():
            assert torch.equal(brought.get_buffer(name), weights_L)
        labels = LABELS[:, None]
        assert torch.equal(brought(LOGITS, labels), loss(LOGITS, labels))
        assert brought(LOGITS.half(), labels).isfinite()


def test_a_state_of_an_earlier_version_is_taken_and_given() -> None:
    loss, other = WeightedDiceLoss(WEIGHTS).half(), WeightedDiceLoss(torch.ones(4))
    assert {name: value.dtype for name, value in loss.state_dict().items()} == {"class_weights": torch.float64}
    other.load_state_dict(loss.state_dict(), strict=True)
    assert torch.equal(other.class_weights, WEIGHTS)
    other.load_state_dict({"class_weights": WEIGHTS.float()}, strict=True)
    assert torch.equal(other.class_weights, WEIGHTS.float().double())


def test_where_a_device_has_no_float64_weights_are_float32() -> None:
    def to_mps(values: Tensor) -> Tensor:  # as PyTorch says it there
        if values.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return values.clone()

    loss = WeightedDiceLoss(WEIGHTS)._apply(to_mps)
    assert torch.equal(loss.class_weights, WEIGHTS.float())
    assert torch.equal(loss.half().class_weights, WEIGHTS.float())
    assert torch.equal(loss(LOGITS, LABELS), WeightedDiceLoss(WEIGHTS)(LOGITS, LABELS))


def test_memory_that_processes_share_is_shared() -> None:
    assert WeightedDiceLoss(WEIGHTS).share_memory().class_weights.is_shared()  # type: ignore[no-untyped-call]


def test_weights_may_come_from_tensors_that_autograd_or_another_type_holds() -> None:
    counts = torch.tensor([100.0, 10.0, 1.0], requires_grad=True)
    expected = viscera.class_weights([100, 10, 1], "simple")
    assert np.array_equal(viscera.class_weights(counts, "simple"), expected)
    assert np.array_equal(viscera.class_weights(list(counts.detach()), "simple"), expected)
    weights = torch.from_numpy(expected).requires_grad_()
    assert torch.equal(WeightedDiceLoss(weights).class_weights, weights.detach())
    assert torch.equal(WeightedDiceLoss(list(weights.detach())).class_weights, weights.detach())
    with pytest.raises(ValueError, match="on the device meta"):
        WeightedDiceLoss(torch.ones(2, device="meta"))
    with pytest.raises(TypeError, match="vector of counts"):
        viscera.class_weights(torch.ones(2, device="meta"), "simple")
