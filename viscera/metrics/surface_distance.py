"""Distances between the surfaces of two masks, weighted by area: HD95 and the surface Dice at a tolerance.

The definitions are those of Nikolov et al. (J Med Internet Res 2021, 23(7):e26151), and the values equal those of their
library, surface-distance: a surface is a set of elements with an area (`metrics.surfels`), one wherever eight voxels
meet that are not all alike; what lies beyond the scan is background. See docs/metrics.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from viscera.metrics.surfels import CORNERS, surfel_areas_mm2

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_FULL = 255  # code of eight voxels in the mask
_DENSE = 1 / 10  # surface elements to find and to look from, over voxels: above, a distance transform is quicker


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From every element of one surface to the nearest element of the other.

    Attributes:
        prediction_mm: (P,) distances from the prediction's elements; infinite where there is no reference.
        prediction_mm2: (P,) their areas.
        reference_mm: (R,) distances from the reference's elements; infinite where there is no prediction.
        reference_mm2: (R,) their areas.
    """

    prediction_mm: Array
    prediction_mm2: Array
    reference_mm: Array
    reference_mm2: Array

    def hausdorff_mm(self, percent: float = 95.0) -> float | None:
        """The distance within which `percent` of each surface's area lies from the other; the larger of the two.

        Returns:
            In mm; infinite where one mask is empty, None where both are.
        """
        if not self.prediction_mm.size and not self.reference_mm.size:
            return None
        if not self.prediction_mm.size or not self.reference_mm.size:
            return float("inf")
        return max(
            _percentile(self.prediction_mm, self.prediction_mm2, percent),
            _percentile(self.reference_mm, self.reference_mm2, percent),
        )

    def dice(self, tolerance_mm: float) -> float | None:
        """The share of both surfaces' area that lies no further than the tolerance from the other surface.

        Returns:
            In [0, 1]; 0 where one mask is empty, None where both are.
        """
        area = self.prediction_mm2.sum() + self.reference_mm2.sum()
        if not area:
            return None
        near = self.prediction_mm2[self.prediction_mm <= tolerance_mm].sum()
        near += self.reference_mm2[self.reference_mm <= tolerance_mm].sum()
        return float(near / area)


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure two masks of one grid.

    Args:
        prediction: (I, J, K).
        reference: (I, J, K), on the same grid.
        spacing_mm: (3,) along I, J, K, which are taken to be at right angles.
    """
    areas_mm2 = surfel_areas_mm2(spacing_mm)
    codes_prediction, codes_reference = _neighbour_codes(prediction), _neighbour_codes(reference)
    on_prediction, on_reference = _is_surface(codes_prediction), _is_surface(codes_reference)
    return SurfaceDistances(
        prediction_mm=_distances_mm(on_prediction, on_reference, spacing_mm),
        prediction_mm2=areas_mm2[codes_prediction[on_prediction]],
        reference_mm=_distances_mm(on_reference, on_prediction, spacing_mm),
        reference_mm2=areas_mm2[codes_reference[on_reference]],
    )


def _neighbour_codes(mask: Mask) -> npt.NDArray[np.uint8]:
    """(I + 1, J + 1, K + 1) which of the eight voxels about each corner of the grid are in the mask."""
    padded = np.pad(mask, 1).astype(np.uint8)
    i, j, k = (n + 1 for n in mask.shape)
    codes = np.zeros((i, j, k), dtype=np.uint8)
    for bit, (a, b, c) in enumerate(CORNERS):
        codes |= padded[a : a + i, b : b + j, c : c + k] << np.uint8(bit)
    return codes


def _is_surface(codes: npt.NDArray[np.uint8]) -> Mask:
    result: Mask = (codes != 0) & (codes != _FULL)
    return result


def _distances_mm(elements: Mask, others: Mask, spacing_mm: Sequence[float]) -> Array:
    """(N,) from each element, in C order, to the nearest of the others."""
    if not others.any():
        return np.full(np.count_nonzero(elements), np.inf)
    apart = ~others[elements]  # the rest are 0
    if np.count_nonzero(others) + np.count_nonzero(apart) > _DENSE * others.size:
        transformed: Array = ndimage.distance_transform_edt(~others, sampling=spacing_mm)
        return transformed[elements]
    points, targets = np.argwhere(elements)[apart], np.argwhere(others)
    tree = KDTree(targets * np.asarray(spacing_mm), balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * np.asarray(spacing_mm))
    result = np.zeros(len(apart))
    result[apart] = np.sqrt((((points - targets[nearest]) * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    return result


def _percentile(distances_mm: Array, areas_mm2: Array, percent: float) -> float:
    """The distance at which the elements, from near to far, have covered `percent` of the area."""
    order = np.lexsort((areas_mm2, distances_mm))
    covered = np.cumsum(areas_mm2[order]) / areas_mm2[order].sum()
    at = min(int(np.searchsorted(covered, percent / 100)), len(order) - 1)
    return float(distances_mm[order[at]])
