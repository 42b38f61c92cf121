"""The loss against a second implementation: NumPy, float64, one loop a class, straight from the equations."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

import viscera


def loss_by_loops(
    logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> float:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    s = exponentials / exponentials.sum(axis=1, keepdims=True)
    total = 0.0
    num_classes = logits.shape[1]
    for label in range(num_classes):
        s_l = s[:, label].ravel()
        r_l = (labels == label).ravel().astype(float)
        total += weights[label] * -2 * np.dot(s_l, r_l) / (s_l.sum() + r_l.sum())
    return float(total / num_classes)


@pytest.mark.parametrize("scheme", ["uniform", "simple", "square"])
def test_agrees_with_loops(scheme: str) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(3, 8, 6, 5, 4)) * 3
    labels = rng.integers(0, 8, size=(3, 6, 5, 4))
    weights = viscera.class_weights(np.bincount(labels.ravel(), minlength=8), scheme)
    ours = viscera.WeightedDiceLoss(weights)(torch.from_numpy(logits), torch.from_numpy(labels))
    assert ours.item() == pytest.approx(loss_by_loops(logits, labels, weights), rel=1e-12)


def test_float32_agrees_to_its_precision() -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(2, 8, 24, 24, 24))
    labels = rng.integers(0, 8, size=(2, 24, 24, 24))
    weights = np.ones(8)
    ours = viscera.WeightedDiceLoss(weights)(torch.from_numpy(logits).float(), torch.from_numpy(labels))
    assert ours.item() == pytest.approx(loss_by_loops(logits, labels, weights), rel=1e-5)
