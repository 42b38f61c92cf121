"""Eq. 1: the Dice coefficient of two label maps."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ABDOMEN, NUM_CLASSES, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelArray, LabelMap


@dataclass(frozen=True)
class Score:
    """One value of one organ; None where it is undefined."""

    organ: str
    metric: str
    value: float | None


def overlap_counts(
    prediction: LabelArray, reference: LabelArray, num_classes: int = NUM_CLASSES
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Per class abs(S ∩ R) and abs(S) + abs(R), each (L,), in voxels, of two label arrays of one shape."""
    # in memory order, where that is the same for both: the two labels of a voxel must meet
    order: Literal["K", "C"] = "K" if prediction.strides == reference.strides else "C"
    confusion = np.bincount(
        prediction.ravel(order).astype(np.int64) * num_classes + reference.ravel(order),
        minlength=num_classes**2,
    ).reshape(num_classes, num_classes)
    return np.diagonal(confusion).astype(np.int64), (confusion.sum(axis=0) + confusion.sum(axis=1)).astype(np.int64)


def as_labelled(labels: LabelArray, labelled_L: npt.NDArray[np.bool_]) -> LabelArray:
    """A prediction as a case that labels only some classes would have it: the others are background."""
    merged: LabelArray = np.where(labelled_L, np.arange(len(labelled_L)), 0).astype(np.uint8)[labels]
    return merged


def dice(intersection: npt.NDArray[np.int64], cardinality: npt.NDArray[np.int64]) -> list[float | None]:
    """Eq. 1 per class, in [0, 1]; None where the class is absent from both; 0 where the prediction misses it whole."""
    return [2 * int(i) / int(c) if c else None for i, c in zip(intersection, cardinality, strict=True)]


def score(
    prediction: LabelMap,
    reference: LabelMap,
    *,
    absent: Literal["undefined", "one"] = "undefined",
    classes: ClassTable = ABDOMEN,
    unlabelled: Collection[str] = (),
) -> list[Score]:
    """Dice of all classes, in label order.

    Args:
        prediction: on the grid of the reference.
        reference: the truth.
        absent: Dice of a class that is in neither: None, or 1.
        classes: what the labels stand for: the paper's eight, or others.
        unlabelled: names of the classes that the reference does not label: undefined here whatever `absent` says, and
            background in both label maps.

    Raises:
        BadInputError: the two do not lie on one grid, or hold labels that stand for nothing.
    """
    if not prediction.geometry.same_grid(reference.geometry, 0.1 * min(reference.geometry.spacing_mm)):
        raise BadInputError(
            f"prediction ({prediction.geometry.shape}) and reference ({reference.geometry.shape}) do not lie on one "
            "grid. Predict the scan that the reference belongs to."
        )
    highest = max(int(prediction.labels.max(initial=0)), int(reference.labels.max(initial=0)))
    if highest >= len(classes):
        raise BadInputError(f"label {highest}: the classes are 0 to {len(classes) - 1}. Give `classes`.")
    labelled_L = np.array([name not in unlabelled for name in classes.names])
    answer, truth = prediction.labels, reference.labels
    if not labelled_L.all():
        answer, truth = (as_labelled(labels, labelled_L) for labels in (answer, truth))
    values = dice(*overlap_counts(answer, truth, len(classes)))
    if absent == "one":
        values = [1.0 if value is None and known else value for value, known in zip(values, labelled_L, strict=True)]
    return [Score(organ, "dice", value) for organ, value in zip(classes.names, values, strict=True)]
