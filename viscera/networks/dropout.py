"""Which channels of the lowest level are left out in a training step (Srivastava et al., JMLR 2014).

Whole channels, as neighbouring voxels of one say the same (Tompson et al., CVPR 2015; `nn.Dropout3d`).
"""

import numpy as np
import torch
from torch import Tensor

_STREAM = 5  # of random numbers of a window; those of `imaging` are 1 to 4


def kept_channels(share: float, channels: int, key: tuple[int, int], slots: slice) -> Tensor:
    """Factors (windows, channels) float32: 0 with a probability of `share`, else 1 / (1 - share).

    A pure function of its arguments, for each window of (seed, step), the key, and its slot in the mini-batch.
    """
    drawn = [
        np.random.default_rng((*key, slot + 1, _STREAM)).random(channels) for slot in range(slots.start, slots.stop)
    ]
    return torch.from_numpy((np.array(drawn) >= share) / (1 - share)).float()
