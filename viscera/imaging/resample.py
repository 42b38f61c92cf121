"""From a scan's grid to the network's and back.

A coarse voxel o along an axis covers the fine voxels from o f to (o + 1) f, f the factor of that axis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.config import PrepareConfig
from viscera.core.geometry import Geometry, Index3
from viscera.core.scan import LabelArray, LabelMap, Volume

_SLAB_VOXELS = 4_000_000


@dataclass(frozen=True)
class GridChange:
    """How a fine grid and a coarse grid relate.

    Attributes:
        fine, coarse: both grids; their first voxels start at the same corner.
        factors: coarse over fine voxel size along each axis; below 1 where the "coarse" grid is the finer one.
    """

    fine: Geometry
    coarse: Geometry
    factors: tuple[float, float, float]

    @classmethod
    def by_factor(cls, fine: Geometry, factors: Sequence[float]) -> "GridChange":
        """Coarser by these factors; the last voxel of an axis may reach over the edge."""
        i, j, k = (max(1, int(np.ceil(n / f - 1e-3))) for n, f in zip(fine.shape, factors, strict=True))
        return cls(fine, fine.scaled(factors, (i, j, k)), (float(factors[0]), float(factors[1]), float(factors[2])))

    @classmethod
    def to_spacing(cls, fine: Geometry, spacing_mm: Sequence[float]) -> "GridChange":
        """To voxels of this size in mm."""
        return cls.by_factor(fine, [to / at for to, at in zip(spacing_mm, fine.spacing_mm, strict=True)])

    @classmethod
    def prepared(cls, fine: Geometry, prepare: PrepareConfig) -> "GridChange":
        """From a scan's canonical grid to the one that the network sees: row 3 of the paper, or a given spacing."""
        if prepare.spacing_mm is not None:
            return cls.to_spacing(fine, [prepare.spacing_mm] * 3)
        factor = prepare.downsample
        return cls.by_factor(fine, [factor, factor, factor if prepare.downsample_axes == "all" else 1])


def coarsen_volume(volume: Volume, change: GridChange) -> Volume:
    """The scan on the coarse grid: each voxel is the mean of those it covers (area weighting, hence anti-aliased).

    Along an axis that gets finer the scan is interpolated linearly. HU are rounded. Needs 4 bytes a voxel of a few
    slices, not of the whole scan.
    """
    weights = [
        _axis_weights(n, m, f) for n, m, f in zip(change.fine.shape, change.coarse.shape, change.factors, strict=True)
    ]
    fine, coarse = change.fine.shape, change.coarse.shape
    slices = np.empty((coarse[0], coarse[1], fine[2]), dtype=np.float32)
    for k in _slabs(fine):
        slices[:, :, k] = _along_axes(torch.from_numpy(volume.hu[:, :, k].astype(np.float32)), weights[:2])
    hu = _along_axes(torch.from_numpy(slices), [None, None, weights[2]]).numpy()
    return Volume(np.rint(hu).astype(np.int16), change.coarse)


def coarsen_labels(
    label_map: LabelMap, change: GridChange, method: Literal["nearest", "majority"] = "nearest"
) -> LabelMap:
    """The labels on the coarse grid: that at the voxel's centre, or the one that covers most of it."""
    if method == "nearest":
        return LabelMap(_pick(label_map.labels, change.coarse.shape, change.factors), change.coarse)
    weights = [
        _axis_weights(n, m, f) for n, m, f in zip(change.fine.shape, change.coarse.shape, change.factors, strict=True)
    ]
    best = np.full(change.coarse.shape, -1.0, dtype=np.float32)
    labels = np.zeros(change.coarse.shape, dtype=np.uint8)
    for label in np.flatnonzero(np.bincount(label_map.labels.ravel())):
        share = _along_axes(torch.from_numpy((label_map.labels == label).astype(np.float32)), weights).numpy()
        more = share > best + 1e-6
        best[more], labels[more] = share[more], label
    return LabelMap(labels, change.coarse)


def restore_labels(labels: LabelArray, change: GridChange) -> LabelMap:
    """Labels of the coarse grid on the fine one: each fine voxel takes the label of the coarse voxel around it."""
    i, j, k = (1 / f for f in change.factors)
    return LabelMap(_pick(labels, change.fine.shape, (i, j, k)), change.fine)


def restore_probabilities(probabilities_LIJK: Tensor, change: GridChange) -> LabelMap:
    """The most probable class on the fine grid, of probabilities (L, I, J, K) interpolated linearly.

    Works slab by slab: the fine probabilities never exist as a whole.
    """
    labels = np.empty(change.fine.shape, dtype=np.uint8)
    for k, slab in restored_slabs(probabilities_LIJK, change):
        labels[:, :, k] = slab.argmax(dim=0).to(torch.uint8).numpy()
    return LabelMap(labels, change.fine)


def restored_slabs(
    probabilities_LIJK: Tensor, change: GridChange, restore: Literal["probabilities", "labels"] = "probabilities"
) -> Iterator[tuple[slice, Tensor]]:
    """Probabilities (L, I, J, K) on the fine grid, slab by slab of slices; the same slabs for every array of one shape.

    Args:
        probabilities_LIJK: on `change.coarse`.
        change: between the grids.
        restore: interpolate linearly; or take those of the coarse voxel around, as `restore_labels` does with labels.
    """
    coarse, fine = change.coarse.shape, change.fine.shape
    of_axis = _axis_weights if restore == "probabilities" else _picking_weights
    weights = [of_axis(n, m, 1 / f) for n, m, f in zip(coarse, fine, change.factors, strict=True)]
    probabilities = probabilities_LIJK.cpu().float()
    for k in _slabs(fine, copies=probabilities.shape[0]):
        slab = _along_axes(probabilities, [None, None, None, weights[2][k]])
        yield k, _along_axes(slab, [None, *weights[:2], None])


def _axis_weights(num_in: int, num_out: int, factor: float) -> Tensor:
    """(out, in) weights along one axis: area means for factors ≥ 1, linear interpolation below; rows sum to 1."""
    out = np.arange(num_out)[:, None]
    at = np.arange(num_in)[None, :]
    if factor >= 1:
        weights = np.clip(np.minimum(at + 1, (out + 1) * factor) - np.maximum(at, out * factor), 0, None)
    else:
        centre = np.clip((out + 0.5) * factor - 0.5, 0, num_in - 1)
        weights = np.clip(1 - np.abs(centre - at), 0, None)
    return torch.from_numpy((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def _picking_weights(num_in: int, num_out: int, factor: float) -> Tensor:
    """(out, in) one in every row, at the voxel that `_pick` takes."""
    return torch.eye(num_in)[torch.from_numpy(_picked_index(num_in, num_out, factor))]


def _along_axes(array: Tensor, weights: Sequence[Tensor | None]) -> Tensor:
    for axis, matrix in enumerate(weights):
        if matrix is not None and not _is_identity(matrix):
            array = torch.tensordot(array, matrix, dims=([axis], [1])).movedim(-1, axis)
    return array


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == torch.eye(matrix.shape[0])).all())


def _pick(array: LabelArray, shape: Index3, factors: Sequence[float]) -> npt.NDArray[np.uint8]:
    picked: npt.NDArray[np.uint8] = array
    for axis, (n, m, f) in enumerate(zip(array.shape, shape, factors, strict=True)):
        picked = picked.take(_picked_index(n, m, f), axis=axis)
    return picked


def _picked_index(num_in: int, num_out: int, factor: float) -> npt.NDArray[np.intp]:
    """(out,) index of the voxel around each centre."""
    index: npt.NDArray[np.intp] = np.floor((np.arange(num_out) + 0.5) * factor + 1e-6).astype(np.intp)
    return index.clip(0, num_in - 1)


def _slabs(shape: Index3, copies: int = 1) -> list[slice]:
    thickness = max(1, _SLAB_VOXELS // (shape[0] * shape[1] * copies))
    return [slice(k, min(k + thickness, shape[2])) for k in range(0, shape[2], thickness)]
