"""The sums of Eq. 2 by blocks of voxels, against the plain version: softmax of everything, then `soft_dice_sums`."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import viscera
from viscera.losses import dice, dice_of_logits
from viscera.losses.dice import soft_dice_sums
from viscera.losses.dice_of_logits import soft_dice_sums_of_logits
from viscera.losses.marginal import merged, merged_labels

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last_3d),
    "axes reversed": lambda x: x.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2),
    "every second voxel": lambda x: x.repeat_interleave(2, dim=4)[..., ::2],
}


def plain_sums(logits: Tensor, labels: Tensor, labelled: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the blocks replace."""
    probabilities = torch.softmax(logits.to(dice_of_logits.sum_type(logits)), dim=1)
    if labelled is not None:
        probabilities, labels = merged(probabilities, labelled), merged_labels(labels, labelled)
    return soft_dice_sums(probabilities, labels)


def sample(seed: int, classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels, and which classes are labelled."""
    generator = torch.Generator().manual_seed(seed)
    shape = [int(n) for n in torch.randint(1, 5, (4,), generator=generator)]
    logits = 4 * torch.randn(shape[0], classes, *shape[1:], generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, shape, generator=generator)
    labelled = torch.rand(shape[0], classes, generator=generator) < 0.6
    labelled[:, 0] = True
    return logits.to(dtype), labels, labelled


def gradient_of(sums: Callable[..., tuple[Tensor, ...]], logits: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """Both sums, and the gradient of a loss that weighs each of their terms differently."""
    logits = logits.detach().requires_grad_()
    intersection, cardinality = sums(logits, *others)
    ramp = torch.arange(1, intersection.numel() + 1, dtype=intersection.dtype).view_as(intersection)
    (gradient,) = torch.autograd.grad((intersection * ramp - cardinality / ramp).sum(), logits)
    return intersection.detach(), cardinality.detach(), gradient


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(1, 6),
    layout=st.sampled_from(list(LAYOUTS)),
    partly=st.booleans(),
    block=st.sampled_from([30, 2**17]),
    serial=st.booleans(),
    label_type=st.sampled_from([torch.uint8, torch.int16, torch.int64]),
)
def test_sums_and_gradient_are_those_of_the_plain_version(  # noqa: PLR0913, PLR0917 - all that a user may combine
    seed: int, classes: int, layout: str, partly: bool, block: int, serial: bool, label_type: torch.dtype
) -> None:
    logits, labels, labelled = sample(seed, classes)
    others = (labels.to(label_type), labelled if partly else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dice_of_logits, "_BLOCK", block)
        if not serial:  # as a GPU adds up
            patch.setattr(dice_of_logits, "_ONE_AFTER_ANOTHER", set())
        ours = gradient_of(soft_dice_sums_of_logits, LAYOUTS[layout](logits), *others)
    for value, expected in zip(ours, gradient_of(plain_sums, logits, *others), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_low_precision_rounds_once(dtype: torch.dtype, layout: str) -> None:
    logits, labels, labelled = sample(7, 5, dtype)
    ours = gradient_of(soft_dice_sums_of_logits, LAYOUTS[layout](logits), labels, labelled)
    exact = gradient_of(plain_sums, logits.double(), labels, labelled)
    assert ours[0].dtype == ours[1].dtype == torch.float32
    assert ours[2].dtype == dtype
    for value, expected in zip(ours[:2], exact[:2], strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    half_a_step = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(ours[2].double(), exact[2], rtol=half_a_step * 1.001, atol=3e-5)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_the_gradient_lies_in_memory_as_the_logits_do(layout: str) -> None:
    logits = LAYOUTS[layout](torch.randn(2, 3, 4, 5, 6))
    gradient = gradient_of(soft_dice_sums_of_logits, logits, torch.ones(2, 4, 5, 6, dtype=torch.int64), None)[2]
    assert gradient.stride() == logits.stride()


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
def test_first_and_second_derivatives_are_those_of_finite_differences(sums: Any, partly: bool) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (2, 2, 2, 1))
    labelled = torch.tensor([[True, True, False], [True, True, True]]) if partly else None
    loss = viscera.WeightedDiceLoss([0.5, 2.0, 7.0], sums=sums, smoothing=0.1)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, labelled), (logits,))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, labels, labelled), (logits,))


def test_one_forward_pass_serves_several_backward_passes() -> None:
    logits, labels, _ = sample(3, 4)
    logits.requires_grad_()
    terms = viscera.WeightedDiceLoss([1.0] * 4).per_class(logits, labels)
    each = [torch.autograd.grad(term, logits, retain_graph=True)[0] for term in terms]
    together = torch.autograd.grad(terms.sum(), logits)[0]
    torch.testing.assert_close(torch.stack(each).sum(dim=0), together)


def test_logits_of_minus_infinity_are_classes_ruled_out() -> None:
    logits, labels, _ = sample(5, 3, torch.float32)
    logits[:, 2] = -torch.inf
    ours = gradient_of(soft_dice_sums_of_logits, logits, labels.clamp(max=1), None)
    for value, expected in zip(ours, gradient_of(plain_sums, logits, labels.clamp(max=1), None), strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("shape", [(0, 3, 2, 2, 2), (2, 3, 0, 2, 2)])
def test_nothing_sums_to_nothing(shape: tuple[int, ...]) -> None:
    labels = torch.zeros(shape[0], *shape[2:], dtype=torch.uint8)
    sums = soft_dice_sums_of_logits(torch.zeros(shape), labels)
    assert [value.tolist() for value in sums] == [[[0.0] * 3] * shape[0]] * 2


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes how many bytes each tensor has that an operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        values = (*args, *(kwargs or {}).values())
        given = {x.untyped_storage().data_ptr() for x in values if isinstance(x, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in given:
            self.bytes.append(result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_as_large_as_the_logits_is_made_but_their_gradient(
    dtype: torch.dtype, partly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dice_of_logits, "_BLOCK", 2**12)
    logits = torch.randn(2, 8, 16, 16, 16).to(dtype).requires_grad_()
    labels = torch.zeros(2, 16, 16, 16, dtype=torch.uint8)
    labelled = torch.ones(2, 8, dtype=torch.bool) if partly else None
    loss = viscera.WeightedDiceLoss([1.0] * 8)
    with Made() as seen:
        torch.autograd.grad(loss(logits, labels, labelled), logits)
    large = [size for size in seen.bytes if size >= 2**16]  # a block has 2**14
    assert large == [logits.nbytes]


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of scatter_ under vmap, PyTorch's
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's of itself
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: torch.func.grad(f)(x),
        lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
        lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, 2 * x])),
        lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
        lambda f, x: torch.func.hessian(f)(x),
        lambda f, x: torch.compile(f, backend="eager", fullgraph=True)(x),
    ],
)
def test_transformed_it_is_the_plain_version(transform: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 2, 2, 1, 2, dtype=torch.float64), torch.tensor([[[[0, 1]], [[1, 1]]]])
    loss = viscera.WeightedDiceLoss([1.0, 3.0], check_labels=False)
    ours = transform(lambda x: loss(x, labels), logits)
    monkeypatch.setattr(dice, "is_possible", lambda _logits: False)
    torch.compiler.reset()
    torch.testing.assert_close(ours, transform(lambda x: loss(x, labels), logits))


def test_forward_mode_derivatives() -> None:
    logits, labels, _ = sample(2, 3)
    loss = viscera.WeightedDiceLoss([1.0, 2.0, 3.0])
    (gradient,) = torch.autograd.grad(loss(x := logits.clone().requires_grad_(), labels), x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, torch.ones_like(logits))  # type: ignore[no-untyped-call]
        value = torch.autograd.forward_ad.unpack_dual(loss(dual, labels))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(value.tangent, gradient.sum())


def test_where_kernels_do_not_run_the_blocks_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels, labelled = sample(4, 3, torch.float32)
    expected = gradient_of(soft_dice_sums_of_logits, logits, labels, labelled)
    monkeypatch.setitem(sys.modules, "triton", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "viscera.losses.fused_dice_sums", raising=False)
    monkeypatch.setattr(dice_of_logits, "_FUSED_ON", {"cpu"})
    monkeypatch.setattr(dice_of_logits, "_FUSED", {})
    for value, right in zip(gradient_of(soft_dice_sums_of_logits, logits, labels, labelled), expected, strict=True):
        assert torch.equal(value, right)
    assert {torch.device("cpu"): None} == dice_of_logits._FUSED
