"""Several images at one position: copies of one another, or phases of a time series; and phases between one another."""

import filecmp
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from viscera.core.errors import BadInputError
from viscera.io.dicom.pixels import read_images
from viscera.io.dicom.series import Slice
from viscera.io.dicom.unusable import UnusableSeriesError

_SAME_POSITION_MM = 0.01
_NAMED = 3
_TELLING = ("acquisition", "time point", "acquired at")  # not the trigger time: it varies from beat to beat
_OFTEN = 0.25  # returns to an acquisition, of all slices; a single slice may have been scanned again
_SEVERAL_PHASES = (
    "Several phases or time points under one series UID? Put the files of one of them into a folder of their own"
)


def drop_doubles(slices: Sequence[Slice], along_mm: npt.NDArray[np.float64]) -> tuple[list[Slice], int]:
    """One slice for each position, and how many copies were dropped.

    Args:
        slices: in order.
        along_mm: (n,) their positions along the stack, in the same order.

    Raises:
        UnusableSeriesError: different images at one position.
    """
    is_double = np.concatenate([[False], np.diff(along_mm) < _SAME_POSITION_MM])
    for n in np.flatnonzero(is_double).tolist():
        one, other = slices[n - 1], slices[n]
        if not _is_copy(one, other):
            raise UnusableSeriesError(_different(one, other, along_mm[n], int(is_double.sum())))
    return [each for each, double in zip(slices, is_double, strict=True) if not double], int(is_double.sum())


def refuse_alternating(slices: Sequence[Slice]) -> None:
    """Refuse slices in order whose acquisitions take turns; one block after another is a scan.

    Raises:
        UnusableSeriesError: phases whose positions lie between one another.
    """
    for name in _TELLING:
        values = [dict(each.acquisition).get(name, "") for each in slices]
        runs = [value for value, _ in groupby(values)]
        if len(runs) - len(set(runs)) > _OFTEN * len(slices):
            several = " and ".join(f"{name} {value}" for value in sorted(set(runs))[:_NAMED])
            first = ", ".join(each.path.name for each in slices[:_NAMED])
            raise UnusableSeriesError(
                f"slices of {several} alternate along the stack: {first} and so on. "
                f"{_SEVERAL_PHASES}; if they are one scan all the same, convert it to NIfTI"
            )


def _is_copy(one: Slice, other: Slice) -> bool:
    """Whether two files hold the same HU, however these are stored; frames of one file are no copies."""
    if one.shape != other.shape or one.path == other.path:
        return False
    if filecmp.cmp(one.path, other.path, shallow=False):
        return True
    try:
        return np.array_equal(next(read_images([one])), next(read_images([other])))
    except BadInputError:
        return False


def _different(one: Slice, other: Slice, at_mm: float, doubles: int) -> str:
    acquisitions = sorted({", ".join(" ".join(part) for part in each.acquisition) for each in (one, other)})
    phases = f" ({'; '.join(acquisitions)})" if len(acquisitions) > 1 else ""
    return (
        f"{doubles} {'image lies' if doubles == 1 else 'images lie'} where another lies already, with other pixels: "
        f"{one.path.name} and {other.path.name} at {at_mm:.5g} mm{phases}. {_SEVERAL_PHASES}"
    )
