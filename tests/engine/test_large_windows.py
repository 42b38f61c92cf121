"""Prediction in few large windows, against the whole volume and against windows of the training's size."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.geometry import Index3
from viscera.core.network_config import NetworkConfig
from viscera.engine import sliding_window
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trained_model import build_network
from viscera.imaging.windows import Tiling
from viscera.networks.folded_unet3d import FoldedUNet3D

CPU = torch.device("cpu")
AUTO, WHOLE = PredictConfig(mode="auto"), PredictConfig(mode="whole_volume")
TRAIN = TrainConfig(patch=16, levels=2, filters=4)


class Local(nn.Module):
    """Logits that depend on the voxel alone, and what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Index3] = []

    def forward(self, x: Tensor) -> Tensor:
        i, j, k = x.shape[2:]
        self.seen.append((i, j, k))
        return torch.cat([x * label for label in range(8)], dim=1)


def body_in_air(shape: Index3, box: tuple[slice, slice, slice]) -> np.ndarray:
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[box] = np.random.default_rng(0).integers(-400, 400, hu[box].shape)
    return hu


@pytest.mark.parametrize("shape", [(40, 33, 50), (16, 16, 16), (70, 20, 3), (1, 1, 1), (64, 24, 90)])
@pytest.mark.parametrize("mebibytes", [0.01, 1, 1000])
def test_the_windows_do_not_matter_to_a_network_that_sees_single_voxels(
    shape: Index3, mebibytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding_window, "MOST_BYTES", mebibytes * 2**20)
    hu = np.random.default_rng(1).integers(-700, 500, shape).astype(np.int16)
    found = predict_probabilities(Local(), hu, TRAIN, AUTO, CPU)
    assert torch.allclose(found, predict_probabilities(Local(), hu, TRAIN, WHOLE, CPU), atol=1e-6)


def test_where_memory_allows_it_is_one_pass_over_what_is_not_air() -> None:
    network = Local()
    hu = body_in_air((80, 60, 40), (slice(20, 51), slice(10, 40), slice(0, 40)))
    found = predict_probabilities(network, hu, TRAIN, AUTO, CPU)
    assert network.seen == [(8, 8, 8), (40, 38, 40)]  # a cube of air; then margins of 4, and even numbers
    assert torch.allclose(found, predict_probabilities(Local(), hu, TRAIN, WHOLE, CPU), atol=1e-6)


def test_an_axis_that_is_not_halved_needs_no_even_number() -> None:
    network, train = Local(), TrainConfig(patch=16, levels=2, filters=4, network=NetworkConfig(strides=((1, 2, 2),)))
    hu = body_in_air((80, 60, 40), (slice(20, 51), slice(10, 40), slice(0, 40)))
    predict_probabilities(network, hu, train, AUTO, CPU)
    assert network.seen == [(8, 8, 8), (39, 38, 40)]


@torch.no_grad()
def test_large_windows_of_other_strides_are_the_whole_volume_too() -> None:
    design = NetworkConfig(strides=((2, 2, 1), (2, 1, 2)), kernels=((3, 3, 1), (3, 3, 1), (3, 3, 3)))
    train = TrainConfig(patch=16, levels=3, filters=4, network=design)
    network = FoldedUNet3D(build_network(train).eval())
    hu = body_in_air((46, 39, 63), (slice(0, 46), slice(0, 39), slice(0, 63)))
    whole = predict_probabilities(network, hu, train, WHOLE, CPU)
    assert torch.equal(predict_probabilities(network, hu, train, AUTO, CPU), whole)


def test_all_is_air() -> None:
    hu = np.full((20, 30, 40), -1024, dtype=np.int16)
    assert torch.allclose(predict_probabilities(Local(), hu, TRAIN, AUTO, CPU), torch.tensor(1 / 8))


@torch.no_grad()
def test_one_large_window_is_the_whole_volume_of_a_network_and_several_are_close() -> None:
    torch.manual_seed(0)
    network = FoldedUNet3D(build_network(TRAIN).eval())
    hu = body_in_air((48, 40, 64), (slice(0, 48), slice(0, 40), slice(0, 64)))
    whole = predict_probabilities(network, hu, TRAIN, WHOLE, CPU)
    assert torch.equal(predict_probabilities(network, hu, TRAIN, AUTO, CPU), whole)


@pytest.mark.parametrize("most", [20**3, 32 * 40 * 24, 10**6])
@pytest.mark.parametrize("shape", [(40, 33, 50), (16, 16, 16), (100, 64, 30)])
def test_tilings_fit_overlap_and_cover_and_their_weights_sum_to_one(shape: Index3, most: int) -> None:
    tiling = Tiling.cheapest(shape, 4, (16, (8, 8, 8)), math.prod, most)
    assert math.prod(tiling.window) <= most
    for starts, edge, n in zip(tiling.starts, tiling.window, shape, strict=True):
        assert (starts[0], starts[-1] + edge) == (0, n)
        assert all(before + edge - after >= 4 for before, after in pairwise(starts))
        assert edge == n or edge % 8 == 0
    total = np.zeros(shape)
    for origin in tiling.origins:
        i, j, k = (slice(at, at + edge) for at, edge in zip(origin, tiling.window, strict=True))
        total[i, j, k] += tiling.weights(origin)
    assert np.abs(total - 1).max() < 0.01  # each weight is at least a thousandth
    assert [origin[2] for origin in tiling.origins] == sorted(origin[2] for origin in tiling.origins)


def test_the_cheapest_tiling_is_found() -> None:
    # along K alone, in two windows of 56 that share 12: 112 planes are computed instead of 100; along I or J 10 % more
    assert Tiling.cheapest((100, 40, 100), 4, (16, (8, 8, 8)), math.prod, 100 * 40 * 56).window in {
        (56, 40, 100),
        (100, 40, 56),
    }
    # nothing fits: the least edge counts
    assert Tiling.cheapest((100, 40, 100), 4, (16, (8, 8, 8)), math.prod, 1).window == (16, 16, 16)


def voxels_computed(slices: int) -> int:
    """Of 128×128 columns at the paper's width in bfloat16: 3 maps of 64 channels, and 9 floats a voxel held."""
    shape, held = (128, 128, slices), 4 * 9 * 128 * 128

    def bytes_of(window: Index3) -> float:
        return 384 * math.prod(window) + (held * window[2] if window != shape else 0)

    tiling = Tiling.cheapest(shape, 64 // sliding_window.SHARED, (64, (8, 8, 8)), bytes_of, sliding_window.MOST_BYTES)
    return len(tiling.origins) * math.prod(edge + -edge % 8 for edge in tiling.window)


def test_work_is_linear_in_the_slices_but_for_the_step_to_more_windows() -> None:
    """From 150 slices on: at most 1.75 times what need be, and twice the slices are twice the work within a sixth."""
    for slices in range(150, 600, 25):
        assert 1 <= voxels_computed(slices) / (128 * 128 * slices) <= 1.75
        assert 1.75 <= voxels_computed(2 * slices) / voxels_computed(slices) <= 2.34
    assert voxels_computed(294) / voxels_computed(147) <= 2.1  # of 512×512×1177 voxels, four times as coarse
