"""Windows: random ones to train on, a regular covering to predict with, and its blending weights."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from viscera.core.geometry import Index3


def random_cases(seed: int, step: int, num_cases: int, batch_size: int) -> npt.NDArray[np.int64]:
    """(B,) different case numbers, uniformly at random; a pure function of its arguments."""
    return np.random.default_rng((seed, step)).choice(num_cases, size=batch_size, replace=False)


def random_origin(seed: int, step: int, slot: int, shape: Sequence[int], patch: int) -> Index3:
    """First voxel of a window of edge `patch`, uniform over all that lie inside; a pure function of its arguments.

    Along an axis shorter than the window it is 0.
    """
    room = [max(n - patch, 0) + 1 for n in shape]
    i, j, k = np.random.default_rng((seed, step, slot + 1)).integers(0, room)
    return (int(i), int(j), int(k))


def covering_origins(shape: Sequence[int], window: Sequence[int], overlap: float) -> list[Index3]:
    """First voxels of windows that cover a volume, evenly spaced, neighbours sharing at least `overlap` of an edge.

    The volume must be at least as large as the window along each axis.
    """
    starts = []
    for n, edge in zip(shape, window, strict=True):
        step = max(1, int(edge * (1 - overlap)))
        count = -(-(n - edge) // step) + 1
        starts.append([round(at) for at in np.linspace(0, n - edge, count)])
    return [(i, j, k) for i, j, k in itertools.product(*starts)]


def gaussian_weights(window: Sequence[int]) -> npt.NDArray[np.float32]:
    """(I, J, K) weight of a window's voxels: a Gaussian about its centre, σ an eighth of the edge, largest 1.

    After Isensee et al., Nature Methods 2021 (nnU-Net): voxels near the edge see less context and count less. The
    smallest weight is 1e-4, so that a voxel covered once keeps full precision.
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in window]
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    scaled: npt.NDArray[np.float64] = np.maximum(weights / weights.max(), 1e-4)
    return scaled.astype(np.float32)
