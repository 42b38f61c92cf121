"""What the surroundings of a voxel say about it, as a small network could see them: Gaussian derivatives."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from viscera.core.config import IntensityConfig
from viscera.core.scan import HuArray
from viscera.imaging.windows import network_input

SCALES = (1.0, 2.0, 4.0, 8.0)  # voxels: standard deviations of the Gaussians
_EDGES = SCALES[:2]  # of whose gradient the length is a feature, too: thin organs
FEATURES = 1 + 4 * len(SCALES) - 3 + len(_EDGES)


def local_features(hu: HuArray, intensity: IntensityConfig) -> npt.NDArray[np.float32]:
    """(I, J, K, F): the network's input, its Gaussian means at four scales, their gradients; no unit.

    The local jet of Koenderink and van Doorn (Biological Cybernetics 1987): convolutions with a few Gaussian
    derivatives stand for what first layers learn. The gradients, times their scale, of all but the smallest scale say
    on which side of a voxel the body, an organ or air lies: its coarse place.
    """
    x = network_input(torch.from_numpy(np.array(hu)[None]), intensity)[0, 0].numpy()
    features = [x]
    for scale in SCALES:
        mean = gaussian_filter(x, scale, mode="nearest")
        gradient = [
            scale * np.gradient(mean, axis=axis) if n > 1 else np.zeros_like(mean) for axis, n in enumerate(x.shape)
        ]
        features.append(mean)
        if scale > SCALES[0]:
            features += gradient
        if scale in _EDGES:
            features.append(np.sqrt(np.sum(np.square(gradient), axis=0)))
    return np.stack(features, axis=-1).astype(np.float32, copy=False)
