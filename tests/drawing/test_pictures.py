"""What the pictures show, read back from their pixels: sides, colours, sizes."""

import time

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from viscera.core.anatomy import CLASSES, IGNORED
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.drawing.canvas import to_pixels
from viscera.drawing.renders import common_box, render_figure, surfaces
from viscera.drawing.slices import IGNORED_COLOUR, backdrop, busiest_slice, slice_figure, thinned

SPLEEN = CLASSES[4]


def where(pixels: npt.NDArray[np.uint8], colour: str) -> npt.NDArray[np.float64]:
    """(N, 2) rows and columns, 0 to 1 from top left, of pixels with the hue of a colour."""
    wanted = np.array(to_rgb(colour)) / np.linalg.norm(to_rgb(colour))
    lengths = np.linalg.norm(pixels.astype(float), axis=2, keepdims=True)
    alike = (pixels / np.maximum(lengths, 1) @ wanted > 0.995) & (lengths[:, :, 0] > 120)
    found: npt.NDArray[np.float64] = np.argwhere(alike) / np.array(pixels.shape[:2])
    return found


def spleen_only(label_map: LabelMap) -> LabelMap:
    return LabelMap(np.where(label_map.labels == 4, np.uint8(4), np.uint8(0)), label_map.geometry)


def air(geometry: Geometry) -> Volume:
    return Volume(np.full(geometry.shape, -1000, dtype=np.int16), geometry)


def test_the_busiest_slice_has_the_most_organs_then_the_most_voxels() -> None:
    labels = np.zeros((10, 10, 5), dtype=np.uint8)
    labels[:5, :5, 1] = 3  # one organ, many voxels
    labels[0, 0, 2], labels[1, 1, 2] = 3, 4  # two organs, two voxels
    labels[0, 0, 3], labels[1:3, 1, 3] = 3, 4  # two organs, three voxels
    assert busiest_slice(LabelMap(labels, Geometry.from_spacing((10, 10, 5), (1, 1, 1)))) == 3


def test_a_slice_shows_the_patients_left_on_the_viewers_right_and_the_front_above(label_map: LabelMap) -> None:
    spleen = spleen_only(label_map)  # lies left and behind
    behind = backdrop(air(label_map.geometry), label_map.geometry, 15)
    pixels = to_pixels(slice_figure(behind, spleen.labels[:, :, 15], (8.0, 8.0)))
    row, column = where(pixels, SPLEEN.colour).mean(axis=0)
    assert column > 0.6
    assert row > 0.5


def test_what_nobody_labelled_is_hatched_in_grey_and_no_organ(label_map: LabelMap) -> None:
    geometry = label_map.geometry
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    labels[: geometry.shape[0] // 2, :, :16] = IGNORED  # the patient's left, the viewer's right
    labels[0, 0, 20] = 3
    assert busiest_slice(LabelMap(labels, geometry)) == 20
    behind = backdrop(air(geometry), geometry, 15)
    pixels = to_pixels(slice_figure(behind, labels[:, :, 15], (8.0, 8.0))).astype(int)
    grey = np.abs(pixels - np.round(255 * np.array(to_rgb(IGNORED_COLOUR)))).max(axis=2) < 12
    half = grey.shape[1] // 2
    assert 0.1 < grey[:, half + 9 :].mean() < 0.9
    assert grey[:, : half - 9].mean() < 0.01  # the edges of letters
    assert not any(len(where(pixels.astype(np.uint8), organ.colour)) for organ in CLASSES[1:])


def test_a_slice_keeps_the_proportions_of_the_patient() -> None:
    # 20 voxels of 2 mm to the right by 20 voxels of 1 mm to the front: twice as wide as high
    geometry = Geometry.from_spacing((20, 20, 3), (2.0, 1.0, 5.0))
    pixels = to_pixels(slice_figure(backdrop(air(geometry), geometry, 1), np.ones((20, 20), np.uint8), (2.0, 1.0)))
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(2, rel=0.01)


def test_the_backdrop_lies_where_the_scan_lies() -> None:
    # prepared grid of 4 mm, label grid of 1 mm over the same 40 mm: the bright half stays the right half
    coarse = Geometry.from_spacing((10, 10, 10), (4, 4, 4))
    hu = np.full((10, 10, 10), 0, dtype=np.int16)
    hu[5:] = 200
    shown = backdrop(Volume(hu, coarse), Geometry.from_spacing((40, 40, 40), (1, 1, 1)), 20)
    middle = shown.hu[:, shown.hu.shape[1] // 2]
    half = len(middle) // 2
    assert middle[half] == pytest.approx(100, abs=15)
    assert middle[: half - len(middle) // 20].max() == pytest.approx(0)
    assert middle[half + len(middle) // 20 :].min() == pytest.approx(200)


def test_thinning_keeps_every_organ_in_its_place() -> None:
    labels = np.zeros((300, 40, 40), dtype=np.uint8)
    labels[200:240, 10:20, 10:20] = 3
    full = LabelMap(labels, Geometry.from_spacing((300, 40, 40), (1, 1, 1)))
    thin = thinned(full, longest=100)
    assert thin.labels.shape == (100, 40, 40)

    def centre_mm(label_map: LabelMap) -> npt.NDArray[np.float64]:
        index = np.argwhere(label_map.labels == 3).mean(axis=0)
        centre: npt.NDArray[np.float64] = (label_map.geometry.affine @ [*index, 1])[:3]
        return centre

    assert centre_mm(thin) == pytest.approx(centre_mm(full), abs=1.0)


def test_a_surface_encloses_the_volume_of_its_mask(label_map: LabelMap) -> None:
    for organ in surfaces(label_map):
        corners = organ.vertices_mm[organ.faces]
        volume_mm3 = abs(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6)
        label = next(c.label for c in CLASSES if c.colour == organ.colour)
        assert volume_mm3 == pytest.approx((label_map.labels == label).sum() * 512, rel=0.12), label
        inwards = ((corners.mean(axis=1) - organ.vertices_mm.mean(axis=0)) * organ.normals[organ.faces[:, 0]]).sum(
            1
        ) < 0
        assert inwards.mean() < 0.1, label


def test_a_single_voxel_has_a_surface() -> None:
    labels = np.zeros((5, 5, 5), dtype=np.uint8)
    labels[2, 2, 2] = 6
    (organ,) = surfaces(LabelMap(labels, Geometry.from_spacing((5, 5, 5), (2, 3, 4))))
    assert organ.vertices_mm.mean(axis=0) == pytest.approx([4, 6, 8], abs=0.1)


def test_a_render_shows_the_patients_left_on_the_viewers_right(label_map: LabelMap) -> None:
    organs = surfaces(label_map)
    pixels = to_pixels(render_figure(organs, common_box([organs])))
    assert where(pixels, SPLEEN.colour).mean(axis=0)[1] > 0.6
    liver = where(pixels, CLASSES[3].colour)
    assert liver.mean(axis=0)[1] < 0.5
    drawn = np.argwhere((pixels < 250).any(axis=2)) / np.array(pixels.shape[:2])
    assert drawn.min() > 0.01
    assert drawn.max() < 0.99


def test_nearer_organs_hide_farther_ones() -> None:
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[7:13, 2:6, 6:11], labels[5:15, 12:16, 5:15] = 4, 3  # a small spleen behind a liver
    organs = surfaces(LabelMap(labels, Geometry.from_spacing((20, 20, 20), (5, 5, 5))))
    pixels = to_pixels(render_figure(organs, common_box([organs])))
    assert len(where(pixels, CLASSES[3].colour)) > 10_000
    assert len(where(pixels, SPLEEN.colour)) == 0
    alone = to_pixels(render_figure(organs[1:], common_box([organs])))
    assert len(where(alone, SPLEEN.colour)) > 1_000


def test_an_empty_label_map_renders_and_says_so(label_map: LabelMap) -> None:
    nothing = LabelMap(np.zeros_like(label_map.labels), label_map.geometry)
    assert surfaces(nothing) == ()
    pixels = to_pixels(render_figure((), None))
    assert (pixels < 200).any()  # the words
    behind = backdrop(air(label_map.geometry), label_map.geometry, 12)
    assert to_pixels(slice_figure(behind, nothing.labels[:, :, 12], (8.0, 8.0))).any()


@pytest.mark.slow
def test_a_large_render_takes_seconds_not_minutes() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 8, (8, 8, 6), dtype=np.uint8)  # the worst case: every organ everywhere
    labels = np.kron(coarse, np.ones((16, 16, 16), np.uint8))
    started = time.perf_counter()
    organs = surfaces(LabelMap(labels, Geometry.from_spacing((128, 128, 96), (2.8, 2.8, 4))))
    to_pixels(render_figure(organs, common_box([organs])))
    assert time.perf_counter() - started < 20
