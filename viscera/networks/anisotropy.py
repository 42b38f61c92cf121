"""Kernels and strides for voxels that are not cubes, by the rule of nnU-Net's planner.

Isensee et al., Nature Methods 2021, supplementary note 2; in nnU-Net 2 `get_pool_and_conv_props`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from viscera.core.geometry import Index3

_LEAST_EDGE = 4  # voxels of the lowest level along an axis that is halved
_ONE_AXIS_ALONE = 3  # times that edge must be left to halve one axis alone
_ALIKE = 2  # spacings whose ratio is below are alike


class Topology(NamedTuple):
    """As `train.network` takes it."""

    strides: tuple[Index3, ...]  # from each level to the next
    kernels: tuple[Index3, ...]  # of each level

    @property
    def levels(self) -> int:
        """How many there are."""
        return len(self.kernels)


def proposed_topology(spacing_mm: Sequence[float], window: Sequence[int], most_levels: int) -> Topology:
    """Strides and kernels for a spacing along I, J, K and a window in voxels.

    From a level to the next an axis is halved while its spacing is less than twice the finest of those that can be
    halved, which keep 4 voxels; an axis alone has to have 12. Kernels are 1 along axes that are at least twice as
    coarse as the finest, and 3 once they are not; those of the lowest level are 3 along all.
    """
    at_mm, edges, kernel = np.array(spacing_mm, dtype=float), np.array(window), np.ones(3, dtype=int)
    strides: list[Index3] = []
    kernels: list[Index3] = []
    while len(strides) < most_levels - 1:
        can = edges >= 2 * _LEAST_EDGE
        if not can.any():
            break
        halved = can & (at_mm / at_mm[can].min() < _ALIKE)
        if halved.sum() == 1 and edges[halved][0] < _ONE_AXIS_ALONE * _LEAST_EDGE:
            break
        kernel[at_mm / at_mm.min() < _ALIKE] = 3
        kernels.append(_three(kernel))
        strides.append(_three(np.where(halved, 2, 1)))
        at_mm[halved] *= 2
        edges[halved] = -(-edges[halved] // 2)
    return Topology(tuple(strides), (*kernels, (3, 3, 3)))


def _three(values: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Index3:
    i, j, k = (int(value) for value in values)
    return i, j, k
