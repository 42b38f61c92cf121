"""Hounsfield units to network input."""

import torch
from torch import Tensor

AIR_HU = -1024


def clip_to_unit(hu: Tensor, low_hu: float, high_hu: float) -> Tensor:
    """Clip to [low, high] HU and scale to [0, 1] float32; any shape and number type."""
    return hu.to(torch.float32).sub_(low_hu).div_(high_hu - low_hu).clamp_(0.0, 1.0)
