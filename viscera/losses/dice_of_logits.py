"""The sums of Eq. 2 straight from the logits: a block of voxels at a time, with neither one-hot code nor softmax kept.

    soft_dice_sums_of_logits(logits, labels) = soft_dice_sums(torch.softmax(logits, dim=1), labels)

The right side is `losses.dice`, which is the one to read; to train through it takes several tensors as large as the
logits, in float32. Here the forward pass keeps nothing but logits and labels. The backward pass computes the softmax s
of each block again and writes the gradient of the logits, which is, with g the derivative of the loss by s,

    g = dI r + dC,    gradient = s (g - Σ_l g s)

where dI and dC are the derivatives by intersection and cardinality, (B, L), and r is the one-hot code of the labels.

The cross-entropy rides along where it is wanted: Σ -log s over the voxels of each class, whose gradient is s - r.
Voxels that nobody labelled have s = r = 0 and, as s is a factor of it, no gradient.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from viscera.losses.loss_inputs import is_readable
from viscera.losses.marginal import merged, merged_labels

_BLOCK = 2**17  # numbers, L times voxels, for each thread: two blocks fit into a core's second cache
_LARGE_BLOCK = 2**23  # on a GPU, where a block is some thirty kernels, and small ones wait for their launches
_ONE_AFTER_ANOTHER = {"cpu"}  # devices that add up voxel after voxel; the threads of a GPU would wait at L places
LEAST = 1e-37  # probability of which a logarithm is taken: a number of float32
_FUSED_ON = {"cuda"}
_FUSED: dict[torch.device, ModuleType | None] = {}  # what was found of each device
_FUSED_IGNORING: dict[torch.device, ModuleType | None] = {}  # the same of kernels that leave voxels out


def sum_type(logits: Tensor) -> torch.dtype:
    """What is summed in: float32, or float64 for float64 logits."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def is_possible(logits: Tensor) -> bool:
    """Whether autograd alone looks on: torch.compile and torch.func see through the plain version, not through this."""
    if not is_readable(logits):
        return False
    return unpack_dual(logits).tangent is None  # type: ignore[no-untyped-call]


def soft_dice_sums_of_logits(
    logits_BLIJK: Tensor,
    labels_BIJK: Tensor,
    labelled_BL: Tensor | None = None,
    *,
    with_entropy: bool = False,
    ignore_index: int | None = None,
) -> tuple[Tensor, ...]:
    """Intersection and cardinality, (B, L) each, of softmax and labels, both merged where classes are not labelled.

    With entropy also Σ -log s of the voxels of each class, and their number, (B, L) each, of what is merged. Voxels
    with the label `ignore_index` are in none.
    """
    sums: tuple[Tensor, ...] = _Sums.apply(logits_BLIJK, labels_BIJK, labelled_BL, with_entropy, ignore_index)  # type: ignore[no-untyped-call]
    return sums


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - of autograd
        logits_BLIJK: Tensor,
        labels_BIJK: Tensor,
        labelled_BL: Tensor | None,
        with_entropy: bool,
        ignored: int | None,
    ) -> tuple[Tensor, ...]:
        tensors = logits_BLIJK, labels_BIJK, labelled_BL
        ctx.save_for_backward(*tensors)
        ctx.ignored = ignored
        fused = None if with_entropy else _fused(logits_BLIJK, ignored is not None)
        sums: tuple[Tensor, ...]
        if fused:
            sums = fused.fused_sums(*tensors, ignored)
        else:
            sums = _sums(*tensors, with_entropy=with_entropy, ignored=ignored)
        if with_entropy:
            ctx.mark_non_differentiable(sums[-1])
        return sums

    @staticmethod
    def backward(ctx: Any, *by_sums_BL: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - of autograd
        tensors, by_sums_BL = ctx.saved_tensors, by_sums_BL[:3]  # the number of voxels is a constant
        gradient = _gradient
        if torch.is_grad_enabled():  # by create_graph=True
            gradient = _differentiable_gradient
        elif len(by_sums_BL) == 2 and (fused := _fused(tensors[0], ctx.ignored is not None)):
            gradient = fused.fused_gradient
        return gradient(*tensors, *by_sums_BL, ignored=ctx.ignored), None, None, None, None


class _Block(NamedTuple):
    """Voxels of one sub-volume."""

    b: int  # number of the sub-volume
    voxels: slice
    softmax: Tensor  # (L, V), 0 where nobody labelled the voxel; its memory is that of the next block as well
    labels: Tensor  # (V,) merged, int64; 0 where nobody labelled the voxel
    places: Tensor  # (V,) of the labels in the flat softmax
    known: Tensor | None  # (V,) bool, whether somebody labelled the voxel; None: all

    def counted(self, values_V: Tensor) -> Tensor:
        """(V,) with 0 where nobody labelled the voxel."""
        return values_V if self.known is None else values_V.mul_(self.known)


def _blocks(
    logits_BLIJK: Tensor, labels_BIJK: Tensor, labelled_BL: Tensor | None, ignored: int | None
) -> Iterator[_Block]:
    """All voxels, a block of one sub-volume at a time."""
    logits_BLV, labels_BV = logits_BLIJK.flatten(2), labels_BIJK.flatten(1)
    classes, voxels = logits_BLV.shape[1:]
    numbers = _BLOCK * torch.get_num_threads() if logits_BLV.device.type == "cpu" else _LARGE_BLOCK
    size = max(min(numbers // classes, voxels), 1)
    memory = logits_BLV.new_empty(classes * size, dtype=sum_type(logits_BLV))
    numbers_V = torch.arange(size, device=memory.device)
    for b in range(len(logits_BLV)):
        for start in range(0, voxels, size):
            part = slice(start, min(start + size, voxels))
            n = part.stop - part.start
            values_LV = memory[: classes * n].view(classes, n)
            values_LV[None].copy_(logits_BLV[b : b + 1, :, part])  # of 2 axes, PyTorch would take a slower way
            labels_V, known_V = labels_BV[b, part].long(), None
            values_LV.sub_(values_LV.amax(dim=0)).exp_()  # softmax by hand: torch.softmax takes 1.5 times as long
            total_V = values_LV.sum(dim=0)
            if ignored is not None:
                known_V = labels_V != ignored
                labels_V = labels_V * known_V
                if total_V.device.type != "cpu" or bool(total_V.isnan().any()):  # of which a product would leave NaN
                    values_LV.masked_fill_(~known_V, 0)
                total_V = total_V.masked_fill_(~known_V, torch.inf)
            values_LV.mul_(total_V.reciprocal_())
            if labelled_BL is not None:
                labels_V = merged_labels(labels_V[None], labelled_BL[b : b + 1])[0]
            yield _Block(b, part, values_LV, labels_V, torch.add(numbers_V[:n], labels_V, alpha=n), known_V)


def _fused(logits: Tensor, ignores: bool) -> ModuleType | None:
    """The kernels of `losses.fused_dice_sums`, where there is Triton and they gave the sums of a small sample once."""
    device = logits.device
    if device.type not in _FUSED_ON or logits.dtype == torch.float64 or logits.numel() == 0:
        return None
    found = _FUSED_IGNORING if ignores else _FUSED
    if device not in found:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None  # to compare is to wait, which a recording does not allow
        found[device] = _tested(device, ignores)
    return found[device]


def _tested(device: torch.device, ignores: bool) -> ModuleType | None:
    logits = torch.linspace(-9, 9, 210, device=device).sin().mul(5).view(2, 3, 5, 7, 1)
    labels, labelled = logits.argsort(dim=1)[:, 0], torch.tensor([[1, 1, 1], [1, 1, 0]], device=device).bool()
    by_sums = torch.arange(1.0, 7.0, device=device).view(2, 3), torch.arange(6.0, 0.0, -1.0, device=device).view(2, 3)
    try:
        from viscera.losses import fused_dice_sums  # noqa: PLC0415 - Triton is not everywhere

        ignored = 7 if ignores else None
        if ignored is not None:
            labels = labels.masked_fill(logits[:, 0] > 2, ignored)
        sums = fused_dice_sums.fused_sums(logits, labels, labelled, ignored)
        gradient = fused_dice_sums.fused_gradient(logits, labels, labelled, *by_sums, ignored=ignored)
        expected = (
            *_sums(logits, labels, labelled, ignored=ignored),
            _gradient(logits, labels, labelled, *by_sums, ignored=ignored),
        )
        for value, right in zip((*sums, gradient), expected, strict=True):
            torch.testing.assert_close(value, right, rtol=1e-4, atol=1e-4)
    except Exception:  # noqa: BLE001 - no Triton, no C compiler, a GPU that it does not know: the blocks are always there
        return None
    return fused_dice_sums


def _sums(
    logits_BLIJK: Tensor,
    labels_BIJK: Tensor,
    labelled_BL: Tensor | None,
    *,
    with_entropy: bool = False,
    ignored: int | None = None,
) -> tuple[Tensor, ...]:
    dtype = torch.float64 if logits_BLIJK.device.type == "cpu" else sum_type(logits_BLIJK)
    sums_NBL = logits_BLIJK.new_zeros(4 if with_entropy else 2, *logits_BLIJK.shape[:2], dtype=dtype)
    for block in _blocks(logits_BLIJK, labels_BIJK, labelled_BL, ignored):
        b, _, s_LV, labels_V, places_V, _ = block
        if labelled_BL is not None:
            s_LV.copy_(merged(s_LV[None, ..., None, None], labelled_BL[b : b + 1])[0, ..., 0, 0])
        own_V = s_LV.view(-1).index_select(0, places_V).to(dtype)
        _add_by_class(sums_NBL[0, b], labels_V, own_V)
        _add_by_class(sums_NBL[1, b], labels_V, block.counted(torch.ones_like(own_V)))
        sums_NBL[1, b] += s_LV.sum(dim=1)
        if with_entropy:
            _add_by_class(sums_NBL[2, b], labels_V, block.counted(own_V.clamp(min=LEAST).log().neg()))
            _add_by_class(sums_NBL[3, b], labels_V, block.counted(torch.ones_like(own_V)))
    return sums_NBL.to(sum_type(logits_BLIJK)).unbind()


def _add_by_class(sums_L: Tensor, labels_V: Tensor, values_V: Tensor) -> None:
    if sums_L.device.type in _ONE_AFTER_ANOTHER:
        sums_L.scatter_add_(0, labels_V, values_V)
    else:
        one_hot_LV = labels_V == torch.arange(len(sums_L), device=labels_V.device)[:, None]
        sums_L += (one_hot_LV * values_V).sum(dim=1)


def _gradient(  # noqa: PLR0913 - what was given, and the derivative by each sum
    logits_BLIJK: Tensor,
    labels_BIJK: Tensor,
    labelled_BL: Tensor | None,
    by_intersection_BL: Tensor,
    by_cardinality_BL: Tensor,
    by_entropy_BL: Tensor | None = None,
    *,
    ignored: int | None = None,
) -> Tensor:
    """Of the logits, in their type and layout; a block is computed in `gradient_LV` and copied into place."""
    channels_last = logits_BLIJK.is_contiguous(memory_format=torch.channels_last_3d)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    gradient_BLIJK = torch.empty_like(logits_BLIJK, memory_format=layout)
    gradient_BLV, logits_BLV = gradient_BLIJK.flatten(2), logits_BLIJK.flatten(2)  # of both layouts a view
    memory: Tensor | None = None
    for block in _blocks(logits_BLIJK, labels_BIJK, labelled_BL, ignored):
        b, voxels, s_LV, labels_V, places_V, _ = block
        memory = torch.empty_like(s_LV) if memory is None else memory
        g_LV = memory.view(-1)[: s_LV.numel()].view(s_LV.shape).copy_(by_cardinality_BL[b, :, None])
        g_LV.view(-1).scatter_add_(0, places_V, by_intersection_BL[b].index_select(0, labels_V))
        if labelled_BL is not None:
            g_LV.copy_(torch.where(labelled_BL[b, :, None], g_LV, g_LV[0]))
        mean_V = g_LV.mul_(s_LV).sum(dim=0)
        if by_entropy_BL is not None:
            pull_V = block.counted(by_entropy_BL[b].index_select(0, labels_V))
            if labelled_BL is None:
                g_LV.scatter_add_(0, labels_V[None], -pull_V[None])
            else:
                logits_LV = logits_BLV[b, :, voxels].to(s_LV.dtype)
                logits_LV = logits_LV if block.known is None else logits_LV.masked_fill(~block.known, 0)
                g_LV -= _targets(logits_LV, labels_V, labelled_BL[b]) * pull_V
            mean_V -= pull_V
        target_1LV = gradient_BLV[b : b + 1, :, voxels]
        if target_1LV.stride(2) == 1:
            torch.addcmul(g_LV, s_LV, mean_V, value=-1, out=target_1LV[0])
        else:  # channels last: changing type and layout at once would take longer
            target_1LV.copy_(g_LV.addcmul_(s_LV, mean_V, value=-1).to(logits_BLIJK.dtype)[None])
    return gradient_BLIJK


def _targets(logits_LV: Tensor, labels_V: Tensor, labelled_L: Tensor) -> Tensor:
    """(..., L, V) what the entropy's gradient draws the probabilities to: the class of a voxel.

    Of a voxel of background that is each of its classes, by its part of their probability together.
    """
    is_first_L1 = (torch.arange(labelled_L.shape[-1], device=labelled_L.device) == 0)[:, None]
    within_L1 = ~labelled_L[..., None] | is_first_L1
    parts_LV = torch.softmax(logits_LV.masked_fill(~within_L1, -torch.inf), dim=-2)
    one_hot_LV = labels_V[..., None, :] == torch.arange(labelled_L.shape[-1], device=labels_V.device)[:, None]
    return torch.where(labels_V[..., None, :] == 0, parts_LV, one_hot_LV)


def _differentiable_gradient(  # noqa: PLR0913 - as `_gradient`
    logits_BLIJK: Tensor,
    labels_BIJK: Tensor,
    labelled_BL: Tensor | None,
    by_intersection_BL: Tensor,
    by_cardinality_BL: Tensor,
    by_entropy_BL: Tensor | None = None,
    *,
    ignored: int | None = None,
) -> Tensor:
    """The same of all voxels at once, for second derivatives."""
    logits_BLV, labels_BIJK, unknown_B1V = logits_BLIJK.flatten(2), labels_BIJK.long(), None
    if ignored is not None:
        unknown_B1V = (labels_BIJK == ignored).flatten(1).unsqueeze(1)
        labels_BIJK = labels_BIJK.masked_fill(labels_BIJK == ignored, 0)
        logits_BLV = logits_BLV.masked_fill(unknown_B1V, 0)
    s_BLV = torch.softmax(logits_BLV.to(sum_type(logits_BLIJK)), dim=1)
    if labelled_BL is not None:
        labels_BIJK = merged_labels(labels_BIJK, labelled_BL)
    one_hot_BLV = torch.zeros_like(s_BLV).scatter_(1, labels_BIJK.flatten(1).unsqueeze(1), 1.0)
    # chosen, not multiplied: of a class that is not there the derivative by the intersection may be infinite
    g_BLV = torch.where(one_hot_BLV > 0, by_intersection_BL[..., None], 0) + by_cardinality_BL[..., None]
    if labelled_BL is not None:
        g_BLV = torch.where(labelled_BL[..., None], g_BLV, g_BLV[:, :1])
    gradient_BLV = s_BLV * (g_BLV - (g_BLV * s_BLV).sum(dim=1, keepdim=True))
    if by_entropy_BL is not None:
        labels_BV = labels_BIJK.flatten(1)
        targets_BLV = (
            one_hot_BLV if labelled_BL is None else _targets(logits_BLV.to(s_BLV.dtype), labels_BV, labelled_BL)
        )
        gradient_BLV = gradient_BLV + by_entropy_BL.gather(1, labels_BV)[:, None] * (s_BLV - targets_BLV)
    if unknown_B1V is not None:
        gradient_BLV = gradient_BLV.masked_fill(unknown_B1V, 0)
    return gradient_BLV.to(logits_BLIJK.dtype).view(logits_BLIJK.shape)
