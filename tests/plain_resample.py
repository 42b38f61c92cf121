"""Resampling as plainly as it can be written: dense matrices in float64, the whole grid at once. The tests' oracle."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from viscera.imaging.resample import GridChange

Array = npt.NDArray[np.float64]


def means(num_fine: int, num_coarse: int, factor: float) -> Array:
    """(coarse, fine) share that each fine voxel has in the mean of what a coarse voxel covers."""
    matrix = np.zeros((num_coarse, num_fine))
    for coarse in range(num_coarse):
        for fine in range(num_fine):
            matrix[coarse, fine] = max(0, min(fine + 1, (coarse + 1) * factor) - max(fine, coarse * factor))
    normalised: Array = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised


def interpolation(num_coarse: int, num_fine: int, factor: float) -> Array:
    """(fine, coarse) weights of linear interpolation between the centres of what the coarse voxels cover."""
    centres = [(c * factor + min((c + 1) * factor, num_fine)) / 2 - 0.5 for c in range(num_coarse)]
    return np.stack([np.interp(np.arange(num_fine), centres, row) for row in np.eye(num_coarse)], axis=1)


def along(array: npt.NDArray[Any], matrices: list[Array]) -> Array:
    """The last three axes of an array, each times its matrix."""
    product: Array = np.einsum("ai,bj,ck,...ijk->...abc", *matrices, array.astype(np.float64), optimize=True)
    return product


def coarsened(array: npt.NDArray[Any], change: GridChange) -> Array:
    """A fine array on the coarse grid, not rounded."""
    sizes = zip(change.fine.shape, change.coarse.shape, change.factors, strict=True)
    return along(array, [means(n, m, f) if f >= 1 else interpolation(n, m, 1 / f) for n, m, f in sizes])


def restored(array: npt.NDArray[Any], change: GridChange, way: Literal["probabilities", "labels"]) -> Array:
    """A coarse array (L, I, J, K) on the fine grid."""
    sizes = zip(change.coarse.shape, change.fine.shape, change.factors, strict=True)
    if way == "labels":
        i, j, k = ([min(int((x + 0.5) / f + 1e-6), n - 1) for x in range(m)] for n, m, f in sizes)
        return array[:, i][:, :, j][:, :, :, k].astype(np.float64)
    return along(array, [interpolation(n, m, f) if f >= 1 else means(n, m, 1 / f) for n, m, f in sizes])
