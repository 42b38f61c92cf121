"""Normalisation before a ReLU, of which a level of a single voxel makes its shift, where PyTorch's refuses that.

Less its mean, the only value of a channel is 0. In training batch normalisation cannot do so: what it keeps is the
unbiased variance, which one value has not.
"""

import torch
from torch import Tensor, nn

from viscera.core.network_config import NetworkConfig


class InstanceNorm3D(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` of (B, C, I, J, K), also of a single voxel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised over the voxels of each channel of each sub-volume."""
        options = self.momentum or 0.0, self.eps, torch.backends.cudnn.enabled
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, *options)


class GroupNorm3D(nn.GroupNorm):
    """`nn.GroupNorm`, also of a single voxel of a single channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised over the voxels of each group of channels of each sub-volume."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, torch.backends.cudnn.enabled)


def normalisation_of(design: NetworkConfig, channels: int) -> nn.Module:
    """As a design says, of so many channels."""
    if design.normalisation == "instance":
        return InstanceNorm3D(channels, affine=True)
    if design.normalisation == "group":
        return GroupNorm3D(design.groups, channels)
    return nn.BatchNorm3d(channels)


def keeps_statistics(module: nn.Module) -> bool:
    """Whether the next forward pass of one process moves running statistics of batch normalisation within a module."""
    return any(type(each) is nn.BatchNorm3d and each.training for each in module.modules())
