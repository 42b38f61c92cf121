"""The losses where no value can be looked at: they are traced, transformed, or without values."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.jit._trace import TracerWarning

import viscera
from viscera.core.anatomy import IGNORED
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss
from viscera.plugins.monai import MonaiDiceLoss

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # of vmap, PyTorch's
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # PyTorch's of itself
]
WEIGHTS = [1.0, 3.0, 0.5]
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.randint(0, 3, (2, 4, 3, 2), generator=GENERATOR)
WITH_IGNORED = LABELS.masked_fill(torch.rand(LABELS.shape, generator=GENERATOR) < 0.3, IGNORED)
LABELLED = torch.tensor([[True, True, False], [True, True, True]])


class OfLogits(nn.Module):
    """A loss of logits alone, also where it takes probabilities."""

    def __init__(self, loss: nn.Module, probabilities: bool = False, labelled: Tensor | None = None) -> None:
        super().__init__()
        self.loss, self.probabilities, self.labelled = loss, probabilities, labelled

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        values = torch.softmax(logits, dim=1) if self.probabilities else logits
        found: Tensor = self.loss(values, labels) if self.labelled is None else self.loss(values, labels, self.labelled)
        return found


def losses(check_labels: bool) -> dict[str, tuple[OfLogits, Tensor]]:
    options: dict[str, Any] = {"check_labels": check_labels}
    return {
        "batch": (OfLogits(WeightedDiceLoss(WEIGHTS, **options)), LABELS),
        "sub-volumes": (OfLogits(WeightedDiceLoss(WEIGHTS, sums="sub_volume", smoothing=1e-5, **options)), LABELS),
        "ignored": (OfLogits(WeightedDiceLoss(WEIGHTS, ignore_index=IGNORED, **options)), WITH_IGNORED),
        "probabilities": (OfLogits(WeightedDiceLoss(WEIGHTS, inputs="probabilities", **options), True), LABELS),
        "labelled": (OfLogits(WeightedDiceLoss(WEIGHTS, **options), labelled=LABELLED), LABELS),
        "cross-entropy": (OfLogits(DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS, **options)), LABELS),
    }


NAMES = list(losses(True))
BYTES = torch.uint8  # of labels

TRACED: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "compile": lambda loss, x, y: torch.compile(loss, backend="aot_eager", fullgraph=True)(x, y),
    "export": lambda loss, x, y: torch.export.export(loss, (x, y)).module()(x, y),
    "strict export": lambda loss, x, y: torch.export.export(loss, (x, y), strict=True).module()(x, y),
    "trace": lambda loss, x, y: torch.jit.trace(loss, (x, y))(x, y),  # type: ignore[no-untyped-call]
    "vmap": lambda loss, x, y: torch.func.vmap(lambda a, b: loss(a[None], b[None]))(x, y).mean(),
    "grad": lambda loss, x, y: torch.func.grad(loss)(x, y),
    "vmap of grad": lambda loss, x, y: torch.func.vmap(torch.func.grad(lambda a, b: loss(a[None], b[None])))(x, y),
}


def expected(how: str, loss: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Without any of that."""
    x = x.clone().requires_grad_()
    if how == "vmap":
        return torch.stack([loss(a[None], b[None]) for a, b in zip(x, y, strict=True)]).mean()
    if how == "vmap of grad":
        return torch.autograd.grad(sum(loss(a[None], b[None]) for a, b in zip(x, y, strict=True)), x)[0]
    return torch.autograd.grad(loss(x, y), x)[0] if how == "grad" else loss(x, y)


@pytest.mark.parametrize("check_labels", [True, False])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", TRACED)
def test_traced_it_is_what_it_is(how: str, name: str, check_labels: bool) -> None:
    loss, labels = losses(check_labels)[name]
    if how.startswith("vmap") and loss.labelled is not None:
        loss.labelled = LABELLED[:1]
    labels = labels.to(BYTES)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # of shapes, which are looked at
        found = TRACED[how](loss, LOGITS, labels)
    torch.testing.assert_close(found, expected(how, loss, LOGITS, labels))


@pytest.mark.parametrize("name", ["batch", "ignored", "probabilities", "cross-entropy"])
def test_several_label_maps_of_one_prediction(name: str) -> None:
    loss, labels = losses(True)[name]
    several = torch.stack([labels, labels.flip(1), labels.flip(2)])
    found = torch.func.vmap(loss, in_dims=(None, 0))(LOGITS, several)
    torch.testing.assert_close(found, torch.stack([loss(LOGITS, each) for each in several]))


@pytest.mark.parametrize("name", NAMES)
def test_of_meta_tensors_it_has_a_shape_and_a_gradient(name: str) -> None:
    loss, labels = losses(True)[name]
    loss = loss.to("meta")
    loss.labelled = None if loss.labelled is None else loss.labelled.to("meta")
    logits = LOGITS.to("meta").requires_grad_()
    value = loss(logits, labels.to("meta"))
    value.backward()
    assert (value.shape, value.device.type) == ((), "meta")
    assert logits.grad is not None
    assert logits.grad.shape == LOGITS.shape


@pytest.mark.parametrize("name", NAMES)
def test_of_fake_tensors_too(name: str) -> None:
    loss, labels = losses(True)[name]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        logits = mode.from_tensor(LOGITS).requires_grad_()
        loss(logits, mode.from_tensor(labels)).backward()
        assert logits.grad is not None
        assert logits.grad.shape == LOGITS.shape


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("how", ["compile", "export", "trace", "grad"])
def test_monais_adapter_too(how: str, one_hot: bool) -> None:
    loss = MonaiDiceLoss(WEIGHTS, softmax=True, to_onehot_y=not one_hot)
    labels = nn.functional.one_hot(LABELS).movedim(-1, 1) if one_hot else LABELS[:, None].float()
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        found = TRACED[how](loss, LOGITS, labels)
    torch.testing.assert_close(found, expected(how, loss, LOGITS, labels))


def test_what_it_is_compared_with_is_said_in_the_documentation() -> None:
    text = inspect.getdoc(viscera.WeightedDiceLoss) or ""
    assert all(word in text for word in ("torch.compile", "torch.export", "torch.func", "meta", "check_labels=False"))


def test_labels_on_another_device_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels: on cpu, the logits on meta. Pass labels.to\(logits.device\)"):
        WeightedDiceLoss(WEIGHTS)(LOGITS.to("meta"), LABELS)


def test_weights_follow_to_the_logits_device() -> None:
    loss = DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS)  # on the CPU, as MONAI's DiceLoss may stay
    assert loss(LOGITS.to("meta"), LABELS.to("meta")).device.type == "meta"
