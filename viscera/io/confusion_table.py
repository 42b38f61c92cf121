"""`confusion.csv`: by case, how many voxels of each class are called each class."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from viscera.core.errors import BadInputError
from viscera.io.records import read_csv, write_csv

_HEADER = ("case", "class", "called", "voxels")


class ConfusionRow(NamedTuple):
    """One cell that is not 0."""

    case: str
    organ: str  # name of what the voxels are
    called: str  # and of what the prediction says
    voxels: int

    @classmethod
    def of_matrix(cls, case: str, confusion_LL: npt.NDArray[np.int64], names: Sequence[str]) -> "list[ConfusionRow]":
        """Those of a case's `metrics.overlap.confusion_matrix`, whose rows are predictions."""
        cells = zip(*np.nonzero(confusion_LL.T), strict=True)
        return [cls(case, names[true], names[called], int(confusion_LL[called, true])) for true, called in cells]


def write_confusion(path: Path, rows: Iterable[ConfusionRow]) -> None:
    """Write the rows in their order, atomically."""
    write_csv(path, _HEADER, rows, checksum=True)


def read_confusion(path: Path, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """(L, L) voxels by true class (rows) and what they are called, over all cases.

    Raises BadInputError where it is no such table, or of other classes.
    """
    labels = {name: label for label, name in enumerate(names)}
    voxels = np.zeros((len(names),) * 2, dtype=np.int64)
    try:
        for line in read_csv(path):
            voxels[labels[line["class"]], labels[line["called"]]] += int(line["voxels"])
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{path}: damaged ({error}). Run the study again to score its cases again.") from error
    return voxels
