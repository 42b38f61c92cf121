"""The forces of Eq. 2 on voxels that look alike (docs/decisions/0039), held against automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from viscera.losses.dice import WeightedDiceLoss

COUNTS = st.lists(st.integers(1, 30), min_size=6, max_size=6)


def sums(counts_BL: np.ndarray, s_BL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """I and D of (bins, L) voxels with the same probabilities within a bin."""
    return (counts_BL * s_BL).sum(axis=0), (counts_BL.sum(axis=1, keepdims=True) * s_BL).sum(axis=0) + counts_BL.sum(0)


@given(COUNTS, st.lists(st.floats(0.01, 10), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_who_wins_a_bin_of_voxels_that_look_alike(counts: list[int], weights: list[float], seed: int) -> None:
    """n_k (a_k + b_j) > n_j (a_j + b_k): probability that moves from j to k lowers the loss."""
    counts_BL = np.array([[*counts[:2], 0], counts[3:]], dtype=float)  # classes 0 and 1 share the first bin
    s_BL = np.random.default_rng(seed).dirichlet(np.ones(3), size=2)
    intersection, cardinality = sums(counts_BL, s_BL)
    w = np.array(weights)
    a, b = w * (cardinality - intersection) / cardinality**2, w * intersection / cardinality**2
    (k, j), (n_k, n_j) = (0, 1), counts_BL[0, :2]
    force = n_k * (a[k] + b[j]) - n_j * (a[j] + b[k])
    assume(abs(force) > 1e-9)
    labels = torch.tensor([label for row in counts_BL.astype(int) for label, n in enumerate(row) for _ in range(n)])
    bins = torch.tensor([bin_ for bin_, row in enumerate(counts_BL.astype(int)) for _ in range(row.sum())])
    s = torch.from_numpy(s_BL).requires_grad_()
    probabilities = s[bins].T[None, :, :, None, None]
    WeightedDiceLoss(w, inputs="probabilities")(probabilities, labels[None, :, None, None]).backward()
    assert s.grad is not None
    moved = (s.grad[0, k] - s.grad[0, j]).item()
    assert moved == pytest.approx(-2 * force / 3, rel=1e-6)


def test_converged_a_voxel_weighs_as_w_over_four_r() -> None:
    counts = np.array([1000.0, 10.0])
    intersection, cardinality = sums(np.diag(counts), np.eye(2))
    for w in (np.ones(2), 1 / counts, 1 / counts**2):  # uniform, simple, square
        a, b = w * (cardinality - intersection) / cardinality**2, w * intersection / cardinality**2
        assert a == pytest.approx(w / (4 * counts))
        assert b == pytest.approx(a)


def test_a_class_lost_to_a_rare_one_needs_a_likelihood_ratio_of_at_most_one() -> None:
    """100 000 voxels of k are called j, of which there are 100: what k must have over j to win a bin back."""
    r_k, r_j = 1e5, 1e2
    for power in (0.0, 1.0, 2.0):
        w_k, w_j = r_k**-power, r_j**-power
        d_j = (r_k + r_j) + r_j
        a_k, a_j, b_j = w_k / r_k, w_j * (d_j - r_j) / d_j**2, w_j * r_j / d_j**2
        needed = r_j * a_j / (r_k * (a_k + b_j))
        assert needed == pytest.approx(1 / (1 + w_k * r_k / (w_j * r_j)), rel=0.01)
        assert needed < 1
