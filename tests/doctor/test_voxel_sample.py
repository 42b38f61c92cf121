"""Voxels that stand for all of a window or case, and the features that they have."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from viscera.core.config import Config, IntensityConfig
from viscera.doctor.local_features import FEATURES, local_features
from viscera.doctor.voxel_sample import VoxelSample, _picked
from viscera.io.store import Store


def test_features_of_a_flat_and_of_a_sloping_scan() -> None:
    flat = local_features(np.zeros((20, 20, 20), np.int16), IntensityConfig())
    assert flat.shape == (20, 20, 20, FEATURES)
    assert set(np.unique(flat)) == {0.0, 0.5}  # 0 HU lies half-way between -500 and 500; no gradient
    ramp = np.broadcast_to((np.arange(60) * 10 - 300)[:, None, None], (60, 9, 9)).astype(np.int16)
    middle = local_features(ramp, IntensityConfig())[30, 4, 4]
    # 0.01 a voxel along the first axis, times the scale; the mean of a straight line is its middle
    assert middle[0] == pytest.approx(0.5)
    gradients = np.sort(middle[np.abs(middle) < 0.3])
    assert gradients[-5:] == pytest.approx([0.01, 0.02, 0.02, 0.04, 0.08], rel=0.05)


def test_thin_scans_have_features_too() -> None:
    assert local_features(np.zeros((5, 1, 3), np.int16), IntensityConfig()).shape == (5, 1, 3, FEATURES)


def test_picked_voxels_stand_for_all_of_their_class() -> None:
    labels = np.repeat(np.array([0, 1, 2, 255], np.uint8), [1000, 50, 3, 40])
    features = np.arange(len(labels), dtype=np.float32)[:, None]
    x, chosen, weight = _picked(features, labels, np.random.default_rng(0), (16, 64))
    assert [(chosen == label).sum() for label in range(3)] == [64, 16, 3]
    assert [weight[chosen == label].sum() for label in range(3)] == pytest.approx([1000, 50, 3])
    assert (labels[x[:, 0].astype(int)] == chosen).all()


def test_no_window_comes_from_a_case_that_is_kept_apart(tiny_store: Store, tiny_config: Callable[..., Config]) -> None:
    train = tiny_config().train
    sample = VoxelSample.of(tiny_store, train)
    assert len(sample.held_out) == 1  # of four
    assert set(sample.case_of_window.tolist()) == {0, 1, 2}
    (case,), name = sample.held_out, tiny_store.names("train")[0]
    counts = tiny_store.manifest.cases[name].voxel_counts_prepared
    found = [float(case.weight[case.labels == label].sum()) for label in range(8)]
    assert found == pytest.approx(counts)
    for window in sample.windows:
        assert window.weight.sum().item() == pytest.approx(train.patch**3)
        assert torch.isfinite(window.features).all()
    again = VoxelSample.of(tiny_store, train)
    assert all(torch.equal(a.features, b.features) for a, b in zip(sample.windows, again.windows, strict=True))


def test_a_single_case_is_both_trained_on_and_kept_apart(
    tiny_store: Store, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = tiny_store.names("train")
    monkeypatch.setattr(Store, "names", lambda *_: [first])
    sample = VoxelSample.of(tiny_store, tiny_config().train)
    assert len(sample.held_out) == 1
    assert set(sample.case_of_window.tolist()) == {0}
