"""Where voxels lie, and how a scan comes to the grid of the network and labels come back, plane by plane along K."""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from viscera.export.portable.portable_nifti import Refused

Array = npt.NDArray[Any]
Index3 = tuple[int, int, int]
_TURNING_POINT = 1e-4  # by which another axis order must fit better
_ROUNDING = 1e-6
_MOST_VOXELS = 2048**3


class AxisOrder(NamedTuple):
    """From the order of the file to axes that run as close to right, front, up as they can."""

    axes: tuple[int, ...]  # new axis a runs along old axis `axes[a]`
    flips: tuple[slice, ...]

    @classmethod
    def of(cls, affine: Array) -> "AxisOrder":
        """By the directions of the axes."""
        unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        best: tuple[int, ...] = (0, 1, 2)
        most = 0.0
        for axes in itertools.permutations(range(3)):
            agreement = sum(abs(unit[new, old]) for new, old in enumerate(axes))
            if agreement > most + _TURNING_POINT:
                best, most = axes, agreement
        return cls(best, tuple(slice(None, None, -1 if unit[new, old] < 0 else 1) for new, old in enumerate(best)))

    def apply(self, array: Array) -> Array:
        """A view in the new order."""
        return array.transpose(self.axes)[self.flips]

    def undo(self, array: Array) -> Array:
        """A view in the old one."""
        return array[self.flips].transpose(np.argsort(self.axes))


class Taps(NamedTuple):
    """Resampling along one axis: each output voxel is a weighted sum of a few input voxels in a row."""

    first: Array  # (out,) the first input voxel of each; never decreases
    weights: Array  # (out, taps) float64; rows sum to 1
    num_in: int

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return self.weights.shape[1] == 1 and np.array_equal(self.first, np.arange(self.num_in))

    def voxel(self, tap: int) -> Array:
        """(out,) the input voxel of one of the taps; the last one where there is none."""
        there: Array = np.minimum(self.first + tap, self.num_in - 1)
        return there

    def along(self, axis: int, array: Array) -> Array:
        """A float32 array resampled along one axis."""
        if self.is_identity:
            return array
        shape = [-1 if each == axis % array.ndim else 1 for each in range(array.ndim)]
        total: Array = array.take(self.first, axis=axis) * self.weights[:, 0].astype(np.float32).reshape(shape)
        for tap in range(1, self.weights.shape[1]):
            part = array.take(self.voxel(tap), axis=axis)
            total += part * self.weights[:, tap].astype(np.float32).reshape(shape)
        return total

    def along_planes(self, planes: Iterable[Array]) -> Iterator[Array]:
        """The same along the axis on which the input comes plane by plane."""
        held: deque[Array] = deque()
        source, lowest = iter(planes), 0
        for first, weights in zip(self.first.tolist(), self.weights, strict=True):
            used = np.flatnonzero(weights)
            while lowest < first:
                held.popleft() if held else next(source)
                lowest += 1
            while lowest + len(held) <= first + used[-1]:
                held.append(next(source))
            total = held[first - lowest + used[0]]
            if len(used) > 1:
                total = total * np.float32(weights[used[0]])
            for tap in used[1:]:
                total += held[first - lowest + tap] * np.float32(weights[tap])
            yield total

    def spread(self, axis: int, array: Array, by: np.ufunc) -> Array:
        """At each input voxel, the least or largest of it and as many after it as there are taps."""
        result = array
        for tap in range(1, self.weights.shape[1]):
            result = by(result, array.take(np.minimum(np.arange(self.num_in) + tap, self.num_in - 1), axis=axis))
        return result


Taps3 = tuple[Taps, Taps, Taps]


def mean_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """Means of what each output voxel covers where the output is coarser (`factor` from 1 on), else linear."""
    out = np.arange(num_out)
    if factor == 1 and num_in == num_out:
        return Taps(out, np.ones((num_out, 1)), num_in)
    if factor >= 1:
        low, high = out * factor, np.minimum((out + 1) * factor, num_in)
        first = np.floor(low + _ROUNDING).astype(np.intp).clip(0, num_in - 1)
        at = first[:, None] + np.arange(int(min(np.ceil(factor - _ROUNDING), num_in)) + 1)
        weights = np.clip(np.minimum(at + 1, high[:, None]) - np.maximum(at, low[:, None]), 0, None)
        weights[weights < _ROUNDING] = 0
        weights = weights[:, : 1 + int(np.flatnonzero(weights.any(axis=0))[-1])]
    else:
        centres = _centres(num_in, num_out, 1 / factor)
        first = (np.searchsorted(centres, out, side="right") - 1).clip(0, max(num_in - 2, 0))
        apart = np.maximum(centres[np.minimum(first + 1, num_in - 1)] - centres[first], _ROUNDING)
        share = ((out - centres[first]) / apart).clip(0, 1) if num_in > 1 else np.zeros(num_out)
        weights = np.stack([1 - share, share], axis=1)
    return Taps(first, weights / weights.sum(axis=1, keepdims=True), num_in)


def nearest_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """The input voxel at each output voxel's centre; between two, that after it."""
    centres = _centres(num_out, num_in, factor) + 0.5
    return Taps(np.floor(centres + _ROUNDING).astype(np.intp).clip(0, num_in - 1), np.ones((num_out, 1)), num_in)


def _centres(num_coarse: int, num_fine: int, factor: float) -> Array:
    """(coarse,) where the centre of what each coarse voxel covers lies, in fine voxels."""
    low = np.arange(num_coarse) * factor
    centres: Array = (low + np.minimum(low + factor, num_fine) - 1) / 2
    return centres


class GridChange(NamedTuple):
    """From the scan's grid, axes to the right, front and up, to the network's; both start at the same corner."""

    fine: Index3
    coarse: Index3
    factors: tuple[float, ...]  # network's voxel size over the scan's, along each axis

    @classmethod
    def by(cls, shape: Sequence[int], factors: Sequence[float]) -> "GridChange":
        """The last voxel of an axis may reach over the edge. Raises Refused for a grid that no memory holds."""
        sizes = [max(1.0, float(np.ceil(n / factor - 1e-3))) for n, factor in zip(shape, factors, strict=True)]
        if not math.prod(sizes) <= _MOST_VOXELS:
            raise Refused("The scan would become too large for any memory. Check the voxel size in its header.")
        return cls(_three(shape), _three(sizes), tuple(map(float, factors)))

    @classmethod
    def of(cls, shape: Sequence[int], spacing_mm: Array, rule: dict[str, Any]) -> "GridChange":
        """As `resampling` of the contract says; `spacing_mm` is that of the scan along its axes."""
        given = rule["spacing_mm"]
        factors = np.array(given) / spacing_mm if given is not None else np.array(rule["downsample"], dtype=float)
        at, trained = spacing_mm * factors, rule["training_spacing_mm"]
        ratio = rule["tolerated_ratio"]
        is_unlike = (at * ratio < trained["least"]).any() or (at > np.array(trained["most"]) * ratio).any()
        if rule["grid"] == "spacing" or (rule["grid"] == "auto" and is_unlike):
            factors = np.array(trained["median"]) / spacing_mm
        return cls.by(shape, factors.tolist())

    def to_coarse(self) -> Taps3:
        """Along each axis."""
        i, j, k = map(mean_taps, self.fine, self.coarse, self.factors)
        return i, j, k

    def to_fine(self, restore: str) -> Taps3:
        """Along each axis, back: linear between the coarse voxels, or that of the coarse voxel around."""
        taps = mean_taps if restore == "probabilities" else nearest_taps
        i, j, k = map(taps, self.coarse, self.fine, [1 / each for each in self.factors])
        return i, j, k


def coarsened(hu: Array, change: GridChange) -> Array:
    """The scan (I, J, K) int16 on the network's grid, in C order: means of what each voxel covers, rounded."""
    i, j, k = change.to_coarse()
    if i.is_identity and j.is_identity and k.is_identity:
        return np.ascontiguousarray(hu)
    planes = (j.along(1, i.along(0, hu[:, :, at].astype(np.float32))) for at in range(hu.shape[2]))
    found = np.empty(change.coarse, np.int16)
    for at, plane in enumerate(k.along_planes(planes)):
        found[:, :, at] = np.rint(plane)
    return found


def restored(planes_LIJ: Iterable[Array], change: GridChange, restore: str) -> Array:
    """(I, J, K) uint8 labels on the scan's grid of probabilities on the network's, from the lowest plane up."""
    i, j, k = change.to_fine(restore)
    if restore == "labels":
        coarse = np.stack([plane.argmax(axis=0).astype(np.uint8) for plane in planes_LIJ], axis=-1)
        labels: Array = coarse[np.ix_(i.first, j.first, k.first)]
        return labels
    labels = np.empty(change.fine, np.uint8, order="F")
    for at, plane in enumerate(k.along_planes(planes_LIJ)):
        labels[:, :, at] = _most_probable(plane, i, j)
    return labels


def _most_probable(plane_LIJ: Array, i: Taps, j: Taps) -> Array:
    """Where the same class is the most probable one all around, it is so in between: only borders are interpolated."""
    coarse = plane_LIJ.argmax(axis=0).astype(np.uint8)
    low, high = (j.spread(1, i.spread(0, coarse, by), by) for by in (np.minimum, np.maximum))
    labels: Array = coarse.take(i.first, axis=0).take(j.first, axis=1)
    at_i, at_j = np.nonzero((low != high).take(i.first, axis=0).take(j.first, axis=1))
    if at_i.size:
        total = np.zeros((len(plane_LIJ), at_i.size), np.float32)
        for tap_i, tap_j in itertools.product(range(i.weights.shape[1]), range(j.weights.shape[1])):
            weight = (i.weights[at_i, tap_i] * j.weights[at_j, tap_j]).astype(np.float32)
            total += plane_LIJ[:, i.voxel(tap_i)[at_i], j.voxel(tap_j)[at_j]] * weight
        labels[at_i, at_j] = total.argmax(axis=0)
    return labels


def _three(values: Iterable[float]) -> Index3:
    i, j, k = (int(each) for each in values)
    return i, j, k
