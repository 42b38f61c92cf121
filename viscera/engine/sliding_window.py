"""Class probabilities of a scan on the network's grid, by sub-volumes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.geometry import Index3
from viscera.core.scan import AIR_HU, HuArray
from viscera.engine.hardware import autocast
from viscera.imaging.windows import covering_origins, gaussian_weights, network_input


def predict_probabilities(
    network: nn.Module, hu: HuArray, train: TrainConfig, predict: PredictConfig, device: torch.device
) -> Tensor:
    """Softmax probabilities (L, I, J, K) float32 on the CPU, of a scan on the network's grid; see below."""
    return torch.stack(list(probability_planes(network, hu, train, predict, device)), dim=-1)


@torch.no_grad()
def probability_planes(
    network: nn.Module, hu: HuArray, train: TrainConfig, predict: PredictConfig, device: torch.device
) -> Iterator[Tensor]:
    """The same plane by plane along K, (L, I, J) each, from the lowest up.

    A plane is given, and forgotten, as soon as no later window reaches it: about as many as a window is thick are held.
    The network is in evaluation mode, `hu` (I, J, K) int16 of any size; smaller than the window, it is padded with air.
    """
    padding = [(0, max(0, train.patch - n)) for n in hu.shape]
    is_usable = hu.flags.writeable and min(hu.strides) >= 0 and not np.any(padding)  # a large scan is not copied
    volume = torch.from_numpy(hu if is_usable else np.pad(hu, padding, constant_values=AIR_HU))

    def forward(windows_BIJK: Tensor) -> Tensor:
        x = network_input(windows_BIJK.to(device), train.intensity)
        with autocast(device, train.precision):
            logits = network(x)
        return torch.softmax(logits.float(), dim=1).movedim(-1, 1).contiguous().cpu()  # (B, K, L, I, J)

    i, j, k = hu.shape
    if predict.mode == "whole_volume":
        planes = iter(forward(volume.unsqueeze(0))[0])
    else:
        planes = _blended(volume, train.patch, predict, forward)
    for plane in islice(planes, k):
        yield plane[:, :i, :j]


def _blended(
    volume: Tensor, patch: int, predict: PredictConfig, forward: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Weighted means of overlapping windows, from the lowest plane up."""
    window = (patch, patch, patch)
    weight = torch.from_numpy(gaussian_weights(window)) if predict.blend == "gaussian" else torch.ones(window)
    weight_KIJ = weight.movedim(-1, 0).contiguous()
    i, j, k = volume.shape
    origins = sorted(covering_origins((i, j, k), window, predict.overlap), key=lambda origin: origin[2])
    begun: deque[tuple[Tensor, Tensor]] = deque()  # sums of the planes from `lowest` on, and of their weights
    lowest = 0
    for first in range(0, len(origins), predict.batch_windows):
        batch = origins[first : first + predict.batch_windows]
        probabilities_BKLIJ = forward(torch.stack([volume[_box(origin, patch)] for origin in batch]))
        while lowest + len(begun) < batch[-1][2] + patch:
            begun.append((torch.zeros((probabilities_BKLIJ.shape[2], i, j)), torch.zeros((i, j))))
        for origin, probabilities_KLIJ in zip(batch, probabilities_BKLIJ, strict=True):
            _add(begun, probabilities_KLIJ, weight_KIJ, (origin[0], origin[1], origin[2] - lowest))
        next_window = origins[first + len(batch)][2] if first + len(batch) < len(origins) else k
        while lowest < next_window:
            total, weights = begun.popleft()
            yield total.div_(weights)
            lowest += 1


def _add(
    planes: Sequence[tuple[Tensor, Tensor]], probabilities_KLIJ: Tensor, weight_KIJ: Tensor, origin: Index3
) -> None:
    patch = len(weight_KIJ)
    rows, columns, _ = _box(origin, patch)
    for at, (plane, weight) in enumerate(zip(probabilities_KLIJ, weight_KIJ, strict=True), start=origin[2]):
        total, weights = planes[at]
        total[:, rows, columns].addcmul_(plane, weight)
        weights[rows, columns].add_(weight)


def _box(origin: Index3, patch: int) -> tuple[slice, slice, slice]:
    i, j, k = (slice(at, at + patch) for at in origin)
    return i, j, k
