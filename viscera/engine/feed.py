"""The feed of training windows: each a pure function of (seed, step, slot)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.config import AugmentConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.core.scan import HuArray, LabelArray
from viscera.imaging.augment import Augmentation, draw, margin
from viscera.imaging.intensity import AIR_HU
from viscera.imaging.windows import random_cases, random_origin


class Batch(NamedTuple):
    """A mini-batch: `hu` int16 (B, I, J, K), `labels` uint8 (B, I, J, K).

    With augmentation switched on, `augmentations` says what is still to happen to each window (`imaging.augment`); the
    windows then reach beyond the patch by as much as that needs.
    """

    hu: Tensor
    labels: Tensor
    augmentations: tuple[Augmentation, ...] = ()


@dataclass(frozen=True)
class Feed:
    """Random cubic windows of prepared cases, those of one batch from different patients.

    Attributes:
        cases: image and labels of each training case, as memory-mapped arrays; only the windows are read and copied.
        patch: edge of a window in voxels.
        batch_size: windows a step.
        seed: of the choice of cases and windows, and of the augmentation.
        augment: how windows are to be changed; None or switched off: not at all. It does not change which windows are
            cut: with it they reach further on all sides of the same places, so that a rotated window has corners.
        spacings_mm: voxel size of each case, for rotations that are rigid in millimetres; without, that of cubes.
    """

    cases: Sequence[tuple[HuArray, LabelArray]]
    patch: int
    batch_size: int
    seed: int
    augment: AugmentConfig | None = None
    spacings_mm: Sequence[tuple[float, float, float]] | None = None

    def __post_init__(self) -> None:
        if self.batch_size > len(self.cases):
            raise BadInputError(
                f"a batch of {self.batch_size} windows comes from as many patients, but there are only "
                f"{len(self.cases)} training cases. Add cases, or lower --batch-size."
            )

    def batch(self, step: int) -> Batch:
        """The windows of one step."""
        numbers = random_cases(self.seed, step, len(self.cases), self.batch_size)
        augmentations = self._augmentations(step, numbers)
        beyond = margin(augmentations, self.patch)
        shape = (self.batch_size, *(self.patch + 2 * n for n in beyond))
        hu = np.empty(shape, dtype=np.int16)
        labels = np.empty(shape, dtype=np.uint8)
        for slot, number in enumerate(numbers):
            image, label_map = self.cases[number]
            origin = random_origin(self.seed, step, slot, image.shape, self.patch)
            i, j, k = (at - n for at, n in zip(origin, beyond, strict=True))
            _cut(image, (i, j, k), hu[slot], AIR_HU)
            _cut(label_map, (i, j, k), labels[slot], 0)
        return Batch(torch.from_numpy(hu), torch.from_numpy(labels), augmentations)

    def _augmentations(self, step: int, numbers: npt.NDArray[np.int64]) -> tuple[Augmentation, ...]:
        if self.augment is None or not self.augment.enabled:
            return ()
        spacings = self.spacings_mm or [(1.0, 1.0, 1.0)] * len(self.cases)
        return tuple(
            draw(self.augment, (self.seed, step, slot), spacings[number]) for slot, number in enumerate(numbers)
        )


def _cut(array: HuArray | LabelArray, origin: Index3, into: HuArray | LabelArray, padding: int) -> None:
    """Copy the window that starts at `origin`; what lies outside the array becomes padding."""
    window = array[tuple(slice(max(at, 0), max(at + n, 0)) for at, n in zip(origin, into.shape, strict=True))]
    if window.shape == into.shape:
        into[...] = window
        return
    into.fill(padding)
    into[tuple(slice(max(-at, 0), max(-at, 0) + n) for at, n in zip(origin, window.shape, strict=True))] = window
