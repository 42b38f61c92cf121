"""How far probabilities can be believed: reliability by bins, and calibration errors (docs/metrics.md).

Equal to MONAI's `CalibrationErrorMetric` (tests/oracle/test_calibration_monai.py): twenty bins of equal width, each
with its upper end. Sums are kept, no voxels: those of several planes, cases or processes are added.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

BINS = 20
# as MONAI's, where 1 lies below the last end
EDGES = np.linspace(0, 1 + np.finfo(np.float32).eps, BINS + 1, dtype=np.float32)
Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]


def _none() -> Counts:
    return np.zeros(BINS, dtype=np.int64)


@dataclass(eq=False)
class Reliability:
    """By bins of probability: voxels, how many of them are what the probability is of, and its sum over them."""

    voxels: Counts = field(default_factory=_none)  # (BINS,)
    correct: Counts = field(default_factory=_none)  # (BINS,)
    total: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # (BINS,)

    def add(self, probability: Floats, voxels: npt.NDArray[np.integer], correct: npt.NDArray[np.integer]) -> None:
        """So many voxels of each probability, (N,) from 0 to 1, of which so many are correct."""
        at = np.searchsorted(EDGES[1:], probability.astype(np.float32)).clip(max=BINS - 1)
        self.voxels += np.rint(np.bincount(at, voxels, BINS)).astype(np.int64)
        self.correct += np.rint(np.bincount(at, correct, BINS)).astype(np.int64)
        self.total += np.bincount(at, voxels * probability.astype(np.float64), BINS)

    def __iadd__(self, other: "Reliability") -> Self:
        """With the voxels of another."""
        self.voxels += other.voxels
        self.correct += other.correct
        self.total += other.total
        return self

    @property
    def gaps(self) -> npt.NDArray[np.float64]:
        """(BINS,) how far the mean probability of each bin lies from the share that is correct; 0 of an empty one."""
        gaps: npt.NDArray[np.float64] = np.abs(self.total - self.correct) / np.maximum(self.voxels, 1)
        return gaps

    def expected_error(self) -> float | None:
        """The mean gap of a voxel, 0 to 1 (ECE; Naeini et al., AAAI 2015); None without voxels."""
        n = self.voxels.sum()
        return float((self.gaps * self.voxels).sum() / n) if n else None

    def average_error(self) -> float | None:
        """The mean gap of the bins that have voxels, 0 to 1 (ACE); None without any."""
        bins = np.count_nonzero(self.voxels)
        return float(self.gaps.sum() / bins) if bins else None
