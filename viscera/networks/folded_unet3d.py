"""The U-Net as it predicts: the same function of its input in fewer operations, for weights that no longer change.

Batch normalisation is an affine map then, and goes into the convolution before it. An up-convolution and that part of
the next convolution that reads its output have nothing non-linear between them: together they are one transposed
convolution from the lower level, in the paper's network of 4³ with stride 2. So neither the up-sampled maps nor their
concatenation with those of the way down exist: a third of the multiplications and half of the memory are gone. What
differs is rounding.
"""

# ruff: noqa: SLF001 - torch.ops.mkldnn._* have no other names

import itertools
import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from viscera.core.geometry import Index3
from viscera.networks.unet3d import ResidualBlock, UNet3D, averaged, padded_to_fit, same_padding

_Weights = tuple[Tensor, Tensor]  # of a convolution, and its bias


class _Block(NamedTuple):
    """A convolution, or a `ResidualBlock`."""

    first: _Weights
    second: _Weights | None = None
    shortcut: _Weights | None = None
    stride: Index3 = (1, 1, 1)


class FoldedUNet3D(nn.Module):
    """A copy of a `UNet3D` in evaluation mode, to predict with, on its device.

    Its weights lie channels last on a CPU, elsewhere as the network's do.

    Args:
        network: the network; its batch statistics are taken as they are.
        dtype: what it computes in, float32 or bfloat16; logits are of that type.
    """

    def __init__(self, network: UNet3D, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.strides = dtype, network.strides
        self.multiples = network.design.scale_of(network.levels - 1, network.levels)
        self._maps = network.design.most_maps(network.levels, 3)
        weight = network.head.weight if network.levels == 1 else network.get_parameter("merge.0.0.weight")
        self._device = weight.device
        last = self._device.type == "cpu" or weight.is_contiguous(memory_format=torch.channels_last_3d)
        self._layout = torch.channels_last_3d if last else torch.contiguous_format
        precise = torch.float32 if dtype == torch.bfloat16 else torch.float64  # to fold in
        self.down = [[self._block(each) for each in _blocks(level, precise)] for level in network.down]
        weight, bias = self.down[0][0].first
        self._spread = self._device.type == "cpu" and (weight.shape[1], weight.shape[-1]) == (1, 3)
        self._pools = network.pools
        if self._spread:
            self.down[0][0] = _Block(self._kept((weight.movedim(-1, 1)[:, :, 0, :, :, None], bias)))
        self.up: list[tuple[_Weights, Tensor, _Weights]] = []
        for raising, merge in zip(network.up, network.merge, strict=True):
            (weight, bias), second = _folded(merge, precise)
            raised = raising.get_parameter("weight").to("cpu", precise)
            skips = weight.shape[1] - raised.shape[1]
            joined = _joined(raised, weight[:, skips:])
            self.up.append((self._kept((weight[:, :skips], bias)), self._kept((joined, bias))[0], self._kept(second)))
        self.head = self._kept((network.head.weight, network.head.get_parameter("bias")))

    @property
    def values_per_voxel(self) -> int:
        """How many values of `dtype` a voxel of the input takes at most, at one time: three maps of a level."""
        return math.ceil(self._maps * self.head[0].shape[1])

    def _kept(self, weights: _Weights) -> _Weights:
        weight, bias = (each.detach().to(self._device, self.dtype) for each in weights)
        return weight.contiguous(memory_format=self._layout), bias

    def _block(self, block: _Block) -> _Block:
        second, shortcut = (each and self._kept(each) for each in (block.second, block.shortcut))
        return _Block(self._kept(block.first), second, shortcut, block.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, L, I, J, K) of an input (B, C, I, J, K), as of the network that this was made of."""
        i, j, k = x.shape[2:]
        with torch.autocast(x.device.type, enabled=False):
            x = padded_to_fit(x, self.multiples).to(self.dtype)
            x = _spread_along_k(x) if self._spread else x
            skips: list[Tensor] = []
            for level, blocks in enumerate(self.down):
                x = F.max_pool3d(x, kernel_size=self.strides[level - 1]) if level and self._pools else x
                for block in blocks:
                    x = _passed(x, block)
                skips.append(x)
            skips.pop()
            for stride, (weights, joined, second) in zip(reversed(self.strides), reversed(self.up), strict=True):
                raised = F.conv_transpose3d(x, joined, stride=stride, padding=_half(weights[0]))
                x = _convolved(_convolved(skips.pop(), weights, onto=raised), second)
            return _convolved(x, self.head, rectified=False)[..., :i, :j, :k]


def _spread_along_k(x: Tensor) -> Tensor:
    """(B, 3, I, J, K) of (B, 1, I, J, K): a voxel with those before and after it, so that a kernel of 3×3×1 sees 3³.

    Convolutions of a single channel compute with as many as a register holds: of three they are 1.3 to 4 times as fast.
    """
    neighbours = F.pad(x[:, 0], (1, 1))
    return torch.stack([neighbours[..., at : at + x.shape[-1]] for at in range(3)], dim=-1).movedim(-1, 1)


def _passed(x: Tensor, block: _Block) -> Tensor:
    """What a block makes of its input, which is overwritten where it is added to it: that of an earlier block."""
    found = _convolved(x, block.first, stride=block.stride)
    if block.second is None:
        return found
    onto = averaged(x, block.stride)
    if block.shortcut is not None:
        onto = _convolved(onto, block.shortcut, rectified=False)
    return _convolved(found, block.second, onto=onto)


def _half(weight: Tensor) -> Index3:
    return same_padding(weight.shape[2:])


def _convolved(
    x: Tensor,
    weights: _Weights,
    *,
    onto: Tensor | None = None,
    stride: Index3 = (1, 1, 1),
    rectified: bool = True,
) -> Tensor:
    """The convolution, padded by half of its kernel; added to `onto`, which is overwritten, and rectified."""
    if x.device.type == "cpu" and _fuses(x.dtype):
        return _fused(x, weights, onto, stride, rectified=rectified)
    weight, bias = weights
    x = F.conv3d(x, weight, bias, stride, _half(weight))
    x = x if onto is None else onto.add_(x)
    return x.relu_() if rectified else x


def _fused(x: Tensor, weights: _Weights, onto: Tensor | None, stride: Index3, *, rectified: bool) -> Tensor:
    """The same in one pass over memory by oneDNN, through the operators of torch.compile, which have no public name.

    It also takes a single small float32 window, which `conv3d` leaves to a way that is 5 to 19 times as slow.
    """
    weight, bias = weights
    given = x, weight, bias, _half(weight), stride, (1, 1, 1), 1
    after: tuple[Any, ...] = "relu" if rectified else "none", [], ""
    if onto is None:
        return torch.ops.mkldnn._convolution_pointwise(*given, *after)  # type: ignore[no-any-return]
    return torch.ops.mkldnn._convolution_pointwise_.binary(onto, *given, "add", 1.0, *after)  # type: ignore[no-any-return]


@cache
def _fuses(dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this processor can do so with numbers of a type."""
    last: dict[str, Any] = {"dtype": dtype, "memory_format": torch.channels_last_3d}
    x, weight = (torch.empty(shape, **last).fill_(1) for shape in ((1, 2, 2, 2, 2), (2, 2, 3, 3, 3)))
    try:
        found = _fused(x, (weight, torch.ones(2, dtype=dtype)), 2 * x, (1, 1, 1), rectified=True)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool((found == 16 + 1 + 2).all())  # each of 2³ voxels has all of them in reach, in two channels


def _blocks(level: nn.Module, dtype: torch.dtype) -> Iterator[_Block]:
    """Those of a level of the way down."""
    for block in level.children() if isinstance(level[-1], ResidualBlock) else [level]:  # type: ignore[index]
        if isinstance(block, ResidualBlock):
            (first,), (second,) = _folded(block.first, dtype), _folded(block.second, dtype)
            yield _Block(first, second, next(iter(_folded(block.shortcut, dtype)), None), block.stride)
        else:
            yield from map(_Block, _folded(block, dtype))


def _folded(layers: nn.Module, dtype: torch.dtype) -> list[_Weights]:
    """Weight and bias, on the CPU, of each convolution of some layers with the batch normalisation after it."""
    return [
        _fused_pair(convolution, norm, dtype)
        for convolution, norm in pairwise(layers.children())
        if isinstance(convolution, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d)
    ]


def _fused_pair(convolution: nn.Conv3d, norm: nn.BatchNorm3d, dtype: torch.dtype) -> _Weights:
    parts = convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias
    precise: list[Any] = [None if part is None else part.detach().to("cpu", dtype) for part in parts]
    kernel, bias, mean, variance, scale, shift = precise
    return fuse_conv_bn_weights(kernel, bias, mean, variance, norm.eps, scale, shift)


def _joined(raising: Tensor, after: Tensor) -> Tensor:
    """Transposed convolution (below, out, ...) of one (below, up, ...) and a convolution (out, up, ...) after it.

    Along an axis of stride s, whose raising kernel has as many elements, and a kernel of k it has s + k - 1 elements;
    with stride s and a padding of k // 2 it is the one after the other: voxel l below reaches voxel s l + p of those
    above through element p of the first, and that s l + p - t + k // 2 of the output through element t of the second;
    which is element p - t + k - 1 of theirs. Voxels beyond an edge are 0 for both.
    """
    strides, kernels = raising.shape[2:], after.shape[2:]
    sizes = [stride + kernel - 1 for stride, kernel in zip(strides, kernels, strict=True)]
    joined = raising.new_zeros((raising.shape[0], after.shape[0], *sizes))
    from_the_last = after.flip(2, 3, 4)  # element k - 1 - t
    for i, j, k in itertools.product(*map(range, strides)):
        through = torch.einsum("bu,outvw->botvw", raising[:, :, i, j, k], from_the_last)
        joined[:, :, i : i + kernels[0], j : j + kernels[1], k : k + kernels[2]] += through
    return joined
