"""The blocks of `losses.dice_of_logits` as two Triton kernels, for NVIDIA and AMD GPUs: logits are read once a pass.

A kernel's program takes some voxels of one sub-volume, all classes of each, and keeps whatever it makes in registers.
The sums of the programs are added up by PyTorch, in the same order each time. Triton comes with PyTorch for GPUs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 4096  # numbers of a tile: classes, to the next power of two, times voxels
_TILES = 4  # of a program that sums


@triton.jit
def _merged(values_LV, kept_L1):
    hidden_1V = tl.sum(values_LV * (1.0 - kept_L1), axis=0)[None, :]
    first_L1 = tl.arange(0, values_LV.shape[0])[:, None] == 0
    return values_LV * kept_L1 + tl.where(first_L1, hidden_1V, 0.0)


@triton.jit
def _softmax_and_labels(logits, labels, places_LV, label_places_1V, there_LV, ignored, ignores: tl.constexpr):
    x_LV = tl.load(logits + places_LV, mask=there_LV, other=float("-inf")).to(tl.float32)
    e_LV = tl.exp(x_LV - tl.max(x_LV, axis=0)[None, :])
    y_LV = tl.load(labels + label_places_1V + places_LV * 0, mask=there_LV, other=0).to(tl.int32)
    if ignores:
        there_LV = there_LV & (y_LV != ignored)
    s_LV = tl.where(there_LV, e_LV / tl.sum(e_LV, axis=0)[None, :], 0.0)
    number_L1 = tl.arange(0, s_LV.shape[0])[:, None]
    return s_LV, tl.where(there_LV & (y_LV == number_L1), 1.0, 0.0)


@triton.jit
def _sums_kernel(
    logits,
    labels,
    labelled,
    sums,
    voxels,
    ignored,
    ignores: tl.constexpr,
    classes: tl.constexpr,
    padded: tl.constexpr,
    channels_last: tl.constexpr,
    tile: tl.constexpr,
    tiles: tl.constexpr,
):
    program, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    l_L1 = tl.arange(0, padded)[:, None]
    kept_L1 = tl.load(labelled + b * classes + l_L1, mask=l_L1 < classes, other=0).to(tl.float32)
    intersection_LV = tl.zeros((padded, tile), tl.float32)
    cardinality_LV = tl.zeros((padded, tile), tl.float32)
    for number in range(tiles):
        v_1V = ((program * tiles + number) * tile + tl.arange(0, tile)[None, :]).to(tl.int64)
        there_LV = (l_L1 < classes) & (v_1V < voxels)
        places_LV = v_1V * classes + l_L1 if channels_last else l_L1.to(tl.int64) * voxels + v_1V
        s_LV, r_LV = _softmax_and_labels(
            logits + b * voxels * classes, labels + b * voxels, places_LV, v_1V, there_LV, ignored, ignores
        )
        s_LV, r_LV = _merged(s_LV, kept_L1), _merged(r_LV, kept_L1)
        intersection_LV += s_LV * r_LV
        cardinality_LV += s_LV + r_LV
    row = (b * tl.num_programs(0) + program) * 2
    out_L = tl.arange(0, padded)
    tl.store(sums + row * classes + out_L, tl.sum(intersection_LV, axis=1), mask=out_L < classes)
    tl.store(sums + (row + 1) * classes + out_L, tl.sum(cardinality_LV, axis=1), mask=out_L < classes)


@triton.jit
def _gradient_kernel(
    logits,
    labels,
    labelled,
    by_sums,
    gradient,
    voxels,
    ignored,
    ignores: tl.constexpr,
    classes: tl.constexpr,
    padded: tl.constexpr,
    channels_last: tl.constexpr,
    tile: tl.constexpr,
):
    b = tl.program_id(1).to(tl.int64)
    l_L1 = tl.arange(0, padded)[:, None]
    is_class_L1 = l_L1 < classes
    kept_L1 = tl.load(labelled + b * classes + l_L1, mask=is_class_L1, other=0).to(tl.float32)
    by_intersection_L1 = tl.load(by_sums + b * 2 * classes + l_L1, mask=is_class_L1, other=0.0)
    by_cardinality_L1 = tl.load(by_sums + (b * 2 + 1) * classes + l_L1, mask=is_class_L1, other=0.0)
    v_1V = (tl.program_id(0) * tile + tl.arange(0, tile)[None, :]).to(tl.int64)
    there_LV = is_class_L1 & (v_1V < voxels)
    places_LV = v_1V * classes + l_L1 if channels_last else l_L1.to(tl.int64) * voxels + v_1V
    s_LV, r_LV = _softmax_and_labels(
        logits + b * voxels * classes, labels + b * voxels, places_LV, v_1V, there_LV, ignored, ignores
    )
    inside = _merged(r_LV, kept_L1) > 0
    g_LV = tl.where(inside, by_intersection_L1 + by_cardinality_L1, by_cardinality_L1)
    of_background_1V = tl.sum(tl.where(l_L1 == 0, g_LV, 0.0), axis=0)[None, :]
    g_LV = tl.where(kept_L1 > 0, g_LV, of_background_1V)
    gradient_LV = s_LV * (g_LV - tl.sum(g_LV * s_LV, axis=0)[None, :])
    tl.store(gradient + b * voxels * classes + places_LV, gradient_LV, mask=there_LV)


def _prepared(logits: Tensor, labels: Tensor, labelled: Tensor | None) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Dense logits, labels and mask, and whether the logits' classes lie side by side."""
    channels_last = not logits.is_contiguous() and logits.is_contiguous(memory_format=torch.channels_last_3d)
    mask = logits.new_ones(logits.shape[:2], dtype=torch.uint8) if labelled is None else labelled.byte().contiguous()
    return logits if channels_last else logits.contiguous(), labels.contiguous(), mask, channels_last


def _sizes(logits: Tensor) -> tuple[int, int, int, int]:
    """Voxels of a sub-volume, classes, these to the next power of two, and voxels of a tile."""
    classes, padded = logits.shape[1], triton.next_power_of_2(logits.shape[1])
    return logits[0, 0].numel(), classes, padded, max(_TILE // padded, 16)


def _known(ignored: int | None) -> tuple[int, bool]:
    """The label of voxels that count nowhere, and whether there is one."""
    return (0, False) if ignored is None else (ignored, True)


def fused_sums(
    logits: Tensor, labels: Tensor, labelled: Tensor | None, ignored: int | None = None
) -> tuple[Tensor, Tensor]:
    """Intersection and cardinality, (B, L) float32, without the voxels of the label `ignored`."""
    logits, labels, mask, channels_last = _prepared(logits, labels, labelled)
    voxels, classes, padded, tile = _sizes(logits)
    programs = triton.cdiv(voxels, tile * _TILES)
    sums = logits.new_empty(len(logits), programs, 2, classes, dtype=torch.float32)
    with torch.cuda.device_of(logits):  # Triton starts kernels on the current device
        _sums_kernel[programs, len(logits)](
            logits, labels, mask, sums, voxels, *_known(ignored), classes, padded, channels_last, tile, _TILES
        )
    intersection_BL, cardinality_BL = sums.sum(dim=1).unbind(1)
    return intersection_BL, cardinality_BL


def fused_gradient(
    logits: Tensor,
    labels: Tensor,
    labelled: Tensor | None,
    by_intersection_BL: Tensor,
    by_cardinality_BL: Tensor,
    ignored: int | None = None,
) -> Tensor:
    """Of the logits, in their type and layout."""
    logits, labels, mask, channels_last = _prepared(logits, labels, labelled)
    voxels, classes, padded, tile = _sizes(logits)
    gradient = torch.empty_like(logits)
    by_sums = torch.stack([by_intersection_BL, by_cardinality_BL], dim=1)
    grid = (triton.cdiv(voxels, tile), len(logits))
    with torch.cuda.device_of(logits):
        _gradient_kernel[grid](
            logits, labels, mask, by_sums, gradient, voxels, *_known(ignored), classes, padded, channels_last, tile
        )
    return gradient
