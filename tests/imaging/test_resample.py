"""From a scan's grid to the network's and back."""

import weakref
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import plain_resample
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.imaging import resample
from viscera.imaging.resample import (
    GridChange,
    Restore,
    coarsen_labels,
    coarsen_volume,
    restore_labels,
    restore_planes,
    restored_planes,
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


@pytest.mark.parametrize(
    ("settings_", "factors"),
    [
        ({}, (4, 4, 4)),
        ({"downsample": "4,4,1"}, (4, 4, 1)),
        ({"downsample_axes": "in_plane"}, (4, 4, 1)),  # as earlier stores say it
        ({"spacing_mm": 3}, (4.5, 3, 1.5)),
        ({"spacing_mm": [1, 2, 6]}, (1.5, 2, 3)),
    ],
)
def test_factors_and_spacings_are_along_right_anterior_superior(
    settings_: dict[str, object], factors: tuple[float, float, float]
) -> None:
    geometry = Geometry.from_spacing((12, 12, 12), (2 / 3, 1, 2))
    change = GridChange.prepared(geometry, PrepareConfig.model_validate(settings_))
    assert change.factors == pytest.approx(factors)
    assert change.coarse.spacing_mm == pytest.approx(np.multiply((2 / 3, 1, 2), factors))


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
    assert restore_planes(probabilities.unbind(-1), change).labels.ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_restored_probabilities_move_the_border_with_the_confidence() -> None:
    # class 1: 0.4 at 1.5 and 1 at 5.5, so 0.5 at 1.5 + 4/6 = 2.17: it wins from voxel 3 on
    change = GridChange.by_factor(Geometry((8, 1, 1), np.eye(4)), (4, 1, 1))
    probabilities = torch.tensor([[0.6, 0.0], [0.4, 1.0]]).view(2, 2, 1, 1)
    assert restore_planes(probabilities.unbind(-1), change).labels.ravel().tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


# ------------------------------------------------------------------------------------------ the last, incomplete block


def test_a_last_block_has_its_centre_in_the_middle_of_what_is_there() -> None:
    # six voxels by four: the second block holds 4 and 5, its centre is 4.5. Class 1 has probability 0 at 1.5 and 0.61
    # there, so 0.5 at 1.5 + 3 × 0.5 / 0.61 = 3.96: it wins from 4 on. (With a centre at 5.5, of a full block, from 5.)
    change = GridChange.by_factor(Geometry((6, 1, 1), np.eye(4)), (4, 1, 1))
    probabilities = torch.tensor([[1.0, 0.39], [0.0, 0.61]]).view(2, 2, 1, 1)
    assert restore_planes(probabilities.unbind(-1), change).labels.ravel().tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(("voxels", "picked"), [(5, 4), (6, 5), (7, 5), (8, 6)])
def test_the_nearest_label_of_a_last_block_is_that_in_its_middle(voxels: int, picked: int) -> None:
    # the second block of four holds 4 | 4 5 | 4 5 6 | 4 5 6 7; between two voxels it is the one after
    labels = np.arange(voxels, dtype=np.uint8).reshape(-1, 1, 1)
    label_map = LabelMap(labels, Geometry((voxels, 1, 1), np.eye(4)))
    coarse = coarsen_labels(label_map, GridChange.by_factor(label_map.geometry, (4, 1, 1)))
    assert coarse.labels.ravel().tolist() == [2, picked]


@given(st.integers(5, 30), st.sampled_from([2, 3, 4, 5]))
def test_a_ramp_comes_back_where_it_was(voxels: int, factor: int) -> None:
    """What is linear along an axis stays so through means and interpolation, between the outermost centres."""
    change = GridChange.by_factor(Geometry((1, voxels, 1), np.eye(4)), (1, factor, 1))
    coarse = change.to_coarse[1].along(1, torch.arange(voxels, dtype=torch.float32).view(1, -1, 1))
    restored = change.to_fine()[1].along(1, coarse).ravel().tolist()
    centres = coarse.ravel().tolist()
    inside = [voxel for voxel in range(voxels) if centres[0] <= voxel <= centres[-1]]
    assert [restored[voxel] for voxel in inside] == pytest.approx(inside)


# ------------------------------------------------------------------------------------------ against the plain version

FACTORS = st.tuples(*[st.sampled_from([0.4, 0.75, 1, 1.3, 2, 2.7, 3, 4])] * 3)


@settings(max_examples=60, deadline=None)
@given(SHAPES, FACTORS, st.integers(0, 2**31))
def test_volumes_and_probabilities_are_those_of_the_plain_version(
    shape: tuple[int, int, int], factors: tuple[float, float, float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    change = GridChange.by_factor(Geometry(shape, np.eye(4)), factors)
    hu = random.integers(-1000, 1000, shape).astype(np.int16)
    found = coarsen_volume(Volume(hu, change.fine), change).hu
    assert np.abs(found - plain_resample.coarsened(hu, change)).max() <= 0.5 + 1e-3

    probabilities = random.dirichlet([0.2] * 5, change.coarse.shape).astype(np.float32)
    planes = [
        torch.from_numpy(np.moveaxis(probabilities[:, :, k], -1, 0).copy()) for k in range(change.coarse.shape[2])
    ]
    whole = np.moveaxis(probabilities, -1, 0)
    for way in get_args(Restore):
        restored = torch.stack(list(restored_planes(planes, change, way)), dim=-1).numpy()
        expected = plain_resample.restored(whole, change, way)
        np.testing.assert_allclose(restored, expected, atol=1e-5)
        labels = restore_planes(planes, change) if way == "probabilities" else restore_labels(whole.argmax(0), change)
        first, second = -np.partition(-expected, 1, axis=0)[:2]
        clear = first > second + 1e-5
        assert (labels.labels == expected.argmax(axis=0))[clear].all()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(1, 4), st.integers(0, 2**31))
def test_the_majority_is_that_of_the_plain_version(shape: tuple[int, int, int], factor: int, seed: int) -> None:
    labels = np.random.default_rng(seed).choice(np.array([0, 2, 5, 7], dtype=np.uint8), shape)
    change = GridChange.by_factor(Geometry(shape, np.eye(4)), (factor, 1, factor))
    shares = np.stack([plain_resample.coarsened(labels == label, change) for label in range(8)])
    expected = (shares > shares.max(axis=0) - 1e-6).argmax(axis=0)  # ties to the lower number
    assert (coarsen_labels(LabelMap(labels, change.fine), change, "majority").labels == expected).all()


def test_no_coarse_plane_is_asked_for_before_it_is_needed_nor_kept_longer() -> None:
    change = GridChange.by_factor(Geometry((4, 4, 12), np.eye(4)), (1, 1, 4))
    alive: list[weakref.ref[torch.Tensor]] = []

    def planes() -> Iterator[torch.Tensor]:
        for _ in range(3):
            plane = torch.zeros(2, 4, 4)
            alive.append(weakref.ref(plane))
            yield plane
            del plane

    # centres at 1.5, 5.5, 9.5: planes 0 and 1 of the fine grid need the first alone, 2 to 5 the first two, and so on
    asked, kept = [], []
    for _ in restored_planes(planes(), change):
        asked.append(len(alive))
        kept.append(sum(ref() is not None for ref in alive))
    assert asked == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert max(kept) == 2


def test_a_scan_that_stays_on_its_grid_is_not_touched() -> None:
    volume = line([3, 1, 2])
    assert coarsen_volume(volume, GridChange.by_factor(volume.geometry, (1, 1, 1))).hu is volume.hu


@pytest.mark.parametrize(
    ("spacing_mm", "to"),
    [((16_000, 16_000, 16_000), 3), ((2, 2, 2), 0.001), ((2, 2, 2), 1e-300)],
)
def test_a_grid_that_no_memory_holds_is_refused_with_its_numbers(
    spacing_mm: tuple[float, float, float], to: float
) -> None:
    geometry = Geometry.from_spacing((24, 24, 20), spacing_mm)
    with pytest.raises(BadInputError, match=r"24×24×20 voxels of .* mm would become one of .*this machine has"):
        GridChange.to_spacing(geometry, (to,) * 3)
    with pytest.raises(BadInputError, match="would become one of"):
        GridChange.prepared(geometry, PrepareConfig(spacing_mm=to))


def test_a_scan_longer_than_any_patient_is_refused_with_its_spacing() -> None:
    whole_body = Geometry.from_spacing((4, 4, 29), (1, 1, 100))
    GridChange.by_factor(whole_body, (1, 1, 1))
    wrong = Geometry.from_spacing((4, 4, 20), (1, 1, 100_000))
    with pytest.raises(BadInputError, match=r"4×4×20 voxels of 1×1×1e\+05 mm is 2e\+03 m long; no patient .* 3 m"):
        GridChange.prepared(wrong, PrepareConfig(downsample=4))


def test_voxels_larger_than_the_scan_are_one_voxel() -> None:
    volume = line([1, 2, 3])
    change = GridChange.to_spacing(volume.geometry, (1e12, 1e12, 1e12))
    coarse = coarsen_volume(volume, change)
    assert coarse.hu.ravel().tolist() == [2]
    assert restore_labels(np.ones((1, 1, 1), np.uint8), change).labels.ravel().tolist() == [1, 1, 1]


@pytest.mark.parametrize("factors", [(4, 4, 4), (2, 8, 3), (1, 4, 1), (16, 16, 2), (4, 3, 4), (1, 1, 1.5)])
@pytest.mark.parametrize("shape", [(32, 48, 9), (30, 48, 8)])
def test_means_of_blocks_are_those_of_floats_bit_by_bit(
    shape: tuple[int, int, int], factors: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest values that there are, in any order of the memory."""
    rng = np.random.default_rng(6)
    for hu in (rng.integers(-32768, 32768, shape), rng.choice([-32768, 32767], shape)):
        for stored in (np.asfortranarray(hu.astype(np.int16)), hu.astype(np.int16)[::-1, :, ::-1]):
            scan = Volume(stored, Geometry(shape, np.eye(4)))
            change = GridChange.by_factor(scan.geometry, factors)
            fast = coarsen_volume(scan, change).hu
            with monkeypatch.context() as context:
                context.setattr(resample, "_MOST_IN_BLOCK", 0)
                assert (coarsen_volume(scan, change).hu == fast).all()
