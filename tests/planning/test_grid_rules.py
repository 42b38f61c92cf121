"""Voxel sizes by hand; against nnU-Net's own planner in tests/oracle/test_planning_nnunet.py."""

from dataclasses import replace

import pytest

from tests.planned_data import data_of
from viscera.planning.grid_rules import full_resolution, planned_grid, window_share


def test_a_window_that_holds_a_quarter_is_left_alone() -> None:
    """100³ voxels, of which 64³ are 26 %."""
    data = data_of((2, 2, 2), (100, 100, 100))
    assert window_share(data, (2, 2, 2), 64) == pytest.approx(0.262, abs=0.001)
    assert planned_grid(data, 64).spacing_mm == (2.0, 2.0, 2.0)


def test_else_voxels_become_larger_until_it_does() -> None:
    """400 mm along each axis: a quarter of n³ is 64³ at n = 64 · 4^(1/3) = 101.6, voxels of 3.94 mm."""
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), store_mm=(2, 2, 2)), 64)
    assert grid.spacing_mm == pytest.approx((3.94,) * 3, rel=0.04)
    assert len(set(grid.spacing_mm)) == 1
    assert not grid.is_the_stores
    assert "25% of a scan" in grid.reason


def test_finer_axes_become_coarser_first() -> None:
    """1×1×4 mm: until they are within a factor of two, 2×2×4, the slices stay; 160³ of it hold 64³ to 6 %."""
    grid = planned_grid(data_of((1, 1, 4), (320, 320, 80)), 64)
    i, j, k = grid.spacing_mm
    assert i == j
    assert 0.5 <= i / k < 0.52 or k > 4
    assert window_share(data_of((1, 1, 4), (320, 320, 80)), grid.spacing_mm, 64) >= 0.25


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
    grid = planned_grid(data_of((1, 1, 1), (400, 400, 400), store_mm=(4, 4, 4.5)), 64)
    assert grid.is_the_stores
    assert grid.spacing_mm == (4.0, 4.0, 4.5)


def test_a_store_of_unlike_voxels_is_not() -> None:
    data = data_of((1, 1, 1), (400, 400, 400), store_mm=(4, 4, 4))
    assert planned_grid(data, 64).is_the_stores
    assert not planned_grid(replace(data, spacing_ratio=2.0), 64).is_the_stores


def test_of_thick_slices_the_thinner_ones_count() -> None:
    """Nine scans with slices of 5 mm and one of 3: the 10th percentile lies nine tenths of the way from 3 to 5."""
    data = data_of((0.8, 0.8, 5), (512, 512, 80))
    data = replace(data, scan_spacings_mm=((0.8, 0.8, 3.0), *((0.8, 0.8, 5.0),) * 9))
    assert full_resolution(data) == pytest.approx((0.8, 0.8, 4.8))
