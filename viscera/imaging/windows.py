"""Windows of HU: random ones to train on, a covering to predict with, and what the network is given of them."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.config import IntensityConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.core.scan import HuArray

_LEAST_WEIGHT = 1e-3  # so that a voxel of one window alone is that window's, whatever its weight


def network_input(hu_BIJK: Tensor, config: IntensityConfig) -> Tensor:
    """What the network is given for windows of HU: (B, 1, I, J, K) float32, on the device that they are on.

    Clipped and scaled to [0, 1], or z-scores of what was clipped. Raises BadInputError for those without their moments.
    """
    width = config.high_hu - config.low_hu
    unit = hu_BIJK.to(torch.float32).sub_(config.low_hu).div_(width).clamp_(0.0, 1.0).unsqueeze(1)
    if config.scaling == "unit":
        return unit
    if config.mean_hu is None or config.sd_hu is None:
        raise BadInputError(
            "intensity.scaling z_score needs mean_hu and sd_hu (`viscera train` takes the training set's)."
        )
    return unit.sub_((config.mean_hu - config.low_hu) / width).mul_(width / config.sd_hu)


def clipped_moments(arrays: Iterable[HuArray], config: IntensityConfig) -> tuple[float, float]:
    """Mean and standard deviation in HU over all voxels of some scans (each (I, J, K) int16), clipped as configured."""
    number, total, squares = 0, 0.0, 0.0
    for hu in arrays:
        clipped = np.clip(hu, config.low_hu, config.high_hu).astype(np.float64)
        number, total, squares = number + clipped.size, total + clipped.sum(), squares + np.square(clipped).sum()
    mean = total / number
    return float(mean), float(np.sqrt(max(squares / number - mean**2, 0.0)))


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


@dataclass(frozen=True)
class Tiling:
    """Equal windows that cover a volume as a grid, neighbours sharing some voxels."""

    window: Index3  # edges
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # of the windows, along each axis

    @classmethod
    def cheapest(
        cls,
        shape: Index3,
        shared: int,
        edges: tuple[int, Index3],
        bytes_of: Callable[[Index3], float],
        most_bytes: float,
    ) -> "Tiling":
        """That with fewest voxels in all its windows, of those whose windows take no more than so many bytes each.

        Windows share at least `shared` voxels along an axis. `edges` are the least edge, which counts where nothing
        fits, and what edges shall be multiples of along each axis. The volume is at least as large as the least window.
        """
        least, multiples = edges
        choices = []
        for n, multiple in zip(shape, multiples, strict=True):
            most = -(-max(n - shared, 1) // max(least - shared, 1))  # windows of the least edge
            each: dict[int, int] = {}  # windows, by their edge
            for count in range(1, most + 1):
                edge = -(-(n + (count - 1) * shared) // count)
                each.setdefault(min(n, max(least, edge + -edge % multiple)), count)
            choices.append(list(each.items()))
        tilings = list(itertools.product(*choices))
        fitting = [each for each in tilings if bytes_of(_three(edge for edge, _ in each)) <= most_bytes]
        best = min(fitting or tilings[-1:], key=lambda each: (math.prod(e * c for e, c in each), -each[2][0]))
        i, j, k = (_spread(n, edge, count) for n, (edge, count) in zip(shape, best, strict=True))
        return cls(_three(edge for edge, _ in best), (i, j, k))

    @property
    def origins(self) -> list[Index3]:
        """The first voxels of the windows, from the lowest up."""
        i, j, k = self.starts
        return [(a, b, c) for c, a, b in itertools.product(k, i, j)]

    def weights(self, origin: Index3) -> npt.NDArray[np.float32]:
        """(I, J, K) weight of the voxels of a window; those of all windows sum to 1 where no more than two meet.

        In what two windows share, the weight passes linearly from one to the other over the middle half: what lies
        close to the face of a window is taken from its neighbour.
        """
        axes = []
        for first, edge, starts in zip(origin, self.window, self.starts, strict=True):
            at, here = np.arange(edge) + 0.5, starts.index(first)
            weight = np.ones(edge)
            if here > 0:
                weight *= _passing(at, starts[here - 1] + edge - first)
            if here < len(starts) - 1:
                weight *= _passing(edge - at, first + edge - starts[here + 1])
            axes.append(np.maximum(weight, _LEAST_WEIGHT))
        i, j, k = axes
        return (i[:, None, None] * j[:, None] * k).astype(np.float32)


def _three(values: Iterable[int]) -> Index3:
    i, j, k = values
    return (i, j, k)


def _spread(n: int, edge: int, count: int) -> tuple[int, ...]:
    return tuple(round(at) for at in np.linspace(0, n - edge, count).tolist())


def _passing(from_face: npt.NDArray[Any], shared: int) -> npt.NDArray[Any]:
    """From 0 to 1 over the middle half of what two windows share, by the distance in voxels from the face of one."""
    return np.clip((from_face - shared / 4) / max(shared / 2, 1e-6), 0.0, 1.0)


def gaussian_weights(window: Sequence[int]) -> npt.NDArray[np.float32]:
    """(I, J, K) weight of a window's voxels: a Gaussian about its centre, σ an eighth of the edge, largest 1.

    After Isensee et al., Nature Methods 2021 (nnU-Net): voxels near the edge see less context and count less. The
    smallest weight is 1e-4, so that a voxel covered once keeps full precision.
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in window]
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    scaled: npt.NDArray[np.float64] = np.maximum(weights / weights.max(), 1e-4)
    return scaled.astype(np.float32)
