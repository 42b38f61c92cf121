"""HD95 and surface Dice, worked out by hand; surface-distance itself is asked in tests/oracle."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from viscera.metrics import surface_distance
from viscera.metrics.surface_distance import CORNERS, surface_distances, surfel_areas_mm2

Mask = npt.NDArray[np.bool_]
MASKS = arrays(np.bool_, (5, 4, 3))
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)


def voxels(shape: tuple[int, int, int], *places: tuple[int | slice, ...]) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for place in places:
        mask[place] = True
    return mask


def test_two_voxels_four_apart() -> None:
    # a voxel's surface has its eight corners; the near four are 3 voxels of 2 mm away, the far four 4
    one, other = voxels((6, 3, 3), (0, 1, 1)), voxels((6, 3, 3), (4, 1, 1))
    measured = surface_distances(one, other, (2.0, 1.0, 0.5))
    assert sorted(measured.prediction_mm) == [6.0] * 4 + [8.0] * 4
    assert measured.hausdorff_mm(95) == 8.0
    assert measured.hausdorff_mm(50) == 6.0
    assert [measured.dice(tolerance) for tolerance in (5.9, 6.0, 7.9, 8.0)] == pytest.approx([0, 0.5, 0.5, 1])


def test_one_far_speck_is_below_five_per_cent_of_a_large_surface() -> None:
    # the cube's faces: 6 x 20 x 20 mm2 or so; the speck has eight corners of sqrt(3) / 8, which is 1.7 mm2
    cube = voxels((60, 30, 30), (slice(3, 23), slice(3, 23), slice(3, 23)))
    specked = cube | voxels((60, 30, 30), (52, 10, 10))
    measured = surface_distances(specked, cube, (1.0, 1.0, 1.0))
    assert measured.hausdorff_mm(95) == 0.0
    assert measured.hausdorff_mm(100) == 30.0  # from corner 53 to the face at 23
    share = 1 - np.sqrt(3) / measured.prediction_mm2.sum()
    assert measured.dice(0) == pytest.approx(
        (measured.reference_mm2.sum() + share * measured.prediction_mm2.sum())
        / (measured.reference_mm2.sum() + measured.prediction_mm2.sum())
    )


def test_a_shift_along_a_wide_axis_is_measured_in_its_millimetres() -> None:
    one = voxels((8, 8, 8), (slice(2, 5), slice(2, 5), slice(2, 5)))
    for axis, shift in enumerate((0.7, 1.1, 2.5)):
        measured = surface_distances(np.roll(one, 1, axis), one, (0.7, 1.1, 2.5))
        assert measured.hausdorff_mm(100) == pytest.approx(shift)
        assert measured.dice(shift) == 1
        near = measured.dice(0.99 * shift)
        assert near is not None
        assert near < 1


def test_where_a_mask_is_empty() -> None:
    one, nothing = voxels((3, 3, 3), (1, 1, 1)), voxels((3, 3, 3))
    for pair in ((one, nothing), (nothing, one)):
        measured = surface_distances(*pair, (1.0, 1.0, 1.0))
        assert measured.hausdorff_mm() == math.inf
        assert measured.dice(100.0) == 0
    measured = surface_distances(nothing, nothing, (1.0, 1.0, 1.0))
    assert measured.hausdorff_mm() is None
    assert measured.dice(100.0) is None
    empty = np.zeros((0, 0, 0), dtype=np.bool_)
    assert surface_distances(empty, empty, (1.0, 1.0, 1.0)).hausdorff_mm() is None


@given(MASKS, SPACINGS)
def test_a_mask_is_at_no_distance_from_itself(mask: Mask, spacing: tuple[float, ...]) -> None:
    measured = surface_distances(mask, mask, spacing)
    assert measured.hausdorff_mm() == (0 if mask.any() else None)
    assert measured.dice(0) == (1 if mask.any() else None)


@given(MASKS, MASKS, SPACINGS)
def test_prediction_and_reference_may_change_places(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    there, back = surface_distances(a, b, spacing), surface_distances(b, a, spacing)
    assert there.hausdorff_mm() == pytest.approx(back.hausdorff_mm())
    assert there.dice(1.0) == pytest.approx(back.dice(1.0))


@given(MASKS, MASKS, SPACINGS)
def test_background_around_the_masks_changes_nothing(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    inside = surface_distances(a, b, spacing)
    around = surface_distances(np.pad(a, 4), np.pad(b, 4), spacing)
    assert around.hausdorff_mm() == pytest.approx(inside.hausdorff_mm())
    assert around.dice(1.0) == pytest.approx(inside.dice(1.0))


@given(MASKS, MASKS, SPACINGS)
def test_a_wider_tolerance_never_lowers_the_surface_dice(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    measured = surface_distances(a, b, spacing)
    values = [measured.dice(tolerance) for tolerance in (0.0, 0.7, 1.0, 2.5, 5.0, 100.0)]
    if a.any() and b.any():
        assert values == sorted(values)  # type: ignore[type-var]
        assert values[-1] == 1


@given(MASKS, MASKS, SPACINGS)
def test_search_tree_and_distance_transform_agree_up_to_rounding(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    found = []
    for dense in (-1.0, 2.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(surface_distance, "_DENSE", dense)
            found.append(surface_distances(a, b, spacing))
    tree, transform = found[1], found[0]
    assert tree.prediction_mm == pytest.approx(transform.prediction_mm, rel=1e-12)
    assert tree.reference_mm == pytest.approx(transform.reference_mm, rel=1e-12)


# --------------------------------------------------------------------------------------- the area between eight voxels

CUBIC = surfel_areas_mm2((1, 1, 1))
A, B, C = SPACING = (0.7, 1.3, 2.5)


def code_of(*corners: tuple[int, int, int]) -> int:
    return sum(1 << CORNERS.index(corner) for corner in corners)


def test_nothing_and_everything_have_no_surface() -> None:
    assert CUBIC[0] == CUBIC[255] == 0
    assert (CUBIC[1:255] > 0).all()


def test_one_corner_is_cut_off_by_a_triangle() -> None:
    # through the points at A/2, B/2 and C/2 on its edges: its projections are right triangles with those legs
    projections = np.array([B * C, A * C, A * B]) / 8
    assert surfel_areas_mm2(SPACING)[code_of((0, 0, 0))] == pytest.approx(np.linalg.norm(projections))


def test_one_edge_is_cut_off_by_a_rectangle() -> None:
    # as long as the edge of C, as wide as the hypotenuse of A/2 and B/2
    assert surfel_areas_mm2(SPACING)[code_of((1, 0, 0), (1, 0, 1))] == pytest.approx(C * np.hypot(A, B) / 2)


def test_half_a_cube_is_cut_off_by_its_cross_section() -> None:
    areas = surfel_areas_mm2(SPACING)
    for axis, section in enumerate((B * C, A * C, A * B)):
        half = [corner for corner in CORNERS if corner[axis] == 0]
        assert areas[code_of(*half)] == pytest.approx(section)


def test_a_corner_with_its_three_neighbours_is_cut_off_by_a_regular_hexagon() -> None:
    # through the midpoints of six edges, which lie in one plane; its side is half a face diagonal
    side = np.sqrt(0.5)
    found = CUBIC[code_of((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert found == pytest.approx(3 * np.sqrt(3) / 2 * side**2)


def test_corners_that_meet_in_a_diagonal_alone_are_cut_off_one_by_one() -> None:
    one = CUBIC[code_of((0, 0, 0))]
    assert CUBIC[code_of((0, 0, 0), (1, 1, 0))] == pytest.approx(2 * one)
    assert CUBIC[code_of((0, 0, 0), (1, 1, 1))] == pytest.approx(2 * one)
    assert CUBIC[code_of((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1))] == pytest.approx(4 * one)


def test_three_corners_in_a_row_are_cut_off_by_the_largest_fold_of_a_pentagon() -> None:
    # by hand: a triangle of 1/2 flat on the midplane, and on it two that fall to the midpoints of the edges below
    found = CUBIC[code_of((0, 0, 0), (1, 0, 0), (1, 1, 0))]
    assert found == pytest.approx(0.5 + np.sqrt(3) / 4 + np.sqrt(3) / 8)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_inside_and_outside_have_one_surface(spacing: tuple[float, float, float]) -> None:
    areas = surfel_areas_mm2(spacing)
    np.testing.assert_allclose(areas, areas[::-1])  # 255 - code is the complement


def test_turning_and_mirroring_the_voxels_does_not_change_the_area() -> None:
    for order, flips in itertools.product(itertools.permutations(range(3)), itertools.product((0, 1), repeat=3)):
        spacing = tuple(SPACING[axis] for axis in order)
        moved = np.zeros(256, dtype=int)
        for bit, corner in enumerate(CORNERS):
            to = tuple(corner[axis] ^ flip for axis, flip in zip(order, flips, strict=True))
            moved |= (np.arange(256) >> bit & 1) << CORNERS.index((to[0], to[1], to[2]))
        np.testing.assert_allclose(surfel_areas_mm2(spacing)[moved], surfel_areas_mm2(SPACING))


def test_twice_the_spacing_is_four_times_the_area() -> None:
    np.testing.assert_allclose(surfel_areas_mm2([2 * s for s in SPACING]), 4 * surfel_areas_mm2(SPACING))
