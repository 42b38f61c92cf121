"""Boxes about what a label map holds: an organ fills a few per cent of its scan, and the rest need not be looked at."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Box = tuple[slice, slice, slice]
EMPTY: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


def box_of(array: npt.NDArray[Any]) -> Box:
    """The smallest box that holds all of a mask or label map (I, J, K) that is not 0; `EMPTY` where all is."""
    columns = np.any(array, axis=2)
    i, j = np.flatnonzero(np.any(columns, axis=1)), np.flatnonzero(np.any(columns, axis=0))
    if not i.size:
        return EMPTY
    in_plane = slice(int(i[0]), int(i[-1]) + 1), slice(int(j[0]), int(j[-1]) + 1)
    k = np.flatnonzero(np.any(array[in_plane], axis=(0, 1)))
    return (*in_plane, slice(int(k[0]), int(k[-1]) + 1))


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all boxes; those that are empty do not count."""
    full = [box for box in boxes if box != EMPTY]
    if not full:
        return EMPTY
    i, j, k = (slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*full, strict=True))
    return (i, j, k)


def boxes_of(labels: npt.NDArray[np.uint8], length: int) -> list[Box]:
    """(L,) the box of each class of a label map (I, J, K) with L classes; background's is `EMPTY`, too."""
    box = box_of(labels)
    found = ndimage.find_objects(cropped(labels, box), max_label=length - 1) if box != EMPTY else [None] * (length - 1)
    return [EMPTY, *(EMPTY if within is None else _moved(within, box) for within in found)]


def _moved(within: tuple[slice, ...], box: Box) -> Box:
    i, j, k = (slice(at.start + by.start, at.stop + by.start) for at, by in zip(within, box, strict=True))
    return (i, j, k)


def cropped(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """What lies in a box, in C order."""
    return np.ascontiguousarray(array[box])
