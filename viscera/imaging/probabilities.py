"""What class probabilities say of a voxel: how undecided it is, and what another temperature makes of them."""

import math

import torch
from torch import Tensor

_LEAST = 1e-30  # probability whose logarithm float32 holds


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities (L, ...) as the network would give them with its logits divided by a temperature.

    Temperature scaling (Guo et al., ICML 2017, section 4.2): above 1 they come nearer to each other, below 1 they part;
    which class is the most probable stays.
    """
    if temperature == 1:
        return probabilities
    return torch.softmax(log_probabilities(probabilities).div_(temperature), dim=0)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Their natural logarithms, which are logits; finite where one is 0."""
    return probabilities.clamp(min=_LEAST).log_()


def entropy(probabilities: Tensor) -> Tensor:
    """How undecided voxels are, (...) of (L, ...): Shannon's entropy over log L, from 0 (one class has all) to 1."""
    nats = log_probabilities(probabilities).mul_(probabilities).sum(dim=0).neg_()
    return nats.div_(math.log(probabilities.shape[0]))
