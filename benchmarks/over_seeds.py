"""What trainings of several seeds say together: a mean and its interval, where each seed is one training's luck."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds with its 95 % interval by Student's t; without an interval below two seeds."""

    mean: float
    half: float  # of the interval; infinite for one seed
    seeds: int

    @classmethod
    def of(cls, values: Collection[float]) -> "OverSeeds":
        """Of one value a seed; there must be one."""
        mean, n = fmean(values), len(values)
        half = float(stats.t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n) if n > 1 else math.inf
        return cls(mean, half, n)

    @property
    def low(self) -> float:
        """Lower bound of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper bound of the interval."""
        return self.mean + self.half

    @property
    def is_above(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the interval lies below 0."""
        return self.high < 0

    def lies_within(self, margin: float) -> bool:
        """Whether the interval lies between minus the margin and the margin."""
        return -margin < self.low and self.high < margin

    def text(self, digits: int = 1) -> str:
        """`+3.1 (+1.0 to +5.2)`."""
        if math.isinf(self.half):
            return f"{self.mean:+.{digits}f} (one seed)"
        return f"{self.mean:+.{digits}f} ({self.low:+.{digits}f} to {self.high:+.{digits}f})"
