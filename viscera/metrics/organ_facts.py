"""Volume, HU, extent and fragments of each organ in a label map."""

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.facts import OrganFacts
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, LabelMap, Volume
from viscera.metrics.trust import LARGE_FRAGMENT

_EDGE = 160  # voxels: fragments of a tenth of an organ show on a coarser grid, too


def organ_facts(
    volume: Volume,
    label_map: LabelMap,
    table: ClassTable = ABDOMEN,
    confidence: Mapping[str, float | None] | None = None,
) -> dict[str, OrganFacts]:
    """Measure every organ of a label map.

    Args:
        volume: the scan.
        label_map: on the scan's grid.
        table: the classes.
        confidence: by name, mean probability of the organ over its own voxels.
    """
    labels, length = label_map.labels, len(table)
    counts, sums, squares = np.zeros((3, length))
    for k in range(labels.shape[2]):  # a slice at a time: the weights are float64
        plane, hu = labels[:, :, k].ravel(), volume.hu[:, :, k].ravel().astype(np.float64)
        counts += np.bincount(plane, minlength=length)
        sums += np.bincount(plane, weights=hu, minlength=length)
        squares += np.bincount(plane, weights=hu * hu, minlength=length)
    boxes = [None, *ndimage.find_objects(labels, max_label=length - 1)]
    at_edge, fragments = _at_edge(labels, length), large_fragments(labels, length)

    def of(label: int, known: float | None) -> OrganFacts:
        n = int(counts[label])
        mean = float(sums[label] / n) if n else None
        return OrganFacts(
            volume_ml=n * label_map.geometry.voxel_volume_ml,
            mean_hu=mean,
            sd_hu=None if mean is None else float(np.sqrt(max(squares[label] / n - mean * mean, 0.0))),
            cut_off=bool(at_edge[label]),
            large_fragments=fragments[label],
            confidence=known,
            voxels=n,
            box_mm=box_in_mm(boxes[label], label_map.geometry),
        )

    return {organ.name: of(organ.label, (confidence or {}).get(organ.name)) for organ in table.organs}


def box_in_mm(
    box: tuple[slice, ...] | None, geometry: Geometry
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Lowest and highest R, A, S in mm that the voxels of a box of indices reach, with their own extent."""
    if box is None:
        return None
    ends = [(axis.start - 0.5, axis.stop - 0.5) for axis in box]
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)]) @ geometry.affine.T
    low, high = corners[:, :3].min(axis=0).tolist(), corners[:, :3].max(axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def large_fragments(labels: LabelArray, length: int) -> list[int]:
    """(L,) connected components (26 neighbours) that hold a tenth of their class or more; background is not counted.

    Looked at on every n-th voxel of an axis longer than 160 voxels.
    """
    coarse = labels[tuple(slice(None, None, -(-n // _EDGE)) for n in labels.shape)]
    found = [0] * length
    for label, box in enumerate(ndimage.find_objects(coarse, max_label=length - 1), start=1):
        if box is not None:
            parts, number = ndimage.label(coarse[box] == label, structure=np.ones((3, 3, 3)))
            sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
            found[label] = int((sizes >= LARGE_FRAGMENT * sizes.sum()).sum())
    return found


def _at_edge(labels: LabelArray, length: int) -> npt.NDArray[np.bool_]:
    """(L,) whether a class has a voxel in the first or last slice of an axis."""
    present = np.zeros(length, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            present |= np.bincount(labels.take(end, axis=axis).ravel(), minlength=length) > 0
    return present
