"""The covering of a volume by windows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.config import IntensityConfig
from viscera.core.errors import BadInputError
from viscera.imaging.windows import clipped_moments, covering_origins, gaussian_weights, network_input


def test_half_overlapping_windows_along_one_axis() -> None:
    # length 100, window 64, step 32: (100 - 64) / 32 rounds up to 2 steps, spread evenly over 0..36
    assert [i for i, _, _ in covering_origins((100, 64, 64), (64,) * 3, 0.5)] == [0, 18, 36]


@given(st.tuples(*[st.integers(0, 12)] * 3), st.floats(0, 0.75))
def test_every_voxel_is_covered_and_no_window_leaves_the_volume(extra: tuple[int, int, int], overlap: float) -> None:
    shape = tuple(8 + n for n in extra)
    covered = np.zeros(shape, dtype=bool)
    for i, j, k in covering_origins(shape, (8, 8, 8), overlap):
        assert min(i, j, k) >= 0
        assert (np.array([i, j, k]) + 8 <= shape).all()
        covered[i : i + 8, j : j + 8, k : k + 8] = True
    assert covered.all()


@given(st.integers(8, 60), st.floats(0, 0.9))
def test_neighbours_overlap_by_at_least_the_share_asked_for(length: int, overlap: float) -> None:
    starts = [i for i, _, _ in covering_origins((length, 8, 8), (8, 8, 8), overlap)]
    assert max(np.diff(starts), default=0) <= max(1, 8 * (1 - overlap)) + 0.5


def test_gaussian_weights() -> None:
    weights = gaussian_weights((8, 9, 10))
    assert weights.shape == (8, 9, 10)
    assert weights.max() == 1
    assert weights.min() == pytest.approx(1e-4)
    assert (weights == weights[::-1, ::-1, ::-1]).all()
    # J is odd: centre index 4, σ = 9 / 8; one voxel off the centre is exp(-0.5 (8/9)²) = 0.6737
    assert weights[4, 5, 5] / weights[4, 4, 5] == pytest.approx(np.exp(-0.5 * (8 / 9) ** 2), rel=1e-6)


def test_hu_are_clipped_to_the_unit_interval() -> None:
    hu = torch.tensor([-1024, -500, 0, 250, 500, 3000], dtype=torch.int16)
    found = network_input(hu.view(1, 1, 1, -1), IntensityConfig(low_hu=-500, high_hu=500))
    assert found.shape == (1, 1, 1, 1, 6)
    assert found.ravel().tolist() == [0, 0, 0.5, 0.75, 1, 1]


def test_z_scores_of_the_clipped_training_set_have_mean_0_and_deviation_1() -> None:
    config = IntensityConfig(low_hu=-100, high_hu=300, scaling="z_score")
    scans = [np.random.default_rng(n).normal(80, 200, (6, 5, 4 + n)).astype(np.int16) for n in range(3)]
    mean, sd = clipped_moments(scans, config)
    every_voxel = np.clip(np.concatenate([scan.ravel() for scan in scans]), -100, 300)
    assert (mean, sd) == pytest.approx((every_voxel.mean(), every_voxel.std()))
    resolved = config.model_copy(update={"mean_hu": mean, "sd_hu": sd})
    scaled = network_input(torch.from_numpy(every_voxel[None]), resolved)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-5)
    assert scaled.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(BadInputError, match="needs mean_hu and sd_hu"):
        network_input(torch.zeros(1, 2, 2, 2), config)
