"""How sure a network is of each organ."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor


class ConfidenceTally:
    """Mean probability of each class over the voxels where it is the most probable one, gathered as they pass by.

    Attributes:
        counts: (L,) voxels.
        sums: (L,) of their probabilities.
    """

    def __init__(self, length: int) -> None:
        self.counts = torch.zeros(length, dtype=torch.int64)
        self.sums = torch.zeros(length, dtype=torch.float64)

    def add(self, probabilities: Tensor) -> None:
        """Count the voxels of (L, ...) softmax."""
        best, labels = probabilities.max(dim=0)
        length = self.counts.numel()
        self.counts += torch.bincount(labels.ravel(), minlength=length)
        self.sums += torch.bincount(labels.ravel(), weights=best.ravel().double(), minlength=length)

    def watched(self, planes: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same (L, I, J) planes, counted on their way."""
        for plane in planes:
            self.add(plane)
            yield plane

    def adopt(self, of_models: Sequence["ConfidenceTally"], models: Sequence[int]) -> None:
        """Take each organ from the tally of its own model: `models` (L - 1,) are indices, organs in label order."""
        for label, model in enumerate(models, start=1):
            self.counts[label] = of_models[model].counts[label]
            self.sums[label] = of_models[model].sums[label]

    def means(self) -> list[float | None]:
        """(L,) in [0, 1]; None of a class that is nowhere the most probable."""
        return [float(total / n) if n else None for total, n in zip(self.sums, self.counts, strict=True)]


def mean_confidence(probabilities_LIJK: Tensor) -> list[float | None]:
    """(L,) of one scan, see `ConfidenceTally`."""
    tally = ConfidenceTally(probabilities_LIJK.shape[0])
    tally.add(probabilities_LIJK)
    return tally.means()
