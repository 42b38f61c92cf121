"""Distances between the surfaces of two masks: as measured, and plainly.

Plainly is by codes of every voxel, and a distance transform of the whole.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from viscera.metrics.surface_distance import SurfaceDistances, label_surface_distances, surfel_areas_mm2

Mask = npt.NDArray[np.bool_]


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """What is measured of two masks (I, J, K)."""
    (found,) = label_surface_distances(prediction.view(np.uint8), reference.view(np.uint8), spacing_mm, [1])
    return found


def plain_surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """As `surface_distances`, which must equal it."""
    codes = [_neighbour_codes(mask) for mask in (prediction, reference)]
    surfaces = [(code != 0) & (code != 255) for code in codes]
    measured = []
    for code, own, other in zip(codes, surfaces, surfaces[::-1], strict=True):
        if other.any():
            distances_mm = ndimage.distance_transform_edt(~other, sampling=spacing_mm)[own]
        else:
            distances_mm = np.full(np.count_nonzero(own), np.inf)
        areas_mm2 = surfel_areas_mm2(spacing_mm)[code[own]]
        order = np.lexsort((areas_mm2, distances_mm))
        measured += [distances_mm[order], areas_mm2[order]]
    return SurfaceDistances(*measured)


def _neighbour_codes(mask: Mask) -> npt.NDArray[np.uint8]:
    """(I + 1, J + 1, K + 1) which of the eight voxels about each corner of the grid are in the mask."""
    padded = np.pad(mask, 1).astype(np.uint8)
    i, j, k = (n + 1 for n in mask.shape)
    codes = np.zeros((i, j, k), dtype=np.uint8)
    for bit, (a, b, c) in enumerate(itertools.product((0, 1), repeat=3)):
        codes |= padded[a : a + i, b : b + j, c : c + k] << np.uint8(bit)
    return codes
