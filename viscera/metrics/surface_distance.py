"""Distances between the surfaces of two masks, weighted by area: HD95 and the surface Dice at a tolerance.

The definitions are those of Nikolov et al. (J Med Internet Res 2021, 23(7):e26151), and the values equal those of their
library, surface-distance: a surface is a set of elements with an area ("surfels"), one wherever eight voxels meet that
are not all alike; what lies beyond the scan is background. See docs/metrics.md.

Surfaces are thin, and most of their elements lie on the other surface or a voxel or two away. So the elements of all
organs are found in one pass, and each looks for the other surface in the places around it, the nearest first; the few
that find nothing nearby ask a search tree. Everything is exact.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]  # in a `_Grid`
Mask = npt.NDArray[np.bool_]
CORNERS = tuple(itertools.product((0, 1), (0, 1), (0, 1)))  # corner c of eight voxels is bit c of a code
_MOST_TRIANGLES = 4  # between eight voxels
_REACH = 8  # voxels, the farthest that the places around an element are looked at along an axis
_MARGIN = _REACH + 1  # voxels of background between the rows, and between the planes, of a grid
_ROUND = 18  # places that are looked at before those that have found something are let go
_BLOCK = 1 << 13  # elements that look around at once: what they see stays in the processor's cache
_SLAB = 1 << 18  # places, likewise
_TREE = 100, 500  # looks that cost as much as a search tree: for each element in it, and for each that asks it


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From every element of one surface to the nearest element of the other, from near to far, then by area."""

    prediction_mm: Array  # (P,) distances from the prediction's elements; infinite where there is no reference
    prediction_mm2: Array  # (P,) their areas
    reference_mm: Array  # (R,) distances from the reference's elements; infinite where there is no prediction
    reference_mm2: Array  # (R,) their areas

    def hausdorff_mm(self, percent: float = 95.0) -> float | None:
        """The distance in mm within which `percent` of each surface's area lies from the other; the larger of the two.

        Infinite where one mask is empty, None where both are.
        """
        found = [_percentile(mm, mm2, percent) for mm, mm2 in self._surfaces if mm.size]
        return max(found, default=None)

    def dice(self, tolerance_mm: float) -> float | None:
        """The share of both surfaces' area that lies no further than the tolerance from the other surface, in [0, 1].

        0 where one mask is empty, None where both are.
        """
        area = sum(mm2.sum() for _, mm2 in self._surfaces)
        near = sum(mm2[: np.searchsorted(mm, tolerance_mm, side="right")].sum() for mm, mm2 in self._surfaces)
        return float(near / area) if area else None

    @property
    def _surfaces(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return (self.prediction_mm, self.prediction_mm2), (self.reference_mm, self.reference_mm2)


def _percentile(distances_mm: Array, areas_mm2: Array, percent: float) -> float:
    """The distance at which the elements, from near to far, have covered `percent` of the area."""
    covered = np.cumsum(areas_mm2) / areas_mm2.sum()
    at = min(int(np.searchsorted(covered, percent / 100)), len(covered) - 1)
    return float(distances_mm[at])


def label_surface_distances(
    prediction: Bytes, reference: Bytes, spacing_mm: Sequence[float], labels: Iterable[int]
) -> Iterator[SurfaceDistances]:
    """Measure each of several labels of two label maps (I, J, K) of one grid.

    `spacing_mm` is along its axes, which are taken to be at right angles.
    """
    grid = _Grid(prediction.shape)
    surfaces = [_Surfaces(grid.spread(each), grid) for each in (prediction, reference)]
    ways = _Ways.around(tuple(spacing_mm), _REACH)
    areas, area_of_code = np.unique(surfel_areas_mm2(spacing_mm), return_inverse=True)
    is_other = np.zeros(grid.size, dtype=np.bool_)
    for label in labels:
        both = [surface.of_label(label) for surface in surfaces]
        measured = []
        for (places, codes), (others, _) in (both, both[::-1]):
            is_other[others] = True
            ranks, distances_mm = _distances(places, others, is_other, ways, grid)
            is_other[others] = False
            keys = np.sort(ranks << 8 | area_of_code[codes])  # from near to far, then by area
            measured += [distances_mm[keys >> 8], areas[keys & 255]]
        yield SurfaceDistances(*measured)


def surfel_areas_mm2(spacing_mm: Sequence[float]) -> Array:
    """(256,) area in mm² of the surface between eight voxels by code: bit c is set where corner `CORNERS[c]` has it."""
    i, j, k = spacing_mm
    areas: Array = np.linalg.norm(_unit_surfels() * np.array([j * k, i * k, i * j]), axis=2).sum(axis=1)
    return areas


@functools.cache
def _unit_surfels() -> Array:
    """(256, 4, 3) vector areas of the triangles for voxels of edge 1; zeros where there are fewer than four.

    Marching cubes through the midpoints of the edges, by the table of Lorensen and Cline (1987), about those corners
    that are of the rarer kind (of four and four, those that have the label): so both sides have one surface.
    """
    table = np.zeros((1 << len(CORNERS), _MOST_TRIANGLES, 3))
    for code in range(1, len(table) - 1):
        corners = np.unpackbits(np.array([code], dtype=np.uint8), bitorder="little").reshape(2, 2, 2)
        rarer = corners if corners.sum() <= 4 else 1 - corners
        vertices, faces, *_ = marching_cubes(rarer.astype(np.float64), 0.5, method="lorensen")
        a, b, c = (vertices[corner].astype(np.float64) for corner in faces.T)
        table[code, : len(faces)] = np.cross(b - a, c - a) / 2
    return table


class _Grid:
    """Corners of voxels in one row: place (i, j, k) is where voxel (i, j, k) and the seven below it meet.

    Behind each row, each plane and the whole, and before it, is enough background to look around.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = i, j, k = shape
        self._padded = i + _MARGIN, j + _MARGIN, k + _MARGIN
        self.row, self.plane = self._padded[2], self._padded[1] * self._padded[2]
        self.first = _MARGIN * (self.plane + self.row + 1)  # place (0, 0, 0)
        self.size = self.first + int(np.prod(self._padded)) + _MARGIN * (self.row + 1)

    def spread(self, labels: Bytes) -> Bytes:
        """(size,) the labels of the voxels at their places, background around them."""
        spread, (i, j, k) = np.zeros(self.size, dtype=np.uint8), self._shape
        end = self.first + int(np.prod(self._padded))
        spread[self.first : end].reshape(self._padded)[:i, :j, :k] = labels
        return spread

    def coordinates(self, places: Places) -> npt.NDArray[np.intp]:
        """(N, 3) of the places, in voxels."""
        return np.stack(np.unravel_index(places - self.first, self._padded), axis=1)


class _Surfaces:
    """The surface elements of all labels of a label map."""

    def __init__(self, labels: Bytes, grid: _Grid) -> None:
        slab = max(_SLAB, 2 * grid.plane)
        found = [_uneven(labels, at, at + slab, grid) for at in range(grid.first, grid.size, slab)]
        self._places = np.concatenate(found)
        self._voxels, near = np.empty((len(CORNERS), self._places.size), dtype=np.uint8), self._places - grid.first
        for voxel, (i, j, k) in zip(self._voxels, CORNERS, strict=True):
            voxel[:] = labels[grid.first - (1 - i) * grid.plane - (1 - j) * grid.row - (1 - k) :].take(near)

    def of_label(self, label: int) -> tuple[Places, Bytes]:
        """The places of its elements, and which of the eight voxels there have it: bit c is `CORNERS[c]`."""
        codes = np.zeros(self._places.size, dtype=np.uint8)
        for bit, voxel in enumerate(self._voxels):
            codes |= (voxel == label).view(np.uint8) << np.uint8(bit)
        there = np.flatnonzero(codes)
        return self._places[there], codes[there]


def _uneven(labels: Bytes, start: int, end: int, grid: _Grid) -> Places:
    """The places from `start` to `end` where the eight voxels that meet are not all alike."""
    row, plane = grid.row, grid.plane
    near = labels[start - plane - row - 1 : end]
    of_two = near[1:] ^ near[:-1]  # not 0 where neighbours along k differ
    of_four = near[row + 1 :] ^ near[1:-row]
    of_four |= of_two[row:]
    of_four |= of_two[:-row]
    of_eight = near[plane + row + 1 :] ^ near[row + 1 : -plane]
    of_eight |= of_four[plane:]
    of_eight |= of_four[:-plane]
    return np.flatnonzero(of_eight != 0) + start


@dataclass(frozen=True, eq=False)
class _Ways:
    """Where to look around a place, the nearest first."""

    spacing_mm: tuple[float, ...]
    steps: npt.NDArray[np.intp]  # (W, 3) in voxels, to the places to look at
    ranks: npt.NDArray[np.intp]  # (W,) how far each is, as an index into `distances_mm`
    distances_mm: Array  # ascending, the first is 0

    @classmethod
    @functools.lru_cache(maxsize=16)
    def around(cls, spacing_mm: tuple[float, ...], reach: int) -> "_Ways":
        """All ways that are no longer than `reach` times the smallest spacing."""
        reach_mm = reach * min(spacing_mm)
        most = [min(reach, int(reach_mm / spacing)) for spacing in spacing_mm]
        steps = np.array([*itertools.product(*(range(-n, n + 1) for n in most))])
        lengths_mm = _lengths_mm(steps, spacing_mm)
        near = np.argsort(lengths_mm, kind="stable")[1 : np.count_nonzero(lengths_mm <= reach_mm)]
        distances_mm, ranks = np.unique(np.append(0.0, lengths_mm[near]), return_inverse=True)
        return cls(spacing_mm, steps[near], ranks[1:], distances_mm)


def _distances(
    places: Places, others: Places, is_other: Mask, ways: _Ways, grid: _Grid
) -> tuple[npt.NDArray[np.intp], Array]:
    """(N,) how far each place is from the nearest of the others, as an index into distances in mm, ascending.

    `is_other` (size,) says of each place of the grid whether it is one of them.
    """
    ranks = np.zeros(places.size, dtype=np.intp)
    if not others.size:
        return ranks, np.array([np.inf])
    left = np.flatnonzero(~is_other[places])
    near = places[left] - grid.first
    steps = ways.steps @ np.array([grid.plane, grid.row, 1]) + grid.first
    seen, looks = 0, 0
    while left.size and seen < steps.size and looks <= _TREE[0] * others.size + _TREE[1] * left.size:
        hits = _hits(near, is_other, steps[seen : seen + _ROUND])
        found, missed = np.flatnonzero(hits), np.flatnonzero(hits == 0)
        ranks[left[found]] = ways.ranks[seen : seen + _ROUND].take(hits[found] - np.uint8(1))
        looks += left.size * _ROUND
        seen += _ROUND
        left, near = left[missed], near[missed]
    if not left.size:
        return ranks, ways.distances_mm
    points, targets = grid.coordinates(places[left]), grid.coordinates(others)
    far_mm, far = np.unique(_by_tree_mm(points, targets, ways.spacing_mm), return_inverse=True)
    known_mm = ways.distances_mm[: ways.ranks[:seen].max(initial=0) + 1]
    ranks[left] = known_mm.size + far
    return ranks, np.append(known_mm, far_mm)


def _hits(places: Places, is_other: Mask, steps: Places) -> Bytes:
    """(N,) which of the steps, counted from 1, leads from each place to another first; 0 where none does."""
    hits = np.zeros(places.size, dtype=np.uint8)
    for start in range(0, places.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        for number in range(len(steps), 0, -1):
            np.copyto(hits[block], number, where=is_other[steps[number - 1] :].take(places[block]))
    return hits


def _by_tree_mm(points: Places, targets: Places, spacing_mm: Sequence[float]) -> Array:
    """(N,) mm from each point (N, 3) to the nearest of the targets (M, 3), which are in voxels."""
    tree = KDTree(targets * np.asarray(spacing_mm), balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * np.asarray(spacing_mm))
    return _lengths_mm(points - targets[nearest], spacing_mm)


def _lengths_mm(steps: npt.NDArray[np.intp], spacing_mm: Sequence[float]) -> Array:
    """(N,) of steps (N, 3) in voxels."""
    lengths_mm: Array = np.sqrt(((steps * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    return lengths_mm
