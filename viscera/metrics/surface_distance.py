"""Distances between the surfaces of two masks, weighted by area: HD95 and the surface Dice at a tolerance.

The definitions are those of Nikolov et al. (J Med Internet Res 2021, 23(7):e26151), and the values equal those of their
library, surface-distance: a surface is a set of elements with an area ("surfels"), one wherever eight voxels meet that
are not all alike; what lies beyond the scan is background. See docs/metrics.md.

Marching cubes lays the surface between eight voxels through the midpoints of the edges that it cuts: it cuts off each
group of joined corners of the kind that is rarer among the eight (of four and four, those in the mask). The loop of
midpoints about a group need not be flat; of the ways to make triangles of it, the one of the largest area for cubic
voxels is taken. So does the table of that library, which this one equals.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Corner = tuple[int, int, int]
CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), (0, 1), (0, 1)))  # corner c is bit c of a code
MOST_TRIANGLES = 4
_FULL = 255  # code of eight voxels in the mask
_DENSE = 1 / 10  # surface elements to find and to look from, over voxels: above, a distance transform is quicker


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From every element of one surface to the nearest element of the other."""

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
        near = sum(mm2[mm <= tolerance_mm].sum() for mm, mm2 in self._surfaces)
        return float(near / area) if area else None

    @property
    def _surfaces(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return (self.prediction_mm, self.prediction_mm2), (self.reference_mm, self.reference_mm2)


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure two masks (I, J, K) of one grid; `spacing_mm` along its axes, which are taken to be at right angles."""
    areas_mm2 = surfel_areas_mm2(spacing_mm)
    codes_prediction, codes_reference = _neighbour_codes(prediction), _neighbour_codes(reference)
    on_prediction, on_reference = ((codes != 0) & (codes != _FULL) for codes in (codes_prediction, codes_reference))
    return SurfaceDistances(
        prediction_mm=_distances_mm(on_prediction, on_reference, spacing_mm),
        prediction_mm2=areas_mm2[codes_prediction[on_prediction]],
        reference_mm=_distances_mm(on_reference, on_prediction, spacing_mm),
        reference_mm2=areas_mm2[codes_reference[on_reference]],
    )


def _neighbour_codes(mask: Mask) -> npt.NDArray[np.uint8]:
    """(I + 1, J + 1, K + 1) which of the eight voxels about each corner of the grid are in the mask."""
    padded = np.pad(mask, 1).astype(np.uint8)
    i, j, k = (n + 1 for n in mask.shape)
    codes = np.zeros((i, j, k), dtype=np.uint8)
    for bit, (a, b, c) in enumerate(CORNERS):
        codes |= padded[a : a + i, b : b + j, c : c + k] << np.uint8(bit)
    return codes


def _distances_mm(elements: Mask, others: Mask, spacing_mm: Sequence[float]) -> Array:
    """(N,) from each element, in C order, to the nearest of the others."""
    if not others.any():
        return np.full(np.count_nonzero(elements), np.inf)
    apart = ~others[elements]  # the rest are 0
    if np.count_nonzero(others) + np.count_nonzero(apart) > _DENSE * others.size:
        transformed: Array = ndimage.distance_transform_edt(~others, sampling=spacing_mm)
        return transformed[elements]
    points, targets = np.argwhere(elements)[apart], np.argwhere(others)
    tree = KDTree(targets * np.asarray(spacing_mm), balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * np.asarray(spacing_mm))
    result = np.zeros(len(apart))
    result[apart] = np.sqrt((((points - targets[nearest]) * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    return result


def _percentile(distances_mm: Array, areas_mm2: Array, percent: float) -> float:
    """The distance at which the elements, from near to far, have covered `percent` of the area."""
    order = np.lexsort((areas_mm2, distances_mm))
    covered = np.cumsum(areas_mm2[order]) / areas_mm2[order].sum()
    at = min(int(np.searchsorted(covered, percent / 100)), len(order) - 1)
    return float(distances_mm[order[at]])


def surfel_areas_mm2(spacing_mm: Sequence[float]) -> Array:
    """(256,) area in mm² by neighbour code: bit c is set where corner `CORNERS[c]` is in the mask."""
    i, j, k = spacing_mm
    stretched = _unit_surfels() * np.array([j * k, i * k, i * j])
    areas: Array = np.linalg.norm(stretched, axis=2).sum(axis=1)
    return areas


@functools.cache
def _unit_surfels() -> Array:
    """(256, 4, 3) vector areas of the triangles for voxels of edge 1; zeros where there are fewer than four."""
    table = np.zeros((1 << len(CORNERS), MOST_TRIANGLES, 3))
    for code in range(1, len(table) - 1):
        inside = {corner for bit, corner in enumerate(CORNERS) if code >> bit & 1}
        rarer = inside if len(inside) <= 4 else set(CORNERS) - inside
        triangles = [area for group in _groups(rarer) for area in _largest_triangulation(_loop(group))]
        table[code, : len(triangles)] = triangles
    return table


def _neighbours(corner: Corner) -> list[Corner]:
    i, j, k = corner
    return [(1 - i, j, k), (i, 1 - j, k), (i, j, 1 - k)]


def _groups(corners: Iterable[Corner]) -> Iterator[set[Corner]]:
    """The corners by whether edges of the cube join them."""
    left = set(corners)
    while left:
        group, frontier = set[Corner](), {left.pop()}
        while frontier:
            group |= frontier
            frontier = {n for corner in frontier for n in _neighbours(corner)} & left
            left -= frontier
        yield group


def _loop(group: set[Corner]) -> list[Array]:
    """Midpoints of the edges that lead out of a group of at most four corners, in the order of the loop they make."""
    joined: dict[frozenset[Corner], list[frozenset[Corner]]] = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        on_face = {corner for corner in CORNERS if corner[axis] == side}
        cut = [frozenset({c, n}) for c in group & on_face for n in _neighbours(c) if n in on_face - group]
        if cut:
            one, other = cut
            joined.setdefault(one, []).append(other)
            joined.setdefault(other, []).append(one)
    order = [next(iter(joined))]
    while len(order) < len(joined):
        order.append(next(edge for edge in joined[order[-1]] if edge not in order))
    return [np.mean(list(edge), axis=0) for edge in order]


def _largest_triangulation(loop: Sequence[Array]) -> list[Array]:
    """Vector areas of the triangles of a polygon, chosen so that their areas sum to the most."""
    if len(loop) < 3:
        return []
    first, last = loop[0], loop[-1]
    choices = (
        [
            *_largest_triangulation(loop[: apex + 1]),
            np.cross(loop[apex] - first, last - first) / 2,
            *_largest_triangulation(loop[apex:]),
        ]
        for apex in range(1, len(loop) - 1)
    )
    return max(choices, key=lambda areas: float(np.linalg.norm(areas, axis=1).sum()))
