"""The feed of training windows: each a pure function of (seed, step, slot)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.core.scan import HuArray, LabelArray
from viscera.imaging.intensity import AIR_HU
from viscera.imaging.windows import random_cases, random_origin


class Batch(NamedTuple):
    """A mini-batch: `hu` int16 (B, I, J, K), `labels` uint8 (B, I, J, K)."""

    hu: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Feed:
    """Random cubic windows of prepared cases, those of one batch from different patients.

    Attributes:
        cases: image and labels of each training case, as memory-mapped arrays; only the windows are read and copied.
        patch: edge of a window in voxels.
        batch_size: windows a step.
        seed: of the choice of cases and windows.
    """

    cases: Sequence[tuple[HuArray, LabelArray]]
    patch: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size > len(self.cases):
            raise BadInputError(
                f"a batch of {self.batch_size} windows comes from as many patients, but there are only "
                f"{len(self.cases)} training cases. Add cases, or lower --batch-size."
            )

    def batch(self, step: int) -> Batch:
        """The windows of one step."""
        shape = (self.batch_size, self.patch, self.patch, self.patch)
        hu = np.empty(shape, dtype=np.int16)
        labels = np.empty(shape, dtype=np.uint8)
        for slot, number in enumerate(random_cases(self.seed, step, len(self.cases), self.batch_size)):
            image, label_map = self.cases[number]
            origin = random_origin(self.seed, step, slot, image.shape, self.patch)
            _cut(image, origin, hu[slot], AIR_HU)
            _cut(label_map, origin, labels[slot], 0)
        return Batch(torch.from_numpy(hu), torch.from_numpy(labels))


def _cut(array: HuArray | LabelArray, origin: Index3, into: HuArray | LabelArray, padding: int) -> None:
    """Copy the window that starts at `origin`; what lies outside the array becomes padding."""
    source = tuple(slice(at, at + n) for at, n in zip(origin, into.shape, strict=True))
    window = array[source]
    if window.shape == into.shape:
        into[...] = window
        return
    into.fill(padding)
    into[tuple(slice(0, n) for n in window.shape)] = window
