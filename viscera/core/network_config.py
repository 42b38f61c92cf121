"""Where the network may differ from the paper's (docs/recipes.md); the defaults are the paper's."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from viscera.core.settings import Settings, setting

Index3 = tuple[int, int, int]  # as in core.geometry, which loads numpy: `--help` need not wait for it
Positive = Annotated[int, Field(ge=1)]
Stride = Literal[1, 2]
Kernel = Literal[1, 3, 5, 7]
Value = TypeVar("Value")


def _by_level(value: object) -> object:
    """As given, where it is nothing or has three of something for each level."""
    levels = value if isinstance(value, list | tuple) else [value]
    if value is None or all(isinstance(each, list | tuple) and len(each) == 3 for each in levels):
        return value
    raise ValueError("three numbers for each level were expected, such as [[2, 2, 1], [2, 2, 2]]")


class NetworkConfig(Settings):
    """What the network is made of."""

    normalisation: Literal["batch", "instance", "group"] = setting(
        "batch",
        "normalisation before each ReLU: over the mini-batch (paper), over each patch, or over groups of channels",
    )
    groups: Positive = setting(
        8, "for normalisation group: number of groups of channels; filters must be divisible by it"
    )
    encoder: Literal["plain", "residual"] = setting(
        "plain",
        "plain: two convolutions per level with max-pooling (paper); residual: residual blocks (ResEnc)",
    )
    blocks: tuple[Positive, ...] = setting(
        (1, 3, 4, 6, 6, 6),
        "for encoder residual: number of blocks of each level from the top; further numbers are not used",
    )
    strides: Annotated[tuple[tuple[Stride, Stride, Stride], ...] | None, BeforeValidator(_by_level)] = setting(
        None, "stride from each level to the next: 1 or 2 along R, A, S; null: 2 along all (paper)"
    )
    kernels: Annotated[tuple[tuple[Kernel, Kernel, Kernel], ...] | None, BeforeValidator(_by_level)] = setting(
        None, "kernel size of each level's convolutions: 1, 3, 5 or 7 along R, A, S; null: 3 along all (paper)"
    )
    deep_supervision: bool = setting(
        False,
        "add the loss at the lower levels of the decoder, each with half the weight of the level above (paper: no)",
    )
    dropout: float = setting(
        0.0, "share of the lowest level's channels that is dropped for each patch of a training step", ge=0, lt=1
    )

    @property
    def normalises_batches(self) -> bool:
        """Whether statistics are kept from training, so that what is predicted does not depend on the window."""
        return self.normalisation == "batch"

    def strides_of(self, levels: int) -> tuple[Index3, ...]:
        """From each of so many levels but the lowest to the next, along I, J, K."""
        return self.strides or ((2, 2, 2),) * (levels - 1)

    def kernels_of(self, levels: int) -> tuple[Index3, ...]:
        """Edges of the convolutions of each of so many levels."""
        return self.kernels or ((3, 3, 3),) * levels

    def scale_of(self, level: int, levels: int) -> Index3:
        """How many voxels of the input lie along each axis of a voxel of a level, of so many levels; 0 is the top."""
        i, j, k = (math.prod(along) for along in zip((1, 1, 1), *self.strides_of(levels)[:level], strict=False))
        return i, j, k

    def most_maps(self, levels: int, of_a_level: int) -> float:
        """How many maps of the top level lie in memory at most, where a level needs so many of its own at one time.

        Above it the maps that wait for the way up are kept, one of each level. A level has twice the channels of that
        above, so a quarter of its values where its stride is 2 along all axes. Residual blocks, and transposed
        convolutions of other strides, take up to a third more, as was measured.
        """
        own = of_a_level * (1.0 if self.encoder == "plain" and self.strides is None else 4 / 3)
        share, kept, most = 1.0, 0.0, own
        for stride in self.strides_of(levels):
            kept, share = kept + share, share * 2 / math.prod(stride)
            most = max(most, kept + own * share)
        return most

    def refuse_unfit(self, filters: int, levels: int) -> None:
        """Raise ValueError for what a network of so many filters and levels cannot have."""
        if self.normalisation == "group" and filters % self.groups:
            raise ValueError(
                f"{self.groups} groups of channels do not divide {filters} filters; give train.network.groups a divisor"
            )
        if self.encoder == "residual" and len(self.blocks) < levels:
            raise ValueError(f"train.network.blocks: {len(self.blocks)} found, {levels} expected, one for each level")
        if self.deep_supervision and levels < 3:
            raise ValueError(f"train.network.deep_supervision needs at least three levels; there are {levels}")
        _refuse_other_number("strides", self.strides, levels - 1, f"one from each of {levels} levels to the next")
        _refuse_other_number("kernels", self.kernels, levels, f"one for each of {levels} levels")

    def refuse_one_value(self, patch: int, batch_size: int, levels: int) -> None:
        """Raise ValueError where a window leaves the normalisation one value of a channel at the lowest level."""
        windows = batch_size if self.normalises_batches else 1
        if self.normalisation == "group" or patch > min(self.scale_of(levels - 1, levels)) or windows > 1:
            return  # a group has several channels there
        alone = ", and a batch of 1 one value" if self.normalises_batches else ""
        more = "--patch or --batch-size" if self.normalises_batches else "--patch"
        raise ValueError(
            f"a patch of {patch} voxels has one voxel left at the lowest of {levels} levels{alone}; "
            f"{self.normalisation} normalisation needs two. Raise {more}, or lower train.levels"
        )


def _refuse_other_number(name: str, values: Sequence[Value] | None, number: int, meaning: str) -> None:
    if values is not None and len(values) != number:
        raise ValueError(f"train.network.{name}: {len(values)} found, {number} expected, {meaning}")
