"""Class probabilities of a scan on the network's grid, by sub-volumes."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.errors import first_line
from viscera.core.geometry import Index3
from viscera.core.machine_errors import is_out_of_memory
from viscera.core.regions import EMPTY, Box, box_where
from viscera.core.scan import AIR_HU, HuArray
from viscera.core.settings import AXES
from viscera.core.wording import counted
from viscera.engine.hardware import autocast, number_format
from viscera.imaging.windows import Tiling, covering_origins, gaussian_weights, network_input

log = logging.getLogger(__name__)
MOST_BYTES = 576 * 2**20  # that large windows take, with the planes that are held until they are complete
_MAPS = 6  # of the network at a time, of two channels a filter; of a folded one half
_TOGETHER_VOXELS = 2**18  # of windows in one pass on a CPU, as one of the paper's has: there more are no faster
_PLANES_TOGETHER = 16  # of which probabilities are computed
SHARED = 2  # large windows share at least the half of the training window's edge
_MARGIN = 4  # and lie around the body by a quarter of it
Forward = Callable[[Tensor], Tensor]  # (B, I, J, K) int16 HU to (B, K, L, I, J) float32 probabilities
Axes = tuple[int, ...]  # along which something is mirrored
AnyHu = HuArray | np.ndarray[Any, np.dtype[np.float32]]
Size = TypeVar("Size")


class _Scan(NamedTuple):
    """What is to be segmented, at least as large as a window of training, and its mirror images that are too."""

    hu: Tensor  # (I, J, K) int16
    before: Index3  # planes of padding before it along I, J, K
    mirrors: tuple[Axes, ...] = ((),)  # () is the scan as it is

    @classmethod
    def padded(cls, hu: AnyHu, least: int, mirrored: Axes) -> "_Scan":
        """With air after it where it is smaller, and before it where a mirror image has it after it."""
        missing = [max(0, least - n) for n in hu.shape]
        i, j, k = (n if axis in mirrored else 0 for axis, n in enumerate(missing))
        padding = list(zip((i, j, k), missing, strict=True))
        is_usable = hu.flags.writeable and min(hu.strides) >= 0 and not np.any(padding)  # a large scan is not copied
        volume = torch.from_numpy(hu if is_usable else np.pad(hu, padding, constant_values=AIR_HU))
        mirrors = (axes for number in range(len(mirrored) + 1) for axes in combinations(mirrored, number))
        return cls(volume, (i, j, k), tuple(mirrors))

    @property
    def shape(self) -> Index3:
        i, j, k = self.hu.shape
        return i, j, k

    @property
    def mirrored(self) -> Axes:
        """Along which axes any of its images is."""
        return self.mirrors[-1]


def predict_probabilities(
    network: nn.Module, hu: HuArray, train: TrainConfig, predict: PredictConfig, device: torch.device
) -> Tensor:
    """Softmax probabilities (L, I, J, K) float32 on the CPU, of a scan on the network's grid; see below."""
    return torch.stack(list(probability_planes(network, hu, train, predict, device)), dim=-1)


def prediction_bytes(train: TrainConfig, num_classes: int, shape: Sequence[int], device: torch.device) -> float:
    """About what `predict_probabilities` takes for a scan of that shape, with a network as it is in training.

    On a GPU that is its windows alone; on a CPU also the probabilities, while they are put together.
    """
    values = 2 * train.filters * train.network.most_maps(train.levels, _MAPS)
    by_voxel = values * number_format(device, train.precision).itemsize
    window = min(MOST_BYTES, by_voxel * math.prod(shape)) if train.network.normalises_batches else 0.0
    together = max(1, _TOGETHER_VOXELS // train.patch**3)
    windows = max(window, by_voxel * train.patch**3 * (1 if window else together))
    return windows + (2 * 4 * num_classes * math.prod(shape) if device.type != "cuda" else 0)


@torch.no_grad()
def probability_planes(
    network: nn.Module, hu: HuArray, train: TrainConfig, predict: PredictConfig, device: torch.device
) -> Iterator[Tensor]:
    """The same plane by plane along K, (L, I, J) each, from the lowest up.

    A plane is given, and forgotten, as soon as no later window reaches it: about as many as a window is thick are held.
    The network is in evaluation mode, `hu` (I, J, K) int16 of any size; smaller than the window, it is padded with air.
    With `predict.mirror_axes` they are means over the scan and its mirror images, mirrored back: each is covered by the
    windows that it would have alone, so that a mirrored scan has the mirrored probabilities, whatever the network.
    """
    mirrored = tuple(axis for axis, name in enumerate(AXES) if name in predict.mirror_axes)
    scan = _Scan.padded(hu, train.patch, mirrored)

    def forward(windows_BIJK: Tensor) -> Tensor:
        x = network_input(windows_BIJK.to(device), train.intensity)
        with autocast(device, train.precision):
            logits: Tensor = network(x)
        return probabilities_by_plane(logits)

    if predict.mode == "whole_volume":
        planes = _blended(scan, _Windows(scan.shape, [(0, 0, 0)], lambda _: torch.ones(scan.shape[2], 1, 1)), forward)
    elif predict.mode == "sub_volumes" or not train.network.normalises_batches:
        planes = _in_windows_of_training(scan, train.patch, predict, forward, device)
    else:
        itemsize = number_format(device, train.precision).itemsize
        values = getattr(network, "values_per_voxel", 2 * train.filters * train.network.most_maps(train.levels, _MAPS))
        planes = _in_large_windows(scan, train, forward, values * itemsize)
    yield from _without_padding(planes, scan, hu.shape)


def planes_of_equal_windows(
    hu: AnyHu, patch: int, predict: PredictConfig, forward: Forward, device: torch.device
) -> Iterator[Tensor]:
    """As `probability_planes` with `predict.mode` sub_volumes, by any function of windows, on a device."""
    scan = _Scan.padded(hu, patch, ())
    yield from _without_padding(_in_windows_of_training(scan, patch, predict, forward, device), scan, hu.shape)


def _without_padding(planes: Iterable[Tensor], scan: _Scan, shape: Sequence[int]) -> Iterator[Tensor]:
    i, j, k = (slice(at, at + n) for at, n in zip(scan.before, shape, strict=True))
    for plane in islice(planes, k.start, k.stop):
        yield plane[:, i, j]


def probabilities_by_plane(logits_BLIJK: Tensor) -> Tensor:
    """Softmax, (B, K, L, I, J) float32 on the CPU; there some planes at a time, which the processor's cache holds."""
    logits_BKLIJ = logits_BLIJK.movedim(-1, 1)
    together = _PLANES_TOGETHER if logits_BLIJK.device.type == "cpu" else logits_BKLIJ.shape[1]
    probabilities = torch.empty(logits_BKLIJ.shape, device=logits_BLIJK.device)
    for first in range(0, logits_BKLIJ.shape[1], together):
        some = slice(first, first + together)
        torch.softmax(logits_BKLIJ[:, some].contiguous(), dim=2, dtype=torch.float32, out=probabilities[:, some])
    return probabilities.cpu()


def _as_memory_allows(
    planes_of: Callable[[Size], Iterator[Tensor]], sizes: Iterable[Size], named: Callable[[Size], str]
) -> Iterator[Tensor]:
    """Planes, each once, with the first of some sizes, largest first, with which memory does not run out; says which.

    What is not given yet is computed anew with the next. What the last raises is raised.
    """
    given, left = 0, iter(sizes)
    size: Size | None = next(left)
    while size is not None:
        try:
            for plane in islice(planes_of(size), given, None):
                given += 1
                yield plane
        except (RuntimeError, MemoryError) as error:
            size = next(left, None) if is_out_of_memory(error) else None
            if size is None:
                raise
            why = first_line(error)
        else:
            return
        if torch.cuda.is_available():  # out of the clause above, whose error holds the tensors of what failed
            torch.cuda.empty_cache()
        log.warning("Out of memory (%s): predicting %s.", why, named(size))


def _in_windows_of_training(
    scan: _Scan, patch: int, predict: PredictConfig, forward: Forward, device: torch.device
) -> Iterator[Tensor]:
    """As many at a time as memory allows."""
    together = max(1, _TOGETHER_VOXELS // patch**3)
    most = min(predict.batch_windows, together) if device.type == "cpu" else predict.batch_windows
    return _as_memory_allows(
        partial(_so_many_together, scan, patch, predict, forward),
        (most >> halved for halved in range(most.bit_length())),
        lambda number: f"with {counted(number, 'sub-volume')} at a time",
    )


def _so_many_together(
    scan: _Scan, patch: int, predict: PredictConfig, forward: Forward, batch_windows: int
) -> Iterator[Tensor]:
    edges = (patch, patch, patch)
    weight_KIJ = _by_plane(gaussian_weights(edges)) if predict.blend == "gaussian" else torch.ones(edges)
    alone = [n - before for n, before in zip(scan.shape, scan.before, strict=True)]  # padded after it
    origins = sorted(covering_origins(alone, edges, predict.overlap), key=lambda origin: origin[2])
    within = [_three(map(sum, zip(origin, scan.before, strict=True))) for origin in origins]
    return _blended(scan, _Windows(edges, within, lambda _: weight_KIJ), forward, batch_windows)


def _in_large_windows(scan: _Scan, train: TrainConfig, forward: Forward, bytes_per_voxel: float) -> Iterator[Tensor]:
    """In as few and large windows as memory allows, of the box outside which all is air.

    There the network's input is the same everywhere, and so is its answer: that in the middle of a cube of air.
    """
    multiples = train.network.scale_of(train.levels - 1, train.levels)
    hu = scan.hu.numpy()
    body = box_where(lambda planes: hu[:, :, planes] > train.intensity.low_hu, hu.shape)
    i, j, k = box = _grown(body, hu.shape, train.patch, multiples, scan.mirrored)
    within = scan._replace(hu=scan.hu[box])
    shape = within.shape
    edge = max(*multiples, train.patch // 2)
    air_L = forward(scan.hu.new_full((1, edge, edge, edge), AIR_HU))[0, edge // 2, :, edge // 2, edge // 2]
    held = 4 * (len(air_L) + 1) * shape[0] * shape[1]  # bytes of a plane and its weights

    def bytes_of(window: Index3) -> float:
        return bytes_per_voxel * math.prod(window) + (held * window[2] if window != shape or scan.mirrored else 0)

    def tiling_of(most_bytes: float) -> Tiling:
        return Tiling.cheapest(shape, train.patch // SHARED, (train.patch, multiples), bytes_of, most_bytes)

    def tilings() -> Iterator[Tiling]:
        tiling: Tiling | None = tiling_of(MOST_BYTES)
        while tiling is not None:
            yield tiling
            smaller = tiling_of(bytes_of(tiling.window) / 2)
            tiling = smaller if math.prod(smaller.window) < math.prod(tiling.window) else None

    def planes_of(tiling: Tiling) -> Iterator[Tensor]:
        windows = _Windows(tiling.window, tiling.origins, lambda origin: _by_plane(tiling.weights(origin)))
        return _blended(within, windows, forward)

    planes = _as_memory_allows(
        planes_of, tilings(), lambda tiling: f"in smaller sub-volumes, of {'×'.join(map(str, tiling.window))} voxels"
    )
    if shape == scan.shape:
        yield from planes
        return
    for at in range(scan.shape[2]):
        plane = air_L.view(-1, 1, 1).repeat(1, *scan.shape[:2])
        if k.start <= at < k.stop:
            plane[:, i, j] = next(planes)
        yield plane


def _grown(box: Box, shape: Sequence[int], least: int, multiples: Index3, mirrored: Axes) -> Box:
    """A box with a margin, that is nowhere thinner than a window of training; of whole multiples, where there is room.

    Along an axis that is mirrored by as much on both sides, so that a mirrored scan has the mirrored box. Without
    anything in it, the first such box of the volume, or that in its middle.
    """
    margin, axes = least // _MARGIN, []
    for axis, (along, n, multiple) in enumerate(zip(box, shape, multiples, strict=True)):
        if axis in mirrored:
            start, stop = (n // 2, n - n // 2) if box == EMPTY else (along.start - margin, along.stop + margin)
            axes.append(_widened(max(0, start), min(n, stop), n, least))
            continue
        start, stop = (0, 0) if box == EMPTY else (max(0, along.start - margin), min(n, along.stop + margin))
        size = max(stop - start, least)
        size = min(n, size + -size % multiple)
        start = max(0, min(start, n - size))
        axes.append(slice(start, start + size))
    i, j, k = axes
    return (i, j, k)


def _widened(start: int, stop: int, n: int, least: int) -> slice:
    """An interval of 0 to n as large as that, by as much on both sides, and moved to where there is room."""
    more = -(-max(0, least - (stop - start)) // 2)
    start, stop = start - more, stop + more
    moved = max(0, -start) - max(0, stop - n)
    return slice(max(0, start + moved), min(n, stop + moved))


@dataclass(frozen=True)
class _Windows:
    """Equal windows of a volume, from the lowest up."""

    edges: Index3
    origins: Sequence[Index3]
    weights: Callable[[Index3], Tensor]  # (K, I, J) of the window at an origin


class _Look(NamedTuple):
    """One window of the scan, or of a mirror image of it."""

    at: Index3  # where it lies in the scan
    axes: Axes  # along which it is mirrored
    origin: Index3  # where it lies in the mirror image

    @classmethod
    def at_all(cls, shape: Index3, windows: _Windows, mirrors: Sequence[Axes]) -> "list[_Look]":
        """All of them, from the lowest up."""
        found = []
        for axes in mirrors:
            for origin in windows.origins:
                rest = (n - edge - at for n, edge, at in zip(shape, windows.edges, origin, strict=True))
                pairs = enumerate(zip(origin, rest, strict=True))
                found.append(cls(_three(pair[axis in axes] for axis, pair in pairs), axes, origin))
        return sorted(found, key=lambda look: look.at[2])

    def back(self, values_KxIJ: Tensor) -> Tensor:
        """Values of the mirrored window in the order of the scan's voxels, planes along K first."""
        return values_KxIJ.flip([{0: -2, 1: -1, 2: 0}[axis] for axis in self.axes]) if self.axes else values_KxIJ


def _blended(scan: _Scan, windows: _Windows, forward: Forward, batch_windows: int = 1) -> Iterator[Tensor]:
    """Weighted means of overlapping windows, from the lowest plane up."""
    volume, (i, j, k), edges = scan.hu, scan.shape, windows.edges
    if edges == (i, j, k) and not scan.mirrored:
        yield from forward(volume.unsqueeze(0))[0]
        return
    looks = _Look.at_all(scan.shape, windows, scan.mirrors)
    begun: deque[tuple[Tensor, Tensor]] = deque()  # sums of the planes from `lowest` on, and of their weights
    lowest = 0
    for first in range(0, len(looks), batch_windows):
        batch = looks[first : first + batch_windows]
        probabilities_BKLIJ = forward(torch.stack([volume[_box(look.at, edges)].flip(look.axes) for look in batch]))
        next_planes = [look.at[2] for look in looks[first + 1 : first + len(batch) + 1]] + [k]
        for look, probabilities_KLIJ, next_plane in zip(batch, probabilities_BKLIJ, next_planes, strict=False):
            while lowest + len(begun) < look.at[2] + edges[2]:
                begun.append((torch.zeros((probabilities_KLIJ.shape[1], i, j)), torch.zeros((i, j))))
            box = _box((look.at[0], look.at[1], look.at[2] - lowest), edges)
            _add(begun, look.back(probabilities_KLIJ), look.back(windows.weights(look.origin)), box)
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


def _three(values: Iterable[int]) -> Index3:
    i, j, k = values
    return i, j, k


def _box(origin: Index3, edges: Index3) -> Box:
    i, j, k = (slice(at, at + edge) for at, edge in zip(origin, edges, strict=True))
    return i, j, k
