"""Resampling along one axis: each output voxel is a weighted sum of a few input voxels in a row.

On a grid that is f times as coarse, voxel o covers the fine voxels from o f to (o + 1) f. The last may reach over the
edge; it then covers what is there, and has its centre in the middle of that.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Index = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float64]
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Taps:
    """Weights along one axis.

    Attributes:
        first: (out,) the first input voxel of each output voxel; never decreases.
        weights: (out, taps) of that voxel and those after it; rows sum to 1, and are 0 beyond the last input voxel.
        num_in: input voxels.
    """

    first: Index
    weights: Weights
    num_in: int

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return self.weights.shape[1] == 1 and np.array_equal(self.first, np.arange(self.num_in))

    def voxel(self, tap: int) -> Index:
        """(out,) the input voxel of one of the taps; the last one where there is none."""
        return np.minimum(self.first + tap, self.num_in - 1)

    def spread(self, axis: int, array: npt.NDArray[Any], by: np.ufunc) -> npt.NDArray[Any]:
        """At each input voxel, `by` (a minimum or maximum) over it and as many after it as there are taps."""
        result = array
        for tap in range(1, self.weights.shape[1]):
            result = by(result, array.take(np.minimum(np.arange(self.num_in) + tap, self.num_in - 1), axis=axis))
        return result

    def along(self, axis: int, array: Tensor) -> Tensor:
        """A float array resampled along one axis."""
        if self.is_identity:
            return array
        shape = [-1 if each == axis % array.ndim else 1 for each in range(array.ndim)]
        total = None
        for tap in range(self.weights.shape[1]):
            part = array.index_select(axis, torch.from_numpy(self.voxel(tap)))
            if self.weights.shape[1] > 1:
                part.mul_(torch.from_numpy(self.weights[:, tap]).to(array.dtype).view(shape))
            total = part if total is None else total.add_(part)
        return array if total is None else total

    def along_planes(self, planes: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same along the axis on which the input comes plane by plane; holds as many as one output plane needs."""
        source, held, first_held = iter(planes), deque[Tensor](), 0
        for first, weights in zip(self.first.tolist(), self.weights, strict=True):
            used = np.flatnonzero(weights)
            while first_held < first:
                if held:
                    held.popleft()
                else:
                    next(source)
                first_held += 1
            while first_held + len(held) <= first + used[-1]:
                held.append(next(source))
            parts = [held[first - first_held + tap] for tap in used]
            yield parts[0] if len(parts) == 1 else _weighted_sum(parts, weights[used].tolist())


def axis_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """Means of what each output voxel covers where the output is coarser (`factor` ≥ 1), else linear interpolation.

    Args:
        num_in: voxels along the axis.
        num_out: voxels of the output.
        factor: size of an output voxel over that of an input voxel.
    """
    out = np.arange(num_out)
    if factor == 1 and num_in == num_out:
        return Taps(out, np.ones((num_out, 1)), num_in)
    if factor >= 1:
        low, high = out * factor, np.minimum((out + 1) * factor, num_in)
        first = np.floor(low + _ROUNDING).astype(np.intp).clip(0, num_in - 1)
        at = first[:, None] + np.arange(int(min(np.ceil(factor - _ROUNDING), num_in)) + 1)
        weights = np.clip(np.minimum(at + 1, high[:, None]) - np.maximum(at, low[:, None]), 0, None)
        weights[weights < _ROUNDING] = 0
        weights = weights[:, : 1 + int(np.flatnonzero(weights.any(axis=0))[-1])]
    else:
        centres = _centres(num_in, num_out, 1 / factor)
        first = (np.searchsorted(centres, out, side="right") - 1).clip(0, max(num_in - 2, 0))
        after = np.minimum(first + 1, num_in - 1)
        apart = np.maximum(centres[after] - centres[first], _ROUNDING)
        share = ((out - centres[first]) / apart).clip(0, 1) if num_in > 1 else np.zeros(num_out)
        weights = np.stack([1 - share, share], axis=1)
    return Taps(first, weights / weights.sum(axis=1, keepdims=True), num_in)


def nearest_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """The input voxel at each output voxel's centre; between two, that after it."""
    centres = _centres(num_out, num_in, factor) + 0.5
    first = np.floor(centres + _ROUNDING).astype(np.intp).clip(0, num_in - 1)
    return Taps(first, np.ones((num_out, 1)), num_in)


def _centres(num_coarse: int, num_fine: int, factor: float) -> Weights:
    """(coarse,) where the centre of what each coarse voxel covers lies, in fine voxels."""
    low = np.arange(num_coarse) * factor
    centres: Weights = (low + np.minimum(low + factor, num_fine) - 1) / 2
    return centres


def _weighted_sum(parts: list[Tensor], weights: list[float]) -> Tensor:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(part, alpha=weight)
    return total
