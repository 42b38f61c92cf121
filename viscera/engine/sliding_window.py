"""Class probabilities of a scan on the network's grid, by sub-volumes."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.geometry import Index3
from viscera.core.regions import EMPTY, Box, box_where
from viscera.core.scan import AIR_HU, HuArray
from viscera.engine.hardware import autocast, number_format
from viscera.imaging.windows import Tiling, covering_origins, gaussian_weights, network_input

_MOST_BYTES = 576 * 2**20  # that large windows take, with the planes that are held until they are complete
_MAPS = 6  # of the network at a time, of two channels a filter; of a folded one half
_TOGETHER_VOXELS = 2**18  # of windows in one pass on a CPU, as one of the paper's has: there more are no faster
_PLANES_TOGETHER = 16  # of which probabilities are computed
_SHARED = 2  # large windows share at least the half of the training window's edge
_MARGIN = 4  # and lie around the body by a quarter of it
Forward = Callable[[Tensor], Tensor]  # (B, I, J, K) int16 HU to (B, K, L, I, J) float32 probabilities


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
            logits: Tensor = network(x)
        return _probabilities_by_plane(logits)

    i, j, k = hu.shape
    if predict.mode == "whole_volume":
        planes = iter(forward(volume.unsqueeze(0))[0])
    elif predict.mode == "sub_volumes" or not train.network.normalises_batches:
        together = max(1, _TOGETHER_VOXELS // train.patch**3)
        batch_windows = min(predict.batch_windows, together) if device.type == "cpu" else predict.batch_windows
        planes = _in_windows_of_training(volume, train.patch, predict, forward, batch_windows)
    else:
        itemsize = number_format(device, train.precision).itemsize
        values = getattr(network, "values_per_voxel", 2 * train.filters * train.network.most_maps(train.levels, _MAPS))
        planes = _in_large_windows(volume, train, forward, values * itemsize)
    for plane in islice(planes, k):
        yield plane[:, :i, :j]


def _probabilities_by_plane(logits_BLIJK: Tensor) -> Tensor:
    """Softmax, (B, K, L, I, J) float32 on the CPU; there some planes at a time, which the processor's cache holds."""
    logits_BKLIJ = logits_BLIJK.movedim(-1, 1)
    together = _PLANES_TOGETHER if logits_BLIJK.device.type == "cpu" else logits_BKLIJ.shape[1]
    probabilities = torch.empty(logits_BKLIJ.shape, device=logits_BLIJK.device)
    for first in range(0, logits_BKLIJ.shape[1], together):
        some = slice(first, first + together)
        torch.softmax(logits_BKLIJ[:, some].contiguous(), dim=2, dtype=torch.float32, out=probabilities[:, some])
    return probabilities.cpu()


def _in_windows_of_training(
    volume: Tensor, patch: int, predict: PredictConfig, forward: Forward, batch_windows: int
) -> Iterator[Tensor]:
    edges = (patch, patch, patch)
    weight_KIJ = _by_plane(gaussian_weights(edges)) if predict.blend == "gaussian" else torch.ones(edges)
    origins = sorted(covering_origins(volume.shape, edges, predict.overlap), key=lambda origin: origin[2])
    return _blended(volume, _Windows(edges, origins, lambda _: weight_KIJ), forward, batch_windows)


def _in_large_windows(volume: Tensor, train: TrainConfig, forward: Forward, bytes_per_voxel: float) -> Iterator[Tensor]:
    """In as few and large windows as memory allows, of the box outside which all is air.

    There the network's input is the same everywhere, and so is its answer: that in the middle of a cube of air.
    """
    multiples = train.network.scale_of(train.levels - 1, train.levels)
    hu = volume.numpy()
    body = box_where(lambda planes: hu[:, :, planes] > train.intensity.low_hu, hu.shape)
    i, j, k = box = _grown(body, hu.shape, train.patch, multiples)
    within = volume[box]
    shape = (within.shape[0], within.shape[1], within.shape[2])
    edge = max(*multiples, train.patch // 2)
    air_L = forward(volume.new_full((1, edge, edge, edge), AIR_HU))[0, edge // 2, :, edge // 2, edge // 2]
    held = 4 * (len(air_L) + 1) * shape[0] * shape[1]  # bytes of a plane and its weights

    def bytes_of(window: Index3) -> float:
        return bytes_per_voxel * math.prod(window) + (held * window[2] if window != shape else 0)

    tiling = Tiling.cheapest(shape, train.patch // _SHARED, (train.patch, multiples), bytes_of, _MOST_BYTES)
    windows = _Windows(tiling.window, tiling.origins, lambda origin: _by_plane(tiling.weights(origin)))
    planes = _blended(within, windows, forward, 1)
    if shape == volume.shape:
        yield from planes
        return
    for at in range(volume.shape[2]):
        plane = air_L.view(-1, 1, 1).repeat(1, *volume.shape[:2])
        if k.start <= at < k.stop:
            plane[:, i, j] = next(planes)
        yield plane


def _grown(box: Box, shape: Sequence[int], least: int, multiples: Index3) -> Box:
    """A box with a margin, that is nowhere thinner than a window of training; of whole multiples, where there is room.

    Without anything in it, the first such box of the volume.
    """
    margin, axes = least // _MARGIN, []
    for axis, n, multiple in zip(box, shape, multiples, strict=True):
        start, stop = (0, 0) if box == EMPTY else (max(0, axis.start - margin), min(n, axis.stop + margin))
        size = max(stop - start, least)
        size = min(n, size + -size % multiple)
        start = max(0, min(start, n - size))
        axes.append(slice(start, start + size))
    i, j, k = axes
    return (i, j, k)


@dataclass(frozen=True)
class _Windows:
    """Equal windows of a volume, from the lowest up."""

    edges: Index3
    origins: Sequence[Index3]
    weights: Callable[[Index3], Tensor]  # (K, I, J) of the window at an origin


def _blended(volume: Tensor, windows: _Windows, forward: Forward, batch_windows: int) -> Iterator[Tensor]:
    """Weighted means of overlapping windows, from the lowest plane up."""
    i, j, k = volume.shape
    origins, edges = windows.origins, windows.edges
    if edges == (i, j, k):
        yield from forward(volume.unsqueeze(0))[0]
        return
    begun: deque[tuple[Tensor, Tensor]] = deque()  # sums of the planes from `lowest` on, and of their weights
    lowest = 0
    for first in range(0, len(origins), batch_windows):
        batch = origins[first : first + batch_windows]
        probabilities_BKLIJ = forward(torch.stack([volume[_box(origin, edges)] for origin in batch]))
        next_planes = [origin[2] for origin in origins[first + 1 : first + len(batch) + 1]] + [k]
        for origin, probabilities_KLIJ, next_plane in zip(batch, probabilities_BKLIJ, next_planes, strict=False):
            while lowest + len(begun) < origin[2] + edges[2]:
                begun.append((torch.zeros((probabilities_KLIJ.shape[1], i, j)), torch.zeros((i, j))))
            at = (origin[0], origin[1], origin[2] - lowest)
            _add(begun, probabilities_KLIJ, windows.weights(origin), _box(at, edges))
            while lowest < next_plane:
                total, weights = begun.popleft()
                yield total.div_(weights)
                lowest += 1
        del probabilities_BKLIJ, probabilities_KLIJ  # while the next are computed


def _add(
    planes: Sequence[tuple[Tensor, Tensor]], probabilities_KLIJ: Tensor, weight_KIJ: Tensor, box: tuple[slice, ...]
) -> None:
    rows, columns, held = box
    for at, (plane, weight) in enumerate(zip(probabilities_KLIJ, weight_KIJ, strict=True), start=held.start):
        total, weights = planes[at]
        total[:, rows, columns].addcmul_(plane, weight)
        weights[rows, columns].add_(weight)


def _by_plane(weight_IJK: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(weight_IJK).movedim(-1, 0).contiguous()


def _box(origin: Index3, edges: Index3) -> Box:
    i, j, k = (slice(at, at + edge) for at, edge in zip(origin, edges, strict=True))
    return i, j, k
