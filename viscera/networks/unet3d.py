"""The 3D U-Net of Çiçek et al., MICCAI 2016, with same padding (64³ in, 64³ out)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viscera.core.errors import BadInputError, BadTypeError, refuse_non_number, refuse_unknown
from viscera.core.geometry import Index3
from viscera.core.network_config import NetworkConfig
from viscera.core.shape_hints import of_network_input
from viscera.networks.convolution import Convolution3D
from viscera.networks.normalisation import keeps_statistics, normalisation_of


class UNet3D(nn.Module):
    """3D U-Net: per level two 3³ convolutions with batch normalisation before each ReLU, no bottleneck.

    Channels double before each pooling; up-convolutions (2³, stride 2) keep theirs; last a 1³ convolution. A design
    may differ from this (docs/recipes.md).

    Args:
        in_channels: of the input; 1 for CT.
        num_classes: L, maps in the output.
        base_filters: channels of the first convolution; 32 in the paper.
        levels: resolutions; 4 in the paper.
        initialisation: "he": He normal, batch normalisation with PyTorch's constants (momentum 0.1, ε 1e-5); "keras":
            Keras's defaults, Glorot uniform, momentum 0.99 (PyTorch's 0.01), ε 1e-3.
        design: where it differs, as `train.network` of a configuration; by default nowhere.

    Attributes:
        dropout: what leaves out channels of the lowest level in training (`design.dropout`), drawn from PyTorch's
            generator, wherever a forward pass is not told which are kept.

    Raises:
        BadInputError: a number below 1, an unknown initialisation, a design that does not fit the sizes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 8,
        base_filters: int = 32,
        levels: int = 4,
        initialisation: Literal["he", "keras"] = "he",
        *,
        design: NetworkConfig | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "base_filters": base_filters, "levels": levels}
        for name, value in sizes.items():
            refuse_non_number(name, value, 1, whole=True)
        refuse_unknown("initialisation", initialisation, ("he", "keras"))
        if not isinstance(design, NetworkConfig | None):
            raise BadTypeError(f"design: {type(design).__name__}, a viscera.NetworkConfig was expected.")
        self.design = design or NetworkConfig()
        try:
            self.design.refuse_unfit(base_filters, levels)
        except ValueError as error:
            raise BadInputError(f"design: {error}.") from error
        self.in_channels, self.levels = in_channels, levels
        self.strides, self.pools = self.design.strides_of(levels), self.design.encoder == "plain"
        widths = [base_filters * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(
            self._encoder(level, in_channels if level == 0 else widths[level], widths[level], widths[level + 1])
            for level in range(levels)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(widths[level + 2], widths[level + 2], kernel_size=stride, stride=stride, bias=False)
            for level, stride in enumerate(self.strides)
        )
        self.merge = nn.ModuleList(
            self._convolutions(level, widths[level + 2] + widths[level + 1], widths[level + 1], widths[level + 1])
            for level in range(levels - 1)
        )
        self.head, self.lowest_channels = nn.Conv3d(widths[1], num_classes, kernel_size=1), widths[-1]
        initialise = partial(_initialise, initialisation=initialisation)
        self.apply(initialise)
        self.lower_heads = nn.ModuleList()  # after all others, which are what they are without them
        if self.design.deep_supervision:
            self.lower_heads.extend(nn.Conv3d(width, num_classes, kernel_size=1) for width in widths[2:-1])
            self.lower_heads.apply(initialise)
        self.dropout: nn.Module = nn.Dropout3d(self.design.dropout)

    @overload
    def forward(self, x: Tensor, kept_BC: Tensor | None = None, *, all_levels: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, kept_BC: Tensor | None = None, *, all_levels: Literal[True]) -> list[Tensor]: ...
    def forward(self, x: Tensor, kept_BC: Tensor | None = None, *, all_levels: bool = False) -> Tensor | list[Tensor]:
        """Logits (B, L, I, J, K) of an input (B, C, I, J, K) of any size (edges are replicated to fit).

        Where a single voxel is left at the lowest level, instance and group normalisation make their shift of it.

        Args:
            x: floating-point numbers, of the type of the weights unless autocast converts them.
            kept_BC: factors on the channels of the lowest level, for dropout (`networks.dropout`), in training and
                evaluation; None: those of `dropout` in training, 1 in evaluation.
            all_levels: what `logits_of_levels` gives. In `DistributedDataParallel` a network with deep supervision is
                trained by `network(x, all_levels=True)`: without it the lower levels' parameters have no gradient,
                which needs `find_unused_parameters=True`.

        Raises:
            BadInputError: another number of axes or channels, integers; in training with batch normalisation a single
                sub-volume of which a single voxel is left at the lowest level.
        """
        found = self._logits(x, kept_BC, lower=all_levels)
        return found if all_levels else found[0]

    def logits_of_levels(self, x: Tensor, kept_BC: Tensor | None = None) -> list[Tensor]:
        """Logits as of `forward`, then of each lower level on the way up, where the design has deep supervision.

        Level n has as many voxels along each axis as the input divided by `design.scale_of(n, levels)`, rounded up.
        """
        return self._logits(x, kept_BC, lower=True)

    def _logits(self, x: Tensor, kept_BC: Tensor | None, *, lower: bool) -> list[Tensor]:
        self._refuse_unfit(x, kept_BC)
        size = x.shape[2:]
        x = padded_to_fit(x, self.design.scale_of(self.levels - 1, self.levels))
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool3d(x, kernel_size=self.strides[level - 1]) if level and self.pools else x)
            skips.append(x)
        skips.pop()
        x = self.dropout(x) if kept_BC is None else (x * kept_BC[:, :, None, None, None]).to(x.dtype)
        below: list[Tensor] = []
        for level in reversed(range(self.levels - 1)):
            x = self.merge[level](torch.cat((skips.pop(), self.up[level](x)), dim=1))
            if lower and 0 < level <= len(self.lower_heads):
                below.append(self.lower_heads[level - 1](x))
        found: list[Tensor] = [self.head(x), *reversed(below)]
        for level, logits in enumerate(found):
            i, j, k = (-(-n // along) for n, along in zip(size, self.design.scale_of(level, self.levels), strict=True))
            found[level] = logits[..., :i, :j, :k]
        return found

    def _refuse_unfit(self, x: Tensor, kept_BC: Tensor | None) -> None:
        """Raise BadInputError before anything is computed, and so before any running statistics move."""
        if not isinstance(x, Tensor):
            raise BadTypeError(f"x: {type(x).__name__}, a tensor was expected.")
        if x.ndim != 5 or x.shape[1] != self.in_channels or 0 in x.shape:
            hint = of_network_input(x.shape, self.in_channels)
            raise BadInputError(f"x: shape {tuple(x.shape)}, (B, {self.in_channels}, I, J, K) was expected.{hint}")
        if not x.is_floating_point():
            raise BadTypeError(f"x: {x.dtype}, floating-point numbers were expected. Scale HU as in training.")
        if x.dtype == torch.float64 and self.head.weight.dtype != torch.float64:
            raise BadTypeError(f"x: {x.dtype}, and the weights are {self.head.weight.dtype}. Pass x.float().")
        expected = x.shape[0], self.lowest_channels
        if kept_BC is not None and not (isinstance(kept_BC, Tensor) and kept_BC.shape == expected):
            found = f"shape {tuple(kept_BC.shape)}" if isinstance(kept_BC, Tensor) else type(kept_BC).__name__
            raise BadInputError(
                f"kept_BC: {found}; one factor for each of {expected[0]} sub-volumes and {expected[1]} channels of the "
                "lowest level was expected."
            )
        scale = self.design.scale_of(self.levels - 1, self.levels)
        is_single = self.training and x.shape[0] == 1 and all(n <= s for n, s in zip(x.shape[2:], scale, strict=True))
        if is_single and keeps_statistics(self.down[-1]):
            raise BadInputError(
                f"x: shape {tuple(x.shape)} leaves one voxel at the lowest of {self.levels} levels, and in training "
                f"batch normalisation needs two. Give more than {'×'.join(map(str, scale))} voxels, two sub-volumes, "
                'or the network design=NetworkConfig(normalisation="instance").'
            )

    def _encoder(self, level: int, before: int, within: int, after: int) -> nn.Sequential:
        """A level of the way down, between numbers of channels; one that is residual lowers the resolution itself."""
        if self.pools:
            return self._convolutions(level, before, within, after)
        stem = [] if level else [self._convolutions(level, before, within)]
        strides = [(1, 1, 1) if level == 0 else self.strides[level - 1], *[(1, 1, 1)] * (self.design.blocks[level] - 1)]
        channels = [within, *[after] * len(strides)]
        kernel = self.design.kernels_of(self.levels)[level]
        blocks = [ResidualBlock(self.design, *each, kernel) for each in zip(pairwise(channels), strides, strict=True)]
        return nn.Sequential(*stem, *blocks)

    def _convolutions(self, level: int, *channels: int) -> nn.Sequential:
        """Of a level, one between each two of some numbers of channels, normalised and rectified."""
        kernel = self.design.kernels_of(self.levels)[level]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            convolution = Convolution3D(before, after, kernel, padding=same_padding(kernel))
            layers += [convolution, normalisation_of(self.design, after), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions, whose output is added to their input before the last ReLU (He et al., CVPR 2016).

    The first convolution has the stride. Where channels or resolution change, the input is averaged over the stride
    and passes a 1³ convolution without bias and a normalisation: ResNet-D (He et al., CVPR 2019), as in nnU-Net's
    residual encoder (Isensee et al., MICCAI 2024).

    Args:
        design: what normalises.
        channels: before and after.
        stride: along I, J, K.
        kernel: edges of both convolutions.
    """

    def __init__(self, design: NetworkConfig, channels: tuple[int, int], stride: Index3, kernel: Index3) -> None:
        super().__init__()
        before, after = channels
        self.stride, padding = stride, same_padding(kernel)
        convolution = Convolution3D(before, after, kernel, stride, padding)
        self.first = nn.Sequential(convolution, normalisation_of(design, after), nn.ReLU(inplace=True))
        second = Convolution3D(after, after, kernel, padding=padding), normalisation_of(design, after)
        self.second = nn.Sequential(*second)
        self.shortcut = nn.Sequential()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, bias=False), normalisation_of(design, after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels after, ...) of (B, channels before, ...); sizes are divided by the stride."""
        found: Tensor = self.second(self.first(x))
        return found.add_(self.shortcut(averaged(x, self.stride))).relu_()


def averaged(x: Tensor, stride: Index3) -> Tensor:
    """Means over blocks of the stride, which divides the sizes; of bfloat16, for which PyTorch has none on a CPU, too.

    They are computed in float32 then, as autocast does.
    """
    if stride == (1, 1, 1):
        return x
    return F.avg_pool3d(x.to(torch.promote_types(x.dtype, torch.float32)), stride).to(x.dtype)


def same_padding(kernel: Sequence[int]) -> Index3:
    """The padding with which a convolution keeps the shape."""
    i, j, k = (edge // 2 for edge in kernel)
    return i, j, k


def padded_to_fit(x: Tensor, multiples: Index3) -> Tensor:
    """(B, C, I, J, K) with its last planes replicated until its sizes are multiples, which every level divides."""
    i, j, k = (-n % multiple for n, multiple in zip(x.shape[2:], multiples, strict=True))
    return F.pad(x, (0, k, 0, j, 0, i), mode="replicate") if i or j or k else x


def _initialise(module: nn.Module, initialisation: str) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        if initialisation == "he":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm3d) and initialisation == "keras":
        module.momentum, module.eps = 0.01, 1e-3
    elif isinstance(module, nn.InstanceNorm3d | nn.GroupNorm) and initialisation == "keras":
        module.eps = 1e-3
