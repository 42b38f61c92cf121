"""Calibration errors and bins equal MONAI's, over random probabilities and those that lie on the ends of bins."""

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from monai.metrics.calibration import calibration_binning

from viscera.metrics.calibration import BINS, Reliability

LEVELS = np.arange(65536, dtype=np.float32) / np.float32(65535)


def given(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and one-hot truth, (2, 3, 20, 21, 22)."""
    random = np.random.default_rng(5)
    shape = (2, 20, 21, 22)
    probabilities = random.dirichlet((0.1, 0.2, 0.4), shape).astype(np.float32)
    if kind == "stored":  # in 65535ths, some on the ends of bins
        probabilities = LEVELS[np.rint(probabilities * 65535).astype(np.int64)]
        probabilities[0, 0, 0] = np.float32(0.2)
        probabilities[0, 1, 0] = LEVELS[52428]  # 4/5
    truth = (random.random((*shape, 1)) > np.cumsum(probabilities**0.5, axis=-1)).sum(axis=-1).clip(max=2)
    one_hot = np.eye(3, dtype=np.float32)[truth]
    return np.moveaxis(probabilities, -1, 1).copy(), np.moveaxis(one_hot, -1, 1).copy()


@pytest.mark.parametrize("kind", ["any", "stored"])
def test_errors_and_bins_are_those_of_monai(kind: str) -> None:
    probabilities, truth = given(kind)
    y_pred, y = torch.from_numpy(probabilities), torch.from_numpy(truth)
    theirs = {how: CalibrationErrorMetric(BINS, calibration_reduction=how) for how in ("expected", "average")}
    expected = {how: metric._compute_tensor(y_pred, y).numpy() for how, metric in theirs.items()}
    mean, share, counts = (each.numpy() for each in calibration_binning(y_pred, y, BINS))
    for case, label in np.ndindex(2, 3):
        ours, p, is_class = Reliability(), probabilities[case, label].ravel(), truth[case, label].ravel().astype(int)
        for plane in np.array_split(np.arange(p.size), 7):  # in pieces, as it is read
            ours.add(p[plane], np.ones(plane.size, dtype=np.int64), is_class[plane])
        np.testing.assert_array_equal(ours.voxels, counts[case, label])
        filled = ours.voxels > 0
        np.testing.assert_allclose((ours.total[filled] / ours.voxels[filled]), mean[case, label][filled], rtol=1e-5)
        np.testing.assert_allclose((ours.correct[filled] / ours.voxels[filled]), share[case, label][filled], rtol=1e-5)
        assert ours.expected_error() == pytest.approx(expected["expected"][case, label], abs=2e-6)
        assert ours.average_error() == pytest.approx(expected["average"][case, label], abs=2e-6)
