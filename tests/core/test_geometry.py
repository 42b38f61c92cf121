"""Grids and axis orders."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import LabelMap


def oriented(axes: tuple[int, int, int], flips: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """A grid of 3×4×5 voxels whose voxel axis a runs along world axis axes[a], backwards where flips[a] is -1."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel_axis, world_axis in enumerate(axes):
        affine[world_axis, voxel_axis] = flips[voxel_axis] * spacing[voxel_axis]
    affine[:3, 3] = (10, -20, 30)
    return Geometry((3, 4, 5), affine)


ALL_48 = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.mark.parametrize(("axes", "flips"), ALL_48)
def test_the_orientation_is_written_as_nibabel_writes_it(
    axes: tuple[int, int, int], flips: tuple[int, int, int]
) -> None:
    geometry = oriented(axes, flips, (0.7, 1.1, 2.5))
    assert geometry.orientation == "".join(nib.aff2axcodes(geometry.affine))


@pytest.mark.parametrize(("axes", "flips"), ALL_48)
def test_every_orientation_becomes_ras_and_comes_back(axes: tuple[int, int, int], flips: tuple[int, int, int]) -> None:
    geometry = oriented(axes, flips, (0.7, 1.1, 2.5))
    order = AxisOrder.to_canonical(geometry)
    canonical = order.apply_to_geometry(geometry)
    directions = canonical.affine[:3, :3]
    assert np.count_nonzero(directions) == 3
    assert (np.diag(directions) > 0).all()

    # each voxel holds its own world position: reordering may not move any
    positions = np.moveaxis(np.indices(geometry.shape), 0, -1) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    moved = np.stack([order.apply(positions[..., a]) for a in range(3)], axis=-1)
    expected = np.moveaxis(np.indices(canonical.shape), 0, -1) @ directions.T + canonical.affine[:3, 3]
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    assert (order.undo(order.apply(positions[..., 0])) == positions[..., 0]).all()


def test_an_oblique_grid_takes_the_closest_axes() -> None:
    angle = np.deg2rad(30)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * [-1, -1, 2]  # as DICOM's LPS, turned by 30 degrees
    order = AxisOrder.to_canonical(Geometry((3, 4, 5), affine))
    assert order == AxisOrder((0, 1, 2), (True, True, False))


def test_spacing_and_volume_of_an_oblique_grid() -> None:
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[2 * np.cos(angle), -3 * np.sin(angle)], [2 * np.sin(angle), 3 * np.cos(angle)]]
    geometry = Geometry((2, 2, 2), affine)
    assert geometry.spacing_mm == pytest.approx((2, 3, 1))
    assert geometry.voxel_volume_ml == pytest.approx(0.006)


def test_skew_is_the_angle_by_which_axes_miss_right_angles() -> None:
    # K leans towards J by 10 degrees, whatever the spacings and the rotation of the whole
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.7, 0, 0], [0, 0.8, 3 * np.sin(np.deg2rad(10))], [0, 0, 3 * np.cos(np.deg2rad(10))]])
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    assert Geometry((2, 2, 2), affine).skew_degrees == pytest.approx(10)
    affine[:3, :3] = turn @ affine[:3, :3]
    assert Geometry((2, 2, 2), affine).skew_degrees == pytest.approx(10)
    assert Geometry((2, 2, 2), np.diag([1, 2, 3, 1])).skew_degrees == 0


def test_a_grid_from_spacing_is_centred() -> None:
    # three voxels of 2 mm: centres at -2, 0, 2
    assert Geometry.from_spacing((3, 1, 1), (2, 1, 1)).affine[:3, 3].tolist() == [-2, 0, 0]


def test_same_grid_compares_corners() -> None:
    geometry = Geometry((11, 1, 1), np.eye(4))
    stretched = np.diag([1.002, 1, 1, 1])  # the last of eleven voxels lies 0.02 mm off
    assert not geometry.same_grid(Geometry((11, 1, 1), stretched), tolerance_mm=0.01)
    assert geometry.same_grid(Geometry((11, 1, 1), stretched), tolerance_mm=0.03)
    assert not geometry.same_grid(Geometry((10, 1, 1), np.eye(4)))


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_json_keeps_every_bit(origin: list[float]) -> None:
    affine = np.eye(4)
    affine[:3, 3] = origin
    geometry = Geometry((3, 4, 5), affine)
    value = json.loads(json.dumps(geometry.to_json()))
    assert value["shape"] == [3, 4, 5]
    assert (np.array(value["affine"]) == geometry.affine).all()


def test_the_affine_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Geometry((1, 1, 1), np.eye(4)).affine[0, 0] = 2


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
@pytest.mark.parametrize("fixed", [0, 1, 2])
def test_rounding_does_not_turn_the_axis_order(degrees: int, fixed: int) -> None:
    """Halfway between two orders both fit alike; sform and qform differ there by rounding."""
    i, j = (axis for axis in range(3) if axis != fixed)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.eye(4)
    turn[i, i], turn[j, j], turn[i, j], turn[j, i] = cosine, cosine, -sine, sine
    rng = np.random.default_rng(0)
    geometry = Geometry((3, 4, 5), turn @ np.diag([0.7, 0.7, 2.5, 1]))
    expected = AxisOrder.to_canonical(geometry)
    for _ in range(20):
        rounded = geometry.affine * (1 + rng.uniform(-1e-6, 1e-6, (4, 4)))
        assert AxisOrder.to_canonical(Geometry((3, 4, 5), rounded)) == expected


@pytest.mark.parametrize("order", [AxisOrder((1, 2, 0), (True, False, True)), AxisOrder((0, 2, 1), (False,) * 3)])
def test_a_grid_in_another_order_comes_back_however_it_is_turned(order: AxisOrder) -> None:
    """Also turned by 60° around the diagonal, where three orders fit alike."""
    third = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3
    affine = np.eye(4)
    affine[:3, :3] = third * [0.7, 0.8, 2.5]
    here = LabelMap(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), Geometry((3, 4, 5), affine))
    there = LabelMap(order.apply(here.labels), order.apply_to_geometry(here.geometry))
    back = there.in_order_of(here.geometry)
    assert back.geometry.same_grid(here.geometry)
    assert (back.labels == here.labels).all()
