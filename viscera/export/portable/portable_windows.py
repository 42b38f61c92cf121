"""Class probabilities of a scan on the network's grid, window by window: planes are given as soon as they are whole."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Index3 = tuple[int, ...]
Forward = Callable[[Array], Array]  # (I, J, K) int16 HU of a window to its probabilities (L, I, J, K) float32
_LEAST_WEIGHT = 1e-3


class _Windows(NamedTuple):
    """Equal windows of a volume, from the lowest up."""

    edges: Index3
    origins: list[Index3]
    weights: Callable[[Index3], Array]  # (I, J, K) of the window at an origin


def probability_planes(hu: Array, forward: Forward, how: dict[str, Any]) -> Iterator[Array]:
    """(L, I, J) of each plane along K, from the lowest up; `how` is `sliding_window` of the contract.

    `hu` (I, J, K) int16 of any size: smaller than a window of training, it is padded with air.
    """
    patch, air = how["patch"], how["air_hu"]
    mirrored = tuple(how["mirror_axes"])
    missing = [max(0, patch - n) for n in hu.shape]
    before = [n if axis in mirrored else 0 for axis, n in enumerate(missing)]
    scan = np.pad(hu, list(zip(before, missing, strict=True)), constant_values=air) if any(missing) else hu
    mirrors = [axes for number in range(len(mirrored) + 1) for axes in combinations(mirrored, number)]
    if how["mode"] == "whole_volume":
        windows = _Windows(scan.shape, [(0, 0, 0)], lambda _: np.ones(scan.shape, np.float32))
        planes = _blended(scan, windows, forward, mirrors)
    elif how["mode"] == "sub_volumes":
        planes = _blended(scan, _of_training(scan.shape, before, how), forward, mirrors)
    else:
        planes = _in_large_windows(scan, forward, how, mirrors)
    i, j, k = (slice(at, at + n) for at, n in zip(before, hu.shape, strict=True))
    for plane in itertools.islice(planes, k.start, k.stop):
        yield plane[:, i, j]


def _of_training(shape: Index3, before: Sequence[int], how: dict[str, Any]) -> _Windows:
    """Cubes of the training's size, evenly spaced, neighbours sharing at least the overlap."""
    patch, starts = how["patch"], []
    step = max(1, int(patch * (1 - how["overlap"])))
    for n, first in zip(shape, before, strict=True):
        room = n - first - patch
        starts.append([first + round(float(at)) for at in np.linspace(0, room, -(-room // step) + 1)])
    origins = sorted(itertools.product(*starts), key=lambda origin: origin[2])
    weight = np.ones((patch,) * 3, np.float32)
    if how["blend"] == "gaussian":
        axis = np.exp(-0.5 * ((np.arange(patch) - (patch - 1) / 2) / (patch / 8)) ** 2)
        product = axis[:, None, None] * axis[:, None] * axis
        weight = np.maximum(product / product.max(), 1e-4).astype(np.float32)
    return _Windows((patch,) * 3, origins, lambda _: weight)


def _in_large_windows(
    scan: Array, forward: Forward, how: dict[str, Any], mirrors: list[tuple[int, ...]]
) -> Iterator[Array]:
    """As few and large windows as memory allows, of the box outside which all is air and the answer the same."""
    large, patch, multiples = how["large"], how["patch"], how["multiples"]
    box = _body(scan, how, mirrors[-1])
    within = scan[box]
    edge = max(*multiples, patch // 2)
    air_L = forward(np.full((edge,) * 3, how["air_hu"], np.int16))[:, edge // 2, edge // 2, edge // 2]
    held = 4 * (len(air_L) + 1) * within.shape[0] * within.shape[1]  # bytes of a plane and its weights

    def bytes_of(window: Index3) -> float:
        is_part = window != within.shape or len(mirrors) > 1
        return float(large["bytes_per_voxel"] * math.prod(window) + (held * window[2] if is_part else 0))

    windows = _tiling(within.shape, how, bytes_of)
    planes = _blended(within, windows, forward, mirrors)
    if within.shape == scan.shape:
        yield from planes
        return
    i, j, k = box
    for at in range(scan.shape[2]):
        plane = np.empty((len(air_L), *scan.shape[:2]), np.float32)
        plane[:] = air_L[:, None, None]
        if k.start <= at < k.stop:
            plane[:, i, j] = next(planes)
        yield plane


def _body(scan: Array, how: dict[str, Any], mirrored: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """The box around all above the least HU, with a margin, nowhere thinner than a window of training."""
    low_hu, least, sides, axes = how["large"]["above_hu"], how["patch"], [], []
    seen = [np.zeros(n, np.bool_) for n in scan.shape]
    for at in range(scan.shape[2]):
        mask = scan[:, :, at] > low_hu
        seen[0] |= mask.any(axis=1)
        seen[1] |= mask.any(axis=0)
        seen[2][at] = mask.any()
    sides = [np.flatnonzero(each) for each in seen]
    margin = least // 4
    for axis, (filled, n, multiple) in enumerate(zip(sides, scan.shape, how["multiples"], strict=True)):
        start, stop = (int(filled[0]) - margin, int(filled[-1]) + 1 + margin) if filled.size else (0, 0)
        if axis in mirrored:
            start, stop = (max(0, start), min(n, stop)) if filled.size else (n // 2, n - n // 2)
            more = -(-max(0, least - (stop - start)) // 2)
            start, stop = start - more, stop + more
            moved = max(0, -start) - max(0, stop - n)
            axes.append(slice(max(0, start + moved), min(n, stop + moved)))
            continue
        start, stop = max(0, start), min(n, stop)
        size = max(stop - start, least)
        size = min(n, size + -size % multiple)
        start = max(0, min(start, n - size))
        axes.append(slice(start, start + size))
    i, j, k = axes
    return i, j, k


def _tiling(shape: Index3, how: dict[str, Any], bytes_of: Callable[[Index3], float]) -> _Windows:
    """That with fewest voxels in all its windows, of those that fit."""
    shared, least, choices = how["large"]["shared"], how["patch"], []
    for n, multiple in zip(shape, how["multiples"], strict=True):
        each: dict[int, int] = {}  # windows, by their edge
        for count in range(1, -(-max(n - shared, 1) // max(least - shared, 1)) + 1):
            edge = -(-(n + (count - 1) * shared) // count)
            each.setdefault(min(n, max(least, edge + -edge % multiple)), count)
        choices.append(list(each.items()))
    tilings = list(itertools.product(*choices))
    fitting = [each for each in tilings if bytes_of(tuple(edge for edge, _ in each)) <= how["large"]["most_bytes"]]
    best = min(fitting or tilings[-1:], key=lambda each: (math.prod(e * c for e, c in each), -each[2][0]))
    edges = tuple(edge for edge, _ in best)
    starts = [
        [round(at) for at in np.linspace(0, n - edge, count).tolist()]
        for n, (edge, count) in zip(shape, best, strict=True)
    ]

    def weights(origin: Index3) -> Array:
        axes = []
        for first, edge, along in zip(origin, edges, starts, strict=True):
            at, here = np.arange(edge) + 0.5, along.index(first)
            weight = np.ones(edge)
            if here > 0:
                weight *= _passing(at, along[here - 1] + edge - first)
            if here < len(along) - 1:
                weight *= _passing(edge - at, first + edge - along[here + 1])
            axes.append(np.maximum(weight, _LEAST_WEIGHT))
        product: Array = (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)
        return product

    i, j, k = starts
    return _Windows(edges, [(a, b, c) for c, a, b in itertools.product(k, i, j)], weights)


def _passing(from_face: Array, shared: int) -> Array:
    """From 0 to 1 over the middle half of what two windows share."""
    return np.clip((from_face - shared / 4) / max(shared / 2, 1e-6), 0.0, 1.0)


def _blended(scan: Array, windows: _Windows, forward: Forward, mirrors: list[tuple[int, ...]]) -> Iterator[Array]:
    """Weighted means of overlapping windows, and of mirror images; a plane no longer held once it is given."""
    (i, j, k), edges = scan.shape, windows.edges
    looks = []
    for axes in mirrors:
        for origin in windows.origins:
            at = tuple(
                n - edge - first if axis in axes else first
                for axis, (n, edge, first) in enumerate(zip(scan.shape, edges, origin, strict=True))
            )
            looks.append((at, axes, origin))
    looks.sort(key=lambda look: look[0][2])
    begun: deque[tuple[Array, Array]] = deque()  # sums of the planes from `lowest` on, and of their weights
    lowest = 0
    for number, (at, axes, origin) in enumerate(looks):
        place = tuple(slice(first, first + edge) for first, edge in zip(at, edges, strict=True))
        found = np.flip(forward(np.flip(scan[place], axes)), tuple(axis + 1 for axis in axes))
        weight = np.flip(windows.weights(origin), axes)
        for offset in range(edges[2]):
            if lowest + len(begun) <= at[2] + offset:
                begun.append((np.zeros((len(found), i, j), np.float32), np.zeros((i, j), np.float32)))
            total, weights = begun[at[2] + offset - lowest]
            total[:, place[0], place[1]] += found[..., offset] * weight[..., offset]
            weights[place[:2]] += weight[..., offset]
        del found
        next_plane = looks[number + 1][0][2] if number + 1 < len(looks) else k
        while lowest < next_plane:
            total, weights = begun.popleft()
            yield total / weights
            lowest += 1
