"""The training set in the device's memory: the windows of the feed, cut there."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from viscera.core.errors import BadInputError
from viscera.engine.feed import Batch, BatchSource, Feed, cut
from viscera.engine.hardware import out_of_memory_explained
from viscera.imaging.intensity import AIR_HU

log = logging.getLogger(__name__)
MEMORY_SHARE = 0.4  # of the GPU memory that is free; the rest is for network, optimiser and activations
_BYTES_PER_VOXEL = 3  # int16 and uint8


@dataclass(frozen=True, eq=False)
class ResidentFeed:
    """A feed whose cases lie on the device as int16 and uint8; its batches are those of `feed`, bit by bit.

    Attributes:
        feed: says where the windows lie.
        hu: int16 (I, J, K) of each case.
        labels: uint8 (I, J, K) of each case.
    """

    feed: Feed
    hu: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]

    @classmethod
    def load(cls, feed: Feed, device: torch.device) -> "ResidentFeed":
        """Copy every case to the device once.

        Raises:
            BadInputError: a label beyond the classes, which a loss on a GPU could not name.
        """
        hu, labels = [], []
        for number, (image, label_map) in enumerate(feed.cases):
            highest = int(label_map.max(initial=0))
            if highest >= len(feed.classes):
                most = len(feed.classes) - 1
                raise BadInputError(f"training case {number}: label {highest}; 0 to {most} were expected.")
            hu.append(torch.from_numpy(np.array(image)).to(device))
            labels.append(torch.from_numpy(np.array(label_map)).to(device))
        return cls(feed, tuple(hu), tuple(labels))

    def batch(self, step: int) -> Batch:
        """The windows of one step, on the device."""
        windows = self.feed.windows(step)
        shape = (len(windows.numbers), *windows.shape)
        hu = torch.empty(shape, dtype=torch.int16, device=self.hu[0].device)
        labels = torch.empty(shape, dtype=torch.uint8, device=self.hu[0].device)
        for slot, (number, origin) in enumerate(zip(windows.numbers, windows.origins, strict=True)):
            cut(self.hu[number], origin, hu[slot], AIR_HU)
            cut(self.labels[number], origin, labels[slot], 0)
        labelled = self.feed.labelled_in(windows.numbers)
        return Batch(hu, labels, windows.augmentations, None if labelled is None else labelled.to(hu.device))


def training_bytes(feed: Feed) -> int:
    """Memory that the cases of a feed take on a device, bytes."""
    return _BYTES_PER_VOXEL * sum(image.size for image, _ in feed.cases)


def on_device(feed: Feed, device: torch.device, resident: Literal["auto", "always", "never"]) -> BatchSource:
    """The feed, or its cases in the device's memory: with "auto" on a GPU where they take at most `MEMORY_SHARE`."""
    if resident == "never" or (resident == "auto" and device.type != "cuda"):
        return feed
    if resident == "auto":
        needed, (free, _) = training_bytes(feed), torch.cuda.mem_get_info(device)
        if needed > MEMORY_SHARE * free:
            log.warning(
                "The training set (%.1f GiB) stays outside the GPU, which has %.1f GiB free; training may wait for it.",
                needed / 2**30,
                free / 2**30,
            )
            return feed
    with out_of_memory_explained("Use --set train.resident=never."):
        return ResidentFeed.load(feed, device)
