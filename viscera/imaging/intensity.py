"""Hounsfield units to network input."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from viscera.core.config import IntensityConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import HuArray

AIR_HU = -1024


def clip_to_unit(hu: Tensor, low_hu: float, high_hu: float) -> Tensor:
    """Clip to [low, high] HU and scale to [0, 1] float32; any shape and number type."""
    return hu.to(torch.float32).sub_(low_hu).div_(high_hu - low_hu).clamp_(0.0, 1.0)


def network_input(hu_BIJK: Tensor, config: IntensityConfig) -> Tensor:
    """What the network is given for windows of HU: (B, 1, I, J, K) float32, on the device that they are on."""
    unit = clip_to_unit(hu_BIJK, config.low_hu, config.high_hu).unsqueeze(1)
    if config.scaling == "unit":
        return unit
    if config.mean_hu is None or config.sd_hu is None:
        raise BadInputError(
            "intensity.scaling z_score needs mean_hu and sd_hu (`viscera train` takes the training set's)."
        )
    width = config.high_hu - config.low_hu
    return unit.sub_((config.mean_hu - config.low_hu) / width).mul_(width / config.sd_hu)


def clipped_moments(arrays: Iterable[HuArray], config: IntensityConfig) -> tuple[float, float]:
    """Mean and standard deviation in HU over all voxels of some scans (each (I, J, K) int16), clipped as configured."""
    number, total, squares = 0, 0.0, 0.0
    for hu in arrays:
        clipped = np.clip(hu, config.low_hu, config.high_hu).astype(np.float64)
        number, total, squares = number + clipped.size, total + clipped.sum(), squares + np.square(clipped).sum()
    mean = total / number
    return float(mean), float(np.sqrt(max(squares / number - mean**2, 0.0)))
