"""Volume, HU, edges and fragments of organs, by hand."""

import numpy as np
import pytest

from viscera.core.anatomy import ClassTable
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.metrics.organ_facts import box_in_mm, organ_facts

TABLE = ClassTable.of_names(["background", "liver", "spleen", "stomach"])


def test_by_hand() -> None:
    labels, hu = np.zeros((10, 10, 8), dtype=np.uint8), np.full((10, 10, 8), -50, dtype=np.int16)
    labels[2:4, 2:6, 3], hu[2:4, 2:6, 3] = 1, 100  # 8 voxels of 1 x 2 x 5 mm
    hu[2, 2:6, 3] = 60
    labels[9, 5, 5], hu[9, 5, 5] = 2, 40  # at the edge
    geometry = Geometry.from_spacing(labels.shape, (1, 2, 5))
    facts = organ_facts(Volume(hu, geometry), LabelMap(labels, geometry), TABLE, [0.9, 0.8, None, None])
    assert facts["liver"].volume_ml == pytest.approx(0.08)
    assert facts["liver"].mean_hu == pytest.approx(80)
    assert facts["liver"].sd_hu == pytest.approx(20)  # 4 voxels of 60, 4 of 100
    assert facts["liver"].voxels == 8
    # I 2 to 3, J 2 to 5, K 3 of a grid whose middle is the origin: first voxel's centre at (-4.5, -9, -17.5)
    assert np.array(facts["liver"].box_mm) == pytest.approx(np.array([(-3, -6, -5), (-1, 2, 0)]))
    assert facts["liver"].box == ((2, 2, 3), (3, 5, 3))
    assert (facts["liver"].pieces, facts["liver"].largest_piece) == (1, 1.0)
    assert facts["stomach"].box_mm is None
    assert (facts["stomach"].box, facts["stomach"].pieces, facts["stomach"].largest_piece) == (None, 0, None)
    assert (facts["liver"].cut_off, facts["liver"].large_fragments, facts["liver"].confidence) == (False, 1, 0.8)
    assert (facts["spleen"].cut_off, facts["spleen"].mean_hu, facts["spleen"].confidence) == (True, 40, None)
    assert (facts["stomach"].volume_ml, facts["stomach"].mean_hu, facts["stomach"].large_fragments) == (0, None, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_face_is_an_edge(axis: int) -> None:
    geometry = Geometry.from_spacing((4, 5, 6), (1, 1, 1))
    for end in (0, -1):
        labels = np.zeros((4, 5, 6), dtype=np.uint8)
        place = [2, 2, 2]
        place[axis] = end
        labels[tuple(place)] = 1
        found = organ_facts(Volume(np.zeros((4, 5, 6), dtype=np.int16), geometry), LabelMap(labels, geometry), TABLE)
        assert found["liver"].cut_off


def test_the_box_of_a_turned_grid() -> None:
    affine = np.array([[0, -2.0, 0, 10], [1, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])  # I to the front, J to the left
    box = box_in_mm((slice(0, 2), slice(1, 4), slice(5, 6)), Geometry((9, 9, 9), affine))
    expected = [(10 - 7, 20 - 0.5, 30 + 13.5), (10 - 1, 20 + 1.5, 30 + 16.5)]
    assert np.array(box) == pytest.approx(np.array(expected))


def test_the_box_of_a_tilted_grid_is_that_of_the_corners() -> None:
    turn = np.deg2rad(30)  # about S
    affine = np.array(
        [[np.cos(turn), -np.sin(turn), 0, 0], [np.sin(turn), np.cos(turn), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    box = box_in_mm((slice(0, 3), slice(0, 1), slice(0, 1)), Geometry((9, 9, 9), affine))
    # a bar of 3 x 1 mm from (-0.5, -0.5) to (2.5, 0.5): it reaches from -0.5 cos - 0.5 sin to 2.5 cos + 0.5 sin along R
    low, high = np.array(box)
    assert low == pytest.approx(
        [-0.5 * np.cos(turn) - 0.5 * np.sin(turn), -0.5 * np.sin(turn) - 0.5 * np.cos(turn), -0.5]
    )
    assert high == pytest.approx(
        [2.5 * np.cos(turn) + 0.5 * np.sin(turn), 2.5 * np.sin(turn) + 0.5 * np.cos(turn), 0.5]
    )


def test_fragments_of_a_tenth_count_and_corners_connect() -> None:
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    volume, geometry = np.zeros((20, 20, 20), dtype=np.int16), Geometry.from_spacing((20, 20, 20), (1, 1, 1))

    def found() -> tuple[int, int, float | None]:
        facts = organ_facts(Volume(volume, geometry), LabelMap(labels, geometry), TABLE)["liver"]
        return facts.large_fragments, facts.pieces, facts.largest_piece

    labels[0:2, 0:2, 0:2] = 1  # 8 voxels
    labels[2, 2, 2] = 1  # touches by a corner
    labels[10, 10, 10] = 1  # 1 of 10: a tenth
    assert found() == (2, 2, 0.9)
    labels[0:2, 0:2, 2] = 1  # 1 of 14
    assert found() == (1, 2, 13 / 14)
