"""Surfaces for a page that turns them: simplified, quantised to 16 bits, in base64."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ClassTable
from viscera.drawing.renders import Box3, FloatArray, Surface

Faces = npt.NDArray[np.integer]
MOST_FACES = 330_000  # of all label maps of a page together: about 4 MB of it
_FEWEST_FACES = 300  # that an organ keeps
_COARSER = 1.25  # edge of the cells from one attempt to the next


class PackedMesh(TypedDict):
    """An organ's surface: corners (V, 3) int16 little-endian, faces (F, 3) uint16, or uint32 of 65,536 corners on."""

    organ: int  # index into the page's organs
    corners: str  # base64; 32,767 is half the longest edge of the box, from its centre
    faces: str
    wide: bool  # whether the faces are uint32


class PackedMaps(TypedDict):
    """All label maps of one case."""

    organs: list[dict[str, str]]  # title and colour
    maps: list[dict[str, object]]  # title, and meshes


def packed_maps(maps: Mapping[str, Sequence[Surface]], classes: ClassTable, box: Box3 | None) -> PackedMaps | None:
    """Surfaces by title of their label map, the largest simplified first; None where there is none at all."""
    if box is None:
        return None
    low, high = np.asarray(box, dtype=float)
    longest = float(max((high - low).max(), 1e-3))
    total = sum(len(surface.faces) for of in maps.values() for surface in of)
    share = min(1.0, MOST_FACES / max(total, 1))
    packed: list[dict[str, object]] = [
        {"title": title, "meshes": [_packed(surface, (low + high) / 2, longest, share) for surface in of]}
        for title, of in maps.items()
    ]
    organs = [{"title": organ.title, "colour": organ.colour} for organ in classes.organs]
    return PackedMaps(organs=organs, maps=packed)


def _packed(surface: Surface, centre: FloatArray, longest: float, share: float) -> PackedMesh:
    most = max(_FEWEST_FACES, int(share * len(surface.faces)))
    vertices, faces = simplified(surface.vertices_mm, surface.faces, most)
    quantised = np.clip((vertices - centre) / longest * 2 * 32767, -32767, 32767).round().astype("<i2")
    wide = len(vertices) > 65535
    return PackedMesh(
        organ=surface.label - 1,
        corners=b64encode(quantised.tobytes()).decode("ascii"),
        faces=b64encode(faces.astype("<u4" if wide else "<u2").tobytes()).decode("ascii"),
        wide=wide,
    )


def simplified(vertices: FloatArray, faces: Faces, most: int) -> tuple[FloatArray, Faces]:
    """At most so many faces, by merging the vertices in each cell of a grid (Rossignac and Borrel 1993).

    The grid becomes coarser until they are few enough; a mesh that is small enough comes back as it is.
    """
    if len(faces) <= most:
        return vertices, faces
    edge = float(np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1).mean())
    edge *= max(1.0, (len(faces) / most) ** 0.5 / _COARSER)
    while True:
        corners, kept = _clustered(vertices, faces, edge)
        if len(kept) <= most:
            return corners, kept
        edge *= _COARSER


def _clustered(vertices: FloatArray, faces: Faces, edge: float) -> tuple[FloatArray, Faces]:
    cells = np.floor(vertices / edge).astype(np.int64)
    cells -= cells.min(axis=0)
    _, index, counts = np.unique(_keys(cells), return_inverse=True, return_counts=True)
    corners = np.stack([np.bincount(index, weights=axis) / counts for axis in vertices.T], axis=1)
    merged = index[faces]
    a, b, c = merged.T
    merged = merged[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(_keys(np.sort(merged, axis=1)), return_index=True)
    return corners, merged[np.sort(first)]


def _keys(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) one number per row of three, below 2^21 each: far quicker to sort than rows."""
    keys: npt.NDArray[np.int64] = (rows[:, 0] << 42) + (rows[:, 1] << 21) + rows[:, 2]
    return keys
