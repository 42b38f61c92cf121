"""From a scan's grid to the network's and back, plane by plane along K: neither grid is held as floats as a whole.

A coarse voxel o along an axis covers the fine voxels from o f to (o + 1) f, f the factor of that axis. The last may
reach over the edge; it then covers what is there, and has its centre in the middle of that. Axes are canonical: to the
right, to the front, up.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry, Index3, size_text
from viscera.core.machine_limits import machine_memory
from viscera.core.scan import LabelArray, LabelMap, Volume, value_counts
from viscera.core.settings import along_axes

if TYPE_CHECKING:
    from torch import Tensor

    from viscera.imaging.most_probable import OnPlane

Index = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float64]
Restore = Literal["probabilities", "labels"]
Number = TypeVar("Number", np.int16, np.uint8)
_SHARE_ROUNDING = 1e-6
_MOST_IN_BLOCK = 256  # 15 bits of HU and 8 of a sum fit into the 24 of a float32
_BYTES_PER_VOXEL = 3  # HU and a label
_MOST_MM = 3000  # along each axis, of a patient
_MOST_BYTES = _BYTES_PER_VOXEL * 2**33  # 2048 voxels along each axis: no CT has more
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Taps:
    """Resampling along one axis: each output voxel is a weighted sum of a few input voxels in a row."""

    first: Index  # (out,) the first input voxel of each output voxel; never decreases
    # (out, taps) of that voxel and those after it; rows sum to 1, and are 0 beyond the last input voxel
    weights: Weights
    num_in: int  # input voxels

    @property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return self.weights.shape[1] == 1 and np.array_equal(self.first, np.arange(self.num_in))

    @property
    def block(self) -> int:
        """How many input voxels each output voxel is the mean of, in whole blocks of a power of two; 0 where not so."""
        size = self.weights.shape[1]
        is_whole = (
            np.array_equal(self.first, size * np.arange(len(self.first))) and size * len(self.first) == self.num_in
        )
        return size if is_whole and not size & (size - 1) and bool((self.weights == 1 / size).all()) else 0

    def voxel(self, tap: int) -> Index:
        """(out,) the input voxel of one of the taps; the last one where there is none."""
        return np.minimum(self.first + tap, self.num_in - 1)

    def spread(self, axis: int, array: npt.NDArray[Any], by: np.ufunc) -> npt.NDArray[Any]:
        """At each input voxel, `by` (a minimum or maximum) over it and as many after it as there are taps."""
        result = array
        for tap in range(1, self.weights.shape[1]):
            result = by(result, array.take(np.minimum(np.arange(self.num_in) + tap, self.num_in - 1), axis=axis))
        return result

    def along(self, axis: int, array: "Tensor") -> "Tensor":
        """A float array resampled along one axis."""
        if self.is_identity:
            return array
        shape = [-1 if each == axis % array.ndim else 1 for each in range(array.ndim)]
        total = None
        for tap in range(self.weights.shape[1]):
            part = array.index_select(axis, _tensor(self.voxel(tap)))
            if self.weights.shape[1] > 1:
                part.mul_(_tensor(self.weights[:, tap]).to(array.dtype).view(shape))
            total = part if total is None else total.add_(part)
        return array if total is None else total

    def along_planes(self, planes: "Iterable[Tensor]") -> "Iterator[Tensor]":
        """The same along the axis on which the input comes plane by plane; holds as many as one output plane needs."""
        held: deque[Tensor] = deque()
        source, first_held = iter(planes), 0
        for first, weights in zip(self.first.tolist(), self.weights, strict=True):
            used = np.flatnonzero(weights)
            while first_held < first:
                if held:
                    held.popleft()
                else:
                    next(source)
                first_held += 1
            while first_held + len(held) <= first + used[-1]:
                held.append(next(source))
            total = held[first - first_held + used[0]]
            if len(used) > 1:
                total = total * float(weights[used[0]])
            for tap in used[1:]:
                total.add_(held[first - first_held + tap], alpha=float(weights[tap]))
            yield total


def axis_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """Means of what each output voxel covers where the output is coarser (`factor` ≥ 1), else linear interpolation.

    `factor` is the size of an output voxel over that of an input voxel.
    """
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
        after = np.minimum(first + 1, num_in - 1)
        apart = np.maximum(centres[after] - centres[first], _ROUNDING)
        share = ((out - centres[first]) / apart).clip(0, 1) if num_in > 1 else np.zeros(num_out)
        weights = np.stack([1 - share, share], axis=1)
    return Taps(first, weights / weights.sum(axis=1, keepdims=True), num_in)


def nearest_taps(num_in: int, num_out: int, factor: float) -> Taps:
    """The input voxel at each output voxel's centre; between two, that after it."""
    centres = _centres(num_out, num_in, factor) + 0.5
    first = np.floor(centres + _ROUNDING).astype(np.intp).clip(0, num_in - 1)
    return Taps(first, np.ones((num_out, 1)), num_in)


def _centres(num_coarse: int, num_fine: int, factor: float) -> Weights:
    """(coarse,) where the centre of what each coarse voxel covers lies, in fine voxels."""
    low = np.arange(num_coarse) * factor
    centres: Weights = (low + np.minimum(low + factor, num_fine) - 1) / 2
    return centres


Taps3 = tuple[Taps, Taps, Taps]


@dataclass(frozen=True)
class GridChange:
    """How a fine grid and a coarse grid relate."""

    fine: Geometry  # its first voxel starts at the same corner as that of `coarse`
    coarse: Geometry
    # coarse over fine voxel size along each axis; below 1 where the "coarse" grid is the finer one
    factors: tuple[float, float, float]

    @classmethod
    def by_factor(cls, fine: Geometry, factors: Sequence[float]) -> "GridChange":
        """Coarser by these factors; the last voxel of an axis may reach over the edge.

        Raises BadInputError for a scan larger than any patient, and for so fine a grid that no memory holds it.
        """
        sizes = [np.ceil(n / f - 1e-3) for n, f in zip(fine.shape, factors, strict=True)]
        needed = _BYTES_PER_VOXEL * math.prod(max(float(size), 1.0) for size in sizes)
        available = machine_memory()
        scan = f"A scan of {size_text(fine.shape)} voxels of {size_text(fine.spacing_mm)} mm"
        if needed > min(available, _MOST_BYTES):
            raise BadInputError(
                f"{scan} would become one of {size_text(sizes)} voxels ({needed / 2**30:.4g} GiB; this machine has "
                f"{available / 2**30:.0f} GiB). Check the voxel size in its header, or give larger voxels "
                "(--spacing-mm)."
            )
        longest_mm = max(np.multiply(fine.shape, fine.spacing_mm))
        if longest_mm > _MOST_MM:
            long = f"is {longest_mm / 1000:.3g} m long; no patient is longer than {_MOST_MM / 1000:g} m"
            raise BadInputError(f"{scan} {long}. Correct the voxel size in its header.")
        (i, j, k), (a, b, c) = (max(1, int(size)) for size in sizes), map(float, factors)
        return cls(fine, fine.scaled(factors, (i, j, k)), (a, b, c))

    @classmethod
    def to_spacing(cls, fine: Geometry, spacing_mm: Sequence[float]) -> "GridChange":
        """To voxels of this size in mm."""
        return cls.by_factor(fine, [to / at for to, at in zip(spacing_mm, fine.spacing_mm, strict=True)])

    @classmethod
    def prepared(cls, fine: Geometry, prepare: PrepareConfig) -> "GridChange":
        """From a scan's canonical grid to the one that the network sees: row 3 of the paper, or a given spacing."""
        if prepare.spacing_mm is not None:
            return cls.to_spacing(fine, along_axes(prepare.spacing_mm))
        return cls.by_factor(fine, along_axes(prepare.downsample))

    @property
    def to_coarse(self) -> Taps3:
        """Weights along each axis: the mean of what a coarse voxel covers; linear along an axis that gets finer."""
        i, j, k = map(axis_taps, self.fine.shape, self.coarse.shape, self.factors)
        return i, j, k

    def to_fine(self, restore: Restore = "probabilities") -> Taps3:
        """Weights along each axis, back: linear between the coarse voxels, or that of the coarse voxel around."""
        back = [1 / f for f in self.factors]
        taps = axis_taps if restore == "probabilities" else nearest_taps
        i, j, k = map(taps, self.coarse.shape, self.fine.shape, back)
        return i, j, k


def coarsen_volume(volume: Volume, change: GridChange) -> Volume:
    """The scan on the coarse grid: each voxel is the mean of those it covers (area weighting, hence anti-aliased).

    Along an axis that gets finer the scan is interpolated linearly. HU are rounded.
    """
    i, j, k = change.to_coarse
    if i.is_identity and j.is_identity and k.is_identity:
        return Volume(volume.hu, change.coarse)
    planes_of, block = np.moveaxis(volume.hu, 2, 0), (i.block, j.block)
    if 1 <= math.prod(block) <= _MOST_IN_BLOCK:
        planes = (_block_means(plane, *block) for plane in planes_of)
    else:
        floats = (_tensor(np.array(plane, dtype=np.float32, order="C")) for plane in planes_of)
        planes = (j.along(1, i.along(0, plane)) for plane in floats)
    hu = stacked((plane.round() for plane in k.along_planes(planes)), change.coarse.shape, np.int16)
    return Volume(hu, change.coarse)


def _block_means(plane: npt.NDArray[np.int16], i: int, j: int) -> "Tensor":
    """(I/i, J/j) float32 means of blocks of i × j voxels, from whole-number sums: a fifth of the time of `Taps.along`.

    Both are exact where a block holds a power of two of voxels, and no more than `_MOST_IN_BLOCK`.
    """
    sums = plane[:, ::j].astype(np.int32)
    for at in range(1, j):
        sums += plane[:, at::j]
    totals = sums[::i].copy()
    for at in range(1, i):
        totals += sums[at::i]
    return _tensor(totals.astype(np.float32, order="C") / np.float32(i * j))


def coarsen_labels(
    label_map: LabelMap, change: GridChange, method: Literal["nearest", "majority"] = "nearest"
) -> LabelMap:
    """The labels on the coarse grid: that at the voxel's centre, or the one that covers most of it."""
    if method == "nearest":
        taps = map(nearest_taps, change.fine.shape, change.coarse.shape, change.factors)
        return LabelMap(_pick(label_map.labels, taps), change.coarse)
    present = _tensor(np.flatnonzero(value_counts(label_map.labels)).astype(np.uint8))
    i, j, k = change.to_coarse
    planes = (
        j.along(2, i.along(1, (_tensor(np.array(plane, order="C")) == present.view(-1, 1, 1)).float()))
        for plane in np.moveaxis(label_map.labels, 2, 0)
    )
    labels = (present[_first_largest(shares)] for shares in k.along_planes(planes))
    return LabelMap(stacked(labels, change.coarse.shape, np.uint8), change.coarse)


def restore_labels(labels: LabelArray, change: GridChange) -> LabelMap:
    """Labels of the coarse grid on the fine one: each fine voxel takes the label of the coarse voxel around it."""
    return LabelMap(_pick(labels, change.to_fine("labels")), change.fine)


def restore_planes(planes_LIJ: "Iterable[Tensor]", change: GridChange, on_plane: "OnPlane | None" = None) -> LabelMap:
    """The most probable class on the fine grid, of probabilities that are interpolated linearly.

    `planes_LIJ` are float32 of `change.coarse`, along K from the lowest up. The fine probabilities never exist as a
    whole, and the coarse ones need not. Where the same class is the most probable at all coarse voxels around, it is so
    in between: only along borders are probabilities interpolated; everywhere for `on_plane`, which is told of each.
    """
    i, j, k = change.to_fine()

    def labels_of(plane: "Tensor") -> LabelArray:
        labels = _most_probable(plane, i, j)
        if on_plane is not None:
            on_plane(i.along(1, j.along(2, plane)), labels)
        return labels

    return LabelMap(stacked(map(labels_of, k.along_planes(planes_LIJ)), change.fine.shape, np.uint8), change.fine)


def _most_probable(plane_LIJ: "Tensor", i: Taps, j: Taps) -> LabelArray:
    """(I, J) class with the largest of (L, i, j) probabilities, resampled along both axes."""
    from viscera.imaging.most_probable import most_probable  # noqa: PLC0415 - as in `_tensor`

    coarse = most_probable(plane_LIJ).label.numpy()
    low, high = (j.spread(1, i.spread(0, coarse, by), by) for by in (np.minimum, np.maximum))
    labels = coarse.take(i.first, axis=0).take(j.first, axis=1)
    at_i, at_j = np.nonzero((low != high).take(i.first, axis=0).take(j.first, axis=1))
    if at_i.size:
        labels[at_i, at_j] = _blended(plane_LIJ, (i, at_i), (j, at_j)).argmax(dim=1).byte().numpy()
    return labels


def _blended(plane_LIJ: "Tensor", along_i: tuple[Taps, Index], along_j: tuple[Taps, Index]) -> "Tensor":
    """(N, L) probabilities at N output voxels of a plane, given by their index along each axis."""
    import torch.nn.functional as F  # noqa: PLC0415 - as in `_tensor`

    by_voxel = plane_LIJ.movedim(0, -1).reshape(-1, plane_LIJ.shape[0])
    (i, at_i), (j, at_j) = along_i, along_j
    taps = list(itertools.product(range(i.weights.shape[1]), range(j.weights.shape[1])))
    sources = np.empty((len(at_i), len(taps)), np.int32)
    weights = np.empty(sources.shape, np.float32)
    for column, (tap_i, tap_j) in enumerate(taps):
        sources[:, column] = i.voxel(tap_i)[at_i] * plane_LIJ.shape[2] + j.voxel(tap_j)[at_j]
        weights[:, column] = i.weights[at_i, tap_i] * j.weights[at_j, tap_j]
    return F.embedding_bag(_tensor(sources), by_voxel, mode="sum", per_sample_weights=_tensor(weights))


def restored_planes(
    planes_LIJ: "Iterable[Tensor]", change: GridChange, restore: Restore = "probabilities"
) -> "Iterator[Tensor]":
    """Probabilities on the fine grid, plane by plane along K, of float32 planes of `change.coarse` from the lowest up.

    Interpolated linearly; or those of the coarse voxel around, as `restore_labels` does with labels.
    """
    i, j, k = change.to_fine(restore)
    for plane in k.along_planes(planes_LIJ):
        yield i.along(1, j.along(2, plane))


def _first_largest(shares: "Tensor") -> "Tensor":
    """(I, J) index of the largest of (L, I, J) values, the first of those that are equal but for rounding."""
    best, index = shares[0].clone(), shares[0].long().zero_()
    for at, share in enumerate(shares[1:], start=1):
        more = share > best + _SHARE_ROUNDING
        index[more], best[more] = at, share[more]
    return index


def _tensor(array: npt.NDArray[Any]) -> "Tensor":
    """The array as a tensor, in the same memory."""
    import torch  # noqa: PLC0415 - slow to load, and labels and grids that stay as they are need none of it

    return torch.from_numpy(array)


def _pick(labels: LabelArray, taps: Iterable[Taps]) -> LabelArray:
    i, j, k = taps
    planes = (labels[:, :, source].take(i.first, axis=0).take(j.first, axis=1) for source in k.first)
    return stacked(planes, (len(i.first), len(j.first), len(k.first)), np.uint8)


def stacked(planes: Iterable[Any], shape: Index3, dtype: type[Number]) -> npt.NDArray[Number]:
    """(I, J, K) array of its planes along K, arrays or tensors; each lies in one piece in memory."""
    array = np.empty(shape, dtype=dtype, order="F")
    for at, plane in enumerate(planes):
        array[:, :, at] = plane
    return array
