"""Eq. 1: the Dice coefficient of two label maps."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import NUM_CLASSES
from viscera.core.scan import LabelArray


def confusion_matrix(
    prediction: LabelArray, reference: LabelArray, num_classes: int = NUM_CLASSES
) -> npt.NDArray[np.int64]:
    """(L, L) voxels by class in the prediction and class in the reference, of two label arrays of one shape."""
    # in memory order, where that is the same for both: the two labels of a voxel must meet
    order: Literal["K", "C"] = "K" if prediction.strides == reference.strides else "C"
    counts = np.bincount(
        prediction.ravel(order).astype(np.int64) * num_classes + reference.ravel(order),
        minlength=num_classes**2,
    )
    return counts.reshape(num_classes, num_classes).astype(np.int64)


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
