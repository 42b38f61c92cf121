"""Voxels of training windows and of cases kept apart, few of each class and weighted to stand for all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.anatomy import IGNORED
from viscera.core.config import TrainConfig
from viscera.doctor.local_features import local_features
from viscera.imaging.windows import random_origin
from viscera.io.splits import evenly_spread
from viscera.io.store import Store

_CASES = 16  # of which every fourth is kept apart
_WINDOWS = 96
_IN_A_WINDOW = (16, 64)  # voxels of an organ, and of background
_IN_A_CASE = (200, 4000)

Picked = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Voxels:
    """Some voxels of one window or case; `weight` says how many of its class each stands for, 0 where it is padding."""

    features: Tensor  # (V, F) float32
    labels: Tensor  # (V,) int64
    weight: Tensor  # (V,) float32
    labelled: Tensor  # (L,) bool: the classes that the case labels; voxels of the others are background


@dataclass(frozen=True, eq=False)
class VoxelSample:
    """Windows of training cases, of equally many voxels each, and whole cases that none of them comes from."""

    windows: Sequence[Voxels]
    case_of_window: npt.NDArray[np.int64]  # (windows,)
    held_out: Sequence[Voxels]

    def trained_on(self, num_classes: int) -> npt.NDArray[np.bool_]:
        """(L,) whether any window has the class: else nothing is learnt of it, whatever the held-out cases have."""
        voxels = sum(torch.bincount(each.labels[each.weight > 0], minlength=num_classes) for each in self.windows)
        return np.asarray(voxels > 0)

    @classmethod
    def of(cls, store: Store, train: TrainConfig) -> "VoxelSample":
        """Of at most 16 training cases of a store: windows of every case but each fourth, which is held out.

        A pure function of the store and of `train` (intensity, patch, seed). One case alone is both.
        """
        names = evenly_spread(store.names("train"), _CASES)
        held_out = names[::4] if len(names) > 3 else names[:1]
        used = [name for name in names if name not in held_out] or names
        labelled = dict(zip(names, torch.from_numpy(store.labelled(names)), strict=True))
        windows: list[Voxels] = []
        whole: list[Voxels] = []
        numbers: list[int] = []
        for number, name in enumerate(names):
            features, labels = local_features(store.image(name), train.intensity), np.asarray(store.labels(name))
            rng = np.random.default_rng((train.seed, number))
            if name in held_out:
                whole.append(
                    _voxels(
                        _picked(features.reshape(-1, features.shape[-1]), labels.ravel(), rng, _IN_A_CASE),
                        labelled[name],
                    )
                )
            if name in used:
                cut = _windows(features, labels, train, (number, -(-_WINDOWS // len(used))))
                windows += [_voxels(each, labelled[name]) for each in cut]
                numbers += [used.index(name)] * (len(windows) - len(numbers))
        return cls(_padded(windows), np.array(numbers), whole)


def _windows(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    train: TrainConfig,
    which: tuple[int, int],
) -> Iterator[Picked]:
    """Voxels of random windows of a case (its number, how many of them), placed uniformly as those of a training."""
    number, count = which
    for slot in range(count):
        origin = random_origin(train.seed, number, slot, labels.shape, train.patch)
        window = tuple(slice(at, at + train.patch) for at in origin)
        rng = np.random.default_rng((train.seed, number, slot))
        yield _picked(features[window].reshape(-1, features.shape[-1]), labels[window].ravel(), rng, _IN_A_WINDOW)


def _picked(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    most: tuple[int, int],
) -> Picked:
    """At most so many voxels of each organ and of background, at random, with how many each stands for."""
    index, weights = [], []
    for label in np.unique(labels[labels != IGNORED]):
        own = np.flatnonzero(labels == label)
        some = own if own.size <= most[int(label == 0)] else rng.choice(own, most[int(label == 0)], replace=False)
        index.append(some)
        weights.append(np.full(some.size, own.size / some.size, np.float32))
    if not index:
        return features[:0], np.zeros(0, np.int64), np.zeros(0, np.float32)
    at = np.concatenate(index)
    return features[at], labels[at].astype(np.int64), np.concatenate(weights)


def _voxels(picked: Picked, labelled_L: Tensor) -> Voxels:
    features, labels, weight = map(torch.from_numpy, picked)
    return Voxels(features, labels, weight, labelled_L)


def _padded(windows: Sequence[Voxels]) -> list[Voxels]:
    """All with as many voxels as the largest."""
    most = max(len(each.labels) for each in windows)

    def filled(values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros((most - len(values), *values.shape[1:]))])

    return [Voxels(filled(v.features), filled(v.labels), filled(v.weight), v.labelled) for v in windows]
