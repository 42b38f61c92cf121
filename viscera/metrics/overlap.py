"""Eq. 1: the Dice coefficient of two label maps."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import IGNORED, NUM_CLASSES
from viscera.core.scan import LabelArray

_SLAB = 1 << 17  # voxels, a multiple of 8; what is made of them stays in the processor's cache
_BYTE = 1 << 8


def confusion_matrix(
    prediction: LabelArray, reference: LabelArray, num_classes: int = NUM_CLASSES
) -> npt.NDArray[np.int64]:
    """(L, L) voxels by class in the prediction and class in the reference, of two label arrays of one shape.

    Voxels that the reference does not label (255, `core.anatomy.IGNORED`) are in none of the numbers.
    Most of a scan is background in both, and is counted eight voxels at a time.
    """
    code = np.dtype(np.uint8 if num_classes**2 <= _BYTE else np.uint16)
    # in memory order, where that is the same for both: the two labels of a voxel must meet
    order: Literal["K", "C"] = "K" if prediction.strides == reference.strides else "C"
    flat = [np.ascontiguousarray(each.ravel(order), dtype=np.uint8) for each in (prediction, reference)]
    counts = np.zeros(num_classes**2, dtype=np.int64)
    for start in range(0, prediction.size, _SLAB):
        pair = [each[start : start + _SLAB] for each in flat]
        if pair[0].size == _SLAB:
            eights = [each.view(np.uint64) for each in pair]
            filled = np.flatnonzero(eights[0] | eights[1])
            counts[0] += _SLAB - 8 * filled.size
            pair = [each[filled].view(np.uint8) for each in eights]
        if pair[1].max(initial=0) == IGNORED:
            known = pair[1] != IGNORED
            pair = [each[known] for each in pair]
        both = np.multiply(pair[0], num_classes, dtype=code) + pair[1]
        counts += np.bincount(both, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def as_labelled(labels: LabelArray, labelled_L: npt.NDArray[np.bool_]) -> LabelArray:
    """A prediction as a case that labels only some classes would have it: the others are background."""
    merged: LabelArray = np.where(labelled_L, np.arange(len(labelled_L)), 0).astype(np.uint8)[labels]
    return merged


def dice(confusion_LL: npt.NDArray[np.int64]) -> list[float | None]:
    """Eq. 1, 2 |S ∩ R| / (|S| + |R|), of each class of a confusion matrix, in [0, 1].

    None where the class is absent from both; 0 where the prediction misses it whole.
    """
    sizes = confusion_LL.sum(axis=0) + confusion_LL.sum(axis=1)
    shared = np.diagonal(confusion_LL)
    return [2 * int(i) / int(c) if c else None for i, c in zip(shared, sizes, strict=True)]
