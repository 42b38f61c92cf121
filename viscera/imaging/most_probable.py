"""Which class is the most probable one, and how probable it is."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from viscera.core.scan import LabelArray

# told of each plane of a scan, along K from the lowest up: (L, I, J) probabilities, and (I, J) labels
OnPlane = Callable[[Tensor, LabelArray], None]


class MostProbable(NamedTuple):
    """Of every voxel: the largest score, as the scores are, and the first class that has it, uint8."""

    score: Tensor
    label: Tensor


def most_probable(scores: Tensor, dim: int = 0) -> MostProbable:
    """Of scores with up to 255 classes along `dim`, without that axis; NaN is the largest, and of no certain class.

    `Tensor.max` and `argmax` say the same (of numbers), in 2 to 15 times the time where the classes lie apart in
    memory: they look for the index voxel by voxel, in place of comparing whole vectors.
    """
    length = scores.shape[dim]
    largest = scores.amax(dim, keepdim=True)
    rank = torch.arange(length, 0, -1, dtype=torch.uint8, device=scores.device)
    ranks = rank.view(-1, *[1] * (scores.ndim - 1 - dim % scores.ndim)) * (scores == largest)
    return MostProbable(largest.squeeze(dim), (length - ranks.amax(dim)).clamp_(max=length - 1))
