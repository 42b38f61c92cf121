"""The area of surface between eight voxels, worked out by hand; surface-distance's table is asked in tests/oracle."""

import itertools

import numpy as np
import pytest

from viscera.metrics.surface_distance import CORNERS, surfel_areas_mm2

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
