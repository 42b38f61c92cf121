"""Mending a label map, organ by organ: what lies apart, and what is missing within."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cleaned(labels: Array, largest_component: list[int], fill_holes: list[int]) -> Array:
    """First organs that are to be one piece lose their other pieces; then organs take the background within them."""
    for label in sorted(largest_component):
        box = _box(labels == label)
        part = labels[box]
        lines, pieces = components(part == label, 26)
        if pieces.size:
            sizes = np.bincount(pieces, weights=lines[:, 3] - lines[:, 2])
            for i, j, first, end in lines[pieces != sizes.argmax()]:
                part[i, j, first:end] = 0
    for label in sorted(fill_holes):
        box = _box(labels == label)
        part = labels[box]
        lines, pieces = components(part != label, 6)
        if pieces.size:
            i, j, first, end = lines.T
            at_edge = (i == 0) | (i == part.shape[0] - 1) | (j == 0) | (j == part.shape[1] - 1)
            at_edge |= (first == 0) | (end == part.shape[2])
            is_open = np.zeros(pieces.max() + 1, np.bool_)
            is_open[pieces[at_edge]] = True
            for a, b, start, stop in lines[~is_open[pieces]]:
                hole = part[a, b, start:stop]
                hole[hole == 0] = label
    return labels


def _box(mask: Array) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask; an empty one around nothing."""
    sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(each[0]), int(each[-1]) + 1) if each.size else slice(0, 0) for each in sides)


def components(mask: Array, connectivity: int) -> tuple[Array, Array]:
    """The runs of a mask (I, J, K) along K, (N, 4) of i, j, first, end; and (N,) which component each is of.

    Voxels that share a face are joined; with connectivity 26 also those that share an edge or a corner.
    """
    i, j, k = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    row, column, first = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[2]
    lines = np.column_stack([row, column, first, end])
    if not len(lines):
        return lines, np.zeros(0, np.int64)
    reach = int(connectivity == 26)
    begin, stop = (row * j + column) * (k + 2) + first, (row * j + column) * (k + 2) + end  # ascending, both
    edges = []
    for down, across in ((0, 1), (1, 0), *(((1, 1), (1, -1)) if reach else ())):
        there = (row + down < i) & (column + across >= 0) & (column + across < j)
        moved = np.flatnonzero(there)
        shift = (down * j + across) * (k + 2)
        low = np.searchsorted(stop, begin[moved] + shift - reach, side="right")  # first that ends after it begins
        high = np.searchsorted(begin, stop[moved] + shift + reach, side="left")  # and all that begin before it ends
        # a run at the end of the line before or after is not beside it: lines lie two apart
        count = np.maximum(high - low, 0)
        one = np.repeat(moved, count)
        other = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
        edges.append(np.stack([one, other]))
    one, other = np.concatenate(edges, axis=1)
    root = np.arange(len(lines))
    while True:
        least = np.minimum(root[one], root[other])
        before = root.copy()
        np.minimum.at(root, root[one], least)
        np.minimum.at(root, root[other], least)
        while not np.array_equal(root, root[root]):
            root = root[root]
        if np.array_equal(root, before):
            return lines, np.unique(root, return_inverse=True)[1]
