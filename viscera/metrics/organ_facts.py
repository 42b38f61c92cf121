"""What `metrics.trust` wants to know of each organ in a label map."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.scan import LabelArray, LabelMap, Volume
from viscera.metrics.trust import LARGE_FRAGMENT, OrganFacts

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
    counts, sums = np.zeros((2, length))
    for k in range(labels.shape[2]):  # a slice at a time: the weights are float64
        counts += np.bincount(labels[:, :, k].ravel(), minlength=length)
        sums += np.bincount(labels[:, :, k].ravel(), weights=volume.hu[:, :, k].ravel(), minlength=length)
    at_edge = _at_edge(labels, length)
    fragments = large_fragments(labels, length)
    millilitres = label_map.geometry.voxel_volume_ml
    return {
        organ.name: OrganFacts(
            volume_ml=float(counts[organ.label] * millilitres),
            mean_hu=float(sums[organ.label] / counts[organ.label]) if counts[organ.label] else None,
            cut_off=bool(at_edge[organ.label]),
            large_fragments=int(fragments[organ.label]),
            confidence=(confidence or {}).get(organ.name),
        )
        for organ in table.organs
    }


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
