"""Hounsfield units to network input."""

import torch
from torch import Tensor

from viscera.core.config import IntensityConfig

AIR_HU = -1024


def clip_to_unit(hu: Tensor, low_hu: float, high_hu: float) -> Tensor:
    """Clip to [low, high] HU and scale to [0, 1] float32; any shape and number type."""
    return hu.to(torch.float32).sub_(low_hu).div_(high_hu - low_hu).clamp_(0.0, 1.0)


def network_input(hu_BIJK: Tensor, config: IntensityConfig) -> Tensor:
    """What the network is given for windows of HU: (B, 1, I, J, K) float32, on the device that they are on."""
    return clip_to_unit(hu_BIJK, config.low_hu, config.high_hu).unsqueeze(1)
