"""Losses and networks in other people's training loops, as PyTorch lets them be written."""

import copy
import io
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import viscera
from viscera.core.errors import BadInputError
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss

WEIGHTS = [1.0, 2.0, 5.0]


def sample(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Images (B, 1, I, J, K) of bright cubes, and their class numbers (B, I, J, K)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(batch, 8, 8, 8, dtype=torch.int64)
    labels[:, 1:5, 1:5, 2:7] = 1
    labels[:, 5:7, 3:7, 1:4] = 2
    return labels[:, None] / 2 + 0.1 * torch.rand(labels[:, None].shape, generator=generator), labels


def network(**design: Any) -> viscera.UNet3D:
    torch.manual_seed(0)
    return viscera.UNet3D(1, 3, 4, 2, design=viscera.NetworkConfig(**design))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_with_a_scaler_learns(dtype: torch.dtype) -> None:
    net, loss = network(), WeightedDiceLoss(WEIGHTS)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16, init_scale=2.0**10)
    values = []
    for step in range(15):
        x, labels = sample(step)
        with torch.autocast("cpu", dtype=dtype):
            logits = net(x)
            value = loss(logits, labels)
        assert (logits.dtype, value.dtype) == (dtype, torch.float32)
        optimiser.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()
        values.append(value.item())
    assert values[-1] < values[0] - 0.3


def test_accumulated_gradients_of_sub_volumes_are_those_of_the_batch() -> None:
    """With sums of each sub-volume and instance normalisation the loss is a mean over sub-volumes."""
    net, (x, labels) = network(normalisation="instance").double(), sample(batch=3)
    x = x.double()
    loss = WeightedDiceLoss(WEIGHTS, sums="sub_volume")
    together = torch.autograd.grad(loss(net(x), labels), list(net.parameters()))
    for b in range(3):
        (loss(net(x[b : b + 1]), labels[b : b + 1]) / 3).backward()
    for parameter, expected in zip(net.parameters(), together, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_it_has_the_same_gradient(reentrant: bool) -> None:
    net, loss, (x, labels) = network(dropout=0.5), WeightedDiceLoss(WEIGHTS), sample()
    x.requires_grad_()
    found: list[list[Tensor]] = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        net.zero_grad()
        x.grad = None
        logits = checkpoint(net, x, use_reentrant=reentrant) if checkpointed else net(x)
        loss(logits, labels).backward()
        found.append([each.grad.clone() for each in (x, *net.parameters()) if each.grad is not None])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain)


def test_a_compiled_network_and_loss_are_what_they_are() -> None:
    net, loss, (x, labels) = network().eval(), WeightedDiceLoss(WEIGHTS), sample()
    torch.compiler.reset()
    step = torch.compile(lambda a, b: loss(net(a), b), backend="aot_eager", fullgraph=True)
    value, plain = step(x, labels), loss(net(x), labels)
    torch.testing.assert_close(value, plain)
    for found, expected in zip(*(torch.autograd.grad(v, list(net.parameters())) for v in (value, plain)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_the_same_and_apart(how: str) -> None:
    net, loss, (x, labels) = network(dropout=0.5, deep_supervision=False), WeightedDiceLoss(WEIGHTS), sample()
    if how == "torch.save":
        file = io.BytesIO()
        torch.save((net, loss), file)
        file.seek(0)
        other, other_loss = torch.load(file, weights_only=False)
    else:
        copied: Any = copy.deepcopy if how == "deepcopy" else lambda both: pickle.loads(pickle.dumps(both))  # noqa: S301
        other, other_loss = copied((net, loss))
    assert torch.equal(other_loss(other.eval()(x), labels), loss(net.eval()(x), labels))
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert not torch.equal(other(x), net(x))


def test_states_are_taken_across_settings_that_have_no_weights() -> None:
    state = network().state_dict()
    assert list(network(dropout=0.3).state_dict()) == list(state)
    network(dropout=0.3).load_state_dict(state, strict=True)
    loss = WeightedDiceLoss(WEIGHTS, sums="sub_volume", smoothing=1.0, ignore_index=255, inputs="probabilities")
    loss.load_state_dict(WeightedDiceLoss([9.0, 8.0, 7.0]).state_dict(), strict=True)
    assert loss.class_weights.tolist() == [9, 8, 7]


def test_a_functional_call_has_the_gradient_of_a_plain_one() -> None:
    net, loss, (x, labels) = network().eval(), WeightedDiceLoss(WEIGHTS), sample()
    parameters, buffers = dict(net.named_parameters()), dict(net.named_buffers())

    def of(values: Mapping[str, Tensor]) -> Tensor:
        value: Tensor = loss(torch.func.functional_call(net, ({**values}, buffers), (x,)), labels)
        return value

    found = torch.func.grad(of)(parameters)
    expected = torch.autograd.grad(loss(net(x), labels), list(parameters.values()))
    for gradient, right in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_layouts_and_views_give_the_same(layout: torch.memory_format) -> None:
    net, loss, (x, labels) = network().eval(), WeightedDiceLoss(WEIGHTS), sample()
    expected = loss(net(x), labels)
    other = net.to(memory_format=layout)  # type: ignore[call-overload]
    wide = x.repeat_interleave(2, dim=2)[:, :, ::2].to(memory_format=layout)
    wide_labels = labels.repeat_interleave(2, dim=3)[..., ::2]
    assert not wide_labels.is_contiguous()
    torch.testing.assert_close(loss(other(wide), wide_labels), expected)
    torch.testing.assert_close(loss(other(x.transpose(2, 4)).transpose(2, 4), labels).isfinite(), torch.tensor(True))


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("inputs", ["logits", "probabilities"])
@pytest.mark.parametrize("partly", [False, True])
def test_no_sub_volume_has_a_loss_of_0_and_a_gradient(sums: Any, inputs: Any, partly: bool) -> None:
    labelled = torch.ones(0, 3, dtype=torch.bool) if partly else None
    options: dict[str, Any] = {"sums": sums, "inputs": inputs}
    for loss in (WeightedDiceLoss(WEIGHTS, **options), DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS, **options)):
        logits = torch.zeros(0, 3, 2, 2, 2, requires_grad=True)
        value = loss(logits, torch.zeros(0, 2, 2, 2, dtype=torch.uint8), labelled)
        value.backward()
        assert value.item() == 0


class Named(Tensor):
    """A tensor of another framework, as MONAI's MetaTensor: what is computed of it is one of them."""


@pytest.mark.parametrize("inputs", ["logits", "probabilities"])
def test_tensors_of_other_frameworks_are_taken_as_they_are(inputs: Any) -> None:
    values, labels = torch.rand(2, 3, 4, 4, 4), sample()[1][:, :4, :4, :4]
    for loss in (WeightedDiceLoss(WEIGHTS, inputs=inputs), DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS, inputs=inputs)):
        plain, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
        value = loss(theirs.as_subclass(Named), labels.as_subclass(Named))
        expected = loss(plain, labels)
        value.backward()
        expected.backward()
        assert type(value) is Tensor
        assert torch.equal(value, expected)
        assert plain.grad is not None
        assert theirs.grad is not None
        assert torch.equal(theirs.grad, plain.grad)


@pytest.mark.parametrize(
    ("voxel_weights", "factor", "message"),
    [
        ([1.0, 2.0], 1.0, "voxel_weights: 2 of them, and 3 class weights"),
        ([1.0, 2.0, -1.0], 1.0, "voxel_weights: .* at least 0"),
        (["a", 2.0, 3.0], 1.0, "voxel_weights: "),
        (WEIGHTS, "1", "factor='1': a number"),
        (WEIGHTS, -1.0, "factor=-1.0: a finite number of at least 0"),
    ],
)
def test_a_cross_entropy_that_cannot_be(voxel_weights: Any, factor: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        DiceAndCrossEntropyLoss(WEIGHTS, voxel_weights, factor=factor)


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
def test_a_single_class_is_minus_1_times_its_weight(sums: Any) -> None:
    """Softmax of one class is 1 everywhere: 2 N / (N + N)."""
    logits = torch.randn(2, 1, 2, 3, 4, requires_grad=True)
    value = WeightedDiceLoss([7.0], sums=sums)(logits, torch.zeros(2, 2, 3, 4, dtype=torch.uint8))
    value.backward()
    assert value.item() == -7
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
@pytest.mark.parametrize("inputs", ["logits", "probabilities"])
def test_logits_of_another_type_are_a_type_error(dtype: torch.dtype, inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"logits: .*floating-point numbers were expected"):
        WeightedDiceLoss([1.0, 1.0], inputs=inputs)(
            torch.zeros(1, 2, 2, 2, 2, dtype=dtype), torch.zeros(1, 2, 2, 2).long()
        )


@pytest.mark.parametrize("wrong", ["255", 2.5, 255.0, True, [255], torch.tensor(255)])
def test_an_ignored_label_that_is_no_number_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"ignore_index=.*a whole number that is no class was expected"):
        WeightedDiceLoss(WEIGHTS, ignore_index=wrong)


def test_one_hot_labels_are_told_what_to_do() -> None:
    one_hot = torch.nn.functional.one_hot(torch.zeros(1, 2, 2, 2).long(), 3)
    for labels, how in ((one_hot.movedim(-1, 1), r"argmax\(1\)"), (one_hot, r"argmax\(-1\)")):
        with pytest.raises(BadInputError, match=how):
            WeightedDiceLoss(WEIGHTS)(torch.zeros(1, 3, 2, 2, 2), labels)


@pytest.mark.parametrize("wrong", [torch.ones(2, 3), [[True] * 3] * 2, torch.ones(3, 2, dtype=torch.bool)])
def test_labelled_of_another_kind_is_refused(wrong: Any) -> None:
    logits, labels = torch.zeros(2, 3, 2, 2, 2), torch.zeros(2, 2, 2, 2, dtype=torch.uint8)
    with pytest.raises(BadInputError, match=r"labelled: .*bool of shape \(2, 3\) was expected"):
        WeightedDiceLoss(WEIGHTS)(logits, labels, wrong)
