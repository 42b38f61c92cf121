"""The arms of a study: cells of its grid."""

from dataclasses import dataclass

from viscera.core.config import StudyConfig


@dataclass(frozen=True, order=True)
class Arm:
    """One cell of a study's grid."""

    weighting: str
    learning_rate: float

    @property
    def name(self) -> str:
        """As in folder names and tables: `uniform_lr0.001`."""
        return f"{self.weighting}_lr{self.learning_rate:g}"


def arms_of(config: StudyConfig) -> list[Arm]:
    """The arms in the order of Table 1: all weightings at the first rate, then at the next."""
    return [Arm(weighting, rate) for rate in config.learning_rates for weighting in config.weightings]
