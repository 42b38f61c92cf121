"""The area of surface between eight voxels, by which of them are in a mask: the table of marching cubes.

Marching cubes lays the surface between eight voxels through the midpoints of the edges that it cuts: it cuts off each
group of joined corners of the kind that is rarer among the eight (of four and four, those in the mask). The loop of
midpoints about a group need not be flat; of the ways to make triangles of it, the one of the largest area for cubic
voxels is taken. So does the table of the library surface-distance, which this one equals.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Corner = tuple[int, int, int]
CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), (0, 1), (0, 1)))  # corner c is bit c of a code
MOST_TRIANGLES = 4


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
            _cross(loop[apex] - first, last - first) / 2,
            *_largest_triangulation(loop[apex:]),
        ]
        for apex in range(1, len(loop) - 1)
    )
    return max(choices, key=lambda areas: float(np.linalg.norm(areas, axis=1).sum()))


def _cross(a: Array, b: Array) -> Array:
    """(3,) the vector product; NumPy's takes ten times as long for one pair, and all codes need thousands."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
