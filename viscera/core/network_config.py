"""Where the network may differ from the paper's (docs/recipes.md); the defaults are the paper's."""

from typing import Annotated, Literal

from pydantic import Field

from viscera.core.settings import Settings, setting

Positive = Annotated[int, Field(ge=1)]


class NetworkConfig(Settings):
    """What the network is made of."""

    normalisation: Literal["batch", "instance", "group"] = setting(
        "batch", "before each ReLU: over the mini-batch (paper), over each window, or over groups of channels of each"
    )
    groups: Positive = setting(8, "for normalisation group: how many groups the channels form; it divides filters")

    @property
    def normalises_batches(self) -> bool:
        """Whether statistics are kept from training, so that what is predicted does not depend on the window."""
        return self.normalisation == "batch"

    def refuse_unfit(self, filters: int) -> None:
        """Raise ValueError for what a network of so many filters cannot have."""
        if self.normalisation == "group" and filters % self.groups:
            raise ValueError(
                f"{self.groups} groups of channels do not divide {filters} filters; give train.network.groups a divisor"
            )

    def refuse_one_value(self, patch: int, batch_size: int, levels: int) -> None:
        """Raise ValueError where a window leaves the normalisation one value of a channel at the lowest level."""
        windows = batch_size if self.normalises_batches else 1
        if self.normalisation == "group" or patch > 2 ** (levels - 1) or windows > 1:
            return  # a group has several channels there
        alone = ", and a batch of 1 one value" if self.normalises_batches else ""
        more = "--patch or --batch-size" if self.normalises_batches else "--patch"
        raise ValueError(
            f"a window of {patch} voxels has one voxel left at the lowest of {levels} levels{alone}; "
            f"{self.normalisation} normalisation needs two. Raise {more}, or lower train.levels"
        )
