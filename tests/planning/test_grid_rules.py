"""Voxel sizes by hand; against nnU-Net's own planner in tests/oracle/test_planning_nnunet.py."""

from dataclasses import replace

import pytest

from tests.planned_data import data_of
from viscera.planning.grid_rules import full_resolution, planned_grid, window_share


def test_a_window_that_holds_a_tenth_is_left_alone() -> None:
    """137³ voxels, of which 64³ are 10.2 %."""
    data = data_of((2, 2, 2), (137, 137, 137))
    assert window_share(data, (2, 2, 2), 64) == pytest.approx(0.102, abs=0.001)
    assert planned_grid(data, 64).spacing_mm == (2.0, 2.0, 2.0)


def test_else_voxels_become_larger_until_it_does() -> None:
    """400 mm along each axis: a tenth of n³ is 64³ at n = 64 · 10^(1/3) = 137.9, voxels of 2.90 mm."""
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), store_mm=(2, 2, 2)), 64)
    assert grid.spacing_mm == pytest.approx((2.9,) * 3, rel=0.04)
    assert len(set(grid.spacing_mm)) == 1
    assert not grid.is_the_stores
    assert "10% of a scan" in grid.reason


def test_finer_axes_become_coarser_first() -> None:
    """Slices of 4 mm stay until the others are of 2 mm.

    (320/1.77)² · 80 voxels are ten times 64³; of 200² · 100, voxels of 2×2×4 mm, they are 6.6 %, so all become coarser.
    """
    i, j, k = planned_grid(data_of((1, 1, 4), (320, 320, 80)), 64).spacing_mm
    assert i == j == pytest.approx(1.77, rel=0.03)
    assert k == 4
    i, j, k = planned_grid(data_of((1, 1, 4), (400, 400, 100)), 64).spacing_mm
    assert i == j == pytest.approx(2 * 1.151, rel=0.05)  # two steps of 3 %
    assert k == pytest.approx(4 * 1.151, rel=0.03)


def test_not_coarser_than_five_millimetres_unless_the_scans_are() -> None:
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), store_mm=(2, 2, 2)), 24)
    assert grid.spacing_mm == (5.0, 5.0, 5.0)
    assert "not coarser than 5 mm" in grid.reason
    assert planned_grid(data_of((3, 3, 8), (130, 130, 50), store_mm=(9, 9, 9)), 16).spacing_mm == (5.0, 5.0, 8.0)


def test_an_organ_keeps_its_voxels() -> None:
    """64 voxels of 1 mL together are cubes of 2.5 mm."""
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), organ_ml=1.0), 32)
    assert 2.4 <= grid.spacing_mm[0] <= 2.5
    assert "or the spleen would have under 64 voxels" in grid.reason


def test_an_organ_whose_volume_is_not_known_limits_nothing() -> None:
    data = data_of((1, 1, 1), (400, 400, 400), organ_ml=1.0)
    (spleen,) = data.organs
    unknown = replace(data, organs=(replace(spleen, median_ml=0.0, least_ml=0.0, basis="unknown"),))
    assert planned_grid(unknown, 32) == planned_grid(replace(data, organs=()), 32)


def test_slices_that_are_labelled_are_not_outvoted() -> None:
    """Labelled slices of 2 mm, apart: of a voxel of more than 2 mm along S there can be none that they fill to half."""
    data = data_of((2, 2, 2), (200, 200, 200), store_mm=(2, 2, 2))
    assert planned_grid(data, 24).spacing_mm == (5.0, 5.0, 5.0)
    sliced = replace(data, labelled_mm=(400.0, 400.0, 2.0))
    grid = planned_grid(sliced, 24)
    i, j, k = grid.spacing_mm
    assert (k, i) == (2.0, j)
    assert 4.0 < i < 4.2  # until it is more than twice the one that stays
    assert "not coarser than 5 mm, or what is labelled in one piece (2 mm along S), though" in grid.reason


def test_a_store_that_is_nearly_so_is_taken() -> None:
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), store_mm=(3, 3, 3.4)), 64)
    assert grid.is_the_stores
    assert grid.spacing_mm == (3.0, 3.0, 3.4)


def test_a_store_of_unlike_voxels_is_not() -> None:
    data = data_of((1, 1, 1), (400, 400, 400), store_mm=(3, 3, 3))
    assert planned_grid(data, 64).is_the_stores
    assert not planned_grid(replace(data, spacing_ratio=2.0), 64).is_the_stores


def test_of_thick_slices_the_thinner_ones_count() -> None:
    """Nine scans with slices of 5 mm and one of 3: the 10th percentile lies nine tenths of the way from 3 to 5."""
    data = data_of((0.8, 0.8, 5), (512, 512, 80))
    data = replace(data, scan_spacings_mm=((0.8, 0.8, 3.0), *((0.8, 0.8, 5.0),) * 9))
    assert full_resolution(data) == pytest.approx((0.8, 0.8, 4.8))
