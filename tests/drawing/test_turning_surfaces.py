"""Surfaces for the page: what is packed comes out again, and what is simplified keeps its size and place."""

from base64 import b64decode

import numpy as np
import pytest
from skimage.measure import marching_cubes

from viscera.core.anatomy import ABDOMEN
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.drawing.renders import FloatArray, common_box, surfaces
from viscera.drawing.turning_surfaces import Faces, packed_maps, simplified


def ball(radius: float, size: int = 64) -> tuple[FloatArray, Faces]:
    """A ball's surface about (32, 32, 32), voxels as units."""
    axis = np.arange(size) - size / 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    vertices, faces, _, _ = marching_cubes(radius - distance, 0.0)
    return vertices.astype(float), faces


def volume(vertices: FloatArray, faces: Faces) -> float:
    a, b, c = (vertices[faces[:, at]] for at in range(3))
    return float(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6)


@pytest.mark.parametrize("most", [6000, 1500, 400])
def test_a_simplified_ball_is_a_ball(most: int) -> None:
    vertices, faces = ball(24.0)
    corners, fewer = simplified(vertices, faces, most)
    assert len(faces) > 10_000
    assert most / 3 < len(fewer) <= most
    assert volume(corners, fewer) == pytest.approx(4 / 3 * np.pi * 24**3, rel=0.12)
    assert np.linalg.norm(corners - 32, axis=1).max() < 24.1
    edges = np.sort(np.concatenate([fewer[:, [0, 1]], fewer[:, [1, 2]], fewer[:, [2, 0]]]), axis=1)
    _, times = np.unique(edges, axis=0, return_counts=True)
    assert (times == 2).mean() > 0.98  # closed, but for a few edges that the merging pinched


def test_small_meshes_stay_as_they_are() -> None:
    vertices, faces = ball(5.0)
    corners, kept = simplified(vertices, faces, len(faces))
    assert corners is vertices
    assert kept is faces


def test_what_is_packed_is_the_surface_to_a_16_bit_step() -> None:
    labels = np.zeros((24, 20, 16), dtype=np.uint8)
    labels[4:12, 4:12, 4:12], labels[14:20, 6:12, 4:10] = 3, 6
    shapes = surfaces(LabelMap(labels, Geometry.from_spacing(labels.shape, (2.0, 3.0, 4.0))))
    box = common_box([shapes])
    assert box is not None
    packed = packed_maps({"ground truth": shapes, "nothing": ()}, ABDOMEN, box)
    assert packed is not None
    assert [organ["title"] for organ in packed["organs"]][2:6:3] == ["liver", "gallbladder"]
    truth, nothing = packed["maps"]
    assert nothing["meshes"] == []
    meshes = truth["meshes"]
    assert isinstance(meshes, list)
    assert [mesh["organ"] for mesh in meshes] == [2, 5]
    longest = (box[1] - box[0]).max()
    for mesh, shape in zip(meshes, shapes, strict=True):
        corners = np.frombuffer(b64decode(mesh["corners"]), "<i2").reshape(-1, 3)
        faces = np.frombuffer(b64decode(mesh["faces"]), "<u2").reshape(-1, 3)
        millimetres = corners / 32767 * longest / 2 + box.mean(axis=0)
        assert np.abs(millimetres - shape.vertices_mm).max() <= longest / 32767 / 2 * 0.51 + 1e-9
        assert np.array_equal(faces, shape.faces)


def test_without_an_organ_there_is_nothing_to_turn() -> None:
    assert packed_maps({"ground truth": ()}, ABDOMEN, None) is None
