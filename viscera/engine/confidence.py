"""How sure a network is of each organ."""

import torch
from torch import Tensor


def mean_confidence(probabilities_LIJK: Tensor) -> list[float | None]:
    """(L,) mean probability of each class over the voxels where it is the most probable one; None where it is nowhere.

    Args:
        probabilities_LIJK: softmax, (L, I, J, K).
    """
    best, labels = probabilities_LIJK.max(dim=0)
    length = probabilities_LIJK.shape[0]
    counts = torch.bincount(labels.ravel(), minlength=length)
    sums = torch.bincount(labels.ravel(), weights=best.ravel().double(), minlength=length)
    return [float(total / n) if n else None for total, n in zip(sums, counts, strict=True)]
