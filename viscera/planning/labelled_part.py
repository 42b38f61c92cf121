"""What the labels of a case say of its organs where nobody labelled a part of it (nnU-Net's `ignore`)."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import IGNORED
from viscera.core.regions import EMPTY, Mask, borders_on, boxes_of
from viscera.core.scan import LabelMap

Spacing = tuple[float, float, float]
_EVEN = 2  # times the smallest distance of labelled slices that the largest may be


@dataclass(frozen=True)
class LabelledPart:
    """One label map with voxels that nobody labelled."""

    whole: frozenset[int]  # labels whose voxels do not border on them: their number is a volume
    # how many slices there are for one that is labelled, where slices are labelled whole, apart from each other and at
    # even distances: the volume of an organ is about so many times what is labelled of it (Cavalieri's principle; H. J.
    # G. Gundersen and E. B. Jensen, Journal of Microscopy 147, 1987). None where they are not
    slices_for_one: float | None
    labelled_mm: Spacing  # mean length of what is labelled in one piece along R, A, S; infinite where nothing is

    @classmethod
    def of(cls, label_map: LabelMap, num_classes: int) -> "LabelledPart":
        """Of a map in any orientation, with labels below `num_classes`."""
        canonical = label_map.canonical()
        labels, spacing = canonical.labels, canonical.geometry.spacing_mm
        boxes = enumerate(boxes_of(labels, num_classes))
        known = labels != IGNORED
        i, j, k = (mm * _mean_run(known, axis) for axis, mm in enumerate(spacing))
        return cls(
            frozenset(each for each, box in boxes if box != EMPTY and not borders_on(labels, each, box, IGNORED)),
            next((found for axis in range(3) if (found := _slices_for_one(known, axis)) is not None), None),
            (i, j, k),
        )


def _slices_for_one(known: Mask, axis: int) -> float | None:
    others = tuple({0, 1, 2} - {axis})
    labelled = known.all(axis=others)
    if not np.array_equal(labelled, known.any(axis=others)):
        return None
    apart = np.diff(np.flatnonzero(labelled))
    if not apart.size or apart.min() == 1 or apart.max() > _EVEN * apart.min():
        return None
    return float(apart.mean())


def _mean_run(known: Mask, axis: int) -> float:
    """Voxels of known ones in a row along an axis, in the mean over such rows."""
    along: npt.NDArray[np.bool_] = np.moveaxis(known, axis, 0)
    voxels = np.count_nonzero(along)
    pairs = itertools.pairwise(along)
    begun = np.count_nonzero(along[:1]) + sum(np.count_nonzero(there & ~before) for before, there in pairs)
    return voxels / begun if voxels else np.inf
