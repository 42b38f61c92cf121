"""A loss at several resolutions (Lee et al., AISTATS 2015; weights and labels as in nnU-Net, Isensee et al., 2021)."""

import torch
from torch import Tensor

from viscera.core.geometry import Index3


def level_weights(levels: int) -> list[float]:
    """Of the loss at each of so many levels, from the top: 1, 1/2, 1/4, … over their sum. No unit."""
    halves = [0.5**level for level in range(levels)]
    return [half / sum(halves) for half in halves]


def labels_of_level(labels_BIJK: Tensor, scale: Index3) -> Tensor:
    """Nearest label to the centre of each voxel that is as many voxels large: ceil of the sizes over `scale`.

    Between two, the later one: the second of two, the third of four. Where the last voxel reaches beyond the labels,
    and its centre does, it is the last label.
    """
    for axis, along in enumerate(scale, start=1):
        if along > 1:
            n = labels_BIJK.shape[axis]
            nearest = torch.arange(along // 2, n + along // 2, along, device=labels_BIJK.device).clamp(max=n - 1)
            labels_BIJK = labels_BIJK.index_select(axis, nearest)
    return labels_BIJK
