"""Volume, HU, extent and fragments of each organ in a label map."""

import itertools
from collections.abc import Sequence

import numpy as np

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable
from viscera.core.geometry import Geometry
from viscera.core.regions import EMPTY, Box, borders_on, boxes_of, component_sizes
from viscera.core.scan import LabelMap, OrganFacts, Volume

LARGE_FRAGMENT = 0.1  # of the organ's volume


def organ_facts(
    volume: Volume,
    label_map: LabelMap,
    table: ClassTable = ABDOMEN,
    confidence_L: Sequence[float | None] | None = None,
    entropy_L: Sequence[float | None] | None = None,
) -> dict[str, OrganFacts]:
    """Measure every organ of a label map on the scan's grid.

    `confidence_L`: each class's own mean probability; `entropy_L`: how undecided its voxels are in the mean.
    """
    labels, length = label_map.labels, len(table)
    (counts, sums, squares), has_ignored = np.zeros((3, length)), False
    for k in range(labels.shape[2]):  # a slice at a time: the weights are float64
        is_organ = labels[:, :, k] > 0
        plane, hu = labels[:, :, k][is_organ], volume.hu[:, :, k][is_organ].astype(np.float64)
        if plane.max(initial=0) == IGNORED:
            (plane, hu), has_ignored = (each[plane != IGNORED] for each in (plane, hu)), True
        counts += np.bincount(plane, minlength=length)
        sums += np.bincount(plane, weights=hu, minlength=length)
        squares += np.bincount(plane, weights=hu * hu, minlength=length)
    boxes = boxes_of(labels, length)

    def of(label: int) -> OrganFacts:
        n, box = int(counts[label]), boxes[label]
        mean = float(sums[label] / n) if n else None
        sizes = component_sizes(labels[box], label)
        return OrganFacts(
            volume_ml=n * label_map.geometry.voxel_volume_ml,
            mean_hu=mean,
            sd_hu=None if mean is None else float(np.sqrt(max(squares[label] / n - mean * mean, 0.0))),
            cut_off=box != EMPTY and any(a.start == 0 or a.stop == n for a, n in zip(box, labels.shape, strict=True)),
            large_fragments=int((sizes >= LARGE_FRAGMENT * n).sum()),
            confidence=confidence_L[label] if confidence_L else None,
            voxels=n,
            box_mm=box_in_mm(box, label_map.geometry),
            box=_ends(box),
            pieces=len(sizes),
            largest_piece=int(sizes[0]) / n if n else None,
            beside_ignored=has_ignored and box != EMPTY and borders_on(labels, label, box, IGNORED),
            entropy=entropy_L[label] if entropy_L else None,
        )

    return {organ.name: of(organ.label) for organ in table.organs}


def box_in_mm(box: Box, geometry: Geometry) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Lowest and highest R, A, S in mm that the voxels of a box of indices reach, with their own extent."""
    if box == EMPTY:
        return None
    ends = [(axis.start - 0.5, axis.stop - 0.5) for axis in box]
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)]) @ geometry.affine.T
    low, high = corners[:, :3].min(axis=0).tolist(), corners[:, :3].max(axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _ends(box: Box) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """First and last index along each axis."""
    i, j, k = box
    return None if box == EMPTY else ((i.start, j.start, k.start), (i.stop - 1, j.stop - 1, k.stop - 1))
