"""Weights and labels of lower levels: by hand, and as PyTorch's nearest neighbour."""

import pytest
import torch
import torch.nn.functional as F

from viscera.core.geometry import Index3
from viscera.losses.deep_supervision import labels_of_level, level_weights


def test_each_level_has_half_the_weight_of_that_above() -> None:
    assert level_weights(1) == [1]
    assert level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_labels_are_those_nearest_to_the_centres_of_larger_voxels() -> None:
    """Six voxels in twos: centres at 0.5, 2.5, 4.5, and of two as near the later; in fours the last lies beyond."""
    labels = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1)
    assert labels_of_level(labels, (2, 1, 1)).flatten().tolist() == [1, 3, 5]
    assert labels_of_level(labels, (4, 1, 1)).flatten().tolist() == [2, 5]
    assert labels_of_level(labels, (8, 1, 1)).flatten().tolist() == [4]
    assert labels_of_level(labels, (1, 2, 2)).flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("scale", [(2, 2, 2), (4, 2, 1), (1, 1, 4), (8, 8, 4)])
def test_they_are_pytorchs_as_nnunet_takes_them(scale: Index3) -> None:
    """`interpolate` in mode nearest-exact (nnU-Net's DownsampleSegForDSTransform), where sizes are divided evenly."""
    labels = torch.randint(0, 9, (2, 16, 8, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = [n // along for n, along in zip(labels.shape[1:], scale, strict=True)]
    expected = F.interpolate(labels[:, None].float(), sizes, mode="nearest-exact")[:, 0].to(torch.uint8)
    assert torch.equal(labels_of_level(labels, scale), expected)
