"""From a scan's grid to the network's and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from viscera.core.config import PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.imaging.resample import (
    GridChange,
    coarsen_labels,
    coarsen_volume,
    restore_labels,
    restore_probabilities,
)


def line(values: list[int]) -> Volume:
    hu = np.array(values, dtype=np.int16).reshape(-1, 1, 1)
    return Volume(hu, Geometry((len(values), 1, 1), np.eye(4)))


def test_downsampling_by_four_takes_the_mean_of_the_block() -> None:
    # (0+1+2+9)/4 = 3, (10+10+10+10)/4 = 10
    volume = line([0, 1, 2, 9, 10, 10, 10, 10])
    coarse = coarsen_volume(volume, GridChange.by_factor(volume.geometry, (4, 1, 1)))
    assert coarse.hu.ravel().tolist() == [3, 10]


def test_a_last_block_that_reaches_over_the_edge_is_the_mean_of_what_is_there() -> None:
    volume = line([4, 4, 4, 4, 7, 9])
    coarse = coarsen_volume(volume, GridChange.by_factor(volume.geometry, (4, 1, 1)))
    assert coarse.hu.ravel().tolist() == [4, 8]


def test_coarse_voxels_lie_at_the_centre_of_their_block() -> None:
    # blocks of four voxels at 0 1 2 3 | 4 5 6 7 mm have their centres at 1.5 and 5.5 mm
    geometry = GridChange.by_factor(Geometry((8, 1, 1), np.eye(4)), (4, 1, 1)).coarse
    assert (geometry.affine @ [0, 0, 0, 1])[0] == 1.5
    assert (geometry.affine @ [1, 0, 0, 1])[0] == 5.5
    assert geometry.spacing_mm == (4, 1, 1)


def test_resampling_to_a_spacing_weighs_by_overlap() -> None:
    # 1 mm voxels 0 10 20 to 1.5 mm: (0 + 10/2) / 1.5 = 3.33, (10/2 + 20) / 1.5 = 16.67
    volume = line([0, 10, 20])
    coarse = coarsen_volume(volume, GridChange.to_spacing(volume.geometry, (1.5, 1, 1)))
    assert coarse.hu.ravel().tolist() == [3, 17]
    assert coarse.geometry.spacing_mm == (1.5, 1, 1)


def test_resampling_to_a_finer_spacing_interpolates_linearly() -> None:
    # centres of the halves of voxels at 0 and 1: -0.25 (clamped to 0), 0.25, 0.75, 1.25 (clamped to 1)
    volume = line([0, 100])
    fine = coarsen_volume(volume, GridChange.to_spacing(volume.geometry, (0.5, 1, 1)))
    assert fine.hu.ravel().tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize(("axes", "factors"), [("all", (4, 4, 4)), ("in_plane", (4, 4, 1))])
def test_which_axes_the_factor_of_four_applies_to(axes: str, factors: tuple[int, int, int]) -> None:
    config = PrepareConfig(downsample_axes=axes)
    assert GridChange.prepared(Geometry((8, 8, 8), np.eye(4)), config).factors == factors


def test_nearest_and_majority_labels() -> None:
    labels = np.array([1, 1, 2, 1, 0, 0, 3, 3], dtype=np.uint8).reshape(-1, 1, 1)
    label_map = LabelMap(labels, Geometry((8, 1, 1), np.eye(4)))
    change = GridChange.by_factor(label_map.geometry, (4, 1, 1))
    # the voxel after the centre of the block, index 2 and 6; the label of most voxels, ties to the lower number
    assert coarsen_labels(label_map, change, "nearest").labels.ravel().tolist() == [2, 3]
    assert coarsen_labels(label_map, change, "majority").labels.ravel().tolist() == [1, 0]


SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(1, 4), st.integers(0, 1000))
def test_a_constant_scan_stays_constant_and_the_extent_is_kept(
    shape: tuple[int, int, int], factor: int, hu: int
) -> None:
    volume = Volume(np.full(shape, hu, dtype=np.int16), Geometry.from_spacing(shape, (1, 2, 3)))
    coarse = coarsen_volume(volume, GridChange.by_factor(volume.geometry, (factor,) * 3))
    assert (coarse.hu == hu).all()
    extent = np.array(coarse.hu.shape) * factor
    assert (extent >= shape).all()
    assert (extent < np.array(shape) + factor).all()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(1, 4), st.integers(0, 2**31))
def test_what_was_coarse_comes_back_from_the_fine_grid(shape: tuple[int, int, int], factor: int, seed: int) -> None:
    """Coarse labels written to the fine grid and coarsened again are the same."""
    fine = Geometry(tuple(n * factor for n in shape), np.eye(4))  # type: ignore[arg-type]
    change = GridChange.by_factor(fine, (factor,) * 3)
    labels = np.random.default_rng(seed).integers(0, 8, shape).astype(np.uint8)
    restored = restore_labels(labels, change)
    for method in ("nearest", "majority"):
        assert (coarsen_labels(restored, change, method).labels == labels).all()


def test_restored_probabilities_change_class_halfway_between_coarse_centres() -> None:
    # coarse centres at 1.5 and 5.5; class 1 has probability 0 and 1 there: it wins from 3.5 on, that is voxel 4
    change = GridChange.by_factor(Geometry((8, 1, 1), np.eye(4)), (4, 1, 1))
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1)
    assert restore_probabilities(probabilities, change).labels.ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_restored_probabilities_move_the_border_with_the_confidence() -> None:
    # class 1: 0.4 at 1.5 and 1 at 5.5, so 0.5 at 1.5 + 4/6 = 2.17: it wins from voxel 3 on
    change = GridChange.by_factor(Geometry((8, 1, 1), np.eye(4)), (4, 1, 1))
    probabilities = torch.tensor([[0.6, 0.0], [0.4, 1.0]]).view(2, 2, 1, 1)
    assert restore_probabilities(probabilities, change).labels.ravel().tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(-1000, 1000, (9, 8, 11)).astype(np.int16), Geometry((9, 8, 11), np.eye(4)))
    change = GridChange.by_factor(volume.geometry, (2, 2, 3))
    probabilities = torch.rand(8, *change.coarse.shape, generator=torch.Generator().manual_seed(0))
    whole = coarsen_volume(volume, change).hu, restore_probabilities(probabilities, change).labels
    monkeypatch.setattr("viscera.imaging.resample._SLAB_VOXELS", 1)
    assert (coarsen_volume(volume, change).hu == whole[0]).all()
    assert (restore_probabilities(probabilities, change).labels == whole[1]).all()
